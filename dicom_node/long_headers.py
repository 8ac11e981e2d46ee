"""Headers of more than 64 KiB, read where it cannot hurt.

Nearly every instance is filed by what its first 64 KiB say, which are in memory. The headers of an enhanced
multi-frame image are longer; to read them the file has to be mapped, and counting their items takes time, so
both happen in a process with limits, while the node goes on receiving.
"""

import json

from dicom_node.headers import Headers, HeaderUnreadable, UnsafeDataSet
from dicom_node.limited import Limited, ReaderDied
from dicom_node.limits import DataSetSettings
from ledger.identifiers import Uid


class LongHeaders:
    """Reads headers in other processes. Safe to use from many threads."""

    def __init__(self, shape: DataSetSettings) -> None:
        self.shape = shape
        self._readers = Limited(
            "dicom_node.header_process",
            processes=shape.header_processes,
            limit_s=shape.header_s,
            bytes_max=shape.header_bytes_max,
        )

    def read(self, descriptor: int, offset: int, syntax: Uid) -> Headers:
        """The headers of the data set that begins at `offset` of an open file.

        Raises `HeaderUnreadable`, `UnsafeDataSet` also where the process dies of it, and `AllReading`.
        """
        order = {
            "do": "headers",
            "offset": offset,
            "syntax": str(syntax),
            "shape": self.shape.model_dump(mode="json"),
        }
        try:
            told, headers = self._readers.ask(order, descriptor)
        except ReaderDied as error:
            raise UnsafeDataSet("its headers take more time or memory to read than any should") from error
        if unsafe := told.get("unsafe"):
            raise UnsafeDataSet(str(unsafe))
        if unreadable := told.get("unreadable"):
            raise HeaderUnreadable(str(unreadable))
        return {str(keyword): str(text) for keyword, text in json.loads(headers).items()}

    def close(self) -> None:
        """End the processes."""
        self._readers.close()
