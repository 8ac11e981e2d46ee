"""A MONAI bundle run from memory draws what MONAI draws from files, voxel for voxel, on the given grid."""

import json

import numpy as np
import pytest
import torch

from ledger.job import Outcome
from models.contract import BrokenModel, Context, SettingsNotUnderstood
from models.runtimes.monai_bundle import MonaiBundle
from tests.models.runtimes.bundle_reference import by_monai, labels_of, write_nifti
from tests.models.runtimes.bundles import (
    METADATA,
    SEGMENTATION,
    changed,
    loaded,
    package_of,
    scan,
    unet,
    write_bundle,
)


@pytest.fixture(scope="module")
def weights():
    return unet().state_dict()


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "oblique"])
def test_the_label_map_is_monais_own_to_the_voxel(tmp_path, weights, turned) -> None:
    volume = scan(turned=turned)
    folder = write_bundle(tmp_path / "bundle", weights=weights)

    findings = loaded(package_of(folder)).run(volume, Context())

    expected = labels_of(
        by_monai(SEGMENTATION, {"image": write_nifti(volume, tmp_path / "ct.nii")}, weights, folder)
    )
    assert findings.outcome is Outcome.FOUND
    assert findings.label_map.shape == volume.array.shape
    assert set(np.unique(expected)) == {0, 1, 2}
    assert np.array_equal(findings.label_map, expected)
    assert [segment.label for segment in findings.segments] == ["Spleen", "Left kidney"]


def test_the_same_volume_gives_the_same_answer_twice(tmp_path, weights) -> None:
    model = loaded(package_of(write_bundle(tmp_path / "bundle", weights=weights)))
    first, second = (model.run(scan(), Context()) for _ in range(2))
    assert np.array_equal(first.label_map, second.label_map)


def test_transforms_that_an_expression_joins_are_found_and_their_readers_switched_off(
    tmp_path, weights
) -> None:
    transforms = SEGMENTATION["preprocessing"]["transforms"]
    configuration = changed(
        SEGMENTATION,
        preprocessing={"_target_": "Compose", "transforms": "$@first_transforms + @further_transforms"},
    ) | {"first_transforms": transforms[:3], "further_transforms": transforms[3:]}
    plain = loaded(package_of(write_bundle(tmp_path / "plain", weights=weights)))
    joined = loaded(package_of(write_bundle(tmp_path / "joined", configuration, weights=weights)))
    assert np.array_equal(joined.run(scan(), Context()).label_map, plain.run(scan(), Context()).label_map)


def test_an_inversion_of_a_copy_inverts_the_preprocessing_itself(tmp_path, weights) -> None:
    configuration = changed(
        SEGMENTATION, postprocessing__transforms__1__transform="$copy.deepcopy(@preprocessing)"
    )
    volume = scan()
    folder = write_bundle(tmp_path / "bundle", configuration, weights=weights)
    expected = loaded(package_of(write_bundle(tmp_path / "plain", weights=weights))).run(volume, Context())
    assert np.array_equal(loaded(package_of(folder)).run(volume, Context()).label_map, expected.label_map)


def test_labels_are_brought_back_by_the_nearest_voxel_whatever_the_bundle_says(tmp_path, weights) -> None:
    transforms = SEGMENTATION["postprocessing"]["transforms"]
    decided_first = changed(
        SEGMENTATION, postprocessing__transforms=[transforms[2], transforms[1], transforms[3]]
    )
    folder = write_bundle(tmp_path / "bundle", decided_first, weights=weights)

    found = loaded(package_of(folder)).run(scan(), Context()).label_map

    decided_first["postprocessing"]["transforms"][1]["nearest_interp"] = True
    expected = by_monai(decided_first, {"image": write_nifti(scan(), tmp_path / "ct.nii")}, weights, folder)
    assert np.array_equal(found, labels_of(expected))


