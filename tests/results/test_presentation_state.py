"""A presentation state marks what was found on the images where it is, and shows them as they look."""

import itertools
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from ledger.job import Outcome
from ledger.result import Role
from results import presentation_state
from results.appearance import displayed_area, grey_values
from results.check_presentation_state import check
from results.findings import Findings
from results.grid import NotEncodable, grid_of
from results.icc import SRGB
from results.source import Source
from results.write import write
from tests.patience import patient
from tests.peers.programs import find
from tests.results.companions import a_lesion, companions, image_companions, lesions, with_lesions
from tests.results.dciodvfy import complaints
from tests.results.everything import boxes, everything, everything_on_an_image, points, verdicts
from tests.results.images import IMAGES, image_source
from tests.results.made import asked
from tests.results.series import KINDS, Kind, a_run, findings, source, with_pixels

GREY = "GrayscaleSoftcopyPresentationState"


def _made(folder: Path, said: Findings, of: Source, run=None) -> Dataset:
    (dataset,) = presentation_state.build(asked(said, of, run))
    folder.mkdir(parents=True, exist_ok=True)
    write(dataset, folder / "marks.dcm")
    read = pydicom.dcmread(folder / "marks.dcm")
    check([read], asked(said, of, run))
    return read


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["axial CT", "coronal MR", "enhanced CT"])
def test_45_dciodvfy_takes_it_on_volumes(kind: str, tmp_path: Path) -> None:
    made = companions(tmp_path, kind)
    made.check()
    for role, path in made.written:
        if role is Role.PRESENTATION:
            assert complaints(path, GREY) == []


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["MG", "OP", "US cine"])
@pytest.mark.parametrize("laterality", [{}, {"BodyPartExamined": "BREAST", "Laterality": "L"}])
def test_45_dciodvfy_takes_it_on_images_of_any_part(kind: str, laterality, tmp_path: Path) -> None:
    made = image_companions(tmp_path, kind, **laterality)
    made.check()
    ((path),) = [path for role, path in made.written if role is Role.PRESENTATION]
    iod = "ColorSoftcopyPresentationState" if IMAGES[kind].colour else GREY
    assert complaints(path, iod) == []


@pytest.mark.peer
@pytest.mark.parametrize("name", ["axial CT", "coronal MR", "enhanced CT", "CR", "MG", "US cine"])
def test_45_dcmpschk_passes_it_and_dcmp2pgm_renders_by_it(name: str, tmp_path: Path) -> None:
    of = source(KINDS[name]) if name in KINDS else image_source(name)
    said = with_lesions(name) if name in KINDS else everything_on_an_image()
    # dcmpschk 3.6.7 finds fault with any time east of Greenwich: its "+" is not read as one.
    west = datetime(2026, 1, 2, 7, 30, 15, tzinfo=timezone(timedelta(hours=-5)))
    state = _made(tmp_path, said, of, a_run(of, at=west))
    checked = subprocess.run(
        [find("dcmpschk"), tmp_path / "marks.dcm"], capture_output=True, text=True, check=False
    )
    assert "Test passed" in checked.stdout + checked.stderr, checked.stderr
    reference = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0]
    (image,) = [one for one in of.datasets if one.SOPInstanceUID == reference.ReferencedSOPInstanceUID]
    with_pixels(image).save_as(tmp_path / "image.dcm", enforce_file_format=True)
    frames = reference.get("ReferencedFrameNumber")
    frame = [] if frames is None else ["--frame", str(np.atleast_1d(frames)[0])]
    command = [find("dcmp2pgm"), *frame, "-p", "marks.dcm", "image.dcm", "image.pgm"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=patient(60))
    assert (tmp_path / "image.pgm").read_bytes().startswith(b"P5")


def _annotations(state: Dataset, layer: str) -> list[Dataset]:
    return [one for one in state.GraphicAnnotationSequence if one.GraphicLayer == layer]


