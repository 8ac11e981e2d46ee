"""A model that is asked by hand: what fits becomes jobs, what does not is said before any is opened."""

from dataclasses import replace

import pytest

from console.asked import NotADestination, NotForThisSeries, fitting_jobs, jobs_by_hand
from console.settings import load_site
from dicom_node.series_facts import facts_of
from ledger.channel import Channel
from ledger.identifiers import SeriesId, Uid
from ledger.store.database import NotInLedger
from models.manifest import Input, Manifest
from models.registry import UnknownModel
from tests.console.conftest import FilledSite
from tests.ledger.site import receive, slice_of


def model(given: str = "volume", *inputs: Input) -> Manifest:
    return Manifest(
        name="m", version="1", title="M", licence="Apache-2.0", intended_use="tests", limits=("none",),
        given=given, inputs=inputs or (Input(modality=("CT",)),), time_limit_s=60, memory_mib=1,
    )  # fmt: skip


@pytest.fixture
def series(site: FilledSite):
    study_id = site.ledger.record_arrivals([
        slice_of("1.2.3", n, ImagePositionPatient=f"0\\0\\{n}", ImageOrientationPatient="1\\0\\0\\0\\1\\0")
        for n in (1, 2, 3)
    ])[0].study_id  # fmt: skip
    return site.ledger.series_of(study_id)[0]


def asked(series, manifest: Manifest, *, to: tuple[str, ...] = (), channels=None, **facts):
    return fitting_jobs(replace(facts_of(series), **facts), manifest, "m", to, channels or {})


def test_a_series_that_fits_is_one_job_on_all_of_it(series) -> None:
    (job,) = asked(series, model(), to=("PACS",))
    assert (job.rule, job.model, job.destinations, job.shadow) == ("by hand: m", "m", ("PACS",), False)
    assert job.inputs == tuple(one.id for one in series.instances)


def test_the_name_means_the_version_that_the_site_promoted_and_no_shadow_runs_beside_it(series) -> None:
    channel = Channel(name="m", active="3", shadow="4", changed_at=0.0, changed_by="ann")
    assert [job.model for job in asked(series, model(), channels={"m": channel})] == ["m@3"]


def test_what_came_as_an_earlier_examination_may_be_asked_about(series) -> None:
    assert len(asked(series, model(), prior_of=Uid("1.2.9"))) == 1


@pytest.mark.parametrize(
    ("manifest", "facts", "because"),
    [
        (
            model("volume", Input(modality=("MR", "PT"))),
            {},
            "m@1 is made for MR or PT, and this series is CT",
        ),
        (model("timeline"), {}, "is given earlier examinations as well: only a rule can ask for it"),
        (
            model("series", Input(name="a", modality=("CT",)), Input(name="b", modality=("CT",))),
            {},
            "is given several series at once",
        ),
        (model(), {"ours": True}, "cannot be asked about this series"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_opened(series, manifest, facts, because) -> None:
    with pytest.raises(NotForThisSeries, match=because):
        asked(series, manifest, **facts)


def test_a_model_series_or_destination_that_is_not_there_is_named(site: FilledSite, tmp_path) -> None:
    settings = load_site(None, tmp_path / "data")
    study_id = receive(site.ledger, "1.2.3")
    (series,) = site.ledger.series_of(study_id)
    with pytest.raises(UnknownModel, match="there is no model 'nothing' here"):
        jobs_by_hand(settings, site.ledger, study_id, series.id, model="nothing")
    with pytest.raises(NotInLedger, match="has no series 99"):
        jobs_by_hand(settings, site.ledger, study_id, SeriesId(99), model="lung_ct")
    with pytest.raises(NotADestination, match=r"PACS is no .*results can go to: none"):
        jobs_by_hand(settings, site.ledger, study_id, series.id, model="lung_ct", destinations=("PACS",))
