# SPDX-License-Identifier: MIT
"""The cable of a NIC under test: a peer that always answers, and what is plugged in beside."""

from __future__ import annotations

from emulator.frames import FrameBatch
from emulator.nic.wire.base import Wire
from emulator.nic.wire.combine import Combine
from emulator.nic.wire.peer import Peer


class Cable:
    """A wire whose far end can be changed while the NIC runs.

    ``peer`` answers ARP, ICMP echo and UDP echo; :meth:`plug` adds one more wire beside it.
    """

    def __init__(self) -> None:
        self.peer = Peer()
        self._wire: Wire = self.peer

    def plug(self, other: Wire | None) -> None:
        """Replaces what is plugged in beside the peer; None: nothing."""
        self._wire = self.peer if other is None else Combine((self.peer, other))

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self._wire.receive(room, now_ns)

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        self._wire.transmit(frames, now_ns)

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self._wire.next_due_ns(now_ns)