def test_lesions_are_outlined_on_every_slice_that_they_touch(tmp_path: Path) -> None:
    state = _made(tmp_path, with_lesions(), source())
    on = {
        str(one.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
        for one in _annotations(state, "AI LESIONS")
    }
    drawn = np.flatnonzero(lesions(KINDS["axial CT"]).any(axis=(1, 2)))
    assert on == {str(source().datasets[k].SOPInstanceUID) for k in drawn}
    for annotation in _annotations(state, "AI LESIONS"):
        for line in annotation.GraphicObjectSequence:
            assert (line.GraphicType, line.GraphicFilled) == ("POLYLINE", "N")
            assert list(line.GraphicData[:2]) == list(line.GraphicData[-2:])


def test_organs_are_left_to_the_segmentation() -> None:
    assert presentation_state.build(asked(findings(), source())) == []


def test_every_label_says_what_how_sure_and_that_nobody_has_verified_it(tmp_path: Path) -> None:
    said = with_lesions(verdicts=verdicts())
    state = _made(tmp_path, said, source())
    texts = {
        str(text.UnformattedTextValue)
        for annotation in state.GraphicAnnotationSequence
        for text in annotation.TextObjectSequence
    }
    assert "Nodule 1\r\ncertainty 93 %\r\ndiameter 6.25 mm\r\nAI, not verified" in texts
    assert "Lesion 2\r\ncertainty 80 %\r\nAI, not verified" in texts
    assert "Carina\r\n+/- 1.25 mm\r\nAI, not verified" in texts
    assert all(text.endswith("AI, not verified") and text.isascii() for text in texts)


def test_a_verdict_stands_on_the_image_that_it_is_about_and_on_no_slice_of_a_volume(tmp_path: Path) -> None:
    on_image = Findings(outcome=Outcome.FOUND, verdicts=verdicts())
    state = _made(tmp_path, on_image, image_source("DX"))
    ((annotation),) = state.GraphicAnnotationSequence
    ((text),) = annotation.TextObjectSequence
    assert text.UnformattedTextValue == "Pneumothorax: probability 93 %\r\nAI, not verified"
    assert "GraphicObjectSequence" not in annotation
    assert presentation_state.build(asked(on_image, source())) == []
    several = Source(datasets=(*image_source("DX").datasets, *image_source("CR").datasets), geometry=None)
    assert presentation_state.build(asked(on_image, several)) == []


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0 %"), (0.004, "< 1 %"), (0.504, "50 %"), (0.996, "> 99 %"), (1.0, "100 %")]
)
def test_a_share_is_never_rounded_to_a_certainty(share: float, said: str, tmp_path: Path) -> None:
    one = Findings(outcome=Outcome.FOUND, boxes=(replace(boxes()[0], score=share, measurements=()),))
    state = _made(tmp_path, one, source())
    text = state.GraphicAnnotationSequence[0].TextObjectSequence[0].UnformattedTextValue
    assert text == f"Nodule 1\r\ncertainty {said}\r\nAI, not verified"


def test_boxes_and_points_count_from_the_corner_of_the_first_pixel(tmp_path: Path) -> None:
    state = _made(tmp_path, everything(), source())
    box = _annotations(state, "AI BOXES")[0].GraphicObjectSequence[0]
    assert list(box.GraphicData) == [6, 4.75, 9, 4.75, 9, 10.25, 6, 10.25, 6, 4.75]
    point = _annotations(state, "AI LANDMARKS")[0].GraphicObjectSequence[0]
    assert (point.GraphicType, list(point.GraphicData)) == ("POINT", [12, 7.75])


def test_layers_are_described_and_only_those_that_are_used(tmp_path: Path) -> None:
    every = _made(tmp_path, with_lesions(), source())
    assert [one.GraphicLayer for one in every.GraphicLayerSequence] == [
        "AI LESIONS",
        "AI BOXES",
        "AI LANDMARKS",
    ]
    alone = _made(tmp_path, Findings(outcome=Outcome.FOUND, points=points()), source())
    ((layer),) = alone.GraphicLayerSequence
    assert layer.GraphicLayer == "AI LANDMARKS"
    assert "not verified" in layer.GraphicLayerDescription


def test_the_window_is_that_of_each_image(tmp_path: Path) -> None:
    of = source(WindowCenter=["-600", "40"], WindowWidth=["1500", "400"])
    other = of.datasets[3]
    del other.WindowCenter, other.WindowWidth  # The elements are those of all the others.
    other.WindowCenter, other.WindowWidth = "-500", "1400"
    state = _made(tmp_path, with_lesions(), of)
    usual, other = sorted(state.SoftcopyVOILUTSequence, key=lambda one: float(one.WindowCenter))
    assert (float(usual.WindowCenter), float(usual.WindowWidth)) == (-600, 1500)
    ((image),) = other.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == of.datasets[3].SOPInstanceUID
    assert (float(state.RescaleSlope), float(state.RescaleIntercept), state.RescaleType) == (1, -1024, "HU")


