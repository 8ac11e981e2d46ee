"""Parent and child understand each other, whatever pieces a pipe gives."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.job import Outcome
from ledger.result import Role
from worker.exchange import (
    LONGEST_FRAME_BYTES,
    BrokenFrame,
    Done,
    Entered,
    Failed,
    Finding,
    Inbox,
    Ready,
    ResultFile,
    RunReply,
    RunRequest,
    frame,
    read_request,
)

DONE = Done(
    reply=RunReply(
        outcome=Outcome.FOUND,
        model_identity="lung_ct@1.0.0",
        files=(
            ResultFile(
                role=Role.REPORT,
                path="/spool/work/1-1/report.dcm",
                sop_class="1.2.840.10008.5.1.4.1.1.88.34",
                sop_instance="2.25.1",
                study="2.25.2",
                series="2.25.3",
                transfer_syntax="1.2.840.10008.1.2.1",
            ),
        ),
        timings={"load": 0.25},
        findings=(Finding(label="Left lung", name="Volume", value=2512.5, unit="ml"),),
    )
)
MESSAGES = [
    Ready(),
    Entered(stage="model", limit_s=60.0),
    Entered(stage="load"),
    Failed(fault="model", error="CheckFailed", because="the left lung lies on the right"),
    DONE,
]


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.integers(1, 40))
def test_messages_arrive_whole_and_in_order_however_the_pipe_cuts_them(messages, piece):
    inbox, got = Inbox(), []
    stream = b"".join(frame(message) for message in messages)
    for start in range(0, len(stream), piece):
        inbox.feed(stream[start : start + piece])
        while (message := inbox.take()) is not None:
            got.append(message)
    assert got == messages


def test_a_request_is_read_back_as_it_was_made():
    request = RunRequest(
        model="lung_ct", settings={"quality": "strict", "n": 3}, inputs=("/a", "/b"), out="/out", at=1.5
    )
    assert read_request(io.BytesIO(frame(request))) == request


@pytest.mark.parametrize("cut", [0, 3, 4, 20])
def test_a_parent_that_is_gone_is_the_end_and_no_error(cut):
    request = RunRequest(model="lung_ct", inputs=("/a",), out="/out", at=0.0)
    assert read_request(io.BytesIO(frame(request)[:cut])) is None


def test_a_length_that_lies_is_refused_before_anything_is_kept():
    inbox = Inbox()
    inbox.feed(struct.pack(">I", LONGEST_FRAME_BYTES + 1))
    with pytest.raises(BrokenFrame, match="announces"):
        inbox.take()
    with pytest.raises(BrokenFrame):
        read_request(io.BytesIO(b"\xff\xff\xff\xff"))


def test_what_is_no_message_is_refused_without_being_quoted():
    inbox = Inbox()
    body = b'{"kind": "done", "name": "ZZPHI^CANARY"}'
    inbox.feed(struct.pack(">I", len(body)) + body)
    with pytest.raises(BrokenFrame) as refused:
        inbox.take()
    assert "CANARY" not in str(refused.value)
