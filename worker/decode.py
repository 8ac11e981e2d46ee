"""Compressed pixel data, decoded in processes of their own.

Every codec is a C library fed with bytes from outside, and none of them lets go of Python's interpreter lock
while it works. So frames are decoded by short-lived processes, one per core, that share nothing with this one
but the memory they write to: they start with an empty environment, limit their own memory and time, and when
one crashes the study is refused and the worker lives on. `python -m worker.decode` is such a process; nobody
starts it by hand.

Who decodes what is said in `dicom_node.codecs`.
"""

import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from dicom_node.codecs import PLUGINS, is_lossy_12_bit
from ledger.errors import SiteError
from worker.defects import CannotDecode, UnsafeInput
from worker.pixels import PixelFormat


class DecoderKilled(SiteError):
    """A decoding process was killed from outside, perhaps for its memory. The images are not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedFile:
    """The compressed frames of one file, and which slice of the volume each wanted one becomes."""

    path: str
    name: str  #: what a sentence calls it
    offset: int  #: of the Basic Offset Table's item
    transfer_syntax: str
    format: PixelFormat
    wanted: tuple[tuple[int, int], ...]  #: (frame from 0, slice from 0), by frame
    offset_tables: tuple[str, str] | None = None  #: Extended Offset Table and Lengths, as hexadecimal


def check_decodable(transfer_syntax: str, format: PixelFormat, name: str) -> None:
    """Raise `CannotDecode` for what nothing here reads."""
    if transfer_syntax not in PLUGINS:
        raise CannotDecode(
            f"{name} is in the transfer syntax {uid.UID(transfer_syntax).name}, which is not read here."
        )
    if is_lossy_12_bit(transfer_syntax, format.bits_stored):
        raise CannotDecode(f"{name} is lossy 12-bit JPEG (Extended, Process 2 & 4), which is not read here.")


def decode(
    files: Sequence[EncodedFile],
    shape: tuple[int, ...],
    stored: np.dtype[Any],
    *,
    processes: int,
    limit_s: float,
) -> NDArray[Any]:
    """The stored values of all wanted frames: (slice, row, column) of dtype `stored`.

    Of colour: (slice, row, column, 3) in RGB, whatever colour space they were stored in.

    Raises `CannotDecode`, `UnsafeInput` and `DecoderKilled`. `limit_s` is processor time, for each process.
    """
    size = int(np.prod(shape, dtype=np.int64)) * stored.itemsize
    with _shared_file(size) as shared:
        memory = mmap.mmap(shared.fileno(), size)
        target = {
            "descriptor": shared.fileno(),
            "size": size,
            "shape": shape,
            "stored": stored.str,
            "limit_s": limit_s,
        }
        _run(files, shared.fileno(), target, processes=processes, limit_s=limit_s)
    return np.frombuffer(memory, dtype=stored).reshape(shape)


def _shared_file(size: int) -> IO[bytes]:
    """Memory with a file descriptor; on systems without such a thing, a file without a name."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("frames"), "r+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by the caller
    file.truncate(size)
    return file


def _run(
    files: Sequence[EncodedFile],
    descriptor: int,
    target: Mapping[str, Any],
    *,
    processes: int,
    limit_s: float,
) -> None:
    frames = [(file, pair) for file in files for pair in file.wanted]
    processes = max(1, min(processes, len(frames)))
    started: list[subprocess.Popen[bytes]] = []
    orders: list[bytes] = []
    try:
        for n in range(processes):
            share = frames[n * len(frames) // processes : (n + 1) * len(frames) // processes]
            orders.append(_order(share, target))
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "worker.decode"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(descriptor,),
                    # Nothing of ours: no credentials, no settings. Only where the code is.
                    env={
                        "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path),
                        "OMP_NUM_THREADS": "1",
                    },
                )
            )
        for process, order in zip(started, orders, strict=True):
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # It died already; `_await` says so.
                process.stdin.write(order)
                process.stdin.close()
            process.stdin = None  # communicate() below would flush it once more
        for process in started:
            _await(process, limit_s)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _order(share: Sequence[tuple[EncodedFile, tuple[int, int]]], target: Mapping[str, Any]) -> bytes:
    by_file: dict[str, dict[str, Any]] = {}
    for file, pair in share:
        entry = by_file.setdefault(file.path, {**asdict(file), "wanted": []})
        entry["wanted"].append(pair)
    return json.dumps({**target, "files": list(by_file.values())}).encode()


