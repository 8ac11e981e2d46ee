"""Every destination gets what its profile says, a root of its own, and nothing that it cannot have."""

from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from ledger.delivery import DeliveryState
from ledger.profile import Profile
from ledger.result import Role
from results.in_place import LABEL_MAP_SEGMENTATION_STORAGE
from results.references import referenced_instances
from tests.results.everything import everything
from tests.results.pictured import pictured
from tests.results.series import source
from tests.worker.overtaken import Overtaken, overtaken
from tests.worker.test_instead import archive, because
from worker.encode import encode

SEG, SR_3D = str(SegmentationStorage), str(Comprehensive3DSRStorage)
LABEL_MAP = str(LABEL_MAP_SEGMENTATION_STORAGE)
AS_LABEL_MAP = {"segmentation": "labelmap", "without": ("marks", "parametric-map")}


def _report(site: Overtaken, held: list) -> pydicom.Dataset:
    """The one report of an archive."""
    (uid,) = [instance for sop_class, instance in held if sop_class == SR_3D]
    (job_id,) = site.jobs
    (result,) = [one for one in site.ledger.results_of(job_id) if str(one.sop_instance) == uid]
    return pydicom.dcmread(site.spool.absolute(result.path))


def _refers_to_nothing_else(site: Overtaken, held: list) -> None:
    images = {str(one.SOPInstanceUID) for one in source().datasets}
    report = _report(site, held)
    ours = {instance for _, instance in referenced_instances(report)} - images
    assert ours == {instance for sop_class, instance in held if sop_class != SR_3D}
    listed = {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert ours <= listed


def test_point_48_an_archive_that_refuses_label_maps_gets_binary_and_a_report_that_refers_to_it(
    tmp_path: Path,
) -> None:
    with archive(SEG, SR_3D, profile=AS_LABEL_MAP) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SEG, SR_3D]
        _refers_to_nothing_else(site, held)
        assert because(site, job_id, Role.SEGMENTATION) == (
            "it does not accept Label Map Segmentation Storage: its administrator has to allow that there; "
            "sent instead: a binary segmentation"
        )
        states = [one.state for one in site.ledger.deliveries_of(job_id)]
        assert sorted(states) == sorted([DeliveryState.DECLINED] * 2 + [DeliveryState.COMMITTED] * 2)
        assert sum(one.event == "declined" for one in site.ledger.history(job_id=job_id)) == 2


def test_36_two_archives_with_two_profiles_have_one_root_each_and_it_refers_to_what_lies_there(
    tmp_path: Path,
) -> None:
    with (
        archive(SEG, SR_3D, name="first") as (first, binary),
        archive(SEG, SR_3D, LABEL_MAP, name="second", profile=AS_LABEL_MAP) as (second, labels),
        overtaken(tmp_path, first, second) as site,
    ):
        site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in binary] == [SEG, SR_3D]
        assert [sop_class for sop_class, _ in labels] == [LABEL_MAP, SR_3D]
        _refers_to_nothing_else(site, binary)
        _refers_to_nothing_else(site, labels)
        assert _report(site, binary).SOPInstanceUID != _report(site, labels).SOPInstanceUID


def test_destinations_of_one_profile_share_every_object(tmp_path: Path) -> None:
    with (
        archive(SEG, SR_3D, name="first", profile="slicer") as (first, one),
        archive(SEG, SR_3D, name="second", profile="slicer") as (second, other),
        overtaken(tmp_path, first, second) as site,
    ):
        site.result()
        site.deliver()
        assert one == other
        assert len(site.ledger.results_of(site.jobs[0])) == 2


KEY_IMAGES, BLENDING = "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.5.1.4.1.1.11.8"


def _key_images(site: Overtaken, held: list) -> pydicom.Dataset:
    (uid,) = [instance for sop_class, instance in held if sop_class == KEY_IMAGES]
    results = site.ledger.results_of(site.jobs[0])
    (result,) = [one for one in results if str(one.sop_instance) == uid]
    return pydicom.dcmread(site.spool.absolute(result.path))


def _named_in(document: pydicom.Dataset) -> set[str]:
    """Every instance of ours that a document names, in its content, its evidence or anywhere else."""
    images = {str(one.SOPInstanceUID) for one in source().datasets}
    named = {str(e.value) for e in document.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    return named - images


def test_key_images_beside_a_refused_label_map_name_the_binary_one_and_the_report_names_those(
    tmp_path: Path,
) -> None:
    shows = {**AS_LABEL_MAP, "with": ("key images",)}
    with archive(SEG, SR_3D, KEY_IMAGES, profile=shows) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result(everything())
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SEG, KEY_IMAGES, SR_3D]
        (binary,) = [instance for sop_class, instance in held if sop_class == SEG]
        assert _named_in(_key_images(site, held)) == {binary}
        _refers_to_nothing_else(site, held)
        assert because(site, job_id, Role.KEY_IMAGES) == (
            "it refers to a segmentation that was refused; sent instead: the same, of what lies there"
        )


def test_without_maps_there_is_no_blending_and_key_images_do_not_list_them(tmp_path: Path) -> None:
    shows = {"without": ("marks",), "with": ("key images", "blending")}
    with (
        archive(SEG, SR_3D, KEY_IMAGES, BLENDING, profile=shows) as (there, held),
        overtaken(tmp_path, there) as site,
    ):
        job_id = site.result(everything())
        site.deliver()
        site.deliver()  # Each after the other: maps, blending, key images, these anew, the report.
        assert [sop_class for sop_class, _ in held] == [SEG, KEY_IMAGES, SR_3D]
        (segmentation,) = [instance for sop_class, instance in held if sop_class == SEG]
        assert _named_in(_key_images(site, held)) == {segmentation}
        assert because(site, job_id, Role.BLENDING).startswith(
            "it shows a parametric map that was refused; the rest goes without it"
        )
        assert because(site, job_id, Role.KEY_IMAGES) == (
            "it refers to a parametric map and blending that was refused; sent instead: the same without it"
        )
        said = [one.because for one in site.ledger.history(job_id=job_id)]
        assert "status 0x0000: stored; it names what was refused there: parametric map, blending" in said


def test_a_label_map_that_is_refused_in_either_form_is_named_in_the_report_as_what_was_made(
    tmp_path: Path,
) -> None:
    """The binary one was declined as well: to refer to it would be no better."""
    shows = {**AS_LABEL_MAP, "instead": {"segmentation": ("binary", "nothing")}}
    with archive(SR_3D, profile=shows) as (there, held), overtaken(tmp_path, there) as site:
        job_id = site.result()
        site.deliver()
        assert [sop_class for sop_class, _ in held] == [SR_3D]
        made = [one for one in site.ledger.results_of(job_id) if str(one.sop_class) == LABEL_MAP]
        assert _named_in(_report(site, held)) == {str(one.sop_instance) for one in made}
        said = [one.because for one in site.ledger.history(job_id=job_id)]
        assert "status 0x0000: stored; it names what was refused there: segmentation" in said


def test_two_profiles_that_differ_in_other_kinds_share_what_refers_to_the_same(tmp_path: Path) -> None:
    fewer = Profile(name="fewer", kinds=frozenset({Role.PARAMETRIC_MAP, Role.BLENDING, Role.REPORT}))
    more = replace(fewer, name="more", kinds=fewer.kinds | {Role.SEGMENTATION})
    asked = pictured("axial CT", profile=fewer)
    both = encode([asked, replace(asked, profile=more)], tmp_path)
    blendings = [[one for one in of_plan if one.role is Role.BLENDING] for of_plan in both]
    assert blendings[0] == blendings[1] != []
