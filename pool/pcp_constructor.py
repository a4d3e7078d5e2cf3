# SPDX-License-Identifier: MIT
"""``pcp_constructor``: the page allocator's per-CPU lists, of pages that are born mapped.

Whose: Mel Gorman (thread row T8): order-0 pages need no second recycler, the per-CPU lists are one;
what is worth keeping is the mapping. So split the per-CPU allocator off and give it a constructor
that maps and a destructor that unmaps.

How: each CPU has a list. Taking pops the own CPU's; when empty, ``BATCH`` pages come from the buddy
lists under the zone lock and the constructor maps them. ``put_page`` pushes a page to the list
of the CPU that frees it; a list longer than ``pool_size`` returns its ``BATCH`` coldest pages to
the buddy lists, through the destructor. So a page that is freed where it was allocated costs one
atomic, the ``put_page``, and neither a map nor a lock.

Where it breaks: when one CPU receives and another frees, mapped pages pile up where nobody takes
them: the one list maps, the other unmaps, for every packet, only in batches. Pages on the lists
stay mapped, and so do those the stack reads.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, steps, stores
from pool.buffers import PAGE_SHIFT
from pool.counters import ATOMICS, BULK_CALLS, GIVEN, OWN, RECYCLED_CACHE, RELEASED
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.pool import BufferPool
from pool.ports import Host
from pool.steps import (
    CLOSING,
    REMOTE,
    SIZE,
    enter,
    frames_of,
    hand_to_cpu,
    hand_to_device,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    unmap,
)
from pool.stores import Queue

BATCH = 63
"""Pages moved under one zone lock: zone_batchsize() for all but small zones."""
REFILLS, DRAINS = range(OWN, OWN + 2)


class PcpConstructorState(NamedTuple):
    """here, elsewhere: lists of frames, the hottest the newest."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    here: Queue
    elsewhere: Queue


class PcpConstructor(BufferPool):
    """The lists of two CPUs: that of the queue, and one other that frees (``Context.REMOTE``).

    refills: batches from the buddy lists to a CPU's list; drains: the other way. Each counts as an
    atomic, the zone lock.
    """

    name: ClassVar[str] = "pcp_constructor"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("refills", "drains")
    stores_in_allocator = True

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        room = max(config.pool_size, BATCH) + 1
        self.state = PcpConstructorState(
            *self.common(),
            np.zeros(steps.BATCH, np.int64),
            stores.make_queue(room),
            stores.make_queue(room),
        )


@implement_take(PcpConstructorState)
def _take(pool: PcpConstructorState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Pops the queue's CPU's list, refilled a batch at a time."""
    for i in range(n):
        if stores.count(pool.here) == 0 and not _refill(pool, host):
            return i
        lend(pool, stores.take_newest(pool.here), i, mem, iova)
    return n


@implement_receive(PcpConstructorState)
def _receive(
    pool: PcpConstructorState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(PcpConstructorState)
def _give(
    pool: PcpConstructorState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """put_page(): to the list of the CPU that frees, drained when it is too long."""
    pool.c[GIVEN] += n
    pool.c[ATOMICS] += n
    pool.c[RECYCLED_CACHE] += n
    pcp = pool.elsewhere if context == REMOTE else pool.here
    for start in range(0, n, steps.BATCH):
        count = min(steps.BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        hand_to_device(pool, host, count, pool.pfns)
        for i in range(start, start + count):
            stores.append(pcp, mem[i] >> PAGE_SHIFT)
            if stores.count(pcp) > pool.conf[SIZE]:
                _drain(pool, host, pcp)
        while pool.at[CLOSING] and stores.count(pcp):
            _drain(pool, host, pcp)


@implement_close(PcpConstructorState)
def _close(pool: PcpConstructorState, host: Host) -> int:
    """Drains both lists."""
    pool.at[CLOSING] = 1
    while stores.count(pool.here):
        _drain(pool, host, pool.here)
    while stores.count(pool.elsewhere):
        _drain(pool, host, pool.elsewhere)
    return inflight(pool)


@kernel
def _refill(pool: PcpConstructorState, host: Host) -> bool:
    """A batch from the buddy lists, through the constructor; False: there was none."""
    pool.c[REFILLS] += 1
    pool.c[ATOMICS] += 1
    pool.c[BULK_CALLS] += 1
    count = ports.alloc_pages(host, BATCH, 0, True, pool.fresh)
    count = enter(pool, host, count, True, pool.fresh)
    for i in range(count):
        stores.append(pool.here, pool.fresh[count - 1 - i])
    return count > 0


@kernel
def _drain(pool: PcpConstructorState, host: Host, pcp: Queue) -> None:
    """The coldest batch, through the destructor; nobody refers to the pages any more."""
    count = min(BATCH, stores.count(pcp))
    for i in range(count):
        pool.pfns[i] = stores.take_oldest(pcp)
    pool.c[DRAINS] += 1
    pool.c[ATOMICS] += 1
    unmap(pool, host, count, 0, pool.pfns)
    pool.c[RELEASED] += count
    ports.free_pages(host, count, 0, True, pool.pfns)
