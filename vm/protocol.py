# SPDX-License-Identifier: MIT
"""The protocol between host and agent: frames and their codec, without I/O.

A frame is a 12-byte little-endian header (payload length, request id, frame type, three reserved
bytes) and a payload of at most `MAX_PAYLOAD` bytes.  Every request carries an id of the host's
choice and every answer repeats it, so several commands and transfers share one byte stream.  The C
header the agent is compiled with is generated from this module (`c_header`): the layout is
declared once.
"""

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vm.errors import ProtocolError

MAX_PAYLOAD = 65536
CHUNK = 32768
_HEADER = struct.Struct("<IIB3x")
_NUMBER = struct.Struct("<i")


class FrameType(enum.IntEnum):
    """What a frame asks or answers; host to guest below 64, guest to host from 64 on."""

    PING = 1  # payload echoed in PONG
    RUN = 2  # a command for /bin/sh -c
    KILL = 3  # one byte: the signal for the command's process group
    PUSH = 4  # file mode (u32) and path; DATA and END follow
    PULL = 5  # zero (u32) and path
    DATA = 6  # file contents, either direction
    END = 7  # the pushed file is complete, or the trace is over
    TICK = 8  # on the trace port: NOW comes at once, then EVENTS, then DRAINED
    PONG = 64
    STDOUT = 65
    STDERR = 66
    EXIT = 67  # i32: exit status, or minus the signal that ended the command
    DONE = 68  # i32: 0, or the errno of a transfer or of a command that could not start
    NOW = 69  # u64: the guest's clock, in ns
    EVENTS = 70  # id: CPU; a page of its ring buffer, cut off behind its data
    DRAINED = 71  # every event from before NOW was sent


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its type, the request it belongs to, and its payload."""

    type: FrameType
    id: int
    payload: bytes = b""

    def number(self) -> int:
        """The signed number an EXIT or DONE frame carries.

        Raises:
            ProtocolError: the payload is not four bytes.
        """
        if len(self.payload) != _NUMBER.size:
            raise ProtocolError(f"{self.type.name} frame with {len(self.payload)} bytes, not 4")
        value: int = _NUMBER.unpack(self.payload)[0]
        return value


def encode(frame: Frame) -> bytes:
    """The bytes of one frame.

    Raises:
        ProtocolError: the payload is longer than `MAX_PAYLOAD`.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise ProtocolError(f"payload of {len(frame.payload)} bytes exceeds {MAX_PAYLOAD}")
    return _HEADER.pack(len(frame.payload), frame.id, frame.type) + frame.payload


def encode_path(path: str, mode: int = 0) -> bytes:
    """The payload of a PUSH or PULL frame: file mode (push only) and path in the guest."""
    return struct.pack("<I", mode) + path.encode()


def chunks(data: bytes) -> Iterator[bytes]:
    """Cuts a file into payloads of at most `CHUNK` bytes."""
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


class Decoder:
    """Turns received bytes, however they were cut, back into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Takes received bytes and returns the frames they complete.

        Raises:
            ProtocolError: an unknown type or an impossible length; the stream is then unusable.
        """
        self._buffer += data
        frames: list[Frame] = []
        offset = 0
        while (end := self._frame_end(offset)) is not None:
            frames.append(self._frame(offset, end))
            offset = end
        del self._buffer[:offset]
        return frames

    def _frame_end(self, offset: int) -> int | None:
        if len(self._buffer) - offset < _HEADER.size:
            return None
        length: int = _HEADER.unpack_from(self._buffer, offset)[0]
        if length > MAX_PAYLOAD:
            raise ProtocolError(
                f"frame announces {length} bytes, at most {MAX_PAYLOAD} are allowed"
            )
        end = offset + _HEADER.size + length
        return end if end <= len(self._buffer) else None

    def _frame(self, offset: int, end: int) -> Frame:
        _, request, kind = _HEADER.unpack_from(self._buffer, offset)
        try:
            frame_type = FrameType(kind)
        except ValueError as error:
            raise ProtocolError(f"unknown frame type {kind}") from error
        return Frame(frame_type, request, bytes(self._buffer[offset + _HEADER.size : end]))


def c_header() -> str:
    """The C header with the frame types and sizes, for building the agent."""
    sizes = {"HEADER_SIZE": _HEADER.size, "MAX_PAYLOAD": MAX_PAYLOAD, "CHUNK": CHUNK}
    defines = {**sizes, **{f"FRAME_{kind.name}": int(kind) for kind in FrameType}}
    lines = [f"#define {name} {value}\n" for name, value in defines.items()]
    return "".join(["/* Generated from vm/protocol.py. */\n", *lines])
