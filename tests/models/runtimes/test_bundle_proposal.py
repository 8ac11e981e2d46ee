"""What a bundle says of itself becomes the beginning of a manifest, and what it does not say is asked for."""

import pytest

from models.contract import BrokenModel
from models.manifest import Manifest
from models.outputs import segments_of
from models.runtimes.monai_bundle import propose
from tests.models.runtimes.bundles import METADATA, SEGMENTATION, changed, unet, write_bundle

OUTPUT = "network_data_format__outputs__pred"
INPUT = "network_data_format__inputs__image"


def test_labels_become_structures_however_they_are_spelt(tmp_path) -> None:
    told = propose(write_bundle(tmp_path / "my_bundle", weights=unet().state_dict()))
    fields = told["manifest"] | {"licence": "Apache-2.0"}
    manifest = Manifest.model_validate(fields)
    assert (manifest.name, manifest.version, manifest.runtime) == ("my_bundle", "0.1.0", "monai_bundle")
    assert [one.structure for one in manifest.segments] == ["spleen", "kidney_left"]
    assert [one.label for one in segments_of(manifest)] == ["Spleen", "Left kidney"]
    assert manifest.accuracy[0].metric == "mean_dice"
    assert any("licence" in one for one in told["missing"])
    assert not any("is code" in one for one in told["missing"])


def test_a_label_that_nobody_knows_is_asked_for(tmp_path) -> None:
    metadata = changed(METADATA, **{f"{OUTPUT}__channel_def": {"0": "background", "4": "zzz"}})
    told = propose(write_bundle(tmp_path / "bundle", metadata=metadata))
    assert told["manifest"]["segments"] == [{"number": 1, "label": "zzz", "value": 4}]
    assert any("what 'zzz' is" in one for one in told["missing"])


def test_channels_without_background_stay_apart(tmp_path) -> None:
    metadata = changed(
        METADATA,
        **{
            f"{OUTPUT}__channel_def": {"0": "Tumor core", "1": "Whole tumor"},
            f"{INPUT}__channel_def": {"0": "T1c", "1": "FLAIR"},
            f"{INPUT}__modality": "MRI",
        },
    )
    steps = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[[0]]"},
    ]
    told = propose(
        write_bundle(tmp_path / "b", changed(SEGMENTATION, postprocessing__transforms=steps), metadata)
    )
    manifest = told["manifest"]
    assert manifest["options"]["overrides"] == {"postprocessing::transforms::2::_disabled_": True}
    assert [one["value"] for one in manifest["segments"]] == [0, 1]
    assert manifest["given"] == "series"
    assert manifest["inputs"] == [
        {"name": "t1c", "modality": ["MR"]},
        {"name": "flair", "modality": ["MR"]},
    ]
    assert any("which is which" in one for one in told["missing"])


def test_a_classifier_of_pictures_is_told_from_its_outputs(tmp_path) -> None:
    metadata = changed(
        METADATA,
        **{
            f"{OUTPUT}__format": "classes",
            f"{OUTPUT}__channel_def": {"0": "in body", "1": "out body"},
            f"{INPUT}__spatial_shape": [256, 256],
            f"{INPUT}__format": "RGB",
            f"{INPUT}__modality": "regular",
        },
    )
    steps = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True, "to_onehot": 2}]
    told = propose(
        write_bundle(tmp_path / "b", changed(SEGMENTATION, postprocessing__transforms=steps), metadata)
    )
    manifest = told["manifest"]
    assert (manifest["tasks"], manifest["given"]) == (["classification"], "image")
    assert manifest["options"] == {"activation": "softmax"}
    assert [one["label"] for one in manifest["classes"]] == ["in body", "out body"]
    assert any("'regular' is none of DICOM's" in one for one in told["missing"])


def test_what_large_files_would_bring_is_named(tmp_path) -> None:
    listed = "large_files:\n- path: models/model.pt\n  url: https://example.org/m.pt\n"
    told = propose(write_bundle(tmp_path / "bundle", files={"large_files.yml": listed}))
    assert "the bundle lacks models/model.pt from https://example.org/m.pt" in told["missing"]


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({f"{INPUT}__type": "noise"}, "makes images from noise"),
        ({f"{INPUT}__channel_def": {"0": "R", "1": "+ve Signal"}}, "a person draws beside the image"),
        ({f"{OUTPUT}__format": "image"}, "makes an image of an image"),
    ],
)
def test_a_bundle_that_finds_nothing_by_itself_is_refused(tmp_path, changes, because) -> None:
    with pytest.raises(BrokenModel, match=because):
        propose(write_bundle(tmp_path / "bundle", metadata=changed(METADATA, **changes)))


def test_a_bundle_that_reads_files_of_its_own_is_refused(tmp_path) -> None:
    transforms = SEGMENTATION["preprocessing"]["transforms"][1:]
    configuration = changed(SEGMENTATION, preprocessing__transforms=transforms)
    with pytest.raises(BrokenModel, match="needs files of its own kind"):
        propose(write_bundle(tmp_path / "bundle", configuration))
