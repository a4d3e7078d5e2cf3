# SPDX-License-Identifier: MIT
"""What a misbehaving device knows of itself: its rings, its buffers, and which write completes.

Two layers that change nothing. The observer layer keeps rings and buffers; the DMA layer tells
completions that become visible from all other writes and sends them through a
:class:`~emulator.faults.ports.CompletionPort`, where faults can get at them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emulator.faults.ports import CompletionPort, DmaLayer, ObserverLayer, Publication, RingKey
from emulator.nic.descriptors import COMPLETION
from emulator.nic.registers import DMABED_COMPLETION_STATUS_PHASE
from emulator.ports import DmaPort, Observer, RingKind

HISTORY = 4096
"""Buffers remembered, newest last."""
ENTRY = COMPLETION.size
PHASE = np.uint32(DMABED_COMPLETION_STATUS_PHASE)


class Buffer(NamedTuple):
    """A buffer that was posted: its first IOVA, bytes, queue and ring."""

    iova: int
    length: int
    queue: int
    kind: RingKind


@dataclass(slots=True)
class WatchedRing:
    """A running ring; completed: entries that became visible since it was started."""

    iova: int
    size: int
    completed: int = 0


class RingWatch(ObserverLayer):
    """Keeps ``rings``, buffers the device owns in order (``posted``), and the newest ``seen``.

    early: by queue, how many receive completions were written when one came before its time.
    """

    def __init__(self, port: Observer) -> None:
        super().__init__(port)
        self.rings: dict[RingKey, WatchedRing] = {}
        self.posted_now: dict[RingKey, deque[Buffer]] = {}
        self.seen: deque[Buffer] = deque(maxlen=HISTORY)
        self.early: dict[int, int] = {}

    def starting(self, key: RingKey, iova: int, size: int, now_ns: int) -> None:
        """See :class:`ObserverLayer`."""
        self.rings[key] = WatchedRing(iova, size)
        self.posted_now[key] = deque()
        if key[1] is RingKind.RX_CQ:
            self.early.pop(key[0], None)

    def stopping(self, key: RingKey, now_ns: int) -> None:
        """See :class:`ObserverLayer`."""
        self.rings.pop(key, None)
        self.posted_now.pop(key, None)

    def posting(self, key: RingKey, iovas: NDArray[np.uint64], lengths: NDArray[np.int64]) -> None:
        """See :class:`ObserverLayer`."""
        rows = zip(iovas.tolist(), lengths.tolist(), strict=True)
        buffers = [Buffer(iova, length, *key) for iova, length in rows]
        self.posted_now.setdefault(key, deque()).extend(buffers)
        self.seen.extend(buffers)

    def returning(self, key: RingKey, count: int) -> None:
        """See :class:`ObserverLayer`."""
        owned = self.posted_now.get(key, deque())
        for _ in range(min(count, len(owned))):
            owned.popleft()

    def completed(self, queue: int, done: int) -> int:
        """The driver may have consumed what came before its time: that much is there for it."""
        ahead = (self.early.get(queue, done) - done) & 0xFFFF
        return done & ~0xFFFF | (done + ahead) & 0xFFFF if ahead < 1 << 15 else done

    def owned(self, kind: RingKind) -> list[Buffer]:
        """Buffers the device owns now on rings of ``kind``, the oldest first."""
        return [b for key, owned in self.posted_now.items() if key[1] is kind for b in owned]


class CompletionWatch(DmaLayer):
    """Sends writes that make completions visible to ``completions``, all others on as they are.

    A write is such a one if it lies in a completion ring and its first entry has the phase that is
    new there.
    """

    def __init__(self, port: DmaPort, watch: RingWatch, completions: CompletionPort) -> None:
        super().__init__(port)
        self._watch, self.completions = watch, completions

    def write(self, iova: int, data: bytes | NDArray[np.uint8]) -> None:
        """See :class:`~emulator.ports.DmaPort`."""
        batch = self._publication(iova, data)
        if batch is None:
            self.port.write(iova, data)
            return
        self._watch.rings[batch.queue, batch.kind].completed += len(batch.entries)
        self.completions.publish(batch)

    def _publication(self, iova: int, data: bytes | NDArray[np.uint8]) -> Publication | None:
        if (data.nbytes if isinstance(data, np.ndarray) else len(data)) % ENTRY:
            return None
        for (queue, kind), ring in self._watch.rings.items():
            tx = kind is RingKind.TX_CQ
            if not tx and kind is not RingKind.RX_CQ:
                continue
            if ring.iova <= iova < ring.iova + ring.size:
                entries: NDArray[Any] = np.frombuffer(bytes(data), COMPLETION.dtype).copy()
                size = ring.size // ENTRY
                batch = Publication(queue, tx, ring.iova, size, ring.completed, entries)
                new = int(entries["status"][0] & PHASE) == batch.phase(ring.completed)
                return batch if new and iova == batch.iova(ring.completed) else None
        return None


class CompletionWriter:
    """A :class:`~emulator.faults.ports.CompletionPort` that writes to the ring, as ordered."""

    def __init__(self, port: DmaPort) -> None:
        self._port = port

    def publish(self, batch: Publication) -> None:
        """See :class:`~emulator.faults.ports.CompletionPort`; splits where the ring wraps."""
        first = batch.index % batch.size
        head = min(len(batch.entries), batch.size - first)
        for start, part in ((0, batch.entries[:head]), (head, batch.entries[head:])):
            if len(part):
                iova = batch.iova(batch.index + start)
                self._port.write(iova, np.ascontiguousarray(part).view(np.uint8))
