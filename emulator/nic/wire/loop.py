# SPDX-License-Identifier: MIT
"""A cable whose far end is plugged into its near end."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from emulator.frames import NO_FRAMES, FrameBatch
from emulator.nic.config import ETHERNET_HEADER

MAC_BYTES: Final = 6


def swap_macs(frames: FrameBatch) -> FrameBatch:
    """A copy of ``frames`` with source and destination exchanged (in those of 14 bytes or more)."""
    data = frames.data.copy()
    long = frames.offsets[frames.lengths >= ETHERNET_HEADER]
    dst = long[:, None] + np.arange(MAC_BYTES)
    src = dst + MAC_BYTES
    data[dst], data[src] = frames.data[src], frames.data[dst]
    return FrameBatch(data, frames.offsets, frames.lengths)


def copy_of(frames: FrameBatch) -> FrameBatch:
    """``frames`` with bytes of their own."""
    return FrameBatch(frames.data.copy(), frames.offsets, frames.lengths)


class FrameQueue:
    """Frames on their way, in order; ``limit`` at most, more are lost and counted in ``lost``."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._batches: deque[FrameBatch] = deque()
        self._count = self.lost = 0

    def __len__(self) -> int:
        return self._count

    def put(self, frames: FrameBatch) -> None:
        """Appends as many of ``frames`` as there is room for; keeps a reference to their bytes."""
        kept = frames[: self._limit - self._count]
        self.lost += len(frames) - len(kept)
        if len(kept):
            self._batches.append(kept)
            self._count += len(kept)

    def take(self, room: int) -> FrameBatch:
        """Removes and returns the first ``room`` frames, or all if there are fewer."""
        if not self._count:
            return NO_FRAMES
        parts = []
        while room > 0 and self._batches:
            batch = self._batches.popleft()
            parts.append(batch[:room])
            if len(batch) > room:
                self._batches.appendleft(batch[room:])
            room -= len(parts[-1])
            self._count -= len(parts[-1])
        return FrameBatch.concat(parts)


class Loop:
    """What is sent comes back, in order; MAC addresses exchanged if ``swap``.

    ``limit``: frames on the cable at most; more are lost and counted in :attr:`lost`.
    """

    def __init__(self, swap: bool = False, limit: int = 1 << 16) -> None:
        self._turn = swap_macs if swap else copy_of
        self._frames = FrameQueue(limit)

    @property
    def lost(self) -> int:
        """Frames that found no room on the cable."""
        return self._frames.lost

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self._frames.take(room)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        self._frames.put(self._turn(frames))

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return now_ns if len(self._frames) else None
