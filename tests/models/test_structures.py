"""The table of structures against the dictionaries that it was written from."""

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

import models
from models.structures import ALIASES, CATEGORIES, CLASSES, STRUCTURES, key_of
from results.codes import LEFT, PRIVATE_SCHEME, RIGHT
from results.findings import Concept

_LABELS = tomllib.loads((Path(__file__).parent / "zoo_labels.toml").read_text())
_TASKS = tomllib.loads((Path(models.__file__).parent / "totalsegmentator.toml").read_text())["tasks"]
_ALL = {
    **{bundle: (bundle, labels) for bundle, labels in _LABELS.items()},
    **{
        f"totalsegmentator {task}": (
            "totalsegmentator",
            [label for part in facts["labels"] for label in part],
        )
        for task, facts in _TASKS.items()
    },
}


def _meanings(concept: Concept) -> set[str]:
    """What pydicom's dictionary (PS3.16) calls the code, in lower case; nothing where it does not know it."""
    return {
        codes[concept.value][0].lower()
        for codes in concepts[concept.scheme].values()
        if concept.value in codes
    }


def _sideless(text: str) -> str:
    return re.sub(r"\b(left|right)\b ?|structure \(body structure\)$", "", text.lower()).strip()


def _standard() -> list[tuple[str, Concept]]:
    kinds = [(one.key, one.kind) for one in STRUCTURES.values() if one.kind.scheme != PRIVATE_SCHEME]
    regions = [(one.key, one.region) for one in STRUCTURES.values() if one.region is not None]
    classes = [(key, one.finding) for key, one in CLASSES.items()]
    categories = [(key, concept) for key, concept in CATEGORIES.items()]
    return [*kinds, *regions, *classes, *categories]


def test_a_code_means_in_the_table_what_it_means_in_the_standard() -> None:
    known = [(key, concept) for key, concept in _standard() if _meanings(concept)]
    wrong = [
        (key, concept, _meanings(concept))
        for key, concept in known
        if _sideless(concept.meaning) not in {_sideless(meaning) for meaning in _meanings(concept)}
    ]
    assert wrong == []
    assert len({concept for _, concept in known}) > 200


def test_a_code_that_pydicom_does_not_know_is_marked_as_seen_elsewhere() -> None:
    text = Path(models.__file__).with_name("structures.toml").read_text()
    rows = {key: row for group in tomllib.loads(text)["structures"].values() for key, row in group.items()}
    for key, row in rows.items():
        if "code" in row:
            known = bool(_meanings(Concept(row["code"], row.get("scheme", "SCT"), "")))
            assert known != ("seen" in row), key


def test_no_two_structures_share_kind_side_and_region() -> None:
    coded = [(one.kind.value, one.kind.scheme, one.laterality, one.region) for one in STRUCTURES.values()]
    twice = {what for what in coded if coded.count(what) > 1}
    assert twice == set()


def test_one_code_has_one_meaning() -> None:
    meanings: dict[tuple[str, str], set[str]] = {}
    for _, concept in _standard():
        meanings.setdefault((concept.scheme, concept.value), set()).add(concept.meaning)
    for one in STRUCTURES.values():
        meanings.setdefault((one.kind.scheme, one.kind.value), set()).add(one.kind.meaning)
    assert {code: said for code, said in meanings.items() if len(said) > 1} == {}


def test_a_pair_has_both_sides_and_they_are_not_swapped() -> None:
    sided = [one for one in STRUCTURES.values() if one.laterality is not None]
    assert len(sided) > 200
    for one in sided:
        side, other = ("left", "right") if one.laterality == LEFT else ("right", "left")
        assert one.laterality in (LEFT, RIGHT)
        assert one.key.endswith(f"_{side}")
        assert one.label.startswith(side.capitalize())
        assert other not in one.label.lower()
        twin = STRUCTURES[one.key.removesuffix(side) + other]
        assert (twin.kind, twin.category, twin.region) == (one.kind, one.category, one.region)
        assert twin.laterality != one.laterality


def _sides_in(*texts: str) -> set[str]:
    return {side for text in texts for side in re.findall(r"left|right", text.lower())}


def test_what_has_no_modifier_has_no_side_or_its_kind_says_it() -> None:
    for structure in (one for one in STRUCTURES.values() if one.laterality is None):
        said = _sides_in(structure.kind.meaning, structure.region.meaning if structure.region else "")
        assert _sides_in(structure.label) == said
        assert _sides_in(structure.key) <= said


def test_a_private_code_fits_into_its_element() -> None:
    for one in STRUCTURES.values():
        assert len(one.kind.value) <= 16, "Code Value is SH (PS3.5 §6.2)"
        assert len(one.kind.meaning) <= 64, "Code Meaning is LO"
        assert len(one.label) <= 64, "Segment Label is LO"
        assert one.confirmed == (one.kind.scheme != PRIVATE_SCHEME)


@pytest.mark.parametrize("task", _ALL)
def test_every_label_of_a_task_is_known_and_has_a_colour_of_its_own(task: str) -> None:
    source, labels = _ALL[task]
    keys = {label: key_of(label, source) for label in labels}
    assert [label for label, key in keys.items() if key is None] == []
    twice = {"hepatic tumor", "liver tumor"} & set(labels)  # VISTA3D learned both from different data
    assert len(set(keys.values())) == len(labels) - len(twice) // 2, "two labels became one structure"
    colours = [STRUCTURES[key].colour_rgb for key in set(keys.values()) if key]
    nearest = min(
        (sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5)
        for one, other in itertools.combinations(colours, 2)
    ) if len(colours) > 1 else 255.0  # fmt: skip
    assert nearest >= 6


@pytest.mark.parametrize("task", _ALL)
def test_a_label_keeps_its_side(task: str) -> None:
    source, labels = _ALL[task]
    for label in labels:
        structure = STRUCTURES[key_of(label, source) or ""]
        region = structure.region.meaning if structure.region else ""
        said = _sides_in(structure.label, structure.kind.meaning, region)
        assert _sides_in(label) <= said | _sides_in(structure.key), label
        if structure.laterality is not None:
            assert _sides_in(label) == said


def test_every_alias_leads_to_a_structure() -> None:
    for source, table in ALIASES.items():
        for name, key in table.items():
            assert key in STRUCTURES, f"{source}: {name}"


def test_case_hyphens_and_the_place_of_the_side_do_not_matter() -> None:
    assert key_of("Right Kidney") == key_of("kidney_right") == key_of("KIDNEY-RIGHT") == "kidney_right"
    assert key_of("rib_left_7") == key_of("left rib 7") == "rib_7_left"


def test_what_nobody_knows_has_no_key() -> None:
    assert key_of("flux capacitor") is None
    assert key_of("left liver") is None
    assert key_of("") is None


def test_the_same_word_means_another_thing_in_another_bundle() -> None:
    assert key_of("artery", "renalStructures_CECT_segmentation") == "renal_artery"
    assert key_of("artery", "multi_organ_segmentation") == "artery"
