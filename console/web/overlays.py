"""Small pictures of segmentations on their images, drawn when somebody looks, and kept in memory only.

On a disk they would outlive the study that they show.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from dicom_node.limited import AllReading, Limited, ReaderDied
from dicom_node.spool import Spool
from ledger.job import JobInput
from ledger.result import ResultRecord

_KEPT = 64  # About 100 KB each.
_LIMIT_S = 60.0
_BYTES_MAX = 6 << 30  # A thorax of 1000 slices is drawn from 64-bit numbers.
_IMAGES_MAX = 3000


class Overlays:
    """Draws one at a time, for whoever asks from any thread."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._drawing = Limited("console.web.drawing", processes=1, limit_s=_LIMIT_S, bytes_max=_BYTES_MAX)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def picture(self, result: ResultRecord, inputs: Sequence[JobInput]) -> bytes | None:
        """The picture of a segmentation on the images that it was made from, as PNG. None: its files are
        gone, they are no images of one place, or drawing them takes too long.
        """
        name = f"{result.id} {result.digest}"
        images = [str(self._spool.absolute(one.path)) for one in inputs]
        segmentation = self._spool.absolute(result.path)
        if not images or len(images) > _IMAGES_MAX or not segmentation.exists():
            return None
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        try:
            told, drawn = self._drawing.ask(
                {"do": "overlay", "images": images, "segmentation": str(segmentation)}
            )
        except (AllReading, ReaderDied):
            return None
        if "unfit" in told:
            return None
        with self._lock:
            self._kept[name] = drawn
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return drawn

    def close(self) -> None:
        """End the process that draws."""
        self._drawing.close()
