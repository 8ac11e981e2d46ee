"""A bundle of every task: overlapping channels, boxes, classes, numbers, points, maps; of every input."""

import warnings

import highdicom as hd
import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, Regressor

from ledger.errors import ModelError, SiteError
from ledger.job import Outcome
from models.contract import BrokenModel, Context, Image, Memory, OutOfMemory, SeriesSet
from models.runtimes.bundles.proposal import propose
from models.runtimes.bundles.scripts import unmet_needs
from tests.models.runtimes.bundle_reference import by_monai, labels_of, write_nifti
from tests.models.runtimes.bundles import (
    METADATA,
    NODULE,
    SEGMENTATION,
    TISSUE,
    changed,
    livened,
    loaded,
    package_of,
    scan,
    segresnet,
    unet,
    write_bundle,
)

LABELS = SEGMENTATION["postprocessing"]["transforms"][2]
NAMES = ("t1c", "t1", "t2", "flair")
CHANNELS = [
    {"number": n + 1, "value": n, "label": name, "category": TISSUE, "kind": TISSUE}
    for n, name in enumerate(("core", "whole", "enhancing"))
]
SERIES = {
    "given": "series",
    "inputs": [{"name": name, "modality": ["MR"]} for name in NAMES],
    "segments": CHANNELS,
}

BRATS = changed(
    SEGMENTATION,
    network_def={
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "in_channels": 4,
        "out_channels": 3,
        "init_filters": 8,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    },
    preprocessing__transforms=[
        {"_target_": "LoadImaged", "keys": "@image_key", "image_only": False},
        {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True},
    ],
    postprocessing__transforms=[
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "@image_key",
            "meta_keys": "pred_meta_dict",
            "nearest_interp": False,
            "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {
            "_target_": "Lambdad",
            "keys": "pred",
            "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, "
            "torch.where(x[[1]] > 0, 2, 0)))",
        },
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ],
)


def channels() -> dict[str, hd.Volume]:
    return {name: scan(turned=False, seed=seed) for seed, name in enumerate(NAMES, start=11)}


def series(volumes: dict[str, hd.Volume]) -> SeriesSet:
    return SeriesSet(volumes=volumes, headers={name: {} for name in volumes}, reference=next(iter(volumes)))


def brats_by_monai(tmp_path, folder, network, configuration):
    files = [write_nifti(one, tmp_path / f"{name}.nii") for name, one in channels().items()]
    return by_monai(configuration, {"image": files}, network.state_dict(), folder)


def test_labels_that_a_lambda_joins_are_monais_own(tmp_path) -> None:
    network = segresnet()
    folder = write_bundle(tmp_path / "bundle", BRATS, weights=network.state_dict())
    segments = [{**one, "value": value} for one, value in zip(CHANNELS, (1, 2, 4), strict=True)]
    findings = loaded(package_of(folder, **SERIES | {"segments": segments})).run(
        series(channels()), Context()
    )

    expected = labels_of(brats_by_monai(tmp_path, folder, network, BRATS))
    assert set(np.unique(expected)) >= {0, 4}
    for segment, value in zip(findings.segments, (1, 2, 4), strict=True):
        assert np.array_equal(findings.mask(segment.number), expected == value)


def test_channels_that_overlap_stay_apart_on_layers(tmp_path) -> None:
    network = segresnet()
    folder = write_bundle(tmp_path / "bundle", BRATS, weights=network.state_dict())
    options = {"overrides": {"postprocessing::transforms::3::_disabled_": True}}
    findings = loaded(package_of(folder, options=options, **SERIES)).run(series(channels()), Context())

    kept = BRATS["postprocessing"]["transforms"][:3]
    expected = (
        brats_by_monai(tmp_path, folder, network, changed(BRATS, postprocessing__transforms=kept))["pred"]
        .cpu()
        .numpy()
    )
    assert (expected.sum(0) > 1).any()
    assert findings.label_map.ndim == 4
    for segment in findings.segments:
        assert np.array_equal(
            findings.mask(segment.number), expected[segment.number - 1].transpose(2, 1, 0) > 0
        )


