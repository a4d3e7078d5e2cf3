# SPDX-License-Identifier: MIT
"""Framing: however a stream is cut into chunks, the same messages come out of it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.vfio_user import messages as wire
from emulator.vfio_user.framing import Framer, close_fds

PAYLOADS = st.lists(st.binary(max_size=60), max_size=12)


@given(payloads=PAYLOADS, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_any_cut_of_a_stream_gives_the_same_messages(payloads, cuts):
    stream = b"".join(wire.encode(k, k, payload) for k, payload in enumerate(payloads))
    framer, got, start, turn = Framer(4096), [], 0, 0
    while start < len(stream):
        size = cuts[turn % len(cuts)]
        messages, violation = framer.push(stream[start : start + size], [])
        assert violation == ""
        got += [(message.msg_id, bytes(message.body)) for message in messages]
        start, turn = start + size, turn + 1
    assert got == list(enumerate(payloads))
    assert framer.idle


def null() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def test_descriptors_belong_to_the_last_message_that_begins_in_their_chunk():
    framer, fd = Framer(4096), null()
    stream = wire.encode(1, 1, b"a") + wire.encode(2, 2, b"b")
    messages, _ = framer.push(stream, [fd])
    assert [message.fds for message in messages] == [[], [fd]]
    close_fds([fd])


def test_descriptors_wait_for_the_rest_of_their_message():
    framer, first, second = Framer(4096), null(), null()
    one, two = wire.encode(1, 1, b"one"), wire.encode(2, 2, b"two")
    assert framer.push(one[:5], [first]) == ([], "")
    messages, _ = framer.push(one[5:] + two[:3], [second])
    assert [message.fds for message in messages] == [[first]]
    messages, _ = framer.push(two[3:], [])
    assert [message.fds for message in messages] == [[second]]
    close_fds([first, second])


def test_what_is_half_received_is_closed_when_it_is_given_up():
    framer, fd = Framer(4096), null()
    framer.push(b"half", [fd])
    framer.discard()
    with pytest.raises(OSError):
        os.close(fd)


@pytest.mark.parametrize("size", [0, 15, 4097, 0xFFFFFFFF])
def test_a_size_that_cannot_be_is_a_violation_and_what_came_before_is_kept(size):
    good = wire.encode(1, 1, b"good")
    bad = wire.HEADER.pack(2, 2, size, 0, 0)
    messages, violation = Framer(4096).push(good + bad, [])
    assert [message.msg_id for message in messages] == [1]
    assert str(size) in violation


def test_descriptors_without_end_are_a_violation():
    framer = Framer(4096)
    first = [null() for _ in range(150)]
    assert framer.push(b"x", first) == ([], "")
    _, violation = framer.push(b"x", [null() for _ in range(150)])
    assert "300 descriptors" in violation
    framer.discard()


def test_a_large_message_in_small_pieces_is_not_copied_over_and_over():
    framer = Framer(2 << 20)
    stream = wire.encode(1, 1, bytes(1 << 20))
    got = []
    for start in range(0, len(stream), 64):
        got += framer.push(stream[start : start + 64], [])[0]
    assert len(got) == 1  # copying all of it for each piece would be 17 GB: the timeout fails it
