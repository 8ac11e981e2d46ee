import io

import pydicom
import pytest

from dicom_node.part10 import FileMeta, NotOurFile, read_file_meta
from ledger.identifiers import AETitle, Uid
from tests.dicom_node.datasets import ct_slice, encoded

META = FileMeta(
    sop_class=Uid("1.2.840.10008.5.1.4.1.1.2"),
    sop_instance=Uid("1.2.3.45"),
    transfer_syntax=Uid("1.2.840.10008.1.2.1"),
    sending=AETitle("SCANNER"),
    receiving=AETitle("WETREAD"),
)


def test_what_is_written_is_read_back() -> None:
    header = META.encode()
    assert read_file_meta(header + b"data set") == (META, len(header))


def test_an_independent_reader_reads_the_file() -> None:
    ds = pydicom.dcmread(io.BytesIO(META.encode() + encoded(ct_slice())))
    assert ds.preamble == b"\0" * 128
    assert ds.file_meta.TransferSyntaxUID == str(META.transfer_syntax)
    assert ds.file_meta.SendingApplicationEntityTitle == "SCANNER"
    assert ds.file_meta.FileMetaInformationGroupLength == len(META.encode()) - 144
    assert ds.Modality == "CT"


@pytest.mark.parametrize("start", [b"", b"\0" * 132, META.encode()[:200], META.encode()[:-9]])
def test_other_files_are_not_taken_for_ours(start: bytes) -> None:
    with pytest.raises(NotOurFile):
        read_file_meta(start)
