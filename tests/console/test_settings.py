"""One file for a site: what it says is what happens, and what it says wrong is named."""

import re
import tomllib
from pathlib import Path

import pytest

from console.built_in_rules import built_in
from console.complaints import SettingsRefused
from console.fitting import misfit
from console.init import AlreadyThere, text, write_settings
from console.local_zone import local_zone
from console.settings import Site, find_file, load_site

PEER = '[[peer]]\nname = "archive"\nae_title = "PACS"\nhost = "pacs"\nport = 104\n'
RULE = '[[rule]]\nname = "chest"\nmodel = "lung_ct"\nmodality = "CT"\n'


def load(tmp_path: Path, text: str) -> Site:
    file = tmp_path / "wetread.toml"
    file.write_text(text)
    return load_site(file)


def complaint(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsRefused) as refused:
        load(tmp_path, text)
    return str(refused.value)


def test_no_file_is_a_site_that_can_do_no_harm(tmp_path: Path) -> None:
    site = load_site(None, data=tmp_path / "data")

    assert (site.node.ae_title, site.node.host, site.node.port) == ("WETREAD", "127.0.0.1", 11112)
    assert site.ledger.url == f"sqlite:///{tmp_path}/data/ledger.sqlite"
    assert site.spool.path == tmp_path / "data" / "spool"
    (rule,) = site.rules
    assert (rule.model, rule.deliver_to) == ("lung_ct", ())


def test_what_init_writes_is_what_happens_without_a_file(tmp_path: Path) -> None:
    file = tmp_path / "wetread.toml"
    write_settings(file)

    assert load_site(file) == load_site(None, data=tmp_path / "wetread-data")


def test_every_line_that_init_comments_out_is_a_setting_that_exists() -> None:
    # Prose has no " = " after its first word; `host` is there twice, and secrets in files are examples.
    lines = [re.sub(r"^# (?=\[|[a-z_]+ = )", "", line) for line in text().splitlines()]
    tables = tomllib.loads(
        "\n".join(line for line in lines if "url_file" not in line and "0.0.0.0" not in line)
    )

    site = Site.model_validate(
        {
            **tables,
            "spool": {**tables["spool"], "path": "/spool"},
            "site": {**tables["site"], "data": "/data"},
        }
    )
    bare = load_site(None)
    assert site.worker == bare.worker
    assert site.spool.model_copy(update={"path": bare.spool.path}) == bare.spool
    assert site.peers[0].name == "archive"
    # A rule for every model that comes with Wetread, and each fits its model.
    rules = {rule.model: rule for rule in site.rules}
    assert sorted(rules) == [manifest.name for manifest in built_in()]
    assert [misfit(rules[manifest.name], manifest) for manifest in built_in()] == [None] * len(rules)


def test_the_zone_is_the_sites_and_otherwise_this_machines(tmp_path: Path) -> None:
    queue = '[queue]\nurl = "redis://queue:6379/0"\n'
    named = load(tmp_path, '[site]\ntime_zone = "America/Lima"\n' + queue)
    assert named.worker_site().time_zone == "America/Lima"
    assert load_site(None, time_zone="Asia/Tokyo").site.time_zone == "Asia/Tokyo"
    assert "'Mars/Olympus' is no time zone" in complaint(tmp_path, '[site]\ntime_zone = "Mars/Olympus"')


def test_this_machines_zone_is_what_the_environment_or_the_clock_says(tmp_path: Path) -> None:
    clock = tmp_path / "zoneinfo" / "Europe" / "Berlin"
    clock.parent.mkdir(parents=True)
    clock.touch()
    (tmp_path / "localtime").symlink_to(clock)

    assert local_zone("Asia/Tokyo", tmp_path / "localtime") == "Asia/Tokyo"
    assert local_zone(None, tmp_path / "localtime") == "Europe/Berlin"
    assert local_zone("CET-1CEST", tmp_path / "localtime") == "Europe/Berlin"
    assert local_zone(None, tmp_path / "no_such_file") == "UTC"


