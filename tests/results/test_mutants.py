"""
The check stops every result that is not what the model said of these images, and says why.

Each mutant is one written object in which one thing is wrong: all of them have to be noticed, and what was
not spoilt passes. Mutants of single kinds that need more than a row stand in the tests of those kinds.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from ledger.result import Role
from results.check import CheckFailed, check_results
from results.making import ENCODERS
from tests.results.checklist.exhibits import EVERYTHING, Stored
from tests.results.everything import everything
from tests.results.made import Made, make
from tests.results.mutants import pictures, report, segmentation
from tests.results.mutants.any_object import OF_ANY_OBJECT
from tests.results.mutants.mutant import Mutant
from tests.results.series import findings, source

#: The runs that are spoilt.
RUNS: dict[str, Callable[[], object]] = {
    "lungs": lambda: findings(cautions=("The lung bases are cut off.",)),
    "everything": everything,
}

MUTANTS: tuple[Mutant, ...] = (
    *segmentation.MUTANTS,
    *report.MUTANTS,
    *pictures.MUTANTS,
    *(Mutant(role, change, says) for role in ENCODERS for change, says in OF_ANY_OBJECT),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    of = source()
    return {
        name: make(tmp_path_factory.mktemp(name), of=of, said=said(), profile=EVERYTHING, pictures=Stored(of))
        for name, said in RUNS.items()
    }


@pytest.mark.parametrize("name", RUNS)
def test_what_was_not_spoilt_passes(name: str, runs: dict[str, Made]) -> None:
    runs[name].check()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_spoilt_stays_here_and_it_is_said_why(
    mutant: Mutant, runs: dict[str, Made], tmp_path: Path
) -> None:
    made = runs[mutant.of]
    files = list(made.written)
    at = next(index for index, (role, _) in enumerate(files) if role is mutant.role)
    dataset = pydicom.dcmread(files[at][1])
    mutant.change(dataset)
    files[at] = (mutant.role, tmp_path / "spoilt.dcm")
    dataset.save_as(files[at][1], enforce_file_format=False)  # which would mend the meta information

    with pytest.raises(CheckFailed) as stopped:
        check_results(replace(made.asked, pictures=made.pictures), files)

    said = str(stopped.value)
    assert re.search(mutant.says, said), said
    assert not re.search(r"Doe|MRN|1960|ACC-", said), "a sentence names the patient"


def test_the_table_is_long_enough_and_has_a_row_for_every_kind() -> None:
    assert len(MUTANTS) >= 100
    assert {mutant.role for mutant in MUTANTS} == set(ENCODERS)
    assert len({(mutant.name, mutant.of) for mutant in MUTANTS}) == len(MUTANTS)


def test_a_lost_object_of_any_kind_is_noticed(runs: dict[str, Made]) -> None:
    made = runs["everything"]
    for lost in dict(made.written):
        files = [(role, path) for role, path in made.written if role is not lost]
        with pytest.raises(CheckFailed):
            check_results(made.asked, files)
    assert Role.REPORT in dict(made.written)
