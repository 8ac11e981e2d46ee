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


@pytest.mark.parametrize("fragment_bytes", [16376, 131_066])
def test_a_large_data_set_leaves_in_blocks_of_whole_pdus(fragment_bytes: int) -> None:
    size = 3_500_000
    given = io.BytesIO(bytes(size))
    sizes = [len(each) for each in blocks(1, b"c" * 100, given, size, fragment_bytes=fragment_bytes)]
    assert sum(sizes) == 112 + size + 12 * -(-size // fragment_bytes)
    assert max(sizes) <= 131_078
    assert len(sizes) in (28, 31)


def test_a_file_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(OSError, match="became shorter"):
        list(blocks(1, b"c", io.BytesIO(b"1234"), 5, fragment_bytes=10))