def test_where_every_slice_is_scaled_by_its_own_factor_windows_are_in_stored_values(tmp_path: Path) -> None:
    of = source(KINDS["coronal MR"], Modality="PT", WindowCenter="5", WindowWidth="10")
    for k, image in enumerate(of.datasets):
        image.RescaleSlope, image.RescaleIntercept = str(k + 1), "0"
    state = _made(tmp_path, with_lesions("coronal MR"), of)
    assert "RescaleSlope" not in state
    assert len(state.SoftcopyVOILUTSequence) > 1
    for item in state.SoftcopyVOILUTSequence:
        uid = item.ReferencedImageSequence[0].ReferencedSOPInstanceUID
        slope = 1 + [one.SOPInstanceUID for one in of.datasets].index(uid)
        assert float(item.WindowCenter) * slope == pytest.approx(5)


def test_a_table_of_values_is_kept_where_the_image_has_no_window(tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], bytes(range(256))
    state = _made(tmp_path, everything_on_an_image(), image_source("CR", VOILUTSequence=[table]))
    ((item),) = state.SoftcopyVOILUTSequence
    assert item.VOILUTSequence[0].LUTData == bytes(range(256))


def test_tables_of_one_length_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    of = source(KINDS["coronal MR"])
    for k, image in enumerate(of.datasets):
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [256, 0, 8], bytes([k]) * 256
        image.VOILUTSequence = [table]
    state = _made(tmp_path, with_lesions("coronal MR"), of)
    slices = [str(image.SOPInstanceUID) for image in of.datasets]
    shown = {
        slices.index(str(one.ReferencedSOPInstanceUID)): item.VOILUTSequence[0].LUTData[0]
        for item in state.SoftcopyVOILUTSequence
        for one in item.ReferencedImageSequence
    }
    assert len(shown) > 1
    assert all(k == value for k, value in shown.items())


def test_the_pixels_of_a_frame_are_as_high_and_wide_as_its_functional_group_says(tmp_path: Path) -> None:
    of = image_source("US cine")
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.2", "0.1"], "1"
    shared.PixelMeasuresSequence = [measures]
    of.first.SharedFunctionalGroupsSequence = [shared]
    of.first.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(5)]
    ((area),) = _made(tmp_path, everything_on_an_image(), of).DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == [2, 1]


