# SPDX-License-Identifier: MIT
"""Cuts a byte stream with descriptors into messages; owns the descriptors until a message has them.

Which message do descriptors belong to? A client sends a message with one sendmsg(); the kernel ends
a read with the piece of the stream that carries descriptors. So those that arrive with a chunk
belong to the last message that begins in it, or, if none does, to the one it continues.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from emulator.vfio_user.errors import ProtocolViolationError
from emulator.vfio_user.messages import HEADER, HEADER_SIZE

MOST_FDS = 253  # what Linux passes in one message at most


class Message(NamedTuple):
    """A whole message. ``body`` is what follows the header; ``fds`` belong to whoever holds it."""

    msg_id: int
    command: int
    flags: int
    error: int
    body: memoryview
    fds: list[int]


def close_fds(fds: Iterable[int]) -> None:
    """Closes received descriptors; one that is closed already is a bug and raises OSError."""
    for fd in fds:
        os.close(fd)


class Framer:
    """Incremental framing. ``limit``: bytes of the largest message taken, header included."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pending = bytearray()
        self._fds: list[int] = []

    @property
    def idle(self) -> bool:
        """Nothing is half received."""
        return not self._pending and not self._fds

    def push(self, chunk: bytes | memoryview, fds: list[int]) -> tuple[list[Message], str]:
        """The messages that ``chunk`` completes; why the stream cannot be trusted, or "".

        Takes ``fds`` over. The messages before a violation are still whole and valid.
        """
        early = len(self._fds)
        self._fds += fds
        self._pending += chunk
        if len(self._fds) > MOST_FDS:
            return [], f"{len(self._fds)} descriptors with one message"
        if len(self._pending) >= HEADER_SIZE:
            # One message may come in thousands of pieces: look at the data only when it is whole.
            size = HEADER.unpack_from(self._pending)[2]
            if HEADER_SIZE <= size <= self.limit and len(self._pending) < size:
                return [], ""
        return self._cut(early)

    def _cut(self, early: int) -> tuple[list[Message], str]:
        """Takes whole messages off the front. ``early`` descriptors came before the chunk."""
        data = memoryview(bytes(self._pending))
        messages: list[Message] = []
        start, violation = 0, ""
        while len(data) - start >= HEADER_SIZE:
            try:
                msg_id, command, size, flags, error = self._header(data, start)
            except ProtocolViolationError as problem:
                violation = str(problem)
                break
            end = start + size
            if end > len(data):
                break
            mine = len(self._fds) if end == len(data) else early
            body = data[start + HEADER_SIZE : end]
            messages.append(Message(msg_id, command, flags, error, body, self._fds[:mine]))
            del self._fds[:mine]
            early, start = 0, end
        self._pending = bytearray(data[start:])
        return messages, violation

    def _header(self, data: memoryview, start: int) -> tuple[int, int, int, int, int]:
        header: tuple[int, int, int, int, int] = HEADER.unpack_from(data, start)
        if not HEADER_SIZE <= header[2] <= self.limit:
            raise ProtocolViolationError(
                f"command {header[1]} with a message size of {header[2]} bytes, "
                f"{HEADER_SIZE} to {self.limit} are taken"
            )
        return header

    def discard(self) -> None:
        """Forgets what is half received and closes its descriptors."""
        close_fds(self._fds)
        self._fds.clear()
        self._pending.clear()
