"""What a task manager lists: read as it was meant, or refused in a sentence, and soon."""

import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.upper_layer import PeerConfused
from dicom_node.workitem_messages import Listed, listed
from ledger.identifiers import Uid
from tests.patience import patient

STUDY = "1.2.826.0.1.3680043.8.498.1"


def match(studies: tuple[str, ...] = (STUDY,)) -> Dataset:
    found, code = Dataset(), Dataset()
    found.SOPInstanceUID = "2.25.7"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "nodules", "99SITE", "Find nodules"
    found.ScheduledWorkitemCodeSequence = [code]
    found.InputInformationSequence = []
    for study in studies:
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSOPSequence = [Dataset()]
        found.InputInformationSequence.append(item)
    return found


def encoded(dataset: Dataset) -> bytes:
    data = encode(dataset, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    return data


def test_a_match_names_its_work_and_its_study() -> None:
    assert listed(encoded(match((STUDY, STUDY)))) == Listed(Uid("2.25.7"), Uid(STUDY), "nodules^99SITE")


@pytest.mark.parametrize("studies", [(), (STUDY, "1.2.3"), (STUDY, "")], ids=["none", "two", "one of two"])
def test_a_match_that_does_not_name_one_study_is_refused(studies: tuple[str, ...]) -> None:
    with pytest.raises(PeerConfused, match="not one study"):
        listed(encoded(match(studies)))


@pytest.mark.fault
@pytest.mark.parametrize("sequence", [0x4018, 0x4021, 0x4047])
def test_a_match_of_a_hundred_thousand_empty_items_is_refused_soon(sequence: int) -> None:
    bomb = struct.pack("<HHI", 0x0040, sequence, 0xFFFFFFFF)
    bomb += struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 131_000
    began = time.monotonic()
    with pytest.raises(PeerConfused, match="more than 100000 sequence items"):
        listed(bomb)
    assert time.monotonic() - began < patient(2)


@given(st.binary(max_size=100), st.integers(0, 300))
def test_any_bytes_are_a_match_or_a_sentence(noise: bytes, at: int) -> None:
    good = encoded(match())
    for data in (noise, good[:at] + noise + good[at + len(noise) :], good[:at]):
        with suppress(PeerConfused):
            assert isinstance(listed(data), Listed)
