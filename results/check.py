"""
The last look before anything leaves: the files are read back and compared with what the model said.

An encoder that is right in its tests can still meet an image that its tests did not think of. A wrong volume
is worse than none, so whatever does not agree stays here, parked, with the sentence that says why.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from ledger.result import Role
from results.expect import CheckFailed, expect
from results.making import ENCODERS, Asked

__all__ = ["CheckFailed", "check_results"]


def check_results(asked: Asked, files: Sequence[tuple[Role, Path]]) -> None:
    """Raise `CheckFailed` unless `files` are all that the profile asks for, and say what the findings say.

    Files of one role are in the order in which they were made.
    """
    read: dict[Role, tuple[Dataset, ...]] = {}
    for role, path in files:
        read[role] = (*read.get(role, ()), _read(role, path))
    asked = replace(asked, made=read, found={})
    for role in Role:
        if role not in asked.profile.kinds or role not in ENCODERS:
            expect(role not in read, f"there is a {role}, which the profile {asked.profile.name} has not")
            continue
        try:
            ENCODERS[role].check(read.get(role, ()), asked)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            # A missing attribute shows itself only by its absence.
            raise CheckFailed(f"a {role} is not whole: {type(error).__name__}: {error}") from error
        for dataset in read.get(role, ()):
            expect(dataset.get("Modality") == role.modality, f"{role}: Modality is {dataset.get('Modality')}")
    made = [dataset for datasets in read.values() for dataset in datasets]
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        uids = {str(one[keyword].value) for one in made}
        expect(len(uids) == len(made), f"two results of the run have one {keyword}")


def _read(role: Role, path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except (OSError, InvalidDicomError, EOFError) as error:
        raise CheckFailed(f"the {role} cannot be read back from {path.name}: {error}") from error
