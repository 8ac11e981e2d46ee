"""
The results of every kind of source and every outcome, made once, sent to a real Orthanc by our own sender,
and fetched back: the checklist judges what an archive gives to a viewer, not what we think that we wrote.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.peers import PeerSettings
from dicom_node.send import AnswerKind, send_many
from ledger.identifiers import AETitle
from ledger.result import Role
from results.findings import Findings, HeatMap
from results.making import ENCODERS
from results.profile import DEFAULT, Profile
from results.provenance import Run
from results.source import Source
from tests.patience import patient
from tests.peers.dcmtk import dcmsend
from tests.peers.orthanc import Orthanc
from tests.results.everything import ONE, PROBABILITY, everything, everything_on_an_image
from tests.results.images import IMAGES, image_source
from tests.results.lesions import lesions
from tests.results.made import Made, make
from tests.results.series import KINDS, ROOT, a_run, findings, not_analysed, nothing_found, source
from tests.results.test_headers import NAMES

#: Whose names the corpus carries, beside the Latin ones of all the others.
CHARACTER_SETS = ("Chinese GB18030", "Japanese", "Korean", "Arabic")


#: Every kind that can be made, for a destination that shows all of them.
EVERYTHING = replace(DEFAULT, name="everything", kinds=frozenset(ENCODERS))


@dataclass(frozen=True)
class Given:
    """What is to be made: of which images, what the model said of them, and for whom."""

    name: str
    source: Source
    findings: Findings
    profile: Profile = EVERYTHING


@dataclass(frozen=True)
class Stored:
    """The stored values of the images as grey, as they were written (see `write_image`)."""

    source: Source

    def grey(self, plane: int) -> NDArray[np.uint8]:
        image = self.source.datasets[plane if self.source.frames is None else 0]
        frame = 1 if self.source.frames is None else self.source.frames[plane]
        size = image.Rows * image.Columns
        stored = np.arange((frame - 1) * size, frame * size) % 250
        return stored.astype(np.uint8).reshape(image.Rows, image.Columns)


@dataclass(frozen=True)
class Exhibit:
    """One run: what the model said, what was written, and what the archive gives back of it."""

    name: str
    made: Made
    images: tuple[Path, ...]  #: the source as the archive holds it
    held: tuple[Path, ...]  #: the results as the archive holds them, in the order of `made.files`

    @property
    def findings(self) -> Findings:
        return self.made.findings

    @property
    def source(self) -> Source:
        return self.made.source

    @property
    def run(self) -> Run:
        return self.made.run

    @cached_property
    def image(self) -> Dataset:
        """The first header of the source, as the archive gives it back."""
        return pydicom.dcmread(self.images[0], stop_before_pixels=True)

    @cached_property
    def by_role(self) -> dict[Role, list[Dataset]]:
        """The results as the archive gives them back."""
        roles: dict[Role, list[Dataset]] = {}
        for role, path in self.paths:
            roles.setdefault(role, []).append(pydicom.dcmread(path))
        return roles

    @property
    def paths(self) -> list[tuple[Role, Path]]:
        return list(zip((role for role, _ in self.made.written), self.held, strict=True))

    @property
    def datasets(self) -> list[Dataset]:
        return [one for role in self.by_role for one in self.by_role[role]]

    def all(self, *roles: Role) -> list[Dataset]:
        return [one for role in roles for one in self.by_role.get(role, [])]

    @property
    def report(self) -> Dataset:
        (report,) = self.by_role[Role.REPORT]
        return report

    @property
    def report_path(self) -> Path:
        return next(path for role, path in self.paths if role is Role.REPORT)

    @property
    def leaves(self) -> list[Dataset]:
        return [one for role, found in self.by_role.items() if not role.is_root for one in found]


def corpus() -> list[Given]:
    """Every geometry, every modality, every outcome, and the character sets."""
    given = [
        # The boxes and points of everything lie beside so small an image.
        Given(name, source(kind), findings(kind) if name == "odd-sized CT" else everything(kind))
        for name, kind in KINDS.items()
    ]
    given += [Given(name, image_source(name), everything_on_an_image()) for name in IMAGES]
    given += [
        Given("segments only", source(), findings()),
        Given("nothing found", source(), nothing_found()),
        Given("not analysed", source(), not_analysed()),
        Given("an empty mask", source(), findings(label_map=np.zeros(KINDS["axial CT"].shape, np.uint8))),
    ]
    given += [
        Given(
            "label map",
            source(KINDS["oblique CT"]),
            findings(KINDS["oblique CT"]),
            replace(EVERYTHING, name="label map", segmentation="labelmap", transfer_syntax="rle"),
        ),
        Given(
            "label map of frames",
            source(KINDS["enhanced MR"]),
            findings(KINDS["enhanced MR"]),
            replace(EVERYTHING, name="label map of frames", segmentation="labelmap"),
        ),
        Given(
            "fractions",
            source(),
            with_fractions(findings()),
            replace(EVERYTHING, name="fractions", segmentation="fractional", transfer_syntax="rle"),
        ),
        Given("in parts", source(), findings(), replace(EVERYTHING, name="in parts", frame_limit=6)),
        Given("lesions", source(), lesions()),
    ]
    for name in CHARACTER_SETS:
        charset, patient = NAMES[name]
        of = source(charset=charset, name=patient, ReferringPhysicianName=patient)
        given.append(Given(name, of, findings()))
    return [
        replace(one, source=in_a_study_of_its_own(one.source, number))
        for number, one in enumerate(given, start=1)
    ]


def with_fractions(said: Findings) -> Findings:
    """The same with the probability of every segment: 0.9 where it is drawn, and nothing elsewhere."""
    maps = tuple(
        HeatMap(
            label=f"{segment.label} probability",
            quantity=PROBABILITY,
            unit=ONE,
            values=said.mask(segment.number) * np.float32(0.9),
            of=segment.label,
        )
        for segment in said.segments
    )
    return replace(said, maps=maps)


def in_a_study_of_its_own(of: Source, number: int) -> Source:
    """The same images under UIDs of their own, so that one archive can hold all of them."""
    uids = {ROOT: f"{ROOT}.{number}"}

    def own(uid: str) -> str:
        return str(uid).replace(ROOT, uids[ROOT], 1)

    for image in of.datasets:
        # The images share the elements of their common headers: each gets elements of its own.
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if keyword in image:
                image.add_new(keyword, "UI", own(image[keyword].value))
        image.add_new("PatientID", "LO", f"MRN-{number:04}")
        image.add_new("AccessionNumber", "SH", f"ACC-{number}")
    if of.geometry is None:
        return of
    space = of.geometry
    moved = hd.VolumeGeometry(
        affine=space.affine,
        spatial_shape=space.spatial_shape,
        coordinate_system="PATIENT",
        frame_of_reference_uid=own(space.frame_of_reference_uid),
    )
    return replace(of, geometry=moved)


def write_image(image: Dataset, path: Path) -> Path:
    """The header as a whole instance: stored values that differ from pixel to pixel."""
    whole = Dataset()
    whole.update(image)
    pixels = int(image.get("NumberOfFrames", 1)) * image.Rows * image.Columns * image.SamplesPerPixel
    kind, top = (np.uint8, 250) if image.BitsAllocated == 8 else (np.uint16, 1000)
    stored = (np.arange(pixels) % top).astype(kind).tobytes()
    whole.add_new(0x7FE00010, "OW" if kind is np.uint16 else "OB", stored + b"\0" * (len(stored) % 2))
    whole.file_meta = FileMetaDataset()
    whole.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.file_meta.ImplementationClassUID = f"{ROOT}.99"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save_as(path, enforce_file_format=True)
    return path


def make_again(exhibit: Exhibit, folder: Path, *, run: Run | None = None, of: Source | None = None) -> Made:
    """The same again, of another run or of other images where they are given."""
    of = of or exhibit.source
    return make(
        folder,
        of=of,
        said=exhibit.findings,
        run=run or exhibit.run,
        profile=exhibit.made.profile,
        pictures=Stored(of),
    )


def exhibit_all(given: Sequence[Given], folder: Path, archive: Orthanc) -> dict[str, Exhibit]:
    """Make the results of all, store images and results in `archive`, and fetch both back."""
    made: dict[str, Made] = {}
    sources: dict[str, list[str]] = {}
    for one in given:
        here = folder / "made" / one.name.replace(" ", "-")
        made[one.name] = make(
            here,
            of=one.source,
            said=one.findings,
            run=a_run(one.source),
            profile=one.profile,
            pictures=Stored(one.source),
        )
        for image in one.source.datasets:
            uid = str(image.SOPInstanceUID)
            write_image(image, folder / "images" / f"{uid}.dcm")
            sources.setdefault(one.name, []).append(uid)
    stored = dcmsend(archive.dicom_port, folder / "images", called=archive.ae_title)
    assert stored.returncode == 0, stored.stderr
    send_results([path for one in made.values() for path in one.files], archive)
    back = fetch_all(archive, folder / "back")
    return {
        name: Exhibit(
            name,
            one,
            tuple(back[uid] for uid in sources[name]),
            tuple(back[str(pydicom.dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)]
                  for p in one.files),
        )
        for name, one in made.items()
    }  # fmt: skip


def send_results(files: Iterable[Path], archive: Orthanc) -> None:
    """By the product's own sender, as it would deliver them."""
    peer = PeerSettings(name="archive", ae_title=archive.ae_title, host="127.0.0.1", port=archive.dicom_port)
    answers = send_many(list(files), peer, calling=AETitle("WETREAD"), deadline_s=patient(120))
    assert {answer.kind for answer in answers} == {AnswerKind.ACCEPTED}, answers


def fetch_all(archive: Orthanc, folder: Path) -> dict[str, Path]:
    """Everything that the archive holds, as files, by SOP Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    back = {}
    for number, instance in enumerate(archive.instances()):
        path = folder / f"{number:04}.dcm"
        path.write_bytes(archive.file(instance))
        uid = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        back[str(uid)] = path
    return back