def test_an_answer_that_only_a_file_writer_would_bring_back_is_brought_back(tmp_path, weights) -> None:
    transforms = SEGMENTATION["postprocessing"]["transforms"]
    never_inverted = changed(
        SEGMENTATION, postprocessing__transforms=[transforms[0], transforms[2], transforms[3]]
    )
    volume = scan(turned=False)
    findings = loaded(package_of(write_bundle(tmp_path / "bundle", never_inverted, weights=weights))).run(
        volume, Context()
    )
    inverted = loaded(package_of(write_bundle(tmp_path / "plain", weights=weights))).run(volume, Context())
    assert findings.label_map.shape == volume.array.shape
    # By the nearest voxel instead of by interpolated probabilities: the same but for the edges.
    assert (findings.label_map == inverted.label_map).mean() > 0.8


def test_arguments_that_monai_no_longer_has_are_left_out(tmp_path, weights) -> None:
    configuration = changed(SEGMENTATION, network_def__img_size=96)
    findings = loaded(package_of(write_bundle(tmp_path / "bundle", configuration, weights=weights))).run(
        scan(), Context()
    )
    assert findings.outcome is Outcome.FOUND


def test_a_configuration_in_yaml_is_read_like_one_in_json(tmp_path, weights) -> None:
    yaml = pytest.importorskip("yaml")
    folder = write_bundle(tmp_path / "bundle", weights=weights)
    (folder / "configs/inference.json").rename(folder / "configs/inference.yaml")
    (folder / "configs/inference.yaml").write_text(yaml.safe_dump(SEGMENTATION))
    expected = loaded(package_of(write_bundle(tmp_path / "plain", weights=weights))).run(scan(), Context())
    assert np.array_equal(loaded(package_of(folder)).run(scan(), Context()).label_map, expected.label_map)


def test_an_override_of_the_manifest_changes_the_configuration(tmp_path, weights) -> None:
    configuration = changed(
        SEGMENTATION,
        preprocessing__transforms__3__pixdim="$[3.0] * 3 if @displayable_configs#highres else [6.0] * 3",
    ) | {"displayable_configs": {"highres": True}}
    folder = write_bundle(tmp_path / "bundle", configuration, weights=weights)
    fine = loaded(package_of(folder)).run(scan(), Context())
    coarse = loaded(package_of(folder, options={"overrides": {"displayable_configs::highres": False}})).run(
        scan(), Context()
    )
    plain = loaded(package_of(write_bundle(tmp_path / "plain", weights=weights))).run(scan(), Context())
    assert np.array_equal(fine.label_map, plain.label_map)
    assert not np.array_equal(coarse.label_map, plain.label_map)


def test_weights_lie_where_the_bundles_own_loader_looks(tmp_path, weights) -> None:
    configuration = changed(
        SEGMENTATION, checkpointloader__load_path="$@bundle_root + '/models/' + @modelname"
    ) | {"modelname": "$'fine.pt' if True else 'coarse.pt'"}
    folder = write_bundle(tmp_path / "bundle", configuration, weights={"state_dict": weights})
    (folder / "models/model.pt").rename(folder / "models/fine.pt")
    assert loaded(package_of(folder)).run(scan(), Context()).outcome is Outcome.FOUND


def test_missing_weights_are_named_with_where_they_are_to_be_had(tmp_path) -> None:
    listed = """
large_files:
- path: "models/model.pt"
  url: "https://example.org/model_v1.pt"
  hash_val: "be4fa95e236df91766147c112ee6fafd"
  hash_type: "md5"
"""
    folder = write_bundle(tmp_path / "bundle", files={"large_files.yml": listed})
    with pytest.raises(
        BrokenModel, match=r"models/model.pt .* https://example.org/model_v1.pt \(md5 be4fa95e"
    ):
        loaded(package_of(folder))


def test_weights_of_another_network_are_refused_with_what_differs(tmp_path) -> None:
    other = unet(channels=[4, 16]).state_dict()
    folder = write_bundle(tmp_path / "bundle", weights=other)
    with pytest.raises(BrokenModel, match=r"not those of the bundle's network: .* of another shape"):
        loaded(package_of(folder))


