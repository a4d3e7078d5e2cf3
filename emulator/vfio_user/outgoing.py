# SPDX-License-Identifier: MIT
"""Commands of ours to the client: DMA_READ and DMA_WRITE for memory without a descriptor.

The specification gives them a 64-bit count with the data behind it, at byte 16 of the payload: QEMU
11.1.3 was seen to do so. Earlier sources of QEMU (hw/vfio-user/protocol.h, VFIOUserDMARW) have a
32-bit count, so their data lies at byte 12, with four bytes of padding after it. Nothing in the
messages tells which one is meant, so the layout is a setting. QEMU's reply to DMA_WRITE is only a
header.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from errno import EIO

from emulator.vfio_user.errors import ProtocolViolationError, VfioUserError
from emulator.vfio_user.messages import (
    DMA_ACCESS,
    DMA_ACCESS_32,
    ERROR,
    HEADER_SIZE,
    Command,
    encode,
)

_PAYLOAD = DMA_ACCESS.size
_LARGEST_ID = 0xFFFF


class DmaLayout(Enum):
    """Where data lies in DMA_READ replies and DMA_WRITE requests."""

    SPECIFICATION = "specification"
    COUNT_32 = "32-bit count"


@dataclass(slots=True)
class _Pending:
    command: Command
    address: int
    count: int
    abandoned: bool = False


class DmaMessages:
    """Builds requests, matches replies. Message IDs are ours and unique among those in flight."""

    def __init__(self, layout: DmaLayout) -> None:
        self._layout = layout
        self._pending: dict[int, _Pending] = {}
        self._answers: dict[int, bytes | VfioUserError] = {}
        self._next_id = 0

    def read(self, address: int, count: int) -> tuple[int, bytes]:
        """A DMA_READ: its ID and the message."""
        msg_id = self._new(Command.DMA_READ, address, count)
        return msg_id, encode(msg_id, Command.DMA_READ, DMA_ACCESS.pack(address, count))

    def write(self, address: int, data: bytes | memoryview) -> tuple[int, bytes]:
        """A DMA_WRITE: its ID and the message."""
        msg_id = self._new(Command.DMA_WRITE, address, len(data))
        if self._layout is DmaLayout.COUNT_32:
            payload = DMA_ACCESS_32.pack(address, len(data)) + bytes(data) + bytes(4)
        else:
            payload = DMA_ACCESS.pack(address, len(data)) + bytes(data)
        return msg_id, encode(msg_id, Command.DMA_WRITE, payload)

    def _new(self, command: Command, address: int, count: int) -> int:
        if len(self._pending) >= _LARGEST_ID:
            raise VfioUserError(EIO, f"{len(self._pending)} DMA messages are unanswered")
        while self._next_id in self._pending:
            self._next_id = (self._next_id + 1) & _LARGEST_ID
        msg_id, self._next_id = self._next_id, (self._next_id + 1) & _LARGEST_ID
        self._pending[msg_id] = _Pending(command, address, count)
        return msg_id

    def on_reply(self, msg_id: int, command: int, flags: int, error: int, body: memoryview) -> None:
        """Takes a reply of the client.

        Raises:
            ProtocolViolationError: it answers nothing we asked, or not what we asked.
        """
        asked = self._pending.pop(msg_id, None)
        if asked is None or asked.command != command:
            raise ProtocolViolationError(f"reply {msg_id} to command {command}, which was not sent")
        answer: bytes | VfioUserError
        if flags & ERROR:
            what = f"{asked.command.name} of {asked.count} bytes at {asked.address:#x}"
            answer = VfioUserError(error or EIO, f"the client refused {what}")
        elif asked.command is Command.DMA_READ:
            answer = self._data(asked, body)
        else:
            answer = b""
        if not asked.abandoned:
            self._answers[msg_id] = answer

    def _data(self, asked: _Pending, body: memoryview) -> bytes:
        if len(body) != _PAYLOAD + asked.count:
            raise ProtocolViolationError(
                f"reply to DMA_READ of {asked.count} bytes has {len(body) + HEADER_SIZE} bytes"
            )
        address, count = DMA_ACCESS_32.unpack_from(body)
        if address != asked.address or count != asked.count:
            raise ProtocolViolationError(
                f"reply to DMA_READ of {asked.count} bytes at {asked.address:#x} "
                f"is about {count} bytes at {address:#x}"
            )
        start = DMA_ACCESS_32.size if self._layout is DmaLayout.COUNT_32 else _PAYLOAD
        return bytes(body[start : start + asked.count])

    def answered(self, msg_id: int) -> bool:
        """The reply to request ``msg_id`` is here."""
        return msg_id in self._answers

    def take(self, msg_id: int) -> bytes:
        """The data of an answered request (empty for DMA_WRITE).

        Raises:
            VfioUserError: the client refused it.
            KeyError: it is not answered.
        """
        answer = self._answers.pop(msg_id)
        if isinstance(answer, VfioUserError):
            raise answer
        return answer

    def abandon(self, msg_id: int) -> None:
        """Nobody waits for this reply any more: it is dropped when it comes."""
        self._answers.pop(msg_id, None)
        if msg_id in self._pending:
            self._pending[msg_id].abandoned = True