def test_series_on_other_grids_come_onto_the_first_ones(tmp_path) -> None:
    network = segresnet()
    model = loaded(package_of(write_bundle(tmp_path / "b", BRATS, weights=network.state_dict()), **SERIES))
    volumes = channels()
    # The same tissue on a grid turned round: rows the other way.
    flipped = volumes["t2"].flip_spatial(1)
    straight = model.run(series(volumes), Context()).label_map
    turned = model.run(series(volumes | {"t2": flipped}), Context()).label_map
    assert (straight != turned).mean() < 1e-3


def test_a_series_of_another_part_of_the_body_is_refused(tmp_path) -> None:
    model = loaded(
        package_of(write_bundle(tmp_path / "b", BRATS, weights=segresnet().state_dict()), **SERIES)
    )
    volumes = channels()
    away = volumes["t2"].affine.copy()
    away[2, 3] += 40.0
    moved = hd.Volume(volumes["t2"].array, away, coordinate_system="PATIENT")
    findings = model.run(series(volumes | {"t2": moved}), Context())
    assert findings.outcome is Outcome.REFUSED
    assert "'t2' covers" in findings.because
    missing = model.run(series({name: one for name, one in volumes.items() if name != "t2"}), Context())
    assert missing.because == "The series for 't2' is missing."


def test_series_that_the_bundle_reads_by_name_are_given_by_name(tmp_path) -> None:
    """As renalStructures_CECT: three phases that the bundle joins itself."""
    phases = ["artery", "vein", "excret"]
    transforms = [
        {"_target_": "LoadImaged", "keys": [*phases, "label"], "image_only": False},
        {"_target_": "EnsureChannelFirstd", "keys": phases},
        {"_target_": "Orientationd", "keys": phases, "axcodes": "LPS"},
        {"_target_": "Spacingd", "keys": phases, "pixdim": [3.0, 3.0, 3.0], "mode": "bilinear"},
        {"_target_": "ConcatItemsd", "keys": phases, "name": "image"},
        {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 1000, "b_min": 0.0,
         "b_max": 1.0, "clip": True},
    ]  # fmt: skip
    inverted = {"_target_": "Invertd", "keys": "pred", "transform": "$@preprocessing", "orig_keys": "artery",
                "nearest_interp": False, "to_tensor": True}  # fmt: skip
    configuration = changed(
        SEGMENTATION,
        network_def__in_channels=3,
        preprocessing__transforms=transforms,
        postprocessing__transforms=[
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            inverted,
            {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False]},
        ],
    )
    network = unet(in_channels=3)
    folder = write_bundle(tmp_path / "bundle", configuration, weights=network.state_dict())
    fields = {"given": "series", "inputs": [{"name": name, "modality": ["CT"]} for name in phases]}
    volumes = {name: scan(turned=False, seed=seed) for seed, name in enumerate(phases)}
    findings = loaded(package_of(folder, **fields)).run(series(volumes), Context())
    for_monai = changed(configuration, preprocessing__transforms__0__keys=phases,
                        postprocessing__transforms__1__transform="@preprocessing",
                        postprocessing__transforms__2=LABELS)  # fmt: skip
    files = {name: write_nifti(one, tmp_path / f"{name}.nii") for name, one in volumes.items()}
    expected = labels_of(by_monai(for_monai, files, network.state_dict(), folder))
    assert np.array_equal(findings.label_map, expected)


def test_a_network_of_slices_sees_them_one_by_one(tmp_path) -> None:
    network = unet(spatial_dims=2)
    configuration = changed(
        SEGMENTATION,
        network_def__spatial_dims=2,
        preprocessing__transforms=[
            {"_target_": "LoadImaged", "keys": "image", "image_only": False},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "ScaleIntensityd", "keys": "image"},
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
        inferer={"_target_": "SliceInferer", "roi_size": [16, 16], "spatial_dim": 2},
    )
    folder = write_bundle(tmp_path / "bundle", configuration, weights=network.state_dict())
    volume = scan()
    found = loaded(package_of(folder)).run(volume, Context()).label_map
    expected = by_monai(
        changed(configuration, device="$torch.device('cpu')"),
        {"image": write_nifti(volume, tmp_path / "a.nii")}, network.state_dict(), folder,
    )  # fmt: skip
    assert np.array_equal(found, labels_of(expected))


