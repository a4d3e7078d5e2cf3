# SPDX-License-Identifier: MIT
"""What is at the other end of the NIC's cable."""

from __future__ import annotations

from typing import Protocol

from emulator.frames import FrameBatch


class Wire(Protocol):
    """A cable with something at its far end. Times are ns on the clock the NIC is stepped with."""

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """At most ``room`` of the frames that have arrived by ``now_ns``, in order.

        What is not taken waits: it is the NIC that decides to drop.
        """
        ...

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """Takes ``frames``, which the NIC sends at ``now_ns``, and keeps copies if it keeps any."""
        ...

    def next_due_ns(self, now_ns: int) -> int | None:
        """When :meth:`receive` has a frame: ``now_ns`` or earlier: now; None: unknown."""
        ...
