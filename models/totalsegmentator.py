"""
Which of TotalSegmentator's tasks a folder belongs to, what its labels mean, and who may use it.

Its weights are ordinary nnU-Net folders below `DatasetNNN_…`; the number says which. The table is
`totalsegmentator.toml`; nothing of TotalSegmentator itself is needed.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_NUMBER = re.compile(r"Dataset(\d{3})_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of TotalSegmentator."""

    name: str
    modality: tuple[str, ...]
    licence: str
    licence_key: bool  #: its weights are given only to who has a key
    parts: Mapping[int, tuple[str, ...]]  #: number of the data set → its labels, which follow one another
    whole: Mapping[int, int]  #: number of a data set that draws all of them → the side of its voxels in mm
    crop: tuple[str, ...]  #: structures that TotalSegmentator confines it to
    crop_margin_mm: int

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the label map's values, from 1 on."""
        return tuple(label for labels in self.parts.values() for label in labels)


def number_of(path: str) -> int | None:
    """The number of the data set that a folder's name says: "Dataset291_TotalSegmentator_part1" is 291."""
    found = _NUMBER.search(path)
    return int(found[1]) if found else None


def task_of(number: int) -> Task | None:
    """The task that a data set belongs to; None where it is none of TotalSegmentator's."""
    return next((task for task in tasks().values() if number in task.parts or number in task.whole), None)


@cache
def tasks() -> Mapping[str, Task]:
    """Every task by its name."""
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    found = {}
    for name, row in table["tasks"].items():
        key = bool(row.get("licence_key", False))
        found[name] = Task(
            name=name,
            modality=tuple(row["modality"]),
            licence=row.get("licence", "TotalSegmentator licence, non-commercial" if key else "Apache-2.0"),
            licence_key=key,
            parts=MappingProxyType(
                {number: tuple(labels) for number, labels in zip(row["parts"], row["labels"], strict=True)}
            ),
            whole=MappingProxyType({int(number): int(mm) for mm, number in row.get("whole", {}).items()}),
            crop=tuple(row.get("crop", ())),
            crop_margin_mm=int(row.get("crop_margin_mm", 0)),
        )
    return MappingProxyType(found)