CLASSIFICATION = changed(
    SEGMENTATION,
    network_def={"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 3, "out_channels": 2,
                 "init_features": 8, "growth_rate": 4, "block_config": [1, 1]},
    preprocessing__transforms=[
        {"_target_": "LoadImaged", "keys": "@image_key", "image_only": False},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key", "channel_dim": -1},
        {"_target_": "Resized", "keys": "@image_key", "spatial_size": [48, 40], "mode": "bilinear"},
        {"_target_": "ScaleIntensityd", "keys": "@image_key"},
    ],
    inferer={"_target_": "SimpleInferer"},
    postprocessing__transforms=[
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 2},
        {"_target_": "SaveClassificationd", "keys": "pred", "output_dir": "@output_dir"},
    ],
)  # fmt: skip
CLASSES = {
    "tasks": ["classification"],
    "given": "image",
    "inputs": [{"modality": ["XC"]}],
    "segments": [],
    "classes": [
        {"index": 0, "label": "in body", "finding": TISSUE},
        {"index": 1, "label": "out of body", "finding": TISSUE, "threshold": 0.1},
    ],
}


def photograph() -> Image:
    rng = np.random.default_rng(5)
    return Image(array=rng.integers(0, 256, (60, 52, 3)).astype(np.uint8), spacing_mm=None)


def classifier() -> DenseNet121:
    torch.manual_seed(4)
    return livened(
        DenseNet121(
            spatial_dims=2, in_channels=3, out_channels=2, init_features=8, growth_rate=4, block_config=(1, 1)
        )
    )


def test_a_classifier_says_probabilities_and_the_manifest_decides(tmp_path) -> None:
    network = classifier()
    folder = write_bundle(tmp_path / "bundle", CLASSIFICATION, weights={"model": network.state_dict()})
    findings = loaded(package_of(folder, **CLASSES)).run(photograph(), Context())

    from PIL import Image as Picture

    Picture.fromarray(photograph().array).save(tmp_path / "photograph.png")
    undecided = changed(
        CLASSIFICATION, postprocessing__transforms=CLASSIFICATION["postprocessing"]["transforms"][:1]
    )
    expected = by_monai(undecided, {"image": tmp_path / "photograph.png"}, network.state_dict(), folder)[
        "pred"
    ]
    assert [one.probability for one in findings.verdicts] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [one.present for one in findings.verdicts] == [
        p >= t for p, t in zip(expected.tolist(), (0.5, 0.1), strict=True)
    ]


def test_logits_become_probabilities_where_the_manifest_says_how(tmp_path) -> None:
    network = classifier()
    kept = CLASSIFICATION["postprocessing"]["transforms"][1:]
    folder = write_bundle(
        tmp_path / "logits",
        changed(CLASSIFICATION, postprocessing__transforms=kept),
        weights=network.state_dict(),
    )
    plain = write_bundle(tmp_path / "plain", CLASSIFICATION, weights=network.state_dict())
    said = loaded(package_of(folder, options={"activation": "softmax"}, **CLASSES)).run(
        photograph(), Context()
    )
    expected = loaded(package_of(plain, **CLASSES)).run(photograph(), Context())
    assert [one.probability for one in said.verdicts] == pytest.approx(
        [one.probability for one in expected.verdicts]
    )


def test_a_grey_photograph_is_given_to_a_network_for_colours(tmp_path) -> None:
    folder = write_bundle(
        tmp_path / "bundle",
        CLASSIFICATION,
        changed(METADATA, network_data_format__inputs__image__num_channels=3),
        weights=classifier().state_dict(),
    )
    grey = photograph().array[..., 0]
    model = loaded(package_of(folder, **CLASSES))
    same = Image(array=np.repeat(grey[..., None], 3, axis=2), spacing_mm=None)
    one, three = (model.run(image, Context()) for image in (Image(array=grey, spacing_mm=None), same))
    assert [v.probability for v in one.verdicts] == [v.probability for v in three.verdicts]


