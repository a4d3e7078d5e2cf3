# SPDX-License-Identifier: MIT
"""Several wires on one cable, as behind a hub."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.frames import FrameBatch
from emulator.nic.wire.base import Wire


class Combine:
    """The NIC hears all of ``wires``, earlier ones first, and each of them hears the NIC."""

    def __init__(self, wires: Sequence[Wire]) -> None:
        self._wires = tuple(wires)

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        batches = []
        for wire in self._wires:
            if room <= 0:
                break
            batch = wire.receive(room, now_ns)
            if len(batch.lengths):
                batches.append(batch)
                room -= len(batch.lengths)
        return batches[0] if len(batches) == 1 else FrameBatch.concat(batches)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        for wire in self._wires:
            wire.transmit(frames, now_ns)

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        times = (wire.next_due_ns(now_ns) for wire in self._wires)
        return min((time for time in times if time is not None), default=None)
