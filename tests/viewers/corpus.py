"""A study with everything that Wetread makes of it, as an archive takes it and gives it back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from ledger.identifiers import Digest, Uid
from ledger.result import Role
from models.training.phantom_series import write as write_image
from results.findings import Findings
from results.making import ENCODERS, Asked, make
from results.profile import DEFAULT
from results.provenance import Provenance, Run
from results.source import Source
from results.write import write
from worker.pictures import FilePictures

#: Every kind that there is.
EVERYTHING = replace(DEFAULT, name="everything", kinds=frozenset(ENCODERS))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One study: a source, what a model says of it, and the objects that were made of that."""

    name: str
    images: tuple[Dataset, ...]  #: whole instances of the source, as a scanner sends them
    asked: Asked
    made: tuple[tuple[Role, Dataset], ...]
    #: the segmentation in its other forms: "labelmap", "fractional", "parts"
    forms: Mapping[str, tuple[Dataset, ...]] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.asked.source

    @property
    def findings(self) -> Findings:
        return self.asked.findings

    @property
    def study(self) -> str:
        return str(self.source.first.StudyInstanceUID)

    def of(self, role: Role) -> list[Dataset]:
        """What was made in that role."""
        return [dataset for made, dataset in self.made if made is role]

    def the(self, role: Role) -> Dataset:
        """The only one of its role."""
        (dataset,) = self.of(role)
        return dataset

    @property
    def slices(self) -> int:
        label_map = self.findings.label_map
        assert label_map is not None
        return int(label_map.shape[0])

    def pixels(self, mask: NDArray[np.bool_], number: int) -> NDArray[np.int64]:
        """Some voxels of `mask` on slice `number`: (n, 3) slice, row, column."""
        rows, columns = np.nonzero(mask[number])
        chosen = np.random.default_rng(number).permutation(len(rows))[:50]
        return np.stack([np.full(len(chosen), number), rows[chosen], columns[chosen]], axis=1)

    def places(self, voxels: NDArray[np.generic]) -> NDArray[np.float64]:
        """(n, 3) slice, row, column → (n, 3) mm of the patient (LPS); of an image: its own axes."""
        if self.source.geometry is not None:
            affine = np.asarray(self.source.geometry.affine)
            return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])
        between_rows, between_columns = (float(v) for v in self.source.first.ImagerPixelSpacing)
        flat = np.stack([voxels[:, 2] * between_columns, voxels[:, 1] * between_rows], axis=1)
        return np.concatenate([flat, np.zeros((len(flat), 1))], axis=1)


def case_of(name: str, folder: Path, source: Source, images: tuple[Dataset, ...], said: Findings) -> Case:
    run = Run(
        provenance=Provenance(
            name="chest",
            version="1.0.0",
            device_uid=Uid("2.25.1234567890123456789"),
            code_digest=Digest("ab" * 32),
            card_url="https://example.org/chest",
        ),
        series=Uid(str(source.first.SeriesInstanceUID)),
        inputs=tuple(Uid(str(image.SOPInstanceUID)) for image in source.datasets),
        at=datetime(2024, 1, 5, 10, 30, tzinfo=UTC),
        software_version="0.1.0",
        image=Uid(str(source.first.SOPInstanceUID)) if source.geometry is None else None,
    )
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"source {number}.dcm")
        write_image(image, paths[-1])
    pictures = FilePictures(source, paths, lungs=True)
    asked = Asked(findings=said, source=source, run=run, profile=EVERYTHING, pictures=pictures)
    return Case(name=name, images=images, asked=asked, made=tuple(make(asked)))


def write_case(case: Case, folder: Path) -> list[Path]:
    """The whole study as files, images before results."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    results = [*(dataset for _, dataset in case.made), *(one for form in case.forms.values() for one in form)]
    for number, dataset in enumerate([*case.images, *results]):
        paths.append(folder / f"{case.name} {number}.dcm")
        if number < len(case.images):
            write_image(dataset, paths[-1])
        else:
            write(dataset, paths[-1])
    return paths


def came_back(case: Case, held: Mapping[str, Dataset]) -> Case:
    """The case with its objects as an archive holds them, by SOP Instance UID. Raises `CheckFailed`."""
    for _, dataset in case.made:
        # Archives write file meta information of their own; the check wants ours.
        held[str(dataset.SOPInstanceUID)].file_meta = dataset.file_meta
    made = tuple((role, held[str(dataset.SOPInstanceUID)]) for role, dataset in case.made)
    by_role = {role: tuple(one for r, one in made if r is role) for role, _ in made}
    asked = replace(case.asked, made=by_role)
    for role, encoder in ENCODERS.items():
        if role in asked.profile.kinds:
            encoder.check(by_role.get(role, ()), asked)
    return replace(case, made=made)
