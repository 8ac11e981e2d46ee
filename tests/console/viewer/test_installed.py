"""What comes in as a viewer: refused where it is not the one that is known, else there whole or not."""

import gzip
import os
import stat
import tarfile
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli import app
from console.viewer import installed
from console.viewer.installed import NoViewer, find_viewer, install, place_of, remove
from console.viewer.obtain import KNOWN, AnotherViewer, NoSuchViewer, ViewerNotFetched, digest_of, packed
from console.viewer.settle import NotAViewer
from ledger.errors import SiteError
from tests.console.viewer.archives import VERSION, link, tgz, whole


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(data: Path, files: dict[str, bytes], *, more: tuple[tarfile.TarInfo, ...] = ()) -> installed.Viewer:
    """Install an archive with `files` by its own digest."""
    archive = data.parent / "ohif.tgz"
    return install(data, source=archive, version=VERSION, sha512=tgz(archive, files, more=more))


def nothing_is_left(data: Path) -> bool:
    return find_viewer(data) is None and [one.name for one in place_of(data).iterdir()] == [".lock"]


def test_an_archive_with_another_digest_is_not_even_unpacked(data: Path) -> None:
    archive = data.parent / "ohif-app-3.13.2.tgz"
    tgz(archive, whole())
    with pytest.raises(AnotherViewer, match=r"has SHA-512 .{88}, not WZdxmpmG7.*nothing is installed"):
        install(data, source=archive)
    assert nothing_is_left(data)


def test_an_archive_that_is_not_there_is_a_sentence(data: Path) -> None:
    with pytest.raises(SiteError, match=r"ohif\.tgz cannot be read or written: No such file"):
        install(data, source=data / "ohif.tgz")
    assert nothing_is_left(data)


@pytest.mark.parametrize(
    "name",
    ["../../outside.js", "/etc/outside.js", "package/dist/../../../outside.js", "package/dist/a\\b.js"],
)
def test_nothing_is_written_outside_of_its_folder(data: Path, name: str) -> None:
    with pytest.raises(NotAViewer, match="cannot be unpacked"):
        put(data, whole() | {name: b"evil"})
    assert nothing_is_left(data)
    assert not list(data.parent.rglob("*outside*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(data: Path, kind: bytes) -> None:
    with pytest.raises(NotAViewer, match="links and devices are not taken"):
        put(data, whole(), more=(link("package/dist/passwords.js", "/etc/passwd", kind),))
    assert nothing_is_left(data)


def test_a_bomb_is_refused_before_it_goes_off(data: Path) -> None:
    with pytest.raises(NotAViewer, match="it may be a bomb"):
        put(data, whole() | {"package/dist/zeros.js": bytes(65 << 20)})
    assert nothing_is_left(data)


def test_half_an_archive_is_refused(data: Path) -> None:
    archive = data.parent / "ohif.tgz"
    tgz(archive, whole() | {"package/dist/noise.wasm": os.urandom(100_000)})
    archive.write_bytes(archive.read_bytes()[:-50_000])
    import base64
    import hashlib

    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    with pytest.raises(NotAViewer, match="is not a whole archive"):
        install(data, source=archive, version=VERSION, sha512=digest)
    assert nothing_is_left(data)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"package_dot_json": '{"name": "left-pad", "version": "1.0.0"}'},
            "holds left-pad 1.0.0, not @ohif/app",
        ),
        ({"package_dot_json": '{"name": "@ohif/app", "version": "3.0.0"}'}, "holds @ohif/app 3.0.0, not"),
        ({"package_dot_json": "[]"}, "holds something else"),
        ({"package_dot_json": "{"}, "no package.json or no LICENSE"),
        ({"LICENSE": None}, "no package.json or no LICENSE"),
        ({"LICENSE": "All rights reserved"}, "is not the MIT licence"),
        ({"dist__index_dot_html": None}, "no built pages"),
        ({"dist__index_dot_html": "<html></html>"}, "loads nothing"),
        (
            {"dist__index_dot_html": '<script src="https://elsewhere.example/x.js"></script>'},
            "loads from elsewhere",
        ),
        ({"dist__index_dot_html": '<script src="/gone.js"></script>'}, "names gone.js, which is not in"),
        ({"dist__app_dot_bundle_dot_0123456789abcdef_dot_js": "x.p=location"}, "cannot be moved to /viewer/"),
    ],
)
def test_what_is_not_ohif_as_it_is_known_is_refused(
    data: Path, changed: dict[str, str | None], words: str
) -> None:
    with pytest.raises(NotAViewer, match=words):
        put(data, whole(**changed))
    assert nothing_is_left(data)


def test_files_are_moved_below_viewer_thinned_out_and_packed(data: Path) -> None:
    viewer = put(data, whole())
    assert set(viewer.index.files) == {
        "app.bundle.0123456789abcdef.js", "app.bundle.css", "a34f9d1faa5f3315.woff2",
    }  # fmt: skip
    assert viewer.index.scripts == ("app.bundle.0123456789abcdef.js",)
    assert viewer.index.styles == ("app.bundle.css",)
    script = viewer.file("app.bundle.0123456789abcdef.js")
    assert b'__webpack_require__.p = "/viewer/";' in script.read_bytes()
    assert b"browserImportFunction('/viewer/slides/x.min.js')" in script.read_bytes()
    assert b"url(/viewer/a34f9d1faa5f3315.woff2)" in viewer.file("app.bundle.css").read_bytes()
    told = viewer.index.files[script.name]
    assert gzip.decompress(script.with_name(f"{script.name}.gz").read_bytes()) == script.read_bytes()
    assert (told.type, told.immutable, told.size) == ("text/javascript", True, script.stat().st_size)
    assert not viewer.index.files["app.bundle.css"].immutable
    assert "free of charge" in (viewer.folder / "LICENSE").read_text()
    assert stat.S_IMODE(place_of(data).stat().st_mode) == 0o700


