"""Our own client at our own server: what one Wetread gives, another one takes."""

from pathlib import Path

from pydicom.uid import CTImageStorage

from dicom_node.counts import CountedBy, SeriesCounts, StudyCount
from dicom_node.peers import PeerSettings
from dicom_node.priors import PatientFacts
from dicom_node.send import Answer, AnswerKind, Objection
from dicom_node.send_web import send_web
from dicom_node.web_query import (
    count_series,
    count_study,
    echo_web,
    find_instance,
    list_study,
    studies_of_patient,
)
from ledger.identifiers import Uid
from tests.dicom_node.dicomweb.conftest import Web
from tests.dicom_node.objects import write_instance
from tests.patience import patient

STUDY, SERIES = Uid("1.2.826.0.1.3680043.8.498.1"), Uid("1.2.826.0.1.3680043.8.498.2")


def test_what_was_stored_is_counted_and_found(web: Web, tmp_path: Path) -> None:
    us = PeerSettings.model_validate({"name": "us", "web": {"url": web.url}})
    files = [write_instance(tmp_path, sop_instance=f"{SERIES}.{n}") for n in range(3)]
    assert count_study(us, study=STUDY, deadline_s=patient(10)) is None
    for file in files:
        assert send_web(file, us, deadline_s=patient(10)) == Answer(0, AnswerKind.ACCEPTED, "stored")
    assert count_study(us, study=STUDY, deadline_s=patient(10)) == StudyCount(3, CountedBy.STUDY)
    assert count_series(us, study=STUDY, deadline_s=patient(10)) == SeriesCounts(
        {SERIES: 3}, CountedBy.SERIES
    )
    for number, there in ((1, True), (9, False)):
        wanted = Uid(f"{SERIES}.{number}")
        found = find_instance(us, study=STUDY, series=SERIES, sop_instance=wanted, deadline_s=patient(10))
        assert found is there
    assert echo_web(us).reached
    listing = list_study(us, study=STUDY, deadline_s=patient(10))
    assert listing.instances == {Uid(f"{SERIES}.{n}") for n in range(3)}
    assert [str(one) for one in listing.sop_classes] == [CTImageStorage]
    known = PatientFacts(patient_id="PHANTOM", issuer="", born="", name="")
    (found,) = studies_of_patient(us, patient=known, deadline_s=patient(10))
    assert (found.study, found.on, found.modalities) == (STUDY, "20200101", {"CT"})
    assert found.patient.name == "Phantom^Chest"


def test_what_is_not_taken_is_refused_with_the_reason(web: Web, tmp_path: Path) -> None:
    us = PeerSettings.model_validate({"name": "us", "web": {"url": web.url}})
    unknown = write_instance(tmp_path, sop_class="1.2.3.4.5")
    answer = send_web(unknown, us, deadline_s=patient(10))
    assert (answer.kind, answer.objects_to) == (AnswerKind.REFUSED, Objection.SOP_CLASS)
