# SPDX-License-Identifier: MIT
"""The kernel's ``ptr_ring`` for frame numbers: a FIFO that one CPU empties and others fill.

Facts from include/linux/ptr_ring.h: an entry that was consumed is cleared, and so free for
producers, only when a batch of two cache lines was consumed or the end of the ring was reached;
so a ring can be full while it holds fewer entries than its size.
"""

from __future__ import annotations

import numpy as np

from pool.buffers import PfnArray

CACHE_LINE_BYTES = 64
"""SMP_CACHE_BYTES on x86-64."""
POINTER_BYTES = 8
CONSUME_BATCH = 2 * CACHE_LINE_BYTES // POINTER_BYTES
"""Entries consumed before they are cleared: __ptr_ring_set_size()."""


class PtrRing:
    """A ring of ``size`` entries. Counts run freely; an entry's place is its count modulo size."""

    def __init__(self, size: int) -> None:
        self._queue = np.zeros(size, np.int64)
        self._batch = CONSUME_BATCH if size // 2 >= CONSUME_BATCH else 1
        self._producer = self._consumer_head = self._consumer_tail = 0

    def __len__(self) -> int:
        return self._producer - self._consumer_head

    @property
    def room(self) -> int:
        """Entries that producers find cleared."""
        return len(self._queue) - (self._producer - self._consumer_tail)

    def produce(self, pfns: PfnArray) -> int:
        """Appends as many as there is room for; returns how many."""
        count = min(len(pfns), self.room)
        places = np.arange(self._producer, self._producer + count) % len(self._queue)
        self._queue[places] = pfns[:count]
        self._producer += count
        return count

    def consume(self, limit: int) -> PfnArray:
        """int64[k], k <= limit: the oldest entries, oldest first."""
        count = min(limit, len(self))
        places = np.arange(self._consumer_head, self._consumer_head + count) % len(self._queue)
        self._consumer_head += count
        self._clear_consumed()
        return self._queue[places]

    def _clear_consumed(self) -> None:
        """Moves the tail as single discards would: at the ring's end, else by whole batches."""
        head, size = self._consumer_head, len(self._queue)
        self._consumer_tail = max(self._consumer_tail, head - head % size)
        self._consumer_tail += (head - self._consumer_tail) // self._batch * self._batch