def _await(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Let one process finish and look at its last line. Raises what it reports."""
    output, _ = process.communicate()
    lines = output.decode(errors="replace").splitlines()
    if process.returncode == 0 and lines and lines[-1] == "done":
        return
    if lines and lines[-1].startswith("{"):
        error = json.loads(lines[-1])
        raise {"UnsafeInput": UnsafeInput, "CannotDecode": CannotDecode}[error["kind"]](error["because"])
    last = lines[-1] if lines else "the first image"
    if process.returncode == -signal.SIGKILL:
        raise DecoderKilled(f"A decoding process was killed on {last}: is there enough memory?")
    if process.returncode == -signal.SIGXCPU:
        raise UnsafeInput(f"The images take more than {limit_s:.0f} s of processor time to decode ({last}).")
    raise CannotDecode(f"The decoder died on {last} (exit status {process.returncode}).")


#: SOF0 to SOF15 without DHT, JPG and DAC, and SOF55 of JPEG-LS (ISO 10918-1 §B.1, ISO 14495-1 §C.1).
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_START_OF_SCAN = 0xDA


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None if it is none of these.

    Decoders allocate what the codestream says, not what the DICOM header says, so this is looked at first.
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:  # SOC, SIZ (ISO 15444-1 §A.5.1)
        width, height, left, top = struct.unpack_from(">4L", frame, 8)
        return height - top, width - left
    if (
        frame[:12] == b"\0\0\0\x0cjP  \r\n\x87\n"
    ):  # JP2 boxes around it: not allowed in DICOM, seen all the same
        start = frame.find(b"\xff\x4f\xff\x51")
        return codestream_size(frame[start : start + 24]) if start > 0 else None
    if frame[:2] != b"\xff\xd8":
        return None
    for marker, position in _segments(frame):
        if marker in _FRAME_HEADERS and position + 7 <= len(frame):
            rows, columns = struct.unpack_from(">HH", frame, position + 3)
            return rows, columns
    return None


def _segments(frame: bytes) -> Iterator[tuple[int, int]]:
    """The markers of a JPEG or JPEG-LS codestream up to its first scan (ISO 10918-1 §B.1.1), and where what
    follows each begins.
    """
    position = 2
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        yield marker, position + 2
        if marker == _START_OF_SCAN:
            return
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]


def _has_scan(frame: bytes) -> bool:
    """Whether there is an image behind the headers: GDCM makes one up where there is none."""
    if frame[:2] != b"\xff\xd8":
        return True  # JPEG 2000, whose decoder looks for itself
    return any(marker == _START_OF_SCAN for marker, _ in _segments(frame))


def _check_codestream(frame: bytes, format: PixelFormat, transfer_syntax: str, name: str) -> None:
    if transfer_syntax == uid.RLELossless:  # Its size is the header's; two bytes never become more than 128.
        return
    size = codestream_size(frame)
    if size is None:
        raise CannotDecode(f"{name} holds no {uid.UID(transfer_syntax).name} codestream.")
    if size != (format.rows, format.columns):
        raise UnsafeInput(
            f"The codestream of {name} is {size[0]} × {size[1]} pixels, "
            f"its header says {format.rows} × {format.columns}."
        )
    if not _has_scan(frame):
        raise CannotDecode(f"The codestream of {name} ends before its image begins.")


def _decode_file(file: EncodedFile, volume: NDArray[Any]) -> None:
    name, format, wanted = file.name, file.format, dict(file.wanted)
    tables = None
    if file.offset_tables is not None:
        tables = (bytes.fromhex(file.offset_tables[0]), bytes.fromhex(file.offset_tables[1]))
    decoder = get_decoder(uid.UID(file.transfer_syntax))
    options: dict[str, Any] = {
        "transfer_syntax_uid": uid.UID(file.transfer_syntax),
        "rows": format.rows,
        "columns": format.columns,
        "number_of_frames": 1,
        "samples_per_pixel": format.samples,
        "planar_configuration": format.planar,
        "bits_allocated": format.bits_allocated,
        "bits_stored": format.bits_stored,
        "pixel_representation": int(format.signed),
        "photometric_interpretation": format.photometric,
        "pixel_keyword": "PixelData",
    }
    with Path(file.path).open("rb") as opened:
        opened.seek(file.offset)
        frames = generate_frames(opened, number_of_frames=format.frames, extended_offsets=tables)
        left = len(wanted)
        for number, frame in enumerate(frames):
            if number not in wanted:
                continue
            # Said before it is tried, so that a crash has a name; and the end of whoever listens is noticed.
            sys.stdout.write(f"{name}, frame {number + 1}\n")
            sys.stdout.flush()
            _check_codestream(frame, format, file.transfer_syntax, name)
            item = struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame)) + frame
            # Not raw: colour differences become RGB. Grey stays what it is.
            array, _ = decoder.as_array(
                item,
                raw=format.samples == 1,
                decoding_plugin=PLUGINS[file.transfer_syntax],
                **options,
            )
            volume[wanted[number]] = array
            left -= 1
            if not left:
                return
    raise CannotDecode(f"{name} holds fewer frames than the {format.frames} that it claims.")


def _limit(size: int, limit_s: float) -> None:
    """Bound this process: its address space and its processor time."""
    # What it maps, libraries and interpreter (about 600 MiB of addresses), and room for one frame's decoder.
    room = size + (4 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    seconds = int(limit_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    """Decode what the order on standard input asks for, into the memory that it names."""
    order = json.load(sys.stdin)
    _limit(order["size"], order["limit_s"])
    memory = mmap.mmap(order["descriptor"], order["size"])
    volume = np.frombuffer(memory, dtype=order["stored"]).reshape(order["shape"])
    for fields in order["files"]:
        tables = fields.pop("offset_tables")
        file = EncodedFile(
            **{
                **fields,
                "format": PixelFormat(**fields["format"]),
                "wanted": tuple(map(tuple, fields["wanted"])),
            },
            offset_tables=None if tables is None else tuple(tables),
        )
        try:
            _decode_file(file, volume)
        except (CannotDecode, UnsafeInput) as error:
            _report(type(error).__name__, str(error))
            return 1
        except MemoryError:
            _report("UnsafeInput", f"{file.name} needs more memory to decode than any image should.")
            return 1
        except Exception as error:  # codecs and parsers raise anything at all over damaged bytes
            _report("CannotDecode", f"{file.name} cannot be decoded: {error}")
            return 1
    sys.stdout.write("done\n")
    return 0


def _report(kind: str, because: str) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "because": " ".join(because.split())[:400]}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
