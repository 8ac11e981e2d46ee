"""What was found, drawn onto the images that it was found on, where foreign data cannot hurt.

`python -m console.web.drawing` is a limited process (`dicom_node.limited_process`) that `overlays` starts.
"""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydicom

from dicom_node.limited_process import serve
from results.picture import CannotDraw, overlay


def answer(order: Mapping[str, Any], descriptor: int | None = None) -> tuple[dict[str, Any], bytes]:
    """The picture (PNG) of `order["segmentation"]` on `order["images"]`; {"unfit": why} if there is none."""
    assert descriptor is None, "these orders name their files"
    try:
        return {}, overlay([Path(path) for path in order["images"]], Path(order["segmentation"]))
    except CannotDraw:
        return {"unfit": "these images cannot be drawn"}, b""
    except MemoryError:
        return {"unfit": "these images take too much memory to be drawn"}, b""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    serve(answer)