def test_a_configuration_without_a_network_is_no_bundle_for_inference(tmp_path) -> None:
    folder = write_bundle(tmp_path / "bundle", changed(SEGMENTATION, network_def=None, network=None))
    with pytest.raises(BrokenModel, match="has no network_def"):
        loaded(package_of(folder))


def test_references_in_a_circle_are_told(tmp_path, weights) -> None:
    configuration = changed(SEGMENTATION, image_key="@other") | {"other": "@image_key"}
    folder = write_bundle(tmp_path / "bundle", configuration, weights=weights)
    with pytest.raises(BrokenModel, match="refers in a circle"):
        loaded(package_of(folder))


def test_voxels_that_are_not_numbers_are_refused_with_a_sentence(tmp_path, weights) -> None:
    volume = scan()
    volume.array[3, 4, 5] = np.nan
    findings = loaded(package_of(write_bundle(tmp_path / "bundle", weights=weights))).run(volume, Context())
    assert findings.outcome is Outcome.REFUSED
    assert findings.because == "Some voxels are not numbers."


def test_a_rule_can_set_nothing(tmp_path, weights) -> None:
    model = loaded(package_of(write_bundle(tmp_path / "bundle", weights=weights)))
    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        model.run(scan(), Context(settings={"threshold": 0.5}))


def test_an_option_that_does_not_exist_is_told(tmp_path, weights) -> None:
    folder = write_bundle(tmp_path / "bundle", weights=weights)
    with pytest.raises(BrokenModel, match="are none of a MONAI bundle"):
        MonaiBundle(package_of(folder, options={"overlap": 0.5}))


def test_more_than_255_labels_need_numbers_of_two_bytes(tmp_path) -> None:
    network = unet(out_channels=300)
    configuration = changed(SEGMENTATION, network_def__out_channels=300)
    folder = write_bundle(tmp_path / "bundle", configuration, weights=network.state_dict())
    segments = [
        {"number": number, "label": f"Part {number}", "category": _tissue(), "kind": _tissue()}
        for number in range(1, 300)
    ]
    volume = scan((8, 16, 16))
    found = loaded(package_of(folder, segments=segments)).run(volume, Context()).label_map
    expected = by_monai(
        configuration, {"image": write_nifti(volume, tmp_path / "ct.nii")}, network.state_dict(), folder
    )
    assert found.dtype == np.uint16
    assert found.max() > 255
    assert np.array_equal(found, labels_of(expected))


def test_the_memory_of_a_run_grows_with_the_volume_and_the_classes(tmp_path, weights) -> None:
    model = loaded(package_of(write_bundle(tmp_path / "bundle", weights=weights)))
    small, large = model.estimate((10, 64, 64)), model.estimate((100, 64, 64))
    assert large.host > small.host > 10 * 64 * 64 * 4
    assert small.device == 0
    model.unload()
    with pytest.raises(BrokenModel, match="before it is loaded"):
        model.run(scan(), Context())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which people still have
def test_torchscript_carries_its_configuration_inside(tmp_path) -> None:
    network = torch.jit.trace(unet(), torch.zeros(2, 1, 16, 16, 16))
    folder = tmp_path / "bundle"
    (folder / "models").mkdir(parents=True)
    inside = {"inference.json": json.dumps(SEGMENTATION), "metadata.json": json.dumps(METADATA)}
    torch.jit.save(network, folder / "models/model.ts", _extra_files=inside)
    plain = loaded(package_of(write_bundle(tmp_path / "plain", weights=unet().state_dict())))
    volume = scan()
    assert np.array_equal(
        loaded(package_of(folder)).run(volume, Context()).label_map, plain.run(volume, Context()).label_map
    )


def _tissue() -> dict[str, str]:
    return {"value": "85756007", "scheme": "SCT", "meaning": "Tissue"}
