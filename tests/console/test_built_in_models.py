"""Every model that comes with Wetread, from the command line and without a file at hand."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.measured import built_ins
from console.built_in_rules import rule_for
from console.demo import NoDemo, demo, settings_of
from console.fitting import misfit
from console.run import run_folder
from console.settings import load_site
from console.shelf import print_model, print_models
from console.try_model import try_model
from ledger.errors import SiteError
from models.registry import open_model
from models.settings import BUILT_IN_ONLY
from models.training.own_kind import write_own_kind
from tests.models.real import folder

every = pytest.mark.parametrize("name", built_ins())


def console() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=160, highlight=False), written


def test_all_of_them_are_listed() -> None:
    to, written = console()
    print_models(BUILT_IN_ONLY, {}, to)

    assert [name for name in built_ins() if name not in written.getvalue()] == []


@every
def test_it_is_shown_with_what_it_is_not_for(name: str) -> None:
    to, written = console()
    print_model(name, BUILT_IN_ONLY, to)

    shown = " ".join(written.getvalue().split())
    assert open_model(name).manifest.identity in shown
    assert "Not a medical device" in shown


@every
def test_it_is_tried_on_a_phantom_of_its_own_kind_and_finds_something(name: str) -> None:
    to, written = console()
    try_model(name, BUILT_IN_ONLY, "cpu", to)

    assert f"{open_model(name).manifest.identity} on a phantom: found" in written.getvalue()


@every
def test_it_runs_on_a_folder(name: str, tmp_path: Path) -> None:
    write_own_kind(name, tmp_path / "in", seed=3)
    to, written = console()
    run_folder(name, tmp_path / "in", tmp_path / "out", "cpu", to)

    assert (tmp_path / "out" / "report.dcm").exists(), written.getvalue()


def test_a_real_film_that_was_digitised_is_analysed_and_its_negative_alike(tmp_path: Path) -> None:
    to, written = console()
    run_folder("cxr_pneumonia", folder("cxr_dicom_rsna1"), tmp_path / "out", "cpu", to)

    said = re.findall(r"Pneumonia: \w+, probability (\d+) %", written.getvalue())
    assert len(said) == 2, written.getvalue()
    assert len(set(said)) == 1


@every
def test_the_site_of_its_demo_has_a_rule_that_fits_it(name: str, tmp_path: Path) -> None:
    manifest = open_model(name).manifest
    file = tmp_path / "wetread.toml"
    file.write_text(
        settings_of(tmp_path, node_port=11113, archive_port=11114, profile="ohif", rule=rule_for(manifest))
    )
    (rule,) = load_site(file).rules

    assert rule.model == name
    assert rule.deliver_to == ("archive",)
    assert misfit(rule, manifest) is None


def test_there_is_no_demo_of_a_model_that_came_from_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(NoDemo, match="no demo of 'bright': the models that come with Wetread are "):
        demo(None, tmp_path / "kept", console()[0], model="bright")
    assert not (tmp_path / "kept").exists()


def test_that_is_a_fault_of_who_asks() -> None:
    assert issubclass(NoDemo, SiteError)
