"""A study, a series or an instance as one ZIP file (PS3.18 §8.6.1.3, Supplement 211).

Some viewers open nothing else over the web: VolView lays a segmentation over its images only where it gets
both at once. Files are stored without compression, for images hardly shrink, and go out as they are read: no
file is in memory whole, and nothing is written to the disk.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator

ZIP = "application/zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The earliest that the format knows: when we sent it is nobody's business.


class _Sink(io.RawIOBase):
    """Takes what `zipfile` writes until it is fetched. It cannot seek, so lengths follow the files."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]  # any buffer
        self._pieces.append(piece)
        return len(piece)

    def fetch(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zipped(files: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """`files` are names in the archive, and their bytes piece by piece; what comes is the archive."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, pieces in files:
            entry = zipfile.ZipInfo(name, _EPOCH)
            # An instance may have more than 4 GiB, and how many it has is known only at its end.
            with archive.open(entry, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    yield sink.fetch()
    yield sink.fetch()
