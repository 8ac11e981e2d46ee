"""A model is given what its manifest asks for, or nothing, and then a sentence says why."""

from datetime import date

import numpy as np
import pytest
from pydicom import Dataset

from ledger.errors import StudyError
from models.contract import Image, SeriesSet, Timeline
from models.manifest import Input, Manifest
from tests.worker.images import radiograph, written
from tests.worker.series import Series, noise
from worker.exchange import Files
from worker.given import Unusable, Usable, read_given

GREY = np.arange(20, dtype=np.uint16).reshape(4, 5)


def manifest(given="volume", *inputs: Input) -> Manifest:
    return Manifest(
        name="m",
        version="1",
        title="M",
        licence="Apache-2.0",
        intended_use="tests",
        limits=("none",),
        given=given,
        inputs=inputs or (Input(modality=("CT",)),),
        time_limit_s=60,
        memory_mib=1,
    )


def series(folder, number: int, *, first=(-100.0, -90.0, 30.0), shape=(5, 6, 7), **headers):
    """Paths of a small CT series whose UIDs come from `number`."""

    def change(k: int, dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = f"2.25.80{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.9{number}00{k}"
        for keyword, value in headers.items():
            setattr(dataset, keyword, value)

    made = Series(noise(shape), first=first)
    return tuple(str(path) for path in made.write(folder / str(number), change))


def usable(files: Files, wanted: Manifest) -> Usable:
    read = read_given(files, wanted)
    assert isinstance(read, Usable), read.because
    return read


def unusable(files: Files, wanted: Manifest) -> str:
    read = read_given(files, wanted)
    assert isinstance(read, Unusable)
    assert read.source.datasets
    assert read.inputs
    return read.because


# ------------------------------------------------------------------ one series


def test_a_series_is_a_volume(tmp_path):
    read = usable(Files(inputs=series(tmp_path, 1)), manifest())
    assert read.given.spatial_shape == (5, 6, 7)
    assert len(read.inputs) == 5


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (Input(modality=("MR", "PT")), "Modality is CT; m@1 is made for MR or PT."),
        (Input(modality=("CT",), body_part=("HEAD",)), "Body part is CHEST; m@1 is made for HEAD."),
        (
            Input(modality=("CT",), description="soft"),
            "SeriesDescription does not match; m@1 is made for /soft/.",
        ),
        (
            Input(modality=("CT",), attributes={"ConvolutionKernel": "B30"}),
            "ConvolutionKernel is not given; m@1 is made for /B30/.",
        ),
        (Input(modality=("CT",), contrast=True), "No contrast medium is named; m@1 is made for images with"),
        (Input(modality=("CT",), minimum_slices=20), "There are 5 slices; m@1 is made for at least 20."),
        (
            Input(modality=("CT",), spacing_max_mm=2),
            "Slices are 2.50 mm apart; m@1 is made for at most 2 mm.",
        ),
    ],
)
def test_what_the_manifest_asks_for_is_looked_at_before_the_model_is(tmp_path, wanted, sentence):
    paths = series(tmp_path, 1, BodyPartExamined="CHEST", SeriesDescription="lung 1.0")
    assert unusable(Files(inputs=paths), manifest("volume", wanted)).startswith(sentence)


def test_a_contrast_medium_is_refused_where_the_model_is_made_for_none(tmp_path):
    plain = manifest("volume", Input(modality=("CT",), contrast=False))
    agent = series(tmp_path, 1, ContrastBolusAgent="Ultravist 370")
    assert unusable(Files(inputs=agent), plain).startswith("A contrast medium was given")
    assert usable(Files(inputs=series(tmp_path, 2, ContrastBolusAgent="NONE")), plain)


def test_a_body_part_that_nobody_wrote_contradicts_nothing(tmp_path):
    wanted = manifest("volume", Input(modality=("CT",), body_part=("HEAD",)))
    assert usable(Files(inputs=series(tmp_path, 1)), wanted)


# ------------------------------------------------------------------ one image


def test_an_image_is_given_to_a_model_of_images(tmp_path):
    wanted = manifest(
        "image", Input(modality=("DX",), body_part=("CHEST",), attributes={"ViewPosition": "^PA$"})
    )
    path = str(written(radiograph(GREY, ImagerPixelSpacing=[0.1, 0.1]), tmp_path))

    read = usable(Files(inputs=(path,)), wanted)

    assert isinstance(read.given, Image)
    assert read.given.spacing_mm == (0.1, 0.1)
    assert "detector" in read.lengths
    assert [str(uid) for uid in read.inputs] == ["2.25.301"]


def test_a_view_that_the_model_is_not_made_for_is_refused(tmp_path):
    wanted = manifest("image", Input(modality=("DX",), attributes={"ViewPosition": "^PA$"}))
    path = str(written(radiograph(GREY, ViewPosition="LL"), tmp_path))
    assert unusable(Files(inputs=(path,)), wanted) == "ViewPosition does not match; m@1 is made for /^PA$/."


def test_several_images_at_once_are_refused_with_what_the_rule_needs(tmp_path):
    wanted = manifest("image", Input(modality=("DX",)))
    paths = tuple(
        str(written(radiograph(GREY, instance=f"2.25.30{k}"), tmp_path, f"{k}.dcm")) for k in range(4)
    )
    assert 'each = "image"' in unusable(Files(inputs=paths), wanted)


# ------------------------------------------------------------------ several series

CHANNELS = (Input(name="t1c", modality=("CT",)), Input(name="flair", modality=("CT",), minimum_slices=4))


