"""
The 55 points that every result has to meet before it may leave, and which tests prove each.

A test proves a point by its name: `test_point_51_…`, wherever it stands. So `pytest -k point_51` runs it, the
table in `docs/results/proof.md` is drawn from here, and a point without a test is a failure.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
_PREFIX = "test_point_"


@dataclass(frozen=True)
class Point:
    """One thing that has to be true of every result."""

    number: int
    part: str
    says: str
    judged_by: str = "pydicom"  #: whose reading counts


_IDENTITY, _PROVENANCE = "Identity and headers", "Provenance"
_SEGMENTATION, _REPORT = "Segmentation", "Structured report"
_OTHER, _DELIVERY = "Other objects", "Delivery and workflow"

POINTS = (
    Point(1, _IDENTITY, "Patient and study are those of the images, byte for byte"),
    Point(2, _IDENTITY, "Images and results of a study are consistent", "dcentvfy"),
    Point(3, _IDENTITY,
          "Every string fits the character set; names in GB18030, Japanese, Korean, Arabic survive"),
    Point(4, _IDENTITY, "UIDs are new, below a registered root, and at most 64 characters"),
    Point(5, _IDENTITY, "The same job again gives the same UIDs and the same bytes"),
    Point(6, _IDENTITY, "Another model version, parameter or input set gives other UIDs"),
    Point(7, _IDENTITY,
          "Each result is alone in a series that is numbered, described, and of the right modality"),
    Point(8, _IDENTITY, "Body part is copied; an unpaired part has no laterality"),
    Point(9, _IDENTITY, "No error in any file", "dciodvfy"),
    Point(10, _IDENTITY, "The file says that the product wrote it"),
    Point(11, _PROVENANCE, "Contributing Equipment names the model, with its Device UID"),
    Point(12, _PROVENANCE, "Equipment, observer, algorithm and segments say the same"),
    Point(13, _PROVENANCE, "The Device UID is a function of weights and code alone"),
    Point(14, _PROVENANCE, "Every segment names its algorithm and the family"),
    Point(15, _PROVENANCE, "General equipment is complete"),
    Point(16, _PROVENANCE, "What comes back from the archive still says all that", "Orthanc"),
    Point(17, _SEGMENTATION, "The frame of reference is that of the images"),
    Point(18, _SEGMENTATION,
          "The grid is that of the images; every frame lies on one of them within 0.01 mm"),
    Point(19, _SEGMENTATION, "The one source series is listed with exactly the instances used"),
    Point(20, _SEGMENTATION, "Every frame comes from exactly one image, in place"),
    Point(21, _SEGMENTATION, "Every segment comes back voxel for voxel, in space", "dcmqi"),
    Point(22, _SEGMENTATION, "The mask comes back voxel for voxel", "highdicom"),
    Point(23, _SEGMENTATION, "Segments are numbered without a gap; a label map describes its background"),
    Point(24, _SEGMENTATION, "Labels, codes and colours are there, and labels and colours differ"),
    Point(25, _SEGMENTATION, "Segments are said not to overlap only where they do not"),
    Point(26, _SEGMENTATION, "Where nothing is drawn a report says so, and there is no segmentation"),
    Point(27, _SEGMENTATION, "The volume is the number of voxels times their size"),
    Point(28, _SEGMENTATION, "The overlay is seen on the slices that have it, and on no other", "OHIF"),
    Point(29, _SEGMENTATION, "The overlay is seen", "VolView"),
    Point(30, _SEGMENTATION,
          "What is on the patient's right stays there; a tilted gantry is refused", "dcmqi, highdicom"),
    Point(31, _REPORT, "TID 1500 is recognised, without an error", "PixelMed"),
    Point(32, _REPORT, "Every name, value and sentence is printed", "dsrdump, dsr2html"),
    Point(33, _REPORT, "Every measurement is read with its value and unit", "dcmqi tid1500reader"),
    Point(34, _REPORT, "Title, procedure, language and device observer are there, from their context groups"),
    Point(35, _REPORT, "Nobody has verified it, and it says so"),
    Point(36, _REPORT, "Evidence is what the content refers to"),
    Point(37, _REPORT, "The one root refers to every leaf"),
    Point(38, _REPORT, "A finding has one Tracking UID in every object, and keeps it"),
    Point(39, _REPORT, "Every group of the marks is drawn inside an image"),
    Point(40, _REPORT, "The marks open on their slice with their numbers; no viewport stays black", "OHIF"),
    Point(41, _REPORT, "Every value is a number, and nothing has no group"),
    Point(42, _REPORT, "Private codes say whose they are; there is no placeholder"),
    Point(43, _REPORT, "Units are UCUM; probabilities are in percent, and the model's"),
    Point(44, _OTHER, "A map is of floats whose real world values are the model's"),
    Point(45, _OTHER, "A presentation state is sound, and has a number", "dcmpschk"),
    Point(46, _OTHER, "Pictures and pages say that they are derived, and what is burned in"),
    Point(47, _OTHER, "Contours lie closed on the slices, in the frame of reference", "dciodvfy"),
    Point(48, _DELIVERY,
          "What an archive refuses is replaced as its profile says, and recorded", "Orthanc, DCMTK"),
    Point(49, _DELIVERY, "All kinds of storage are accepted; a sender stays below 128 contexts"),
    Point(50, _DELIVERY,
          "Every status has its consequence: recorded, tried again with growing pauses, or parked"),
    Point(51, _DELIVERY, "Delivered means that the archive has answered for every instance", "Orthanc"),
    Point(52, _DELIVERY, "Leaves go before the root; what is announced is what was committed"),
    Point(53, _DELIVERY, "A work item is claimed, reported on, and finished only after the proof"),
    Point(54, _DELIVERY, "Results are never inputs"),
    Point(55, _DELIVERY, "A study under new UIDs has results without a trace of the old ones"),
)  # fmt: skip


def proofs() -> dict[int, list[Path]]:
    """By number of a point: the files with tests of its number, relative to the folder of all tests."""
    found: dict[int, set[Path]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in _tests(path):
            number = name.removeprefix(_PREFIX)[:2]
            found.setdefault(int(number), set()).add(path.relative_to(TESTS))
    return {number: sorted(paths) for number, paths in found.items()}


def _tests(path: Path) -> Iterator[str]:
    text = path.read_text()
    if _PREFIX in text:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.name.startswith(_PREFIX):
                yield node.name
