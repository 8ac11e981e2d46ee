"""The processes that parse and decode foreign data for web clients, and what their answers mean to these."""

from collections.abc import Mapping
from typing import Any

from dicom_node.dicomweb.refusals import NotAcceptable, NotHere, NotNow
from dicom_node.limited import AllReading, Limited, ReaderDied


class Readers:
    """Safe to use from many threads: they wait for each other."""

    def __init__(self, *, processes: int, limit_s: float, bytes_max: int) -> None:
        self._limited = Limited(
            "dicom_node.dicomweb.reader", processes=processes, limit_s=limit_s, bytes_max=bytes_max
        )

    def ask(self, order: Mapping[str, Any]) -> bytes:
        """The bytes that `order` gives. Raises `NotAcceptable`, `NotHere`, `NotNow` (all are busy)."""
        try:
            told, data = self._limited.ask(order)
        except AllReading as error:
            raise NotNow("all decoders are busy: try again") from error
        except ReaderDied as error:
            raise NotAcceptable(str(error)) from error
        match told.get("unfit"):
            case None:
                return data
            case "missing":
                raise NotHere("the instance has nothing there")
            case "too large":
                raise NotAcceptable("this instance takes more memory to read than any should")
            case _:
                raise NotAcceptable("this instance cannot be read or decoded here")

    def close(self) -> None:
        """End all processes that are not at work; those end with their order, or with us."""
        self._limited.close()
