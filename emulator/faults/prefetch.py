# SPDX-License-Identifier: MIT
"""X-12: a device that keeps descriptors it had fetched over a stop and a start of their ring."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emulator.faults.fault import Fault, Outcome
from emulator.faults.ports import DmaLayer, ObserverLayer, Ports, RingKey
from emulator.frames import FrameBatch
from emulator.ports import DmaPort, Observer, RingKind

CACHED = 8
"""Descriptors that a device keeps, if the plan does not say."""


class _Rings(ObserverLayer):
    """Tells the fault of stops, before they are forgotten, and of starts."""

    def __init__(self, port: Observer, fault: KeptDescriptors) -> None:
        super().__init__(port)
        self._fault = fault

    def starting(self, key: RingKey, iova: int, size: int, now_ns: int) -> None:
        if key[1] is RingKind.RX_DESC:
            self._fault.started(key[0], now_ns)

    def stopping(self, key: RingKey, now_ns: int) -> None:
        if key[1] is RingKind.RX_DESC:
            self._fault.stopping(key[0])


class _OldAddresses(DmaLayer):
    def __init__(self, port: DmaPort, fault: KeptDescriptors) -> None:
        super().__init__(port)
        self._fault = fault

    def scatter(self, iovas: NDArray[np.uint64], frames: FrameBatch) -> NDArray[np.bool_]:
        old = self._fault.redirected(iovas)
        if old is None:
            return self.port.scatter(iovas, frames)
        with self._fault.bench.by_order(self._fault):
            landed = self.port.scatter(old, frames)
        self._fault.count(landed[old != iovas])
        return landed


class KeptDescriptors(Fault):
    """The first ``amount`` (8) frames after a restart go where descriptors from before it said.

    The ledger is told of the buffers that the driver posted: it is they who are completed.
    """

    number, name = "X-12", "kept-descriptors"
    shows = "descriptors kept over a restart of their ring lead to buffers that are gone"
    expect = frozenset({Outcome.REFUSED, Outcome.DETECTED, Outcome.SURVIVED, Outcome.RECOVERED})
    default = "times = 2"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._kept: dict[int, list[int]] = {}
        self._stale: dict[int, deque[int]] = {}

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(
            ports, observer=_Rings(ports.observer, self), dma=_OldAddresses(ports.dma, self)
        )

    def stopping(self, queue: int) -> None:
        """The receive ring is about to stop: what was fetched of it stays in the cache."""
        owned = self.bench.watch.posted_now.get((queue, RingKind.RX_DESC), ())
        self._kept[queue] = [buffer.iova for buffer in owned][: self.amount(CACHED)]

    def started(self, queue: int, now_ns: int) -> None:
        """The ring runs again: the cache should have been emptied."""
        kept = self._kept.pop(queue, [])
        if kept and self.trigger.fits(queue) and self.trigger.strikes(now_ns):
            self._stale[queue] = deque(kept)
            self.did(f"queue {queue} keeps {len(kept)} descriptors over its restart")

    def redirected(self, iovas: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
        """Where the pieces for ``iovas`` go instead; None: where they should."""
        queue = self._queue_of(int(iovas[0])) if self._stale and len(iovas) else None
        if queue is None:
            return None
        stale, old = self._stale[queue], iovas.copy()
        for index in range(min(len(stale), len(old))):
            old[index] = stale.popleft()
        if not stale:
            del self._stale[queue]
        return old

    def count(self, landed: NDArray[np.bool_]) -> None:
        """What became of pieces that went elsewhere."""
        arrived = int(np.count_nonzero(landed))
        self.landed += arrived
        self.refused += len(landed) - arrived

    def _queue_of(self, iova: int) -> int | None:
        for queue in self._stale:
            owned = self.bench.watch.posted_now.get((queue, RingKind.RX_DESC), ())
            if any(buffer.iova == iova for buffer in owned):
                return queue
        return None