def test_several_series_are_given_by_name_each_on_its_own_grid(tmp_path):
    files = Files(
        named={"flair": series(tmp_path, 1, shape=(4, 6, 7)), "t1c": series(tmp_path, 2, first=(0, 0, 0))}
    )

    read = usable(files, manifest("series", *CHANNELS))

    assert isinstance(read.given, SeriesSet)
    assert read.given.reference == "t1c"
    assert {name: one.spatial_shape for name, one in read.given.volumes.items()} == {
        "t1c": (5, 6, 7),
        "flair": (4, 6, 7),
    }
    assert str(read.source.first.SeriesInstanceUID) == "2.25.802"
    assert len(read.inputs) == 9
    assert read.cautions == ()


def test_other_names_than_the_manifests_are_refused(tmp_path):
    files = Files(named={"t1": series(tmp_path, 1), "flair": series(tmp_path, 2)})
    because = unusable(files, manifest("series", *CHANNELS))
    assert because.startswith("m@1 is given t1c, flair, and the job has flair, t1:")
    one = unusable(Files(inputs=series(tmp_path, 3)), manifest("series", *CHANNELS))
    assert "one series without a name" in one


def test_one_series_of_several_that_is_no_volume_is_named(tmp_path):
    files = Files(named={"t1c": series(tmp_path, 1), "flair": series(tmp_path, 2, shape=(1, 6, 7))})
    assert unusable(files, manifest("series", *CHANNELS)).startswith("Input flair: ")


def test_a_condition_of_one_of_several_inputs_names_it(tmp_path):
    files = Files(named={"t1c": series(tmp_path, 1), "flair": series(tmp_path, 2, shape=(3, 6, 7))})
    said = unusable(files, manifest("series", *CHANNELS))
    assert said == "Input flair: there are 3 slices; m@1 is made for at least 4."


def test_another_frame_of_reference_is_told(tmp_path):
    files = Files(
        named={"t1c": series(tmp_path, 1), "flair": series(tmp_path, 2, FrameOfReferenceUID="2.25.5")}
    )
    (caution,) = usable(files, manifest("series", *CHANNELS)).cautions
    assert caution.startswith("flair may not lie on t1c")


def test_series_of_two_studies_are_refused(tmp_path):
    files = Files(named={"t1c": series(tmp_path, 1), "flair": series(tmp_path, 2, StudyInstanceUID="2.25.6")})
    assert "2 studies" in unusable(files, manifest("series", *CHANNELS))


# ------------------------------------------------------------------ timelines


def earlier(folder, number: int, day: str, **headers):
    return series(folder, number, StudyInstanceUID=f"2.25.70{number}", StudyDate=day, **headers)


def test_a_timeline_has_the_latest_earlier_examination_first(tmp_path):
    files = Files(
        inputs=series(tmp_path, 1),
        earlier=(earlier(tmp_path, 2, "20200301"), earlier(tmp_path, 3, "20240301")),
        earlier_asked=2,
    )

    read = usable(files, manifest("timeline"))

    assert isinstance(read.given, Timeline)
    assert [one.acquired for one in read.given.earlier] == [date(2024, 3, 1), date(2020, 3, 1)]
    assert str(read.given.earlier[0].study) == "2.25.703"
    assert len(read.inputs) == 15
    assert read.cautions == ()


def test_fewer_earlier_examinations_than_asked_are_told(tmp_path):
    files = Files(inputs=series(tmp_path, 1), earlier=(earlier(tmp_path, 2, "20200301"),), earlier_asked=3)
    assert usable(files, manifest("timeline")).cautions == (
        "Earlier examinations asked for: 3 at most, here: 1.",
    )


def test_an_earlier_examination_of_another_patient_stops_everything(tmp_path):
    stranger = earlier(tmp_path, 2, "20200301", PatientBirthDate="19800202")
    said = unusable(Files(inputs=series(tmp_path, 1), earlier=(stranger,)), manifest("timeline"))
    assert said == (
        "The examination of 2020-03-01 may be of another patient: another birth date. Nothing was analysed."
    )


@pytest.mark.parametrize(
    ("number", "day", "headers", "words"),
    [
        (
            2,
            "20200301",
            {"Modality": "MR"},
            "The examination of 2020-03-01 could not be used: Modality is MR",
        ),
        (3, "20300301", {}, "Nobody can say that it is earlier"),
        (4, "", {}, "Nobody can say that it is earlier"),
    ],
)
def test_an_earlier_examination_that_is_no_use_is_left_out_and_told(tmp_path, number, day, headers, words):
    files = Files(inputs=series(tmp_path, 1), earlier=(earlier(tmp_path, number, day, **headers),))

    read = usable(files, manifest("timeline"))

    assert read.given.earlier == ()
    assert len(read.inputs) == 10
    assert any(words in caution for caution in read.cautions)


def test_a_damaged_earlier_examination_does_not_cost_the_present_one(tmp_path):
    gap = earlier(tmp_path, 2, "20200301")
    read = usable(
        Files(inputs=series(tmp_path, 1), earlier=((gap[0], gap[1], gap[4]),)), manifest("timeline")
    )
    assert "An earlier examination could not be used" in read.cautions[0]


def test_names_for_a_model_of_one_series_are_refused(tmp_path):
    said = unusable(Files(named={"a": series(tmp_path, 1)}), manifest())
    assert said == "m@1 is given one series, and the job has a."


def test_images_whose_uid_is_none_are_the_studys_fault_because_no_report_can_refer_to_them(tmp_path):
    files = Files(inputs=series(tmp_path, 1, shape=(2, 6, 7), SOPInstanceUID="dccc9599087131742838"))

    with pytest.raises(
        StudyError, match=r"An image cannot be referred to: its SOP Instance UID 'dccc.* is not a"
    ):
        read_given(files, manifest())
