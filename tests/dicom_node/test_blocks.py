"""A message in blocks: whatever its size and the peer's limit, the same message comes out."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.blocks import blocks
from dicom_node.upper_layer import fragments_of


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=5000), st.integers(1, 600))
def test_the_fragments_are_the_message_and_none_is_too_long(
    command: bytes, data: bytes, fragment_bytes: int
) -> None:
    wire = b"".join(
        bytes(block)
        for block in blocks(3, command, io.BytesIO(data), len(data), fragment_bytes=fragment_bytes)
    )
    told = {True: b"", False: b""}
    ended = []
    while wire:
        length = int.from_bytes(wire[2:6], "big")
        [(context_id, of_command, last, part)] = fragments_of(wire[6 : 6 + length])
        assert context_id == 3
        assert 0 < len(part) <= fragment_bytes
        told[of_command] += part
        if last:
            ended.append(of_command)
        wire = wire[6 + length :]
    assert told == {True: command, False: data}
    assert ended == ([True, False] if data else [True])


def test_a_large_data_set_leaves_in_blocks_of_a_megabyte() -> None:
    size = 3_500_000
    sizes = [
        len(block) for block in blocks(1, b"c" * 100, io.BytesIO(bytes(size)), size, fragment_bytes=16376)
    ]
    assert len(sizes) == 4
    assert all((1 << 20) - 16388 < each <= 1 << 20 for each in sizes[:-1])


def test_a_file_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(OSError, match="became shorter"):
        list(blocks(1, b"c", io.BytesIO(b"1234"), 5, fragment_bytes=10))
