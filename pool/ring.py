# SPDX-License-Identifier: MIT
"""The kernel's ``ptr_ring`` for frame numbers: a FIFO that one CPU empties and others fill.

Facts from include/linux/ptr_ring.h: an entry that was consumed is cleared, and so free for
producers, only when a batch of two cache lines was consumed or the end of the ring was reached;
so a ring can be full while it holds fewer entries than its size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel

CACHE_LINE_BYTES = 64
"""SMP_CACHE_BYTES on x86-64."""
POINTER_BYTES = 8
CONSUME_BATCH = 2 * CACHE_LINE_BYTES // POINTER_BYTES
"""Entries consumed before they are cleared: __ptr_ring_set_size()."""

PRODUCER, HEAD, TAIL, CLEAR_BATCH = 0, 1, 2, 3
"""Places in ``RingState.at``. The first three run freely: entries produced, consumed, cleared."""


class RingState(NamedTuple):
    """at: int64[4]; queue: int64[size], an entry's place is its number modulo size."""

    at: Ints
    queue: Ints


def make(size: int) -> RingState:
    """An empty ring of ``size`` entries."""
    batch = CONSUME_BATCH if size // 2 >= CONSUME_BATCH else 1
    return RingState(np.array([0, 0, 0, batch], np.int64), np.zeros(size, np.int64))


@kernel
def length(ring: RingState) -> int:
    """Entries to consume."""
    return ring.at[PRODUCER] - ring.at[HEAD]


@kernel
def room(ring: RingState) -> int:
    """Entries that producers find cleared."""
    return len(ring.queue) - (ring.at[PRODUCER] - ring.at[TAIL])


@kernel
def produce(ring: RingState, pfn: int) -> bool:
    """Appends it; False: there is no room."""
    if room(ring) <= 0:
        return False
    ring.queue[ring.at[PRODUCER] % len(ring.queue)] = pfn
    ring.at[PRODUCER] += 1
    return True


@kernel
def consume(ring: RingState) -> int:
    """The oldest entry; there must be one."""
    pfn = ring.queue[ring.at[HEAD] % len(ring.queue)]
    ring.at[HEAD] += 1
    head = ring.at[HEAD]
    if head - ring.at[TAIL] >= ring.at[CLEAR_BATCH] or head % len(ring.queue) == 0:
        ring.at[TAIL] = head
    return pfn
