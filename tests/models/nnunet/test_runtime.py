"""What a site and its rules may say of a folder of nnU-Net, and what the runtime says back."""

import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest

from ledger.job import Outcome
from models.contract import (
    BrokenModel,
    Context,
    Image,
    Memory,
    NotForThisModel,
    OutOfMemory,
    SeriesSet,
    SettingsNotUnderstood,
)
from models.package import Package
from models.runtimes.nnunet import NnUNet
from models.runtimes.nnunet_plans import Exotic, builds_what_the_plans_say
from tests.models.making import ORGAN, manifest_of, volume_of
from tests.models.nnunet.cases import FLAT, ZSCORE, Case
from tests.models.nnunet.folders import write_folder
from tests.models.nnunet.test_equality import findings_of, model_of, segments
from tests.patience import patient


def drawn(findings) -> np.ndarray:
    assert findings.outcome is Outcome.FOUND
    return findings.label_map


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "model", Case())


@pytest.fixture
def image() -> np.ndarray:
    return Case().image()


def test_a_rule_may_choose_cheaper_ways(folder, image) -> None:
    model, volume = model_of(folder), volume_of(image[0], (1.0, 1.0, 1.0))
    plain = drawn(model.run(volume, Context()))
    for settings in ({"mirror": False}, {"step_size": 1.0}, {"resampling": "linear"}):
        assert drawn(model.run(volume, Context(settings=settings))).shape == plain.shape
    unmirrored = drawn(model.run(volume, Context(settings={"mirror": False})))
    assert (unmirrored != plain).any(), "mirroring changes weights of chance"
    assert (drawn(model_of(folder, mirror=False).run(volume, Context())) == unmirrored).all()


@pytest.mark.parametrize("settings", [{"mirrors": True}, {"step_size": 0}, {"resampling": "quintic"}])
def test_a_setting_that_nobody_knows_is_an_error(folder, image, settings) -> None:
    with pytest.raises(SettingsNotUnderstood, match="not understood"):
        model_of(folder).run(volume_of(image[0]), Context(settings=settings))


def test_options_that_are_not_nnunets_are_the_models_fault(folder) -> None:
    with pytest.raises(BrokenModel, match="options are not those of nnU-Net"):
        model_of(folder, mirrors=True)


@pytest.mark.parametrize(("resampling", "least"), [("linear", 0.85), ("nearest labels", 0.6)])
def test_cheaper_resampling_draws_nearly_the_same(tmp_path, resampling, least) -> None:
    case = Case(shape=(12, 26, 24), spacing_mm=(3.0, 1.1, 1.1), target_mm=(1.5, 1.5, 1.5), mirror=False)
    folder = write_folder(tmp_path / "model", case, seed=3)
    exact = drawn(findings_of(model_of(folder), case.image(), case.spacing_mm))
    cheaper = drawn(findings_of(model_of(folder, resampling=resampling), case.image(), case.spacing_mm))
    assert len(np.unique(exact)) > 1
    assert least < (exact == cheaper).mean() < 1, "what chance draws is all borders"


def test_a_patient_lies_as_the_training_images_did(folder, image) -> None:
    model = model_of(folder, orientation="RAS", mirror=False)
    volume = volume_of(image[0], (1.0, 1.0, 1.0))
    expected = drawn(model.run(volume, Context()))
    turned = hd.Volume(
        array=np.ascontiguousarray(image[0].transpose(1, 2, 0)[::-1]),
        affine=_turned(np.asarray(volume.affine), image[0].shape),
        coordinate_system="PATIENT",
    )
    found = drawn(model.run(turned, Context()))
    assert (found[::-1].transpose(2, 0, 1) == expected).all()
    as_given = drawn(model_of(folder, mirror=False).run(volume, Context()))
    assert (as_given != expected).any(), "a network of chance sees the difference"


