"""Compressed series equal their uncompressed twins, and a decoder that breaks takes nothing with it."""

import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLSNearLossless, RLELossless

from dicom_node.codecs import PLUGINS
from tests.patience import patient
from tests.peers.programs import find
from tests.worker.series import Series, noise
from worker.decode import DecoderKilled, EncodedFile, codestream_size, decode
from worker.defects import CannotDecode, UnsafeInput
from worker.load import load_series
from worker.pixels import PixelFormat

SHAPE = (5, 33, 40)

STORED = {
    "signed 16": (noise(SHAPE, low=-2000, high=3000), 16),
    "unsigned 16": (noise(SHAPE, np.uint16, high=65_536), 16),
    "unsigned 12": (noise(SHAPE, np.uint16, high=4096), 12),
    "unsigned 8": (noise(SHAPE, np.uint8, high=256), 8),
}


def plain_volume(tmp_path, series):
    return load_series(series.write(tmp_path / "plain")).volume


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_lossless_series_are_equal_to_the_last_voxel(tmp_path, syntax, kind):
    stored, bits = STORED[kind]
    series = Series(stored, bits_stored=bits)
    packed = series.write(
        tmp_path / "packed", lambda k, dataset: dataset.compress(syntax, generate_instance_uid=False)
    )
    plain = plain_volume(tmp_path, series)
    for cores in (1, 2):
        volume = load_series(packed, cores=cores).volume
        assert volume.array.dtype == plain.array.dtype
        np.testing.assert_array_equal(volume.array, plain.array)
        np.testing.assert_array_equal(volume.affine, plain.affine)


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["signed 16", "unsigned 16", "unsigned 12", "unsigned 8"])
@pytest.mark.parametrize("option", ["+e1", "+el"], ids=["JPEG Lossless SV1", "JPEG Lossless, Process 14"])
def test_dcmtks_lossless_jpeg_is_equal_to_the_last_voxel(tmp_path, option, kind):
    stored, bits = STORED[kind]
    series = Series(stored, bits_stored=bits)
    plain, packed = series.write(tmp_path / "plain"), []
    for path in plain:
        packed.append(tmp_path / f"packed{path.name}")
        subprocess.run(
            [find("dcmcjpeg"), option, path, packed[-1]], check=True, capture_output=True, timeout=patient(20)
        )
    np.testing.assert_array_equal(load_series(packed).volume.array, load_series(plain).volume.array)


@pytest.mark.peer
def test_dcmtks_eight_bit_lossy_jpeg_equals_an_independent_decoder(tmp_path):
    series = Series(noise(SHAPE, np.uint8, high=256), intercept=0.0, headers={"RescaleIntercept": 0})
    packed = []
    for path in series.write(tmp_path / "plain"):
        packed.append(tmp_path / f"packed{path.name}")
        subprocess.run(
            [find("dcmcjpeg"), "+eb", path, packed[-1]], check=True, capture_output=True, timeout=patient(20)
        )
    volume = load_series(packed).volume
    for k, path in enumerate(reversed(packed)):
        frame = next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
        expected = np.asarray(Image.open(io.BytesIO(frame)), dtype=np.float32)
        assert (
            np.abs(volume.array[k] - expected).max() <= 1
        )  # two inverse cosine transforms may round differently


@pytest.mark.parametrize(
    ("syntax", "options", "most"),
    [(JPEG2000, {"j2k_psnr": [80]}, 40), (JPEGLSNearLossless, {"jls_error": 3}, 3)],
    ids=["JPEG 2000", "JPEG-LS Near-Lossless"],
)
def test_lossy_series_stay_within_what_their_encoder_promised(tmp_path, syntax, options, most):
    series = Series(noise(SHAPE, np.uint16, high=4096), bits_stored=12)

    def compress(k, dataset):
        dataset.compress(syntax, generate_instance_uid=False, **options)

    difference = (
        load_series(series.write(tmp_path / "packed", compress)).volume.array
        - plain_volume(tmp_path, series).array
    )
    assert 0 < np.abs(difference).max() <= most


