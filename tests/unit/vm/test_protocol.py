# SPDX-License-Identifier: MIT
"""The agent's framing: whatever is sent comes back whole, however the bytes are cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import ProtocolError
from vm.protocol import (
    CHUNK,
    MAX_PAYLOAD,
    Decoder,
    Frame,
    FrameType,
    c_header,
    chunks,
    encode,
    encode_path,
)

frames = st.builds(
    Frame,
    st.sampled_from(FrameType),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=200),
)


@given(st.lists(frames, max_size=20), st.data())
def test_frames_survive_any_cut_of_the_stream(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    decoder = Decoder()
    received: list[Frame] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    assert received == sent


@given(st.lists(st.binary(max_size=300), max_size=10))
def test_garbage_never_fails_with_anything_but_a_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            decoder.feed(piece)
    except ProtocolError:
        pass


def test_largest_payload_passes_and_one_more_byte_is_refused_by_both_ends() -> None:
    largest = Frame(FrameType.DATA, 1, bytes(MAX_PAYLOAD))
    assert Decoder().feed(encode(largest)) == [largest]
    with pytest.raises(ProtocolError, match="exceeds"):
        encode(Frame(FrameType.DATA, 1, bytes(MAX_PAYLOAD + 1)))
    with pytest.raises(ProtocolError, match="announces"):
        Decoder().feed((MAX_PAYLOAD + 1).to_bytes(4, "little") + bytes(8))


def test_unknown_frame_type_is_refused() -> None:
    with pytest.raises(ProtocolError, match="unknown frame type 99"):
        Decoder().feed(bytes(8) + bytes([99, 0, 0, 0]))


@given(st.integers(-(2**31), 2**31 - 1))
def test_status_numbers_keep_their_sign(value: int) -> None:
    assert Frame(FrameType.EXIT, 1, value.to_bytes(4, "little", signed=True)).number() == value


def test_status_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ProtocolError, match="3 bytes"):
        Frame(FrameType.EXIT, 1, b"abc").number()


@given(st.binary(max_size=3 * CHUNK))
def test_chunks_fit_a_frame_and_add_up(data: bytes) -> None:
    pieces = list(chunks(data))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= MAX_PAYLOAD for piece in pieces)


def test_path_payload_holds_mode_then_path() -> None:
    assert encode_path("/tmp/é", 0o644) == b"\xa4\x01\0\0/tmp/\xc3\xa9"


def test_c_header_declares_every_frame_type_with_its_number() -> None:
    declared = dict(re.findall(r"#define FRAME_(\w+) (\d+)", c_header()))
    assert {name: int(number) for name, number in declared.items()} == {
        kind.name: int(kind) for kind in FrameType
    }
    assert "#define HEADER_SIZE 12\n" in c_header()
