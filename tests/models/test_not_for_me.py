"""
What is not for a built-in model is refused with a sentence: by every one of them, also by those of tomorrow.

The path is the product's own: files are read, judged by the manifest and given to the model as by a worker.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measured import built_ins
from ledger.job import Outcome
from models.contract import Context, Given, Model
from models.registry import find, open_model
from tests.models.corpus import OWN, Stranger, accepts, strangers, write_files
from tests.models.refusals import plain
from worker.exchange import RunRequest
from worker.residents import Residents
from worker.run import analyse, compute, read

_STRANGERS = strangers()


def _asked(model: str, stranger: Stranger) -> Any:
    return pytest.param(model, stranger, id=f"{model}, {stranger.name}")


_FOR_ALL = [
    (model, stranger) for model in built_ins() for stranger in _STRANGERS if not accepts(model, stranger)
]
#: An array of an image is never given to a model of volumes, nor a volume to one of images; a file is.
_ARRAYS = [
    _asked(model, stranger)
    for model, stranger in _FOR_ALL
    if stranger.is_image == (find(model).manifest.given == "image")
]
_FILES = [_asked(model, stranger) for model, stranger in _FOR_ALL if stranger.as_files]


@cache
def opened(name: str) -> Model:
    model = open_model(name)
    model.load("cpu")
    return model


@cache
def made(name: str) -> tuple[Given, dict[str, str]]:
    return next(one for one in _STRANGERS if one.name == name).given()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a stranger, written once."""
    folder = tmp_path_factory.mktemp("strangers")

    @cache
    def of(name: str) -> tuple[str, ...]:
        stranger = next(one for one in _STRANGERS if one.name == name)
        return tuple(map(str, write_files(stranger, folder / name.replace(" ", "-"))))

    return of


@pytest.fixture(scope="module")
def residents() -> Residents:
    return Residents("cpu")


def request(model: str, inputs: tuple[str, ...], out: Path) -> RunRequest:
    return RunRequest(model=model, inputs=inputs, out=str(out), at=1.7e9, device="cpu")


def test_every_built_in_model_says_what_is_its_own() -> None:
    assert [name for name in built_ins() if name not in OWN] == []
    kinds = {stranger.kind for stranger in _STRANGERS} | {"chest CT"}
    for model, own in OWN.items():
        assert own <= kinds, f"{model} accepts {own - kinds}, of which there is nothing here"


@pytest.mark.parametrize(("model", "stranger"), _ARRAYS)
def test_what_is_not_for_a_model_is_refused_as_an_array(model: str, stranger: Stranger) -> None:
    given, headers = made(stranger.name)
    plain(opened(model).run(given, Context(headers=headers)))


@pytest.mark.parametrize(("model", "stranger"), _FILES)
def test_what_is_not_for_a_model_is_refused_as_dicom(model, stranger, files, residents, tmp_path) -> None:
    paths = files(stranger.name)
    if opened(model).manifest.given == "image":
        paths = paths[:1]

    plain(compute(read(request(model, paths, tmp_path), residents), residents).findings)


@pytest.mark.parametrize("model", built_ins())
def test_a_refusal_leaves_a_report_that_says_why(model, files, residents, tmp_path) -> None:
    reply = analyse(request(model, files("ultrasound"), tmp_path), residents=residents)

    assert reply.outcome is Outcome.REFUSED
    assert [Path(one.path).name for one in reply.files] == ["report.dcm"]