def test_a_frame_in_several_fragments_is_put_together(tmp_path):
    def split(k, dataset):
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        [frame] = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = pydicom.encaps.encapsulate([frame], fragments_per_frame=4)

    series = Series(noise(SHAPE))
    packed = load_series(series.write(tmp_path / "packed", split)).volume
    np.testing.assert_array_equal(packed.array, plain_volume(tmp_path, series).array)


def test_every_decoder_that_is_promised_is_installed():
    for syntax, plugin in PLUGINS.items():
        assert plugin in get_decoder(pydicom.uid.UID(syntax)).available_plugins, (syntax, plugin)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_codestreams_say_their_size(tmp_path, syntax):
    dataset = Series(noise(SHAPE)).dataset(0)
    dataset.compress(syntax)
    [frame] = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    assert codestream_size(frame) == (33, 40)
    for end in range(40):
        codestream_size(frame[:end])  # answers, whatever is missing
    assert codestream_size(b"no codestream at all") is None


FORMAT = PixelFormat(
    rows=512,
    columns=512,
    frames=1,
    bits_allocated=16,
    bits_stored=16,
    high_bit=15,
    signed=True,
    photometric="MONOCHROME2",
)


def many(tmp_path, count):
    """One good file, as often as asked for."""
    series = Series(noise((1, 512, 512)))
    [path] = series.write(tmp_path, lambda k, d: d.compress(JPEG2000Lossless, generate_instance_uid=False))
    offset = path.read_bytes().index(b"\xfe\xff\x00\xe0")
    return [
        EncodedFile(
            path=f"{tmp_path}/{'./' * k}000.dcm",
            name=f"image {k}",
            offset=offset,
            transfer_syntax=JPEG2000Lossless,
            format=FORMAT,
            wanted=((0, k),),
        )
        for k in range(count)
    ]


def test_decoding_that_takes_too_long_is_given_up(tmp_path):
    with pytest.raises(UnsafeInput, match="more than 0 s of processor time"):
        decode(many(tmp_path, 200), (200, 512, 512), np.dtype(np.int16), processes=1, limit_s=0.0)


def decoders_of_this_process() -> list[int]:
    me = str(os.getpid())
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", me], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "worker.decode" in line]


@pytest.mark.parametrize(
    ("by", "error", "says"),
    [
        (signal.SIGSEGV, CannotDecode, "The decoder died on"),
        (signal.SIGKILL, DecoderKilled, "A decoding process was killed on"),
    ],
)
def test_a_decoder_that_dies_refuses_the_study_and_not_the_worker(tmp_path, by, error, says):
    files = many(tmp_path, 300)
    with ThreadPoolExecutor(1) as pool:
        decoding = pool.submit(decode, files, (300, 512, 512), np.dtype(np.int16), processes=1, limit_s=60.0)
        deadline = time.monotonic() + patient(10)
        while not (found := decoders_of_this_process()) and time.monotonic() < deadline:
            pass
        os.kill(found[0], by)
        with pytest.raises(error, match=says):
            decoding.result(timeout=patient(20))
    assert not decoders_of_this_process()


def test_decoders_see_none_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WETREAD_SECRET", "x")
    seen = []
    started = subprocess.Popen

    def watch(*args, **kwargs):
        seen.append(kwargs["env"])
        return started(*args, **kwargs)

    monkeypatch.setattr("worker.decode.subprocess.Popen", watch)
    decode(many(tmp_path, 1), (1, 512, 512), np.dtype(np.int16), processes=1, limit_s=20.0)
    assert [sorted(env) for env in seen] == [["OMP_NUM_THREADS", "PYTHONPATH"]]


def test_decoding_needs_neither_torch_nor_highdicom():
    program = "import sys, worker.decode; print(sorted({'torch', 'highdicom', 'scipy'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