def test_a_segmentation_of_a_photograph_lies_on_its_pixels(tmp_path) -> None:
    network = unet(spatial_dims=2, in_channels=3, out_channels=2)
    configuration = changed(
        CLASSIFICATION,
        network_def={"_target_": "UNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 2,
                     "channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "batch"},
        postprocessing__transforms=[
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
             "nearest_interp": False, "to_tensor": True},
            {"_target_": "AsDiscreted", "argmax": True, "to_onehot": 2, "keys": ["pred"]},
            {"_target_": "Lambdad", "keys": ["pred"], "func": "$lambda x : x[1:]"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    )  # fmt: skip
    folder = write_bundle(tmp_path / "bundle", configuration, weights=network.state_dict())
    fields = {"given": "image", "inputs": [{"modality": ["ES"]}], "segments": [CHANNELS[0] | {"value": 1}]}
    findings = loaded(package_of(folder, **fields)).run(photograph(), Context())

    from PIL import Image as Picture

    Picture.fromarray(photograph().array).save(tmp_path / "photograph.png")
    expected = by_monai(configuration, {"image": tmp_path / "photograph.png"}, network.state_dict(), folder)
    expected = np.asarray(expected["pred"][0].cpu()).T
    assert 0 < expected.mean() < 1
    assert findings.label_map.shape == (1, 60, 52)
    assert np.array_equal(findings.label_map[0], expected)


def regression(out: list[int]) -> dict:
    return changed(
        SEGMENTATION,
        network_def={"_target_": "Regressor", "in_shape": [1, 16, 16, 16], "out_shape": out,
                     "channels": [4, 8], "strides": [2, 2]},
        preprocessing__transforms__3={
            "_target_": "Resized", "keys": "@image_key", "spatial_size": [16, 16, 16], "mode": "trilinear"},
        inferer={"_target_": "SimpleInferer"},
        postprocessing__transforms=[],
    )  # fmt: skip


def regressor(out: tuple[int, ...]) -> Regressor:
    torch.manual_seed(6)
    return livened(Regressor(in_shape=(1, 16, 16, 16), out_shape=out, channels=(4, 8), strides=(2, 2)))


def test_a_number_that_a_network_estimates_is_a_measurement(tmp_path) -> None:
    network = regressor((2,))
    folder = write_bundle(tmp_path / "bundle", regression([2]), weights=network.state_dict())
    age = {"value": "246262008", "scheme": "SCT", "meaning": "Age"}
    year = {"value": "a", "scheme": "UCUM", "meaning": "year"}
    fields = {
        "tasks": ["regression"],
        "segments": [],
        "quantities": [{"index": 1, "name": age, "unit": year, "scale": 10, "offset": 50}],
    }
    (found,) = loaded(package_of(folder, **fields)).run(scan(), Context()).measurements
    expected = by_monai(
        regression([2]), {"image": write_nifti(scan(), tmp_path / "a.nii")}, network.state_dict(), folder
    )["pred"]
    assert found.value == pytest.approx(50 + 10 * float(expected[1]), abs=1e-5)


def test_landmarks_come_back_to_the_voxels_that_they_were_seen_in(tmp_path) -> None:
    network = regressor((3, 3))
    with torch.no_grad():
        network.final.bias.add_(7.0) if hasattr(network.final, "bias") else None
    folder = write_bundle(tmp_path / "bundle", regression([3, 3]), weights=network.state_dict())
    fields = {
        "tasks": ["landmarks"],
        "segments": [],
        "points": [{"index": n, "label": f"Point {n}", "site": TISSUE} for n in range(3)],
    }
    volume = scan()
    points = loaded(package_of(folder, **fields)).run(volume, Context()).points
    data = by_monai(
        regression([3, 3]), {"image": write_nifti(volume, tmp_path / "a.nii")}, network.state_dict(), folder
    )
    expected = np.asarray(data["pred"])
    shown = np.asarray(data["image"].affine)
    for point, place in zip(points, expected, strict=True):
        ras = shown @ [*place, 1.0]
        lps = ras * [-1, -1, 1, 1]
        assert np.linalg.inv(volume.affine) @ lps == pytest.approx([*point.at, 1.0], abs=1e-3)


def test_a_map_of_numbers_lies_on_the_grid_of_the_series(tmp_path) -> None:
    transforms = SEGMENTATION["postprocessing"]["transforms"]
    configuration = changed(SEGMENTATION, postprocessing__transforms=transforms[:2])
    network = unet()
    folder = write_bundle(tmp_path / "bundle", configuration, weights=network.state_dict())
    chance = {"value": "110870", "scheme": "DCM", "meaning": "Probability"}
    one = {"value": "1", "scheme": "UCUM", "meaning": "no units"}
    fields = {
        "tasks": ["heat map"],
        "segments": [],
        "maps": [{"index": 2, "label": "Kidney", "quantity": chance, "unit": one}],
    }
    (found,) = loaded(package_of(folder, **fields)).run(scan(), Context()).maps
    expected = by_monai(
        configuration, {"image": write_nifti(scan(), tmp_path / "a.nii")}, network.state_dict(), folder
    )
    expected = np.asarray(expected["pred"][2].cpu()).transpose(2, 1, 0)
    assert found.values.shape == scan().array.shape
    assert np.abs(found.values - expected).max() < 1e-5


DETECTION = changed(
    SEGMENTATION,
    network_def={"_target_": "RetinaNet", "spatial_dims": 3, "num_classes": 1, "num_anchors": 1,
                 "feature_extractor": "@feature_extractor", "size_divisible": [16, 16, 8],
                 "use_list_output": False},
    preprocessing__transforms=[
        {"_target_": "LoadImaged", "keys": "@image_key", "_disabled_": "@whether_raw"},
        {"_target_": "LoadImaged", "keys": "@image_key", "reader": "itkreader", "affine_lps_to_ras": True,
         "_disabled_": "@whether_resampled"},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
        {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [2.0, 2.0, 3.0],
         "_disabled_": "$not @whether_raw"},
        {"_target_": "ScaleIntensityRanged", "keys": "@image_key", "a_min": -300.0, "a_max": 300.0,
         "b_min": 0.0, "b_max": 1.0, "clip": True},
        {"_target_": "EnsureTyped", "keys": "@image_key"},
    ],
    inferer={"_target_": "scripts.detection_inferer.OurInferer", "detector": "@detector"},
    postprocessing__transforms=[
        {"_target_": "ClipBoxToImaged", "box_keys": "box", "label_keys": "label",
         "box_ref_image_keys": "@image_key", "remove_empty": True},
        {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", "box_ref_image_keys": "@image_key",
         "affine_lps_to_ras": True},
        {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
        {"_target_": "DeleteItemsd", "keys": ["@image_key"]},
    ],
    evaluator___requires_="@detector_ops",
) | {
    "whether_raw": True,
    "whether_resampled": "$(not @whether_raw)",
    "anchor_generator": {"_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
                         "feature_map_scales": [1, 2], "base_anchor_shapes": [[6, 8, 4]]},
    "backbone": "$monai.networks.nets.resnet.resnet10(spatial_dims=3,n_input_channels=1,"
                "conv1_t_stride=[2,2,1],conv1_t_size=[3,3,3],widen_factor=0.125)",
    "feature_extractor": "$monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor("
                         "@backbone,3,False,[1],None)",
    "detector": {"_target_": "RetinaNetDetector", "network": "@network",
                 "anchor_generator": "@anchor_generator", "debug": False, "spatial_dims": 3, "num_classes": 1,
                 "size_divisible": [16, 16, 8]},
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        "$@detector.set_box_selector_parameters(score_thresh=0.02,topk_candidates_per_level=100,nms_thresh=0.22,"
        "detections_per_img=5)",
    ],
}  # fmt: skip
INFERER = """
from typing import TYPE_CHECKING
from monai.inferers.inferer import Inferer
if TYPE_CHECKING:
    import ignite.nowhere

class OurInferer(Inferer):
    def __init__(self, detector):
        Inferer.__init__(self)
        self.detector = detector

    def __call__(self, inputs, network, *args, **kwargs):
        from scripts.late import late
        assert late() == "only when it is run"
        self.detector.network = network
        self.detector.training = network.training
        return self.detector(inputs, use_inferer=False)
"""
NODULES = {
    "tasks": ["detection"],
    "segments": [],
    "classes": [{"index": 0, "label": "Nodule", "finding": NODULE, "threshold": 0.02}],
}
SCRIPTS = {
    "scripts/__init__.py": "",
    "scripts/detection_inferer.py": INFERER,
    "scripts/late.py": "def late():\n    return 'only when it is run'\n",
}


def detector_weights(folder) -> dict:
    """Of the network that the configuration builds."""
    from models.runtimes.bundles.building import Builder
    from models.runtimes.bundles.configuration import Folder
    from models.runtimes.bundles.judgement import Options, opened
    from models.runtimes.bundles.retina import ready

    ready()
    bundle = opened(Folder(folder), Options(), classifies=False)
    builder = Builder(
        bundle.mended.tree, {"device": torch.device("cpu"), "bundle_root": "."}, lambda path: None
    )
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return livened(builder.get("network_def")).state_dict()


@pytest.mark.parametrize("world", ["LPS mm", "RAS mm", "voxels"])
def test_boxes_are_found_where_they_are_however_the_bundle_says_it(tmp_path, world) -> None:
    configuration = DETECTION
    if world == "RAS mm":
        configuration = changed(DETECTION, postprocessing__transforms__1__affine_lps_to_ras=False)
    elif world == "voxels":
        configuration = changed(
            DETECTION, postprocessing__transforms=[DETECTION["postprocessing"]["transforms"][0]]
        )
    bare = write_bundle(tmp_path / "bare", configuration, files=SCRIPTS)
    folder = write_bundle(
        tmp_path / "bundle", configuration, weights={"model": detector_weights(bare)}, files=SCRIPTS
    )
    volume = scan((16, 48, 48), turned=False)
    boxes = loaded(package_of(folder, **NODULES)).run(volume, Context()).boxes

    lps = DETECTION if world == "LPS mm" else None
    assert boxes
    shape = volume.array.shape
    for box in boxes:
        assert box.label.startswith("Nodule ")
        assert box.score >= 0.02
        assert all(-0.5 <= a < b <= size - 0.5 for a, b, size in zip(box.low, box.high, shape, strict=True))
    assert [box.score for box in boxes] == sorted((box.score for box in boxes), reverse=True)
    if lps is None:
        (tmp_path / "again").mkdir()
        reference = write_bundle(
            tmp_path / "again/bundle", DETECTION, weights={"model": detector_weights(bare)}, files=SCRIPTS
        )
        expected = loaded(package_of(reference, **NODULES)).run(volume, Context()).boxes
        for found, wanted in zip(boxes, expected, strict=True):
            assert (*found.low, *found.high) == pytest.approx((*wanted.low, *wanted.high), abs=1e-3)


def test_boxes_are_those_of_monais_detector(tmp_path) -> None:
    folder = write_bundle(tmp_path / "bare", DETECTION, files=SCRIPTS)
    weights = detector_weights(folder)
    package = package_of(
        write_bundle(tmp_path / "bundle", DETECTION, weights=weights, files=SCRIPTS), **NODULES
    )
    volume = scan((16, 48, 48), turned=False)
    found = loaded(package).run(volume, Context()).boxes
    # MONAI by its own parser, torchvision's two functions being ours as it is not installed here.
    plain = changed(
        DETECTION, inferer={"_target_": "SimpleInferer"}, preprocessing__transforms__1=None,
        postprocessing__transforms__3=None, postprocessing__transforms__2=None,
    )  # fmt: skip
    from monai.bundle import ConfigParser

    parser = ConfigParser(changed(plain, device="$torch.device('cpu')"))
    parser["preprocessing::transforms::0::_disabled_"] = False
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        parser.get_parsed_content("network_def").load_state_dict(weights)
        detector = parser.get_parsed_content("detector")
        parser.get_parsed_content("detector_ops")
        detector.eval()
        data = parser.get_parsed_content("preprocessing")(
            {"image": str(write_nifti(volume, tmp_path / "a.nii"))}
        )
        said = detector(data["image"][None].as_tensor(), use_inferer=False)[0]
        world = parser.get_parsed_content("postprocessing")({**said, "image": data["image"]})
    corners = np.asarray(world["box"])
    inverse = np.linalg.inv(volume.affine)
    wanted = []
    for low, high, score in zip(
        corners[:, :3], corners[:, 3:], np.asarray(world["label_scores"]), strict=True
    ):
        ends = np.stack([inverse @ [*low, 1], inverse @ [*high, 1]])[:, :3]
        ends = np.clip(ends, -0.5, np.array(volume.array.shape) - 0.5)
        wanted.append((-float(score), *ends.min(0), *ends.max(0)))
    assert len(found) == len(wanted) > 0
    for box, expected in zip(found, sorted(wanted), strict=True):
        assert (-box.score, *box.low, *box.high) == pytest.approx(expected, abs=1e-3)


def test_two_bundles_with_scripts_of_the_same_name_do_not_see_each_other(tmp_path) -> None:
    models = []
    for number in (1, 2):
        script = (
            f"from monai.inferers import SimpleInferer\nclass Own(SimpleInferer):\n    number = {number}\n"
        )
        configuration = changed(SEGMENTATION, inferer={"_target_": "scripts.own.Own"})
        folder = write_bundle(
            tmp_path / str(number), configuration, weights=unet().state_dict(),
            files={"scripts/__init__.py": "", "scripts/own.py": script},
        )  # fmt: skip
        models.append(loaded(package_of(folder)))
    assert [model._loaded.inferer.number for model in models] == [1, 2]
    with pytest.raises(ModuleNotFoundError):
        __import__("scripts.own")


def test_scripts_for_an_older_numpy_are_told_apart_without_running_them(tmp_path) -> None:
    script = "import numpy as np\nraise SystemExit\ndef size(shape):\n    return np.product(shape)\n"
    configuration = changed(SEGMENTATION, inferer={"_target_": "scripts.own.Own"})
    folder = write_bundle(tmp_path / "bundle", configuration, files={"scripts/own.py": script})
    with pytest.raises(BrokenModel, match=r"needs numpy<2 \(scripts/own.py uses np.product\)"):
        loaded(package_of(folder))
    with pytest.raises(BrokenModel, match="needs numpy<2"):
        propose(folder)


def test_a_package_that_scripts_need_is_named(tmp_path) -> None:
    script = (
        "import torch, no_such_package.part\ntry:\n    import no_such_either\nexcept ImportError:\n    pass\n"
    )
    configuration = changed(SEGMENTATION, inferer={"_target_": "scripts.own.Own"})
    folder = write_bundle(tmp_path / "bundle", configuration, files={"scripts/own.py": script})
    with pytest.raises(
        SiteError, match=r"needs the Python package no_such_package \(scripts/own.py imports it\)$|no_such"
    ):
        loaded(package_of(folder))
    from models.runtimes.bundles.configuration import Folder

    assert unmet_needs(Folder(folder), ["scripts.own.Own"]) == (
        "needs the Python package no_such_package (scripts/own.py imports it)",
    )


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("torchvision") is not None, reason="torchvision is installed"
)
def test_a_network_of_torchvision_needs_torchvision(tmp_path) -> None:
    configuration = changed(
        SEGMENTATION, network_def={"_target_": "TorchVisionFCModel", "model_name": "resnet18"}
    )
    with pytest.raises(SiteError, match="needs the Python package torchvision, of the build for torch"):
        loaded(package_of(write_bundle(tmp_path / "bundle", configuration)))


PROMPTED = """
import torch
from monai.inferers import Inferer

class PromptInferer(Inferer):
    def __call__(self, inputs, network, point_coords, point_labels, class_vector, labels=None):
        assert class_vector.shape[1] == 1 and class_vector.shape[0] <= 8
        return network(inputs)[:, class_vector[:, 0] - 1]
"""


def test_a_network_with_prompts_is_asked_for_the_classes_of_the_manifest(tmp_path) -> None:
    network = unet(out_channels=20)
    transforms = SEGMENTATION["postprocessing"]["transforms"]
    configuration = changed(
        SEGMENTATION,
        network_def__out_channels=20,
        inferer={"_target_": "scripts.prompts.PromptInferer"},
        preprocessing__transforms__3={
            "_target_": "Resized", "keys": "@image_key", "spatial_size": [16, 16, 16], "mode": "trilinear"},
        postprocessing__transforms=[
            {"_target_": "monai.apps.vista3d.transforms.VistaPostTransform" + "d", "keys": "pred"},
            {**transforms[1], "transform": "$copy.deepcopy(@preprocessing)", "nearest_interp": True},
            {"_target_": "Lambdad", "func": "$lambda x: torch.nan_to_num(x, nan=255)", "keys": "pred"},
        ],
    )  # fmt: skip
    folder = write_bundle(
        tmp_path / "bundle", configuration, weights=network.state_dict(),
        files={"scripts/__init__.py": "", "scripts/prompts.py": PROMPTED},
    )  # fmt: skip
    asked = [2, 3, 5, 7, 8, 11, 13, 17, 19, 20]
    segments = [
        {"number": n, "value": value, "label": f"Class {value}", "category": TISSUE, "kind": TISSUE}
        for n, value in enumerate(asked, start=1)
    ]
    volume = scan(turned=False)
    findings = loaded(package_of(folder, segments=segments)).run(volume, Context())

    plain = changed(configuration, inferer={"_target_": "SimpleInferer"},
                    postprocessing__transforms=[{**transforms[1], "nearest_interp": True}])  # fmt: skip
    data = by_monai(
        changed(plain, postprocessing__transforms=[]),
        {"image": write_nifti(volume, tmp_path / "a.nii")}, network.state_dict(), folder,
    )  # fmt: skip
    chosen = data["pred"][[value - 1 for value in asked]]
    best = torch.where(chosen.amax(0) > 0, torch.tensor(asked)[chosen.argmax(0)], 0)
    present = {int(value) for value in best.unique()} - {0}
    assert len(present) > 1
    shown = {segments[n - 1]["value"] for n in np.unique(findings.label_map) if n}
    assert shown <= set(asked)
    assert {value for value in present if (best == value).sum() > 30} <= shown


def test_a_searched_architecture_is_read_without_running_it(tmp_path) -> None:
    """As DiNTS bundles have it: arrays of NumPy in a checkpoint, hard-wired to CUDA."""
    configuration = changed(SEGMENTATION, network_def__out_channels="$int(@arch_ckpt['classes'][0])") | {
        "arch_ckpt_path": "$@bundle_root + '/models/search_code.pt'",
        "arch_ckpt": "$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
    }
    folder = write_bundle(tmp_path / "bundle", configuration, weights=unet().state_dict())
    torch.save({"classes": np.array([3]), "node_a": np.ones((2, 2))}, folder / "models/search_code.pt")
    assert loaded(package_of(folder)).run(scan(), Context()).outcome is Outcome.FOUND
    (folder / "models/search_code.pt").unlink()
    with pytest.raises(BrokenModel, match=r"models/search_code\.pt is not among its files"):
        loaded(package_of(folder))


@pytest.mark.parametrize("order", ["argmax first", "inversion first"])
def test_less_memory_gives_the_same_labels_or_a_refusal(tmp_path, order) -> None:
    transforms = SEGMENTATION["postprocessing"]["transforms"]
    configuration = SEGMENTATION
    if order == "argmax first":
        configuration = changed(
            SEGMENTATION,
            postprocessing__transforms=[
                transforms[0],
                transforms[2],
                {**transforms[1], "nearest_interp": True},
            ],
        )
    model = loaded(package_of(write_bundle(tmp_path / "bundle", configuration, weights=unet().state_dict())))
    volume = scan()
    free = model.run(volume, Context())
    tight = model.run(volume, Context(memory=Memory(host=600_000, device=0)))
    assert (tight.label_map == free.label_map).mean() > 0.98
    with pytest.raises(OutOfMemory, match="does not fit into the memory"):
        model.run(volume, Context(memory=Memory(host=1000, device=0)))


def test_what_fails_inside_a_bundle_is_the_models_fault(tmp_path) -> None:
    configuration = changed(SEGMENTATION, preprocessing__transforms__4__a_min="low")
    with pytest.raises(ModelError, match="the bundle"):
        loaded(package_of(write_bundle(tmp_path / "bundle", configuration, weights=unet().state_dict()))).run(
            scan(), Context()
        )