def test_what_is_inverse_stays_inverse(tmp_path: Path) -> None:
    usual = _made(tmp_path, everything_on_an_image(), image_source("CR"))
    inverse = image_source("CR", PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE")
    assert usual.PresentationLUTShape == "IDENTITY"
    assert _made(tmp_path, everything_on_an_image(), inverse).PresentationLUTShape == "INVERSE"


@pytest.mark.parametrize(
    ("headers", "shape"),
    [
        ({"ImagerPixelSpacing": ["0.2", "0.15"]}, [4, 3]),
        ({"ImagerPixelSpacing": None}, [1, 1]),
        ({"PixelAspectRatio": [5, 4], "ImagerPixelSpacing": None}, [5, 4]),
        ({"NominalScannedPixelSpacing": ["0.2", "0.1"], "ImagerPixelSpacing": None}, [2, 1]),
        ({"ImagerPixelSpacing": ["0", "0"]}, [1, 1]),
        ({"PixelSpacing": ["0", "0"]}, [4, 3]),
    ],
)
def test_pixels_that_are_not_square_are_shown_as_they_are(headers, shape, tmp_path: Path) -> None:
    state = _made(tmp_path, everything_on_an_image(), image_source("CR", **headers))
    ((area),) = state.DisplayedAreaSelectionSequence
    assert list(area.PresentationPixelAspectRatio) == shape
    volume = _made(tmp_path, with_lesions(), source()).DisplayedAreaSelectionSequence[0]
    assert [float(one) for one in volume.PresentationPixelSpacing] == [0.75, 0.625]


def test_what_the_image_hides_stays_hidden(tmp_path: Path) -> None:
    shut = {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": 15,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 19,
    }
    state = _made(tmp_path, everything_on_an_image(), image_source("DX", **shut))
    assert {one: state[one].value for one in shut} == shut
    assert state.ShutterPresentationValue == 0


def test_colours_have_a_space_that_they_are_of(tmp_path: Path) -> None:
    state = _made(tmp_path, everything_on_an_image(), image_source("OP"))
    assert state.ICCProfile == SRGB
    assert "SoftcopyVOILUTSequence" not in state
    own = _made(tmp_path, everything_on_an_image(), image_source("OP", ICCProfile=b"own profile!"))
    assert own.ICCProfile == b"own profile!"


def test_our_srgb_is_the_srgb_of_others() -> None:
    import io

    from PIL import Image, ImageCms

    ours = ImageCms.ImageCmsProfile(io.BytesIO(SRGB))
    assert ImageCms.getProfileDescription(ours).strip() == "sRGB"
    turn = ImageCms.buildTransform(ours, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    colours = np.indices((8, 8, 8)).reshape(3, -1).T.astype(np.uint8) * 36
    picture = Image.fromarray(colours[np.newaxis])
    turned = np.asarray(ImageCms.applyTransform(picture, turn))
    assert np.abs(turned[0].astype(int) - colours).max() <= 1


def test_a_very_long_outline_comes_in_parts_that_go_on_where_the_last_one_ends(tmp_path: Path) -> None:
    kind = Kind("comb", shape=(1, 200, 400))
    labels = np.zeros(kind.shape, np.uint8)
    labels[0, 1:-1, 1:-1] = 1
    rows, columns = np.indices(kind.shape[1:])
    labels[0, (columns % 4 == 0) & (rows > 2) & (rows % 2 == 0)] = 0
    labels[0, (columns % 4 == 1) & (rows > 2)] = 0
    said = Findings(outcome=Outcome.FOUND, label_map=labels, segments=(a_lesion(1),))
    state = _made(tmp_path, said, source(kind))
    lines = state.GraphicAnnotationSequence[0].GraphicObjectSequence
    assert max(int(one.NumberOfGraphicPoints) for one in lines) * 8 <= 0xFFFE
    assert any("GraphicFilled" not in one for one in lines)


def test_labels_of_neighbours_do_not_cover_one_another(tmp_path: Path) -> None:
    kind = Kind("large", shape=(1, 200, 200))
    near = [
        replace(boxes()[0], label=f"Nodule {k}", low=(-0.4, 60 + 3 * k, 50), high=(0.4, 62 + 3 * k, 60))
        for k in range(4)
    ]
    said = Findings(outcome=Outcome.FOUND, boxes=tuple(near))
    ((annotation),) = _made(tmp_path, said, source(kind)).GraphicAnnotationSequence
    spans = sorted(
        (text.BoundingBoxTopLeftHandCorner[1], text.BoundingBoxBottomRightHandCorner[1])
        for text in annotation.TextObjectSequence
    )
    assert all(first[1] <= second[0] + 1e-3 for first, second in itertools.pairwise(spans))


def test_the_same_run_writes_the_same_bytes(tmp_path: Path) -> None:
    of = source(charset="GB18030", name="王^小东")
    for name in ("first", "second"):
        _made(tmp_path / name, with_lesions(), of)
    assert (tmp_path / "first/marks.dcm").read_bytes() == (tmp_path / "second/marks.dcm").read_bytes()


@pytest.mark.parametrize("low", [(1.5, 100.0, 5.5), (30.0, 4.25, 5.5)])
def test_a_box_beside_the_images_is_refused(low) -> None:
    beside = replace(boxes()[0], low=low, high=tuple(one + 2 for one in low))
    with pytest.raises(NotEncodable, match="beside the images"):
        presentation_state.build(asked(Findings(outcome=Outcome.FOUND, boxes=(beside,)), source()))


def test_a_label_map_of_another_size_is_refused() -> None:
    with pytest.raises(NotEncodable, match="the label map is"):
        presentation_state.build(asked(with_lesions(label_map=lesions(KINDS["odd-sized CT"])), source()))


def test_images_without_any_window_are_left_to_the_viewer() -> None:
    item = Dataset()
    of = source(KINDS["coronal MR"])
    grey_values(item, of, grid_of(of), range(3))
    assert "SoftcopyVOILUTSequence" not in item
    assert displayed_area(of, grid_of(of)).PresentationSizeMode == "SCALE TO FIT"
