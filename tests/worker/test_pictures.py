"""A slice is shown as a radiologist would see it, whatever way its values were stored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import RLELossless

from results.asked import Asked
from results.pictures import NOT_DRAWN, NoPicture, about_lungs
from results.profile import DEFAULT, PROFILES
from tests.results.everything import everything
from tests.results.series import a_run, findings, nothing_found
from tests.worker.images import photograph, radiograph, written
from tests.worker.series import Series, noise, save
from worker import pictures
from worker.exchange import Files
from worker.load import load_series
from worker.load_image import load_image
from worker.pictures import FilePictures, with_pictures
from worker.windows import LUNG, SOFT_TISSUE, Window

SHAPE = (5, 6, 7)
DOWN = (0.0, 0.0, -2.5)  # from the head on, as volumes run: slice k is file k


def _series(folder: Path, *, lungs: bool = False, **headers: Any) -> tuple[FilePictures, Series, list[Path]]:
    series = Series(noise(SHAPE), step=DOWN, headers=headers)
    paths = series.write(folder)
    return FilePictures(load_series(paths).source, paths, lungs=lungs, cores=1), series, paths


def _image(dataset: Dataset, folder: Path) -> np.ndarray:
    path = written(dataset, folder)
    return FilePictures(load_image(path).source, [path], cores=1).grey(0)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_is_applied_as_the_standard_has_it(function: str, tmp_path: Path) -> None:
    shown, _, paths = _series(tmp_path, WindowCenter=300, WindowWidth=1500, VOILUTFunction=function)
    for plane, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        hounsfield = apply_modality_lut(dataset.pixel_array, dataset)
        theirs = apply_voi_lut(hounsfield, dataset)  # an independent reading of PS3.3 §C.11.2
        # It brings the window to the range of the stored values; here it goes to eight bits.
        low, high = -32768 - 1024, 32767 - 1024
        meant = (theirs - low) / (high - low) * 255
        assert np.abs(shown.grey(plane) - meant).max() <= 1


def test_slices_are_shown_in_the_order_of_the_volume(tmp_path: Path) -> None:
    series = Series(noise(SHAPE), step=(0.0, 0.0, 2.5), headers={"WindowCenter": 0, "WindowWidth": 8000})
    paths = series.write(tmp_path)
    loaded = load_series(paths)
    shown = FilePictures(loaded.source, paths[::-1], cores=1)
    ours = np.stack([shown.grey(k) for k in range(5)]).astype(float)
    for plane in range(5):
        values = loaded.volume.array[plane]
        assert np.corrcoef(ours[plane].ravel(), values.ravel())[0, 1] > 0.999


def test_of_several_windows_the_first_is_meant_and_for_lungs_the_one_for_lungs(tmp_path: Path) -> None:
    both = {"WindowCenter": [40, -500], "WindowWidth": [400, 1400]}
    for lungs, meant in ((False, Window(40, 400)), (True, Window(-500, 1400))):
        shown, series, _ = _series(tmp_path / str(lungs), lungs=lungs, **both)
        assert np.array_equal(shown.grey(0), meant.apply(series.stored[0] - 1024.0))


@pytest.mark.parametrize(
    ("lungs", "body_part", "window"),
    [(False, "ABDOMEN", SOFT_TISSUE), (False, "CHEST", LUNG), (True, "ABDOMEN", LUNG)],
)
def test_a_ct_without_a_window_has_that_of_its_organ(
    lungs: bool, body_part: str, window: Window, tmp_path: Path
) -> None:
    shown, series, _ = _series(tmp_path, lungs=lungs, BodyPartExamined=body_part)
    assert np.array_equal(shown.grey(2), window.apply(series.stored[2] - 1024.0))


def test_what_was_found_in_lungs_is_known_by_its_codes() -> None:
    assert about_lungs(findings())
    assert not about_lungs(nothing_found())


def test_an_mr_without_a_window_is_shown_alike_in_all_slices(tmp_path: Path) -> None:
    stored = noise(SHAPE, np.uint16, 0, 1000) + (np.arange(5, dtype=np.uint16) * 100)[:, None, None]
    series = Series(stored, step=DOWN, slope=None, intercept=None, sop_class="1.2.840.10008.5.1.4.1.1.4")
    series.headers = {"Modality": "MR"}
    paths = series.write(tmp_path)
    shown = FilePictures(load_series(paths).source, paths, cores=1)
    greys = np.stack([shown.grey(k) for k in range(5)]).astype(int)
    low, high = np.percentile(stored, (1, 99.5))
    meant = np.clip((stored - low) / (high - low), 0, 1) * 255
    assert np.abs(greys - meant).max() <= 1
    assert greys[4].mean() > greys[0].mean()


def test_white_on_black_is_turned_round(tmp_path: Path) -> None:
    stored = noise((1, 30, 20), np.uint16, 0, 4096)[0]
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12, "HighBit": 11}
    one = _image(radiograph(stored, **window), tmp_path / "2")
    other = _image(radiograph(stored, PhotometricInterpretation="MONOCHROME1", **window), tmp_path / "1")
    assert np.array_equal(one, 255 - other)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_is_black(photometric: str, tmp_path: Path) -> None:
    stored = noise((1, 30, 20), np.uint16, 100, 4000)[0]
    stored[:5] = 4095
    stored[5:7] = 4090
    headers = {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4090}
    dataset = radiograph(
        stored, PhotometricInterpretation=photometric, WindowCenter=2000, WindowWidth=8000, **headers
    )
    for keyword in headers:
        dataset[keyword].VR = "US"
    shown = _image(dataset, tmp_path)
    assert (shown[:7] == 0).all()
    assert (shown[7:] > 0).all()


def test_padding_of_a_ct_is_found_after_rescaling(tmp_path: Path) -> None:
    stored = noise(SHAPE)
    stored[:, 0] = -2000
    headers = {"WindowCenter": -1000, "WindowWidth": 8000, "PixelPaddingValue": -2000}

    def signed(_: int, dataset: Dataset) -> None:
        dataset["PixelPaddingValue"].VR = "SS"

    paths = Series(stored, step=DOWN, headers=headers).write(tmp_path, signed)
    shown = FilePictures(load_series(paths).source, paths, cores=1).grey(1)
    assert (shown[0] == 0).all()
    assert (shown[1:] > 0).all()


def test_a_voi_lut_goes_before_a_window(tmp_path: Path) -> None:
    stored = np.arange(600, dtype=np.uint16).reshape(30, 20)
    table = Dataset()
    greys = np.linspace(0, 4095, 256).astype(np.uint16) ** 2 // 4095
    table.LUTDescriptor, table.LUTData = [256, 100, 12], greys.tolist()
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    dataset = radiograph(stored, VOILUTSequence=[table], WindowCenter=10, WindowWidth=20)
    meant = greys[np.clip(stored.astype(int) - 100, 0, 255)] / 4095 * 255
    assert np.abs(_image(dataset, tmp_path) - meant).max() <= 0.5


def test_a_modality_lut_is_applied_first(tmp_path: Path) -> None:
    stored = noise((1, 30, 20), np.uint16, 0, 256)[0]
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], (65_535 - np.arange(256) * 257).tolist()
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    table.ModalityLUTType = "US"
    dataset = radiograph(stored, ModalityLUTSequence=[table], WindowCenter=32_768, WindowWidth=65_536)
    assert np.abs(_image(dataset, tmp_path) - (255.0 - stored)).max() <= 1


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (10, 12, 3)).astype(np.uint8)
    shown = _image(photograph(rgb), tmp_path)
    assert np.abs(shown - rgb @ (0.299, 0.587, 0.114)).max() <= 0.5


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    indices = np.arange(120, dtype=np.uint8).reshape(10, 12)
    dataset = radiograph(indices, PhotometricInterpretation="PALETTE COLOR")
    for k, colour in enumerate(("Red", "Green", "Blue")):
        data = np.roll(np.arange(256, dtype=np.uint16) << 8, 40 * k)
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", data.tobytes())
    tables = [np.roll(np.arange(256), 40 * k) for k in range(3)]
    meant = sum(share * table[indices] for share, table in zip((0.299, 0.587, 0.114), tables, strict=True))
    assert np.abs(_image(dataset, tmp_path) - meant).max() <= 0.5


def test_the_frames_of_an_enhanced_image_have_windows_of_their_own(tmp_path: Path) -> None:
    series = Series(noise(SHAPE), step=DOWN)
    enhanced = series.enhanced(order=[4, 2, 0, 1, 3])
    for number, frame in enumerate(enhanced.PerFrameFunctionalGroupsSequence):
        window = Dataset()
        window.WindowCenter, window.WindowWidth = 100 * number, 3000
        frame.FrameVOILUTSequence = [window]
    path = save(enhanced, tmp_path / "image.dcm")
    shown = FilePictures(load_series([path]).source, [path], cores=1)
    for plane in range(5):
        number = [4, 2, 0, 1, 3].index(plane)
        meant = Window(100.0 * number, 3000.0).apply(series.stored[plane] - 1024.0)
        assert np.array_equal(shown.grey(plane), meant)


def test_compressed_slices_are_shown_as_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _, paths = _series(tmp_path / "plain", WindowCenter=300, WindowWidth=3000)
    packed = []
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        packed.append(save(dataset, tmp_path / path.name))
    shown = FilePictures(load_series(packed).source, packed, cores=1)
    calls = []
    assemble = pictures.assemble
    monkeypatch.setattr(
        pictures, "assemble", lambda slices, **more: calls.append(len(slices)) or assemble(slices, **more)
    )
    for plane in range(5):
        assert np.array_equal(shown.grey(plane), plain.grey(plane))
    assert 5 in calls, "one process decodes them all"


def test_no_more_pictures_are_kept_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _, _ = _series(tmp_path, WindowCenter=300, WindowWidth=3000)
    monkeypatch.setattr(pictures, "KEPT_BYTES", 2 * 42)
    again = [shown.grey(plane).copy() for plane in (0, 1, 2, 3, 4, 0, 1, 2, 3, 4)]
    assert len(shown._kept) == 2
    assert all(np.array_equal(one, other) for one, other in zip(again[:5], again[5:], strict=True))


def test_a_file_that_is_gone_or_cut_short_gives_no_picture(tmp_path: Path) -> None:
    shown, _, paths = _series(tmp_path, WindowCenter=300, WindowWidth=3000)
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    assert shown.grey(0).shape == (6, 7)
    with pytest.raises(NoPicture, match="ends early"):
        shown.grey(3)
    with pytest.raises(NoPicture, match="there is no plane 6"):
        shown.grey(5)
    other, _, gone = _series(tmp_path / "gone")
    gone[0].unlink()
    with pytest.raises(NoPicture, match="a file cannot be read") as error:
        other.grey(1)
    assert str(tmp_path) not in str(error.value), "a path may name a patient"


def test_pictures_are_made_only_for_profiles_that_have_them(tmp_path: Path) -> None:
    _, _, paths = _series(tmp_path)
    source = load_series(paths).source
    files = Files(inputs=tuple(str(path) for path in paths))
    said = replace(everything(), label_map=None, segments=(), boxes=(), maps=(), points=())
    plain = Asked(findings=findings(), source=source, run=a_run(source), profile=PROFILES["plain-pacs"])
    assert with_pictures(plain, files).pictures is not None
    assert with_pictures(replace(plain, profile=DEFAULT), files).pictures is None
    assert with_pictures(replace(plain, findings=said), files).pictures is None


def test_where_no_picture_can_be_made_every_reader_is_told(tmp_path: Path) -> None:
    _, _, paths = _series(tmp_path)
    source = load_series(paths).source
    plain = Asked(findings=findings(), source=source, run=a_run(source), profile=PROFILES["plain-pacs"])
    for path in paths:
        path.unlink()
    asked = with_pictures(plain, Files(inputs=tuple(str(path) for path in paths)))
    assert asked.pictures is None
    assert asked.findings.cautions == (NOT_DRAWN,)
