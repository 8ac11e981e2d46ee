"""The picture holds the patient as radiologists do: the right on the left, head and breastbone on top."""

import io
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from PIL import Image

from results.paint import Entry
from results.picture import CannotDraw, draw, overlay
from tests.results.companions import image_companions
from tests.results.images import IMAGES
from tests.results.made import Made, make
from tests.results.series import KINDS, findings, geometry, label_map, with_pixels

RED, GREEN = (255, 0, 0), (0, 255, 0)
LEGEND = {1: Entry("Right lung", RED), 2: Entry("Left lung", GREEN)}
VIEWS = slice(16, 436)  # rows of the picture that hold the two views


def _draw(kind: str) -> np.ndarray:
    space = geometry(KINDS[kind])
    volume = space.with_array(np.full(space.spatial_shape, -1000, np.int16))
    return np.asarray(draw(volume, label_map(KINDS[kind]), LEGEND)).astype(int)[VIEWS]


def _reddish(page: np.ndarray) -> np.ndarray:
    return np.argwhere(page[..., 0] - page[..., 1] > 60)


def _greenish(page: np.ndarray) -> np.ndarray:
    return np.argwhere(page[..., 1] - page[..., 0] > 60)


@pytest.mark.parametrize("kind", ["axial CT", "feet-first CT", "reversed CT", "coronal MR"])
def test_the_patients_right_is_on_the_left_of_each_view(kind: str) -> None:
    page = _draw(kind)
    width = page.shape[1]
    background = (page[200] != (16, 18, 22)).any(axis=-1)
    gap = [x for x in range(20, width - 20) if not background[x]]
    assert gap, "the views stand side by side"
    middle = int(np.mean(gap))
    for view in (page[:, :middle], page[:, middle:]):
        assert _reddish(view)[:, 1].mean() < _greenish(view)[:, 1].mean()


def test_head_and_breastbone_are_on_top() -> None:
    # A marker towards the head and to the front, on a grid whose slices begin at the feet.
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[
        [2, 1, 0, 3]
    ]  # slice → +z (head), row → +y (back), column → +x (left)
    space = hd.VolumeGeometry(affine=affine, spatial_shape=(20, 20, 20), coordinate_system="PATIENT")
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[12:18, 2:8, 8:12] = 1
    page = np.asarray(draw(space.with_array(np.full((20, 20, 20), -1000)), labels, LEGEND)).astype(int)[VIEWS]
    half = page.shape[1] // 2
    for view in (page[:, :half], page[:, half:]):
        assert _reddish(view)[:, 0].mean() < 210


def test_the_legend_names_what_is_drawn_and_the_caption_warns() -> None:
    space = geometry(KINDS["axial CT"])
    volume = space.with_array(np.zeros(space.spatial_shape, np.int16))
    both = draw(volume, label_map(KINDS["axial CT"]), LEGEND)
    one = draw(volume, (label_map(KINDS["axial CT"]) == 1).astype(np.uint8), LEGEND)
    assert both.height - one.height == 22
    caption = np.asarray(both)[-40:]
    assert (np.abs(caption.astype(int) - (255, 196, 64)).sum(axis=-1) < 60).any()


def _images(made: Made, folder: Path) -> list[Path]:
    paths = []
    for index, image in enumerate(made.source.datasets):
        paths.append(folder / f"image{index}.dcm")
        with_pixels(image).save_as(paths[-1], enforce_file_format=True)
    return paths


@pytest.mark.parametrize("kind", ["axial CT", "oblique CT"])
def test_it_can_be_drawn_from_what_an_archive_holds(kind: str, tmp_path: Path) -> None:
    made = make(tmp_path, kind, said=findings(KINDS[kind]))
    assert made.segmentation is not None
    picture = Image.open(io.BytesIO(overlay(_images(made, tmp_path)[::-1], made.segmentation)))
    assert picture.format == "PNG"
    colours = np.asarray(picture).astype(int)[VIEWS]
    assert (colours[..., 2] - colours[..., 0] > 30).any(), "the right lung is blue"


@pytest.mark.parametrize("kind", sorted(IMAGES))
def test_an_image_without_a_place_in_the_patient_can_be_drawn_too(kind: str, tmp_path: Path) -> None:
    made = image_companions(tmp_path, kind)
    assert made.segmentation is not None
    picture = Image.open(io.BytesIO(overlay(_images(made, tmp_path), made.segmentation)))
    colours = np.asarray(picture).astype(int)[VIEWS]
    assert (colours.max(-1) - colours.min(-1) > 30).any(), "segments are in colour"


def test_other_images_are_not_drawn_upon(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.segmentation is not None
    with pytest.raises(CannotDraw):
        overlay([made.report], made.segmentation)
