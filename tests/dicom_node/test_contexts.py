from pynetdicom import AllStoragePresentationContexts, StoragePresentationContexts
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.contexts import (
    COMMITMENT,
    TRANSFER_SYNTAXES,
    storage_sop_classes,
    supported_contexts,
    transfer_syntax,
)

DEFLATED, BIG_ENDIAN, MPEG2 = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.100"


def test_point_49_the_kinds_that_a_worker_may_need_can_be_stored() -> None:
    prefix = "1.2.840.10008.5.1.4.1.1."
    for kind in (
        "2",
        "2.1",
        "2.2",
        "4",
        "4.1",
        "1",
        "1.1",
        "1.2",
        "6.1",
        "77.1.5.1",
        "128",
        "20",
        "12.1",
        "7",
    ):
        assert prefix + kind in storage_sop_classes()
    for kind in ("66.4", "66.7", "88.34", "30", "11.1", "88.59", "104.1", "481.3", "77.1.6"):
        assert prefix + kind in storage_sop_classes()


def test_point_49_all_storage_of_pynetdicom_is_accepted_but_video() -> None:
    """`StoragePresentationContexts`, cut to what one association can propose, lacks the label map."""
    every = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    video = {uid for uid in every if uid.startswith("1.2.840.10008.5.1.4.1.1.77.1.") and uid.count(".") == 12}
    assert set(storage_sop_classes()) >= every - video
    some = {str(context.abstract_syntax) for context in StoragePresentationContexts}
    assert "1.2.840.10008.5.1.4.1.1.66.7" in set(storage_sop_classes()) - some


def test_video_deflate_and_big_endian_stay_outside() -> None:
    assert transfer_syntax(DEFLATED) is transfer_syntax(BIG_ENDIAN) is transfer_syntax(MPEG2) is None
    assert "1.2.840.10008.5.1.4.1.1.77.1.1.1" not in storage_sop_classes()


def test_every_class_is_served_by_the_storage_service_in_every_transfer_syntax() -> None:
    _, *storage, commitment = supported_contexts()
    assert len(storage) == len(storage_sop_classes())
    assert (str(commitment.abstract_syntax), commitment.scu_role, commitment.scp_role) == (
        COMMITMENT,
        True,
        True,
    )
    for context in storage:
        assert uid_to_service_class(context.abstract_syntax) is StorageServiceClass
        assert len(context.transfer_syntax) == len(TRANSFER_SYNTAXES)