def test_a_viewer_that_is_there_stays_until_the_next_one_is_whole(data: Path) -> None:
    first = put(data, whole())
    with pytest.raises(NotAViewer):
        put(data, whole(LICENSE="All rights reserved"))
    assert find_viewer(data) == first
    second = put(data, whole(dist__new_dot_js="1"))
    assert find_viewer(data) == second
    assert not first.folder.exists()
    assert "new.js" in second.index.files

    assert remove(data) == VERSION
    assert nothing_is_left(data)
    with pytest.raises(NoViewer, match="nothing to remove"):
        remove(data)


def test_what_an_interrupted_installation_left_is_tidied_away(data: Path) -> None:
    (place_of(data) / ".new-abc").mkdir(parents=True)
    viewer = put(data, whole())
    assert sorted(one.name for one in place_of(data).iterdir()) == [".lock", viewer.folder.name, "current"]


def test_a_damaged_viewer_says_so(data: Path) -> None:
    viewer = put(data, whole())
    (viewer.folder / "installed.json").write_text("{")
    with pytest.raises(NotAViewer, match="is not whole any more: `wetread viewer install` again"):
        find_viewer(data)
    (place_of(data) / "current").write_text("../../..")
    with pytest.raises(NotAViewer, match="is damaged"):
        find_viewer(data)


def test_two_installations_at_once_do_not_meet(data: Path) -> None:
    archive = data.parent / "ohif.tgz"
    digest = tgz(archive, whole())
    met: list[str] = []
    inside = threading.Event()

    def second(words: str) -> None:
        if not inside.is_set():
            inside.set()
            with pytest.raises(SiteError, match="another `wetread viewer` command is at work"):
                remove(data)
            met.append(words)

    install(data, source=archive, version=VERSION, sha512=digest, progress=second)
    assert met
    assert find_viewer(data) is not None


def test_a_version_that_nobody_knows_needs_a_digest() -> None:
    with pytest.raises(NoSuchViewer, match=r"OHIF 1\.0\.0 is none that Wetread knows .*dist\.integrity"):
        digest_of("1.0.0", None)
    for wrong in ("", "abc", "sha512-", "x" * 88, "a" * 128):
        with pytest.raises(NoSuchViewer, match="88 characters of base64"):
            digest_of("1.0.0", wrong)
    assert digest_of("1.0.0", f"sha512-{KNOWN['3.13.2']}") == KNOWN["3.13.2"]


def npm(folder: Path, script: str) -> str:
    path = folder / "npm"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def test_without_npm_or_network_it_is_said_how_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = (
        r"`npm pack @ohif/app@3\.13\.2`, and here: `wetread viewer install --from ohif-app-3\.13\.2\.tgz`"
    )
    away = npm(tmp_path, "echo 'npm error network request failed' >&2; exit 1")
    with pytest.raises(ViewerNotFetched, match=f"npm error network request failed.*{elsewhere}"):
        packed("3.13.2", tmp_path, away)
    with pytest.raises(ViewerNotFetched, match=f"npm cannot get OHIF 3.13.2: exit code 0.*{elsewhere}"):
        packed("3.13.2", tmp_path, npm(tmp_path, "exit 0"))
    with pytest.raises(ViewerNotFetched, match="cannot be run: No such file"):
        packed("3.13.2", tmp_path, str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(ViewerNotFetched, match=f"npm is not installed on this machine.*{elsewhere}"):
        packed("3.13.2", tmp_path)


def test_npm_packs_what_is_then_believed_by_its_digest_only(data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "made.tgz"
    digest = tgz(archive, whole())
    asked = tmp_path / "asked"
    program = npm(tmp_path, f'echo "$@" > {asked}; cp {archive} ohif-app-{VERSION}.tgz')
    assert install(data, version=VERSION, sha512=digest, npm=program).index.version == VERSION
    assert asked.read_text() == f"pack @ohif/app@{VERSION} --silent --ignore-scripts\n"
    tgz(archive, whole(dist__evil_dot_js="1"))
    with pytest.raises(AnotherViewer):
        install(data, version=VERSION, sha512=digest, npm=program)


def test_the_commands_say_what_is_there(data: Path) -> None:
    archive = data.parent / "ohif.tgz"
    digest = tgz(archive, whole())
    run = CliRunner().invoke
    nothing = run(app, ["viewer", "status", "--data", str(data)])
    assert isinstance(nothing.exception, NoViewer)
    assert "wetread viewer install" in str(nothing.exception)
    arguments = ["--from", str(archive), "--version", VERSION, "--sha512", digest, "--data", str(data)]
    done = run(app, ["viewer", "install", *arguments])
    assert done.exit_code == 0, done.output
    assert "OHIF 9.9.9 is installed" in done.output
    assert "OHIF 9.9.9, 3 files" in run(app, ["viewer", "status", "--data", str(data)]).output
    assert "OHIF 9.9.9 is removed" in run(app, ["viewer", "remove", "--data", str(data)]).output