def _turned(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Of an array transposed to (row, column, slice), its rows reversed."""
    new = affine[:, [1, 2, 0, 3]].copy()
    new[:, 3] += new[:, 0] * (shape[1] - 1)
    new[:, 0] *= -1
    return new


def test_channels_come_by_name_and_from_other_grids(tmp_path) -> None:
    case = Case(normalisers=(ZSCORE, ZSCORE), masked=(False, False), mirror=False)
    folder = write_folder(tmp_path / "model", case)
    model, (one, two) = model_of(folder, 2), case.image()
    volumes = {"channel 0": volume_of(one, (1.0, 1.0, 1.0)), "channel 1": volume_of(two, (1.0, 1.0, 1.0))}
    headers = {name: {} for name in volumes}
    given = SeriesSet(volumes=volumes, headers=headers, reference="channel 0")
    expected = drawn(model.run(given, Context()))
    larger = np.pad(two, 3)
    affine = np.asarray(volumes["channel 1"].affine).copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array([3, 3, 3])
    elsewhere = volumes | {"channel 1": hd.Volume(larger, affine, coordinate_system="PATIENT")}
    found = drawn(model.run(SeriesSet(volumes=elsewhere, headers=headers, reference="channel 0"), Context()))
    assert (found == expected).mean() > 0.999
    with pytest.raises(NotForThisModel, match="no series for channel 1"):
        model.run(SeriesSet(volumes={"channel 0": volumes["channel 0"]}, headers={}, reference="channel 0"),
                  Context())  # fmt: skip
    with pytest.raises(NotForThisModel, match="looks at 2 registered series"):
        model.run(volumes["channel 0"], Context())


def test_an_image_that_is_no_volume_has_one_slice(tmp_path) -> None:
    folder = write_folder(tmp_path / "model", Case(target_mm=(1.0, 1.0), **FLAT), seed=1)
    array = Case(shape=(3, 40, 36)).image()[0, 1]
    findings = model_of(folder).run(Image(array=array, spacing_mm=(1.0, 1.0)), Context())
    assert drawn(findings).shape == (1, 40, 36)
    assert not any(one.measurements for one in findings.segments), "it has no volume in millilitres"


def test_regions_within_one_another_lie_on_layers(tmp_path) -> None:
    case = Case(labels=(("background", 0), ("whole", [1, 2]), ("core", 2)), regions=(1, 2), mirror=False)
    folder = write_folder(tmp_path / "model", case, seed=2)
    two = tuple(
        {"number": n, "region": values, "label": f"Region {n}", "category": ORGAN, "kind": ORGAN}
        for n, values in ((1, (1, 2)), (2, (2,)))
    )
    model = NnUNet(Package(folder, manifest_of(folder, runtime="nnunet", segments=two)))
    model.load("cpu")
    findings = model.run(volume_of(case.image()[0], (1.0, 1.0, 1.0)), Context())
    whole, core = findings.mask(1), findings.mask(2)
    assert core.any()
    assert (whole | ~core).all(), "the core lies within the whole"


def test_several_folders_draw_one_label_map(tmp_path, image) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_folder(tmp_path / "model" / name, Case(mirror=False), seed=seed)
    maps = {}
    for name in "ab":
        (alone := tmp_path / f"alone_{name}").mkdir()
        maps[name] = findings_of(
            model_of(write_folder(alone, Case(mirror=False), seed="ab".index(name))), image, (1.0, 1.0, 1.0)
        ).label_map
    both = manifest_of(
        tmp_path / "model",
        runtime="nnunet",
        segments=segments((1, 2, 3, 4, 5)),
        options={"parts": [{"folder": "a"}, {"folder": "b", "first": 3, "keep": 2}]},
    )
    model = NnUNet(Package(tmp_path / "model", both))
    model.load("cpu")
    found = model.run(volume_of(image[0], (1.0, 1.0, 1.0)), Context()).label_map
    kept = (maps["b"] > 0) & (maps["b"] <= 2)
    assert kept.any()
    assert (found == np.where(kept, maps["b"] + 3, maps["a"])).all()
    with pytest.raises(BrokenModel, match="it has 2 folders of nnU-Net"):
        NnUNet(Package(tmp_path / "model", both.model_copy(update={"options": {}}))).load("cpu")


def test_folds_are_used_as_the_manifest_says(tmp_path, image) -> None:
    folder = write_folder(tmp_path / "model", Case(folds=2, mirror=False))
    answers = [findings_of(model_of(folder, **options), image, (1.0, 1.0, 1.0)).label_map
               for options in ({}, {"folds": (0,)}, {"folds": (1,)})]  # fmt: skip
    assert (answers[1] != answers[2]).any()
    assert (answers[0] != answers[1]).any()
    with pytest.raises(BrokenModel, match="lacks fold_all/"):
        model_of(folder, folds=("all",))


def test_an_image_of_nothing_is_refused(folder) -> None:
    with pytest.raises(NotForThisModel, match="Every voxel of the image is zero"):
        model_of(folder).run(volume_of(np.zeros((20, 20, 20), np.int16)), Context())


def test_memory_that_can_never_do_ends_in_a_sentence(folder, image) -> None:
    with pytest.raises(OutOfMemory, match="does not fit into the memory"):
        model_of(folder).run(volume_of(image[0]), Context(memory=Memory(host=1000, device=0)))


def test_less_memory_still_draws_the_same(tmp_path) -> None:
    case = Case(shape=(48, 22, 20), mirror=False)
    model, volume = model_of(write_folder(tmp_path / "m", case), streaming=False), volume_of(case.image()[0])
    plain = drawn(model.run(volume, Context()))
    lowered = model.run(volume, Context(memory=Memory(host=3 << 20, device=0)))
    assert (drawn(lowered) == plain).mean() > 0.99


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainer_4000epochs_NoMirroring",
                                     "nnUNetTrainer_MOSAIC_1k_QuarterLR_NoMirroring",
                                     "nnUNetTrainerSkeletonRecall", "nnUNetTrainerDA5",
                                     "nnUNetTrainerDiceTopK10Loss_2000epochs",
                                     "nnUNetTrainer_onlyMirror01_DASegOrd0"])  # fmt: skip
def test_trainers_that_change_no_network_are_known(trainer) -> None:
    builds_what_the_plans_say(trainer)


@pytest.mark.parametrize(
    "trainer", ["nnUNetTrainerBN", "nnUNet_Primus_M_Trainer", "nnUNetTrainerGELU", "Mine"]
)
def test_trainers_that_may_are_not(trainer) -> None:
    with pytest.raises(Exotic, match=trainer):
        builds_what_the_plans_say(trainer)


_MEASURED = """
import resource, sys
import numpy as np
from models.contract import Context
from tests.models.making import volume_of
from tests.models.nnunet.test_equality import model_of
from pathlib import Path
model = model_of(Path(sys.argv[1]), step_size=1.0, mirror=False)
small = volume_of(np.random.default_rng(0).normal(0, 300, (8, 64, 64)).astype(np.int16), (2.0, 1.0, 1.0))
model.run(small, Context())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
large = np.random.default_rng(0).normal(0, 300, (96, 160, 160)).astype(np.int16)
model.run(volume_of(large, (2.0, 1.0, 1.0)), Context())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_logits_of_all_classes_never_exist_on_the_fine_grid(tmp_path) -> None:
    labels = (("background", 0), *((f"organ {n}", n) for n in range(1, 40)))
    folder = write_folder(
        tmp_path / "model", Case(labels=labels, target_mm=(4.0, 4.0, 4.0), patch=(32, 32, 32))
    )
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(120),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # 40 classes on 96 × 160 × 160 are 197 MB in half precision and 393 MB in single.
    assert int(done.stdout) < 150_000, f"{done.stdout} KiB more"
