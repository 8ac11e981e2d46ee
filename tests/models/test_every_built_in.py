"""What is asked of every model that comes with Wetread, also of those of tomorrow."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.sr._concepts_dict import concepts

from benchmarks.measured import BUILTIN, built_ins
from ledger.identifiers import Digest
from ledger.job import Outcome
from ledger.result import Role
from models.registry import open_model, provenance_of
from models.training.own_kind import OWN_KIND, write_own_kind
from models.trust import BUILT_IN
from results.findings import PRIVATE_SCHEME, Concept, Findings
from results.picture import overlay
from tests.results.dciodvfy import complaints
from worker.exchange import RunReply, RunRequest
from worker.residents import Residents
from worker.run import ToFinish, analyse, compute, finish, read

HEADINGS = (
    "What it says", "Who it is for", "How it works", "When it refuses", "What was measured", "Where it fails",
)  # fmt: skip
#: What dciodvfy calls the objects that a run makes.
IODS = {
    Role.SEGMENTATION: "Segmentation",
    Role.REPORT: "Comprehensive3DSR",
    Role.PARAMETRIC_MAP: "ParametricMap",
    Role.MARKS: "ComprehensiveSR",
}
_KNOWN = {
    (code, scheme)
    for scheme, named in concepts.items()
    for codes in named.values()
    for code in codes
}  # fmt: skip
#: Of SNOMED CT, and in no context group that pydicom's dictionary has.
_KNOWN.add(("233604007", "SCT"))  # Pneumonia (disorder)
every = pytest.mark.parametrize("name", built_ins())


@dataclass(frozen=True)
class Tried:
    """A model on a phantom of its own kind."""

    paths: tuple[str, ...]
    computed: ToFinish
    reply: RunReply


def request(name: str, paths: tuple[str, ...], out: Path) -> RunRequest:
    out.mkdir(parents=True)
    return RunRequest(model=name, inputs=paths, out=str(out), at=1.7e9, device="cpu")


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """Each model is tried once."""
    residents, known = Residents("cpu"), dict[str, Tried]()

    def of(name: str) -> Tried:
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            paths = tuple(map(str, write_own_kind(name, folder / "in", seed=5)))
            reply = analyse(request(name, paths, folder / "out"), residents=residents)
            again = request(name, paths[::-1], folder / "again")
            known[name] = Tried(paths, compute(read(again, residents), residents), reply)
        return known[name]

    return of


def concepts_in(value: object) -> Iterator[Concept]:
    """Every coded concept in a value."""
    match value:
        case Concept():
            yield value
        case tuple() | list():
            for one in value:
                yield from concepts_in(one)
        case _ if is_dataclass(value):
            for field in fields(value):
                yield from concepts_in(getattr(value, field.name))


def test_every_built_in_model_has_a_phantom_of_its_own_kind() -> None:
    assert [name for name in built_ins() if name not in OWN_KIND] == []


@every
def test_its_manifest_says_for_whom_it_is_and_that_it_is_no_medical_device(name) -> None:
    manifest = open_model(name).manifest

    assert manifest.runtime == "built-in"
    assert "Apache-2.0" in manifest.licence
    assert "Research" in manifest.intended_use
    assert "Not a medical device" in manifest.intended_use
    assert len(manifest.limits) >= 2
    for sentence in (manifest.title + ".", manifest.intended_use, *manifest.limits):
        assert sentence.isascii(), sentence
        assert sentence.endswith("."), sentence


@every
def test_its_card_has_every_heading_and_says_which_version_it_is_about(name) -> None:
    manifest = open_model(name).manifest
    card = (BUILTIN / name / manifest.card).read_text(encoding="utf-8")
    first = card.splitlines()[0]

    assert first.startswith(f"# {name} {manifest.version}")
    headings = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert [heading for heading in headings if heading in HEADINGS] == list(HEADINGS)
    assert "not a medical device" in card.lower()
    assert "research use" in card.lower()
    assert "Apache-2.0" in card


@every
def test_it_answers_a_phantom_of_its_own_kind_and_what_it_says_is_written_and_checked(name, tried) -> None:
    reply = tried(name).reply

    assert reply.outcome is Outcome.FOUND, reply.because
    assert Path(reply.files[-1].path).name == "report.dcm"
    assert reply.model_identity == open_model(name).manifest.identity
    for sentence in (*reply.lines, *reply.cautions):
        assert sentence.endswith("."), sentence


@every
@pytest.mark.peer
def test_dciodvfy_finds_no_error_in_what_it_makes(name, tried) -> None:
    for file in tried(name).reply.files:
        assert complaints(Path(file.path), IODS[file.role]) == [], file.role


@every
def test_what_it_outlines_can_be_drawn_on_the_images(name, tried) -> None:
    first = tried(name)
    for file in first.reply.files:
        if file.role is Role.SEGMENTATION:
            assert overlay([Path(path) for path in first.paths], Path(file.path)).startswith(b"\x89PNG")


@every
def test_its_codes_are_in_the_standards_tables_or_its_own(name, tried) -> None:
    said = set(concepts_in(tried(name).computed.findings))
    strange = [one for one in said if (one.value, one.scheme) not in _KNOWN]
    # Units are of UCUM, which no table of the standard has whole.
    strange = [one for one in strange if one.scheme not in (PRIVATE_SCHEME, "UCUM")]

    assert strange == []


@every
def test_the_same_images_give_the_same_bytes_whatever_their_order(name, tried) -> None:
    first = tried(name)
    again = finish(first.computed, Residents("cpu"))  # whose paths were the other way round

    assert [Path(one.path).read_bytes() for one in again.files] == [
        Path(one.path).read_bytes() for one in first.reply.files
    ]


@every
def test_it_needs_no_more_memory_than_it_estimates(name, tried) -> None:
    usage = tried(name).computed.usage  # of a second run: what is loaded once is there

    assert usage is not None
    assert usage.host_peak <= usage.host_allowed


@every
def test_its_device_uid_is_another_one_with_other_code_or_weights(name, tmp_path) -> None:
    model = open_model(name)
    copy = tmp_path / name
    shutil.copytree(model.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))

    model.folder = copy
    before = provenance_of(model, {}, BUILT_IN).device_uid
    assert provenance_of(model, {}, BUILT_IN).device_uid == before
    model.weights_digest = Digest("a" * 64)
    other_weights = provenance_of(model, {}, BUILT_IN).device_uid
    with (copy / "model.py").open("a") as code:
        code.write("\n# another line\n")

    assert len({before, other_weights, provenance_of(model, {}, BUILT_IN).device_uid}) == 3


def test_a_concept_is_found_wherever_it_stands(tried) -> None:
    name = built_ins()[0]
    findings: Findings = tried(name).computed.findings
    said = {one.value for one in concepts_in(findings)}

    assert {one.kind.value for one in findings.segments} <= said
    assert pydicom.dcmread(tried(name).paths[0]).Modality in open_model(name).manifest.input.modality
