"""What is done with foreign data sets where it cannot hurt: headers parsed whole, pixels decoded.

`python -m dicom_node.dicomweb.reader` is a process with limits (`limited_process`); `readers` starts it, with
an empty environment, and kills it when it takes too long. Codecs are C libraries, and pydicom can be kept
busy for minutes by a few megabytes of empty items; neither happens in the process that speaks with clients.
"""

import base64
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from dicom_node.codecs import PLUGINS, is_lossy_12_bit
from dicom_node.limited_process import serve

# Values of these VRs that are longer become bulk data (PS3.18 §F.2.2); text stays, as it has to be decoded.
_BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
BULK_BYTES = 1024
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_SPECIAL = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_FRAME_SAMPLES_MAXIMUM = 1 << 28
# A black frame may be compressed several thousand times, but a large one by that much is no image.
_LARGE_FRAME_BYTES, _INFLATION_MAXIMUM = 64 << 20, 2000


class Unfit(Exception):
    """The order cannot be done with this instance. The message quotes no value."""


def metadata(order: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The DICOM JSON models of the instances `order["of"]`, with commas between them.

    Each is a path and the URL of its bulk data. File Meta Information is no part of the model.
    """
    entries = (
        model(pydicom.dcmread(path, defer_size=BULK_BYTES), bulk_url) for path, bulk_url in order["of"]
    )
    return {}, b",".join(
        json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() for entry in entries
    )


def model(dataset: Dataset, bulk: str) -> dict[str, Any]:
    """PS3.18 Annex F; long binary values become `bulk` followed by the path to them."""
    entries: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        if tag.element == 0:  # Group lengths (retired) are about bytes, not about the instance.
            continue
        name, raw = f"{tag:08X}", dataset.get_item(tag)
        assert raw is not None
        # Looked at before it is decoded: long values have not been read yet, and need not be.
        if tag in _PIXELS or (
            isinstance(raw, RawDataElement) and raw.VR in _BULK_VRS and raw.length > BULK_BYTES
        ):
            entries[name] = {"vr": raw.VR or "OW", "BulkDataURI": f"{bulk}/{name}"}
            continue
        try:
            entries[name] = _modelled(dataset[tag], bulk, name)
        except Exception:  # One odd value must not hide all the others from a viewer: its bytes, as they are.
            value = raw.value if isinstance(raw, RawDataElement) else None
            entries[name] = {"vr": "UN", "InlineBinary": base64.b64encode(value or b"").decode()}
    return entries


def _modelled(element: DataElement, bulk: str, name: str) -> dict[str, Any]:
    if element.VR == "SQ":
        items = [model(item, f"{bulk}/{name}/{number}") for number, item in enumerate(element.value)]
        return {"vr": "SQ", "Value": items}
    if element.VR in _BULK_VRS and isinstance(element.value, bytes) and len(element.value) > BULK_BYTES:
        return {"vr": element.VR, "BulkDataURI": f"{bulk}/{name}"}
    entry: dict[str, Any] = element.to_json_dict(None, 1 << 62)
    if element.VR in ("FL", "FD", "DS") and "Value" in entry:
        # JSON has no such numbers; PS3.18 §F.2.3 writes them as text.
        entry["Value"] = [_SPECIAL.get(str(each).lower(), each) for each in entry["Value"]]
    return entry


def bulk(order: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The value at `order["steps"]`: tags and item numbers in turn, from the top level down."""
    dataset = pydicom.dcmread(order["path"], defer_size=BULK_BYTES)
    *way, tag = order["steps"]
    try:
        for sequence, number in zip(way[::2], way[1::2], strict=True):
            dataset = dataset[int(sequence, 16)].value[int(number)]
        element: DataElement = dataset[int(tag, 16)]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Unfit("missing") from error
    if not isinstance(element.value, bytes):
        raise Unfit("missing")
    return {}, element.value


def frame(order: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The frame `order["frame"]` (from 0), decoded to little endian; colour by pixel, and always RGB."""
    array, _ = _decoded(order["path"], order["frame"])
    return {}, np.ascontiguousarray(array).tobytes()


def instance(order: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The whole instance as a file of Part 10 in Explicit VR Little Endian."""
    dataset = pydicom.dcmread(order["path"])
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        dataset.decompress(decoding_plugin=_plugin(dataset), generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return {}, buffer.getvalue()


def picture(order: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """A frame as people see it: windowed, scaled to fit `order["fit"]`, as PNG or JPEG."""
    from PIL import Image  # noqa: PLC0415  Not every order needs it.

    array, dataset = _decoded(order["path"], order["frame"])
    shown = Image.fromarray(as_seen(dataset, array, order["window"]))
    if order["fit"]:
        width, height = order["fit"]
        scale = min(width / shown.width, height / shown.height)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        shown = shown.resize(size, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    if order["format"] == "image/png":
        shown.save(buffer, "PNG")
    else:
        shown.save(buffer, "JPEG", quality=order["quality"])
    return {}, buffer.getvalue()


def _plugin(dataset: Dataset) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in PLUGINS or is_lossy_12_bit(syntax, dataset.get("BitsStored")):
        raise Unfit("undecodable")
    return PLUGINS[syntax]


def _decoded(path: str, index: int) -> tuple[NDArray[Any], Dataset]:
    """One frame as (row, column) or (row, column, sample), colour as RGB; and what says how to show it."""
    dataset = pydicom.dcmread(path, defer_size=BULK_BYTES)
    if not any(tag in dataset for tag in _PIXELS):
        raise Unfit("missing")
    size = (
        int(dataset.get("Rows") or 0)
        * int(dataset.get("Columns") or 0)
        * int(dataset.get("SamplesPerPixel", 1))
    )
    frame_bytes = size * (int(dataset.get("BitsAllocated") or 8) // 8 or 1)
    inflated = (
        frame_bytes > _LARGE_FRAME_BYTES and frame_bytes > _INFLATION_MAXIMUM * Path(path).stat().st_size
    )
    if not 0 < size <= _FRAME_SAMPLES_MAXIMUM or inflated:
        raise Unfit("undecodable")
    if not 0 <= index < int(dataset.get("NumberOfFrames") or 1):
        raise Unfit("missing")
    plugin = _plugin(dataset) if dataset.file_meta.TransferSyntaxUID.is_encapsulated else ""
    return pixel_array(path, index=index, decoding_plugin=plugin), dataset


def as_seen(dataset: Dataset, array: NDArray[Any], window: Sequence[Any] | None) -> NDArray[np.uint8]:
    """8-bit grey or RGB: through the modality LUT, then `window` (centre, width, function), or the VOI LUT or
    first window of the data set, or from the darkest to the brightest.
    """
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(array, dataset)
        return (colours >> (8 if colours.dtype == np.uint16 else 0)).astype(np.uint8)
    if array.ndim == 3:
        return _to_bytes(array.astype(np.float64), 0.0, float(2 ** int(dataset.BitsStored) - 1))
    rescaled = apply_modality_lut(array, dataset)
    values = rescaled.astype(np.float64)
    if window is None and dataset.get("VOILUTSequence"):
        table = apply_voi_lut(rescaled, dataset, prefer_lut=True)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        seen = _to_bytes(table.astype(np.float64), 0.0, float(2**bits - 1))
    elif window is not None or dataset.get("WindowWidth"):
        if window is None:
            first = [_first(dataset.get(k)) for k in ("WindowCenter", "WindowWidth", "VOILUTFunction")]
            window = (float(first[0]), float(first[1]), str(first[2] or "LINEAR"))
        seen = _to_bytes(windowed(values, *window), 0.0, 1.0)
    else:
        seen = _to_bytes(values, float(values.min()), float(values.max()))
    return 255 - seen if photometric == "MONOCHROME1" else seen


def windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """`values` through a window, from 0 to 1 (PS3.3 §C.11.2.1.2 and §C.11.2.1.3)."""
    if function.upper() == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700, 700)))
    if function.upper() == "LINEAR":  # Of a width of w there are w - 1 steps.
        return (values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5
    return (values - centre) / width + 0.5


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, MutableSequence) else value


def _to_bytes(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    return np.clip((values - low) * (255.0 / max(high - low, 1e-9)), 0, 255).round().astype(np.uint8)


_ORDERS: Mapping[str, Callable[[Mapping[str, Any]], tuple[dict[str, Any], bytes]]] = {
    "metadata": metadata,
    "bulk": bulk,
    "frame": frame,
    "instance": instance,
    "picture": picture,
}


def answer(order: Mapping[str, Any], descriptor: int | None = None) -> tuple[dict[str, Any], bytes]:
    """What an order gives; {"unfit": why} where it cannot be done with this instance."""
    assert descriptor is None, "these orders name their file"
    try:
        return _ORDERS[order["do"]](order)
    except Unfit as error:
        return {"unfit": str(error)}, b""
    except MemoryError:
        return {"unfit": "too large"}, b""
    except Exception:  # Codecs and parsers raise anything at all over damaged bytes, and quote them.
        return {"unfit": "undecodable"}, b""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable()
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    serve(answer)