def test_init_never_overwrites(tmp_path: Path) -> None:
    file = tmp_path / "wetread.toml"
    file.write_text("mine")

    with pytest.raises(AlreadyThere, match="stays as it is"):
        write_settings(file)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[node]\nprot = 1", "wetread.toml, line 2: unknown key 'prot' in [node]: did you mean 'port'?"),
        ("[nod]\nport = 1", "line 1: unknown table 'nod': did you mean 'node'?"),
        ("port = 1", "unknown table 'port': did you mean 'port' in [node]?"),
        ('[node]\nport = "abc"', "'port' in [node]: input should be a valid integer"),
        ("[node]\nport = 99999", "less than or equal to 65535 (it says 99999)"),
        (
            '[worker]\ndevice = "banana"',
            "'device' in [worker]: 'banana' is no device: give \"auto\", \"cpu\"",
        ),
        ('[node]\nae_title = "A\\\\B"', "'ae_title' in [node]: 'A\\\\B' is not an AE title"),
        ("node = 3", "'node' has to be a table: write [node]"),
        ("rule = 3", "'rule' has to be a table: write [[rule]]"),
        ("peer = [3]", "[[peer]] number 1 has to be a table"),
        ("[node\n", "is not valid TOML"),
        ("[spool]\nresume_percent = 95", "[spool]: resume_percent must not be above hard_percent"),
        (PEER + PEER, "two [[peer]] entries are called 'archive'"),
        (PEER.replace("ae_title", "ae_titel"), "line 3: unknown key 'ae_titel' in [[peer]] number 1"),
        (PEER.replace('name = "archive"\n', ""), "'name' is missing in [[peer]] number 1"),
        (RULE + 'deliver_to = "archive"', "rule 'chest' delivers to 'archive', which is no [[peer]] here"),
        (PEER + "send = false\n" + RULE + 'deliver_to = "archive"', "whose [[peer]] has send = false"),
        (
            RULE + "choose = 'best'",
            "'choose' in [[rule]] number 1: input should be 'all', 'thinnest' or 'most'",
        ),
        (RULE + "attributes = { Foo = 'x' }", "'Foo' is not the keyword of a DICOM attribute"),
        (RULE + "settings = { a = [1] }", "'a' in [[rule]] number 1, settings: has to be a text, a number"),
        ('[ledger]\nurl = "mysql://u:secret@h/d"', "'url' in [ledger]: the ledger's url is either"),
        ('[queue]\nurl_file = "absent"', "cannot be read: No such file or directory"),
        ('[queue]\nurl = "redis://q"\nurl_file = "absent"', "both 'url' and 'url_file' are given"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in complaint(tmp_path, text)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    told = complaint(tmp_path, "[node]\nprot = 1\n[closing]\nquiet = 3\n")

    assert "'prot'" in told
    assert "did you mean 'quiet_s'?" in told


def test_a_password_is_not_repeated_in_a_complaint(tmp_path: Path) -> None:
    assert "secret" not in complaint(tmp_path, '[ledger]\nurl = "mysql://user:secret@host/base"')


def test_a_secret_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("redis://:secret@queue:6379/0\n")

    site = load(tmp_path, '[queue]\nurl_file = "queue"')

    assert site.queue is not None
    assert site.queue.url == "redis://:secret@queue:6379/0"


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    site = load(tmp_path, '[site]\ndata = "here"\n[spool]\npath = "images"\n')

    assert site.data == tmp_path / "here"
    assert site.spool.path == tmp_path / "images"
    assert site.ledger.url == f"sqlite:///{tmp_path}/here/ledger.sqlite"


def test_a_file_that_was_asked_for_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="does not exist"):
        load_site(tmp_path / "absent.toml")


def test_the_file_beside_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(None) is None

    (tmp_path / "wetread.toml").write_text("")
    assert find_file(None) == tmp_path / "wetread.toml"


def test_node_and_worker_are_told_the_same_site(tmp_path: Path) -> None:
    site = load(tmp_path, PEER + RULE + 'deliver_to = "archive"').with_queue("redis://queue")

    node, worker = site.node_site(), site.worker_site()
    assert (node.ledger, node.spool, node.peers) == (worker.ledger, worker.spool, worker.peers)
    assert node.rules[0].deliver_to == ("archive",)


def test_a_worker_of_its_own_needs_a_queue(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"give \[queue\] url"):
        load(tmp_path, "").worker_site()
