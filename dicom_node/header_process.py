"""`python -m dicom_node.header_process`: reads long headers for the node, with limits; see `long_headers`."""

import json
import mmap
from collections.abc import Mapping
from typing import Any

from dicom_node.headers import HeaderUnreadable, MoreNeeded, UnsafeDataSet, read_headers
from dicom_node.limited_process import serve
from dicom_node.limits import DataSetSettings
from ledger.identifiers import Uid


def answer(order: Mapping[str, Any], descriptor: int | None) -> tuple[Mapping[str, Any], bytes]:
    """The headers of the data set in the open file; why not, where it has none."""
    assert descriptor is not None
    shape = DataSetSettings.model_validate(order["shape"])
    # Not closed by hand: it is unmapped with the last view of it, which an error on its way may hold.
    view = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
    try:
        headers = read_headers(view[order["offset"] :], Uid.parse(order["syntax"]), shape=shape)
    except UnsafeDataSet as error:
        return {"unsafe": str(error)}, b""
    except (HeaderUnreadable, MoreNeeded) as error:
        return {"unreadable": str(error)}, b""
    return {}, json.dumps(dict(headers)).encode()


if __name__ == "__main__":
    serve(answer)
