"""Any plane comes back from its run-length code, by a decoder that is not ours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.rle import _rle_decode_frame

from results.run_length import encapsulated, encoded


def decoded(data: bytes, like: np.ndarray) -> np.ndarray:
    rows, columns = like.shape
    pixels = _rle_decode_frame(data, rows, columns, 1, 8 * like.itemsize)
    return np.frombuffer(bytes(pixels), like.dtype.newbyteorder("<")).reshape(like.shape)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 6),
    columns=st.one_of(st.integers(1, 9), st.sampled_from([127, 128, 129, 130, 255, 256, 257, 300])),
    seed=st.integers(0, 2**32 - 1),
    repeated=st.sampled_from([1, 2, 3, 40]),
    filled=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    wide=st.booleans(),
)
def test_any_plane_comes_back(
    *, rows: int, columns: int, seed: int, repeated: int, filled: float, wide: bool
) -> None:
    random = np.random.default_rng(seed)
    dtype = np.uint16 if wide else np.uint8
    values = random.integers(0, np.iinfo(dtype).max + 1, (rows, columns)) * (
        random.random((rows, columns)) < filled
    )
    plane = np.repeat(values, repeated, axis=1)[:, :columns].astype(dtype)
    data = encoded(plane)
    assert len(data) % 2 == 0
    assert np.array_equal(decoded(data, plane), plane)


@pytest.mark.parametrize("columns", [1, 128, 129, 1000])
def test_a_plane_of_one_value_is_a_few_bytes_a_row(columns: int) -> None:
    plane = np.full((10, columns), 7, np.uint8)
    assert len(encoded(plane)) <= 64 + 10 * 2 * -(-columns // 128) + 1


def test_noise_grows_by_less_than_a_byte_in_a_hundred_and_a_header() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 512)).astype(np.uint8)
    assert len(encoded(noise)) <= 64 + noise.size * 1.02


def test_frames_are_found_by_their_offsets() -> None:
    planes = [np.full((3, 5), value, np.uint8) for value in range(4)]
    frames = list(generate_frames(encapsulated(planes), number_of_frames=4))
    assert [decoded(frame, plane).tolist() for frame, plane in zip(frames, planes, strict=True)] == [
        plane.tolist() for plane in planes
    ]
