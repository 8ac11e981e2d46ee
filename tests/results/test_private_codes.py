"""Whoever made up a code says so in every object that uses it (PS3.3 §C.12.1.1.7)."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from ledger.identifiers import Uid
from ledger.result import Role
from models.registry import find_in, open_found, provenance_of
from models.settings import ModelsSettings
from results import report
from results.codes import PRIVATE_SCHEME
from results.findings import CodingScheme, Concept
from results.segmentation import build
from results.write import write
from tests.models.manifests import manifest, segment, write_model
from tests.results.dciodvfy import complaints
from tests.results.made import asked
from tests.results.series import KINDS, a_run, findings, source

LAB = CodingScheme(designator="99LAB", name="Codes of the lab", organization="The lab", uid=Uid("2.25.99"))
BLOB = Concept("BLOB", "99LAB", "Blob")
SCHEME = {"designator": "99LAB", "name": "Codes of the lab", "organization": "The lab", "uid": "2.25.99"}


def test_a_models_own_scheme_is_identified_beside_ours_where_both_are_used(tmp_path: Path) -> None:
    of = source(KINDS["axial CT"])
    run = a_run(of)
    run = replace(run, provenance=replace(run.provenance, schemes=(LAB,)))
    said = findings(KINDS["axial CT"])
    said = replace(said, segments=(replace(said.segments[0], kind=BLOB), *said.segments[1:]))

    (seg,) = build(asked(said, of, run))
    (scheme,) = seg.CodingSchemeIdentificationSequence
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeUID) == ("99LAB", "2.25.99")
    assert scheme.CodingSchemeResponsibleOrganization == "The lab"

    (told,) = report.build(asked(said, of, run, made={Role.SEGMENTATION: (seg,)}))
    schemes = [one.CodingSchemeDesignator for one in told.CodingSchemeIdentificationSequence]
    assert schemes == [PRIVATE_SCHEME, "99LAB"]
    write(seg, tmp_path / "seg.dcm")
    # It knows the designators of the standard, and only them.
    assert not [one for one in complaints(tmp_path / "seg.dcm", "Segmentation") if "99LAB" not in one]


def test_a_private_code_that_nobody_answers_for_is_no_manifest() -> None:
    kind = {"value": "BLOB", "scheme": "99LAB", "meaning": "Blob"}
    with pytest.raises(ValidationError, match="codes of 99LAB need a"):
        manifest(segments=[segment(1, kind=kind)])
    assert manifest(segments=[segment(1, kind=kind)], schemes=[SCHEME]).schemes[0].organization == "The lab"
    ours = {"value": "LAA950", "scheme": PRIVATE_SCHEME, "meaning": "Low attenuation area"}
    assert manifest(segments=[segment(1, kind=ours)]).schemes == ()


def test_what_a_manifest_declares_reaches_the_results(tmp_path: Path) -> None:
    code = "class Ours:\n    def __init__(self): ...\n"
    for verb in ("load", "run", "estimate", "unload"):
        code += f"    def {verb}(self, *_): ...\n"
    folder = write_model(tmp_path, {"model.py": code}, runtime="python", entry="Ours", schemes=[SCHEME])
    trusting = ModelsSettings(allow_unsigned=True)
    model = open_found(find_in(folder, trusting), trusting)
    assert provenance_of(model, {}).schemes == (LAB,)
