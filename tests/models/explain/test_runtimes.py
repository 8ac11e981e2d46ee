"""A rule asks for an explanation, and every runtime that holds a network gives it."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from models.contract import BrokenModel, Context, Memory, SettingsNotUnderstood
from models.registry import RUNTIMES
from results.findings import Findings
from tests.models.making import package_of
from tests.models.matrix import ROWS, SHAPE, WRITERS, given, seeded

BY_TASK = {row.task: row for row in ROWS}
SEEN_THROUGH = {"state_dict", "torch_export"}


def run(folder: Path, writer, task: str, context: Context | None = None, **settings) -> Findings:
    row = BY_TASK[task]
    more = WRITERS[writer](row, seeded(row.make), folder)
    runtime = writer[1]
    package = package_of(folder, runtime, task, options=row.options | more)
    model = getattr(importlib.import_module(f"models.runtimes.{runtime}"), RUNTIMES[runtime][0])(package)
    model.load("cpu")
    return model.run(given(), context or Context(settings=settings))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("writer", WRITERS, ids=[ending for ending, _ in WRITERS])
def test_occlusion_and_uncertainty_need_no_more_than_answers(tmp_path: Path, writer, task: str) -> None:
    plain = run(tmp_path, writer, task)

    asked = run(tmp_path, writer, task, explain="occlusion", explain_tiles=2, uncertainty="flips")

    heat = asked.maps[0]
    assert heat.explains in {"Liver", "Spleen", "Nodule", "Mass"}
    assert heat.values.shape == SHAPE
    assert np.isfinite(heat.values).all()
    assert (heat.values.min() >= 0, heat.values.max() <= 1) == (True, True)
    assert asked.verdicts == plain.verdicts
    if task == "segmentation":
        assert np.array_equal(asked.label_map, plain.label_map)
        assert "Uncertainty" in asked.maps[1].label
    else:
        assert any("Uncertainty" in caution for caution in asked.cautions)
    assert asked.timings["explain"] > 0


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("writer", WRITERS, ids=[ending for ending, _ in WRITERS])
def test_gradients_are_there_where_a_network_can_be_looked_into(tmp_path: Path, writer, task: str) -> None:
    if writer[1] not in SEEN_THROUGH:
        with pytest.raises(BrokenModel, match="occlusion"):
            run(tmp_path, writer, task, explain="grad_cam")
        return

    (heat,) = run(tmp_path, writer, task, explain="grad_cam").maps

    assert heat.values.shape == SHAPE
    assert 0 <= heat.values.min() <= heat.values.max() <= 1


def test_the_same_network_is_explained_the_same_from_whichever_file(tmp_path: Path) -> None:
    maps = []
    for number, writer in enumerate(one for one in WRITERS if one[1] in SEEN_THROUGH):
        folder = tmp_path / str(number)
        folder.mkdir()
        maps.append(
            run(folder, writer, "segmentation", explain="grad_cam", explain_of="Liver").maps[0].values
        )

    assert len(maps) >= 2
    for other in maps[1:]:
        assert other == pytest.approx(maps[0], abs=1e-4)


@pytest.mark.parametrize("task", ["regression", "landmarks"])
def test_other_tasks_have_nothing_to_explain_yet(tmp_path: Path, task: str) -> None:
    writer = next(one for one in WRITERS if one[1] == "state_dict")

    with pytest.raises(SettingsNotUnderstood, match="neither segments nor classifies"):
        run(tmp_path, writer, task, explain="occlusion")


def test_a_setting_that_is_nobodys_is_still_a_mistake(tmp_path: Path) -> None:
    writer = next(one for one in WRITERS if one[1] == "state_dict")

    with pytest.raises(SettingsNotUnderstood, match="threshold"):
        run(tmp_path, writer, "segmentation", explain="occlusion", threshold=0.3)


def test_what_was_found_survives_an_explanation_that_does_not_fit(tmp_path: Path, monkeypatch) -> None:
    def short(*_args, **_more):
        raise MemoryError

    monkeypatch.setattr("models.explain.explained.occlusion", short)
    writer = next(one for one in WRITERS if one[1] == "state_dict")
    plenty = Memory(host=1 << 40, device=0)

    findings = run(
        tmp_path,
        writer,
        "segmentation",
        Context(settings={"explain": "occlusion"}, memory=plenty),
    )

    assert findings.segments
    assert findings.maps == ()
    assert findings.cautions[-1].startswith("Memory was too short for the explanation")
