# SPDX-License-Identifier: MIT
"""What the receive and the transmit side of a queue pair share: a running ring and its DMA.

Order of completions. A guest polls the completion ring while the device writes it, and the copy
behind :meth:`DmaPort.write` may store its bytes in any order. Hence each run of entries is written
twice: first whole, with the status word still in the old phase, then whole with the new phase.
In the second write only the phase bits change, so whatever part of it a guest sees, a new phase
bit always stands beside a complete entry. The second write must not become visible before the
first: x86 grants that, and PCIe does for posted writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emulator.nic.completions import STATUS_WORD
from emulator.nic.config import NicConfig
from emulator.nic.descriptors import Layout
from emulator.nic.events import Events, RefusedDma, Stage
from emulator.nic.queue import Descriptors, Ring, RingError
from emulator.nic.registers import DMABED_COMPLETION_STATUS_PHASE, DMABED_EVENT_RING_FAULT
from emulator.nic.stats import QueueStats
from emulator.ports import DmaFault, DmaPort, Observer, RingKind

PHASE: Final = np.uint32(DMABED_COMPLETION_STATUS_PHASE)


@dataclass(frozen=True)
class QueueContext:
    """What both sides of queue pair ``queue`` work with.

    completed(count, now_ns): the pair's moderation is told of completions.
    """

    queue: int
    config: NicConfig
    dma: DmaPort
    observer: Observer
    events: Events
    stats: QueueStats
    completed: Callable[[int, int], None]


class RingEngine:
    """One ring of a queue pair at work; ``tx`` tells which side."""

    def __init__(self, context: QueueContext, layout: Layout, tx: bool) -> None:
        self._context, self._tx = context, tx
        self.ring = Ring(layout, context.config.ring_log2_max)
        self._kind = RingKind.TX_DESC if tx else RingKind.RX_DESC
        self._cq_kind = RingKind.TX_CQ if tx else RingKind.RX_CQ
        self._rung_ns = 0

    def start(self, iova: int, cq_iova: int, log2: int, now_ns: int) -> None:
        """The driver enables the ring; impossible parameters are a ring fault."""
        try:
            self.ring.start(iova, cq_iova, log2)
        except RingError:
            self._context.events.raise_event(DMABED_EVENT_RING_FAULT)
            return
        observer, queue, size = self._context.observer, self._context.queue, self.ring.span
        observer.ring_started(now_ns, queue, self._kind, iova, size)
        observer.ring_started(now_ns, queue, self._cq_kind, cq_iova, size)

    def stop(self, now_ns: int) -> None:
        """No DMA for the ring after this; nothing happens if it does not run."""
        if not self.ring.running:
            return
        self.ring.stop()
        for kind in (self._kind, self._cq_kind):
            self._context.observer.ring_stopped(now_ns, self._context.queue, kind)

    def reset(self, now_ns: int) -> None:
        """Stops, and forgets the counts."""
        self.stop(now_ns)
        self.ring.reset()

    def doorbell(self, count: int, now_ns: int) -> None:
        """The driver posted up to ``count``; ignored while the ring does not run."""
        if not self.ring.running:
            return
        self._rung_ns = now_ns
        try:
            self.ring.post(count)
        except RingError:
            self._ring_fault(now_ns)

    def top_up(self, now_ns: int) -> None:
        """Fetches descriptors when few are at hand: few reads of many descriptors."""
        prefetch = self._context.config.prefetch
        if self.ring.ready <= prefetch // 2:
            self.fetch(now_ns, prefetch)

    def fetch(self, now_ns: int, limit: int) -> None:
        """Reads posted descriptors until ``limit`` are at hand or no more are posted."""
        ring = self.ring
        for run in ring.to_fetch(limit):
            try:
                data = self._context.dma.read(run.iova, run.count * ring.entry)
            except DmaFault as fault:
                self._refused(Stage.DESCRIPTOR, fault.iova, write=False)
                self.stop(now_ns)
                return
            self._take(ring.store(run, data), now_ns)
            if not ring.running:
                return

    def _take(self, descs: Descriptors, now_ns: int) -> None:
        if np.count_nonzero(descs.lengths) != len(descs.lengths):
            self._bad_descriptor()
            self._ring_fault(now_ns)
            return
        context = self._context
        # A step's time is when its round began: the doorbell may have come after that.
        at_ns = max(now_ns, self._rung_ns)
        context.observer.posted(at_ns, context.queue, self._kind, descs.iovas, descs.lengths)

    def _bad_descriptor(self) -> None:
        """A descriptor is not to be used; the ring stops for it."""

    def _ring_fault(self, now_ns: int) -> None:
        self.stop(now_ns)
        self._context.events.raise_event(DMABED_EVENT_RING_FAULT)

    def _refused(self, stage: Stage, iova: int, write: bool, count: int = 1) -> None:
        refused = RefusedDma(self._context.queue, stage, self._tx, write, iova, count)
        self._context.events.dma_refused(refused)

    def _payload_refused(self, iovas: NDArray[np.uint64], done: NDArray[np.bool_]) -> None:
        """Records the accesses at ``iovas`` that are False in ``done``."""
        lost = iovas[~done]
        self._refused(Stage.PAYLOAD, int(lost[0]), write=not self._tx, count=len(lost))

    def _complete(self, descs: Descriptors, entries: NDArray[np.uint32], now_ns: int) -> int:
        """Uses up ``descs`` and writes the completions ``entries`` (status without phase).

        Returns how many were written. If one could not be, the ring is stopped: the driver would
        wait for that completion for ever.
        """
        context, ring = self._context, self.ring
        ring.use(len(descs))
        context.observer.returned(now_ns, context.queue, self._kind, descs.iovas, descs.lengths)
        before = ring.completed
        try:
            self._write_completions(entries)
        except DmaFault as fault:
            self._refused(Stage.COMPLETION, fault.iova, write=True)
            self.stop(now_ns)
        written = ring.completed - before
        context.completed(written, now_ns)
        return written

    def _write_completions(self, entries: NDArray[np.uint32]) -> None:
        ring, dma = self.ring, self._context.dma
        first = 0
        for run, phase in ring.next_completions(len(entries)):
            part = entries[first : first + run.count]
            status, data = part[:, STATUS_WORD], part.view(np.uint8)
            if not phase:
                status |= PHASE
            dma.write(run.iova, data)
            status ^= PHASE
            dma.write(run.iova, data)
            ring.completed += run.count
            first += run.count
