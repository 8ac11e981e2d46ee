"""What a network gives becomes the findings that its manifest promises."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import box_iou, non_max_suppression

from ledger.job import Outcome
from models.contract import BrokenModel
from models.outputs import (
    boxes_in_voxels,
    boxes_of,
    draw_channels,
    draw_labels,
    draw_probabilities,
    findings_of,
    maps_of,
    points_of,
    quantities_of,
    segments_of,
    thresholds_of,
    verdicts_of,
    with_volumes,
)
from results.findings import Findings
from tests.models.manifests import KIND, klass, manifest, segment

MM = {"value": "mm", "scheme": "UCUM", "meaning": "millimeter"}
SHAPE = (4, 10, 12)


def findings(drawn) -> Findings:
    return Findings(outcome=Outcome.FOUND, label_map=drawn.label_map, segments=drawn.segments)


def parts(count: int, **more):
    return manifest(segments=[segment(n, **more) for n in range(1, count + 1)])


# Label maps


def test_labels_are_their_segments_and_what_the_manifest_does_not_name_is_background():
    drawn = draw_labels(
        manifest(segments=[segment(1, value=7), segment(2, value=3)]), np.array([[[0, 3, 7, 9]]])
    )
    assert drawn.label_map.tolist() == [[[0, 2, 1, 0]]]
    assert drawn.label_map.dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(
    labels=arrays.arrays(np.uint8, (2, 5, 6), elements=st.integers(0, 6)),
    regions=st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=5),
)
def test_every_segment_is_the_union_of_its_region_whatever_overlaps(labels, regions):
    drawn = draw_labels(
        manifest(segments=[segment(n, region=sorted(one)) for n, one in enumerate(regions, start=1)]), labels
    )
    for number, region in enumerate(regions, start=1):
        assert np.array_equal(findings(drawn).mask(number), np.isin(labels, list(region)))


def test_regions_of_a_tumour_within_one_another_get_layers_and_separate_ones_do_not():
    tumour = manifest(segments=[segment(1, region=[1, 2, 3]), segment(2, region=[1, 3]), segment(3, value=3)])
    nested = draw_labels(tumour, np.array([[[0, 1, 2, 3]]], np.uint8))
    assert nested.label_map.shape == (3, 1, 1, 4)
    assert [one.layer for one in nested.segments] == [0, 1, 2]
    apart = draw_labels(tumour, np.array([[[0, 2, 2, 0]]], np.uint8))
    assert apart.label_map.tolist() == [[[0, 1, 1, 0]]]


def test_above_255_segments_the_numbers_need_sixteen_bits():
    drawn = draw_labels(parts(300), np.full((1, 2, 2), 300, np.int32))
    assert drawn.label_map.dtype == np.uint16
    assert (drawn.label_map == 300).all()


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.zeros((1, 2, 2)), "float64"),
        (np.zeros((2, 2), np.uint8), "2 axes"),
        (np.full((1, 2, 2), -1), "labels from -1"),
        (np.full((1, 2, 2), 70000), "70000"),
    ],
)
def test_what_is_no_label_map_is_the_models_fault(labels, says):
    with pytest.raises(BrokenModel, match=says):
        draw_labels(parts(1), labels)


@settings(max_examples=60, deadline=None)
@given(channels=arrays.arrays(np.bool_, (4, 2, 5, 6)))
def test_every_channel_is_its_segment_whatever_overlaps(channels):
    drawn = draw_channels(parts(4), channels)
    assert all(np.array_equal(findings(drawn).mask(n + 1), channels[n]) for n in range(4))


def test_channels_that_do_not_meet_share_a_layer():
    channels = np.zeros((3, 1, 1, 3), bool)
    channels[0, ..., 0] = channels[1, ..., 1] = channels[2, ..., 1:] = True
    drawn = draw_channels(parts(3), channels)
    assert [one.layer for one in drawn.segments] == [0, 0, 1]


def test_thresholds_are_those_of_the_manifest_and_count_from_the_value_on():
    asked = manifest(segments=[segment(1, threshold=0.25), segment(2)])
    probabilities = np.array([0.24, 0.25, 0.49, 0.5], np.float32).reshape(1, 1, 1, 4).repeat(2, axis=0)
    found = findings(draw_probabilities(asked, probabilities))
    assert found.mask(1).ravel().tolist() == [False, True, True, True]
    assert found.mask(2).ravel().tolist() == [False, False, False, True]
    assert thresholds_of(asked, 3) == (0.25, 0.5, 0.5)


def test_a_channel_that_the_network_does_not_have_is_named():
    with pytest.raises(BrokenModel, match="channel 1"):
        draw_channels(parts(2), np.zeros((1, 1, 1, 1), bool))
    twice = manifest(segments=[segment(1, value=0, threshold=0.2), segment(2, value=0, threshold=0.3)])
    with pytest.raises(BrokenModel, match="different thresholds"):
        thresholds_of(twice, 1)


def test_volumes_are_those_of_the_voxels_and_an_absent_segment_has_none():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0] = 1
    one, two = with_volumes(draw_labels(parts(2), labels), 1.5).segments
    assert one.measurements[0].value == pytest.approx(4 * 1.5 / 1000)
    assert two.measurements == ()


def test_segments_without_a_colour_get_different_ones_and_always_the_same():
    colours = [one.colour_rgb for one in segments_of(parts(30))]
    assert len(set(colours)) == 30
    assert colours == [one.colour_rgb for one in segments_of(parts(30))]


def test_a_segment_without_codes_and_structure_says_what_it_needs():
    with pytest.raises(BrokenModel, match="category and a kind"):
        segments_of(manifest(segments=[{"number": 1, "label": "Something"}]))
    with pytest.raises(BrokenModel, match="no_such_thing"):
        segments_of(manifest(segments=[segment(1, structure="no_such_thing")]))


# Boxes

NODULES = manifest(classes=[klass(0, "Nodule", threshold=0.4), klass(1, "Mass", threshold=0.8)])


def test_boxes_are_numbered_by_their_score_within_their_class():
    low = np.zeros((4, 3))
    low[:, 2] = [0, 3, 6, 9]
    boxes = boxes_of(NODULES, low, low + 2, [0.5, 0.9, 0.3, 0.85], [0, 0, 0, 1], shape=SHAPE)
    assert [(box.label, box.score) for box in boxes] == [
        ("Nodule 1", 0.9),
        ("Mass 1", 0.85),
        ("Nodule 2", 0.5),
    ]


@settings(max_examples=60, deadline=None)
@given(
    corners=arrays.arrays(np.float64, (6, 2, 3), elements=st.floats(-20, 20)),
    scores=arrays.arrays(np.float64, 6, elements=st.floats(0, 1)),
    order=st.permutations(range(6)),
)
def test_boxes_lie_on_the_grid_and_do_not_depend_on_the_networks_order(corners, scores, order):
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes = boxes_of(NODULES, low, high, scores, shape=SHAPE)
    assert boxes == boxes_of(NODULES, low[order], high[order], scores[order], shape=SHAPE)
    for box in boxes:
        assert all(-0.5 <= a < b <= n - 0.5 for a, b, n in zip(box.low, box.high, SHAPE, strict=True))
        assert box.score >= 0.4


@settings(max_examples=40, deadline=None)
@given(
    low=arrays.arrays(np.float64, (8, 3), elements=st.floats(0, 3)),
    size=arrays.arrays(np.float64, (8, 3), elements=st.floats(0.5, 3)),
    scores=arrays.arrays(np.float64, 8, elements=st.floats(0.5, 1), unique=True),
)
def test_suppression_is_monais(low, size, scores):
    high = np.minimum(low + size, np.asarray(SHAPE) - 0.5)
    boxes = boxes_of(NODULES, low, high, scores, shape=SHAPE, nms_iou=0.3)
    corners = torch.as_tensor(np.concatenate([low, high], axis=1))
    kept = non_max_suppression(corners, torch.as_tensor(scores), nms_thresh=0.3, box_overlap_metric=box_iou)
    assert [box.score for box in boxes] == pytest.approx(scores[np.asarray(kept)].tolist())


def test_a_calibrated_score_decides():
    sure = manifest(classes=[klass(0, calibration=[2.0, -1.0])])
    (box,) = boxes_of(sure, [[0, 0, 0]], [[1, 1, 1]], [0.7], shape=SHAPE)
    assert box.score == pytest.approx(1 / (1 + np.exp(-(2 * np.log(0.7 / 0.3) - 1))))
    assert boxes_of(sure, [[0, 0, 0]], [[1, 1, 1]], [0.6], shape=SHAPE) == ()


@pytest.mark.parametrize(
    ("low", "scores", "says"),
    [
        ([[0, 0, np.nan]], [0.5], "corners"),
        ([[0, 0, 0]], [1.5], "probabilities"),
        ([[0, 0, 0]], [], "0 scores"),
    ],
)
def test_boxes_that_are_none_are_the_models_fault(low, scores, says):
    with pytest.raises(BrokenModel, match=says):
        boxes_of(NODULES, low, [[1, 1, 1]], scores, shape=SHAPE)


def test_a_box_in_millimetres_becomes_the_box_around_it_on_an_oblique_grid():
    turn = np.eye(4)
    turn[:3, :3] = np.array([[0, 0, 2.0], [0, 1.0, 0], [-3.0, 0, 0]])  # columns: slice, row, column → x, y, z
    turn[:3, 3] = (10, 20, 30)
    low, high = boxes_in_voxels([[12, 21, 24]], [[14, 23, 27]], turn)
    assert low.tolist() == [[1, 1, 1]]
    assert high.tolist() == [[2, 3, 2]]


# Verdicts


@settings(deadline=None)
@given(logits=arrays.arrays(np.float64, 3, elements=st.floats(-50, 50)))
def test_sigmoid_and_softmax_are_torchs(logits):
    three = manifest(classes=[klass(n, f"Class {n}") for n in range(3)])
    many = [one.probability for one in verdicts_of(three, logits)]
    assert many == pytest.approx(torch.sigmoid(torch.as_tensor(logits)).tolist())
    one_of = [one.probability for one in verdicts_of(three, logits, "softmax")]
    assert one_of == pytest.approx(torch.softmax(torch.as_tensor(logits), 0).tolist())
    assert sum(one.present for one in verdicts_of(three, logits, "softmax")) <= 1


def test_a_temperature_makes_softmax_less_sure_and_says_that_it_did():
    two = manifest(classes=[klass(n, f"Class {n}", calibration=[0.5, 0.0]) for n in range(2)])
    plain, _ = verdicts_of(two, [4.0, 0.0], "softmax")
    assert plain.probability == pytest.approx(1 / (1 + np.exp(-2)))
    assert plain.calibrated


def test_platt_scaling_is_the_same_for_logits_and_for_their_probabilities():
    one = manifest(classes=[klass(0, calibration=[1.7, -0.4])])
    (from_logit,), (from_probability,) = (
        verdicts_of(one, [0.9]),
        verdicts_of(one, [1 / (1 + np.exp(-0.9))], "none"),
    )
    assert from_logit.probability == pytest.approx(from_probability.probability)


@pytest.mark.parametrize(("outputs", "says"), [([np.nan, 0], "not numbers"), ([1.0], "names output 1")])
def test_outputs_that_say_nothing_are_the_models_fault(outputs, says):
    with pytest.raises(BrokenModel, match=says):
        verdicts_of(manifest(classes=[klass(0), klass(1, "Mass")]), outputs)


# Points, quantities, maps


def test_a_landmark_that_was_not_found_is_left_out():
    two = manifest(points=[{"index": n, "label": f"P{n}", "site": KIND} for n in range(2)])
    (point,) = points_of(two, [[np.nan] * 3, [1, 2, 3]], [0.0, 0.9], [np.nan, 2.0])
    assert (point.label, point.at, point.score, point.uncertainty_mm) == ("P1", (1, 2, 3), 0.9, 2.0)
    with pytest.raises(BrokenModel, match="names point 1"):
        points_of(two, [[1, 2, 3]])


def test_a_quantity_is_scaled_and_one_that_is_no_number_left_out():
    asked = [{"index": n, "name": KIND, "unit": MM, "scale": 10, "offset": -1} for n in range(2)]
    (one,) = quantities_of(manifest(quantities=asked), [2.5, np.inf])
    assert one.value == 24


def test_a_map_has_a_number_for_every_voxel():
    asked = manifest(maps=[{"index": 1, "label": "Doubt", "quantity": KIND, "unit": MM}])
    maps = np.zeros((2, *SHAPE))
    maps[1] = 2
    (one,) = maps_of(asked, maps)
    assert one.values.dtype == np.float32
    assert (one.values == 2).all()
    maps[1, 0, 0, 0] = np.nan
    with pytest.raises(BrokenModel, match="'Doubt'"):
        maps_of(asked, maps)


def test_nothing_found_says_what_was_looked_for():
    empty = findings_of(parts(7), drawn=draw_labels(parts(7), np.zeros((1, 2, 2), np.uint8)))
    assert empty.outcome is Outcome.NOTHING
    assert empty.because.endswith("Part 1, Part 2, Part 3, Part 4, Part 5 and 2 more.")
    assert empty.label_map is None
    full = findings_of(parts(1), drawn=draw_labels(parts(1), np.ones((1, 2, 2), np.uint8)))
    assert full.outcome is Outcome.FOUND


def test_a_map_can_be_the_probability_of_a_segment() -> None:
    of_lung = {"index": 0, "label": "Lung probability", "quantity": KIND, "unit": MM, "of": "Lung"}
    lung = {"number": 1, "label": "Lung", "category": KIND, "kind": KIND, "colour_rgb": [1, 2, 3]}
    asked = manifest(maps=[of_lung], segments=[lung])
    (one,) = maps_of(asked, np.ones((1, 2, 2, 2), np.float32))
    assert one.of == "Lung"
    with pytest.raises(ValueError, match="none of the segments"):
        manifest(maps=[of_lung | {"of": "Liver"}], segments=[lung])
