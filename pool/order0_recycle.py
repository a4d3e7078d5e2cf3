# SPDX-License-Identifier: MIT
"""``order0_recycle``: single pages, kept by reference until the stack has let go of them.

Whose: Eric Dumazet (thread row T5): with single pages and the recycle trick a driver hardly ever
allocates, and a packet that waits pins one page, not a block of eight. The form is that of mlx5's
page cache of the same year.

How: when the device has filled a page the driver takes a reference for the stack and remembers the
page in a FIFO of ``pool_size``. Refilling looks at the oldest: if the stack has dropped its
reference the page is posted again, mapped as it was; if not, a page is allocated instead and the
oldest is looked at again next time. A page for which the FIFO has no room goes to the stack
for good, unmapped. Two atomics for a page that is kept, one for a page that is not.

Where it breaks: one packet that waits long at the head of the FIFO stops all recycling behind it;
then the FIFO fills, and every packet costs an allocation, a map and an unmap. Pages kept stay
mapped while the stack reads them.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Bytes, Ints, kernel
from pool import stores
from pool.buffers import PAGE_SHIFT
from pool.counters import ATOMICS, GIVEN, OWN, RECYCLED_CACHE, REFERENCES
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import alloc_singly, free, leave
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host
from pool.steps import (
    BATCH,
    CLOSING,
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

REUSED, BUSY, FIFO_FULL = range(OWN, OWN + 3)


class Order0RecycleState(NamedTuple):
    """fifo: frames the driver will post again; owned, held: int8[frames], who has a reference.

    owned: the driver, for as long as it wants the page; held: the stack.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    fifo: Queue
    owned: Bytes
    held: Bytes


class Order0Recycle(BufferPool):
    """A FIFO of ``pool_size`` pages whose packets may still be read.

    reused: buffers taken from the FIFO; busy: refills that stopped at a page which the stack still
    held; fifo_full: received pages given up because the FIFO had no room.
    """

    name: ClassVar[str] = "order0_recycle"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("reused", "busy", "fifo_full")

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        self.state = Order0RecycleState(
            *self.common(),
            np.zeros(BATCH, np.int64),
            stores.make_queue(config.pool_size),
            np.zeros(self.frames, np.int8),
            np.zeros(self.frames, np.int8),
        )


@implement_take(Order0RecycleState)
def _take(pool: Order0RecycleState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """The oldest pages that are free again, then pages allocated singly."""
    done, more = 0, True
    while done < n and more:
        want = min(BATCH, n - done)
        got = _oldest_free(pool, want)
        hand_to_device(pool, host, got, pool.fresh)
        _lend(pool, got, done, mem, iova)
        done += got
        more = got == want
    more = True
    while done < n and more:
        want = min(BATCH, n - done)
        got = alloc_singly(pool, host, want)
        _lend(pool, got, done, mem, iova)
        done += got
        more = got == want
    return done


@implement_receive(Order0RecycleState)
def _receive(
    pool: Order0RecycleState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; keeps each page by a reference, or unmaps it if there is no room."""
    hand_to_cpu(pool, host, n, iova, lengths)
    lost = 0
    for i in range(n):
        pfn = mem[i] >> PAGE_SHIFT
        pool.held[pfn] = 1
        if _keep(pool, pfn):
            pool.c[ATOMICS] += 1
            pool.c[REFERENCES] += 1
            continue
        pool.owned[pfn] = 0
        iova[i] = NO_ADDRESS
        pool.pfns[lost] = pfn
        lost += 1
        pool.c[FIFO_FULL] += 1
        if lost == BATCH:
            unmap(pool, host, lost, 0, pool.pfns)
            lost = 0
    unmap(pool, host, lost, 0, pool.pfns)


@implement_give(Order0RecycleState)
def _give(
    pool: Order0RecycleState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Received: the stack's put_page(), wherever. Unused: kept for the next refill."""
    pool.c[GIVEN] += n
    gone = 0
    for i in range(n):
        pfn = mem[i] >> PAGE_SHIFT
        if received[i]:
            pool.held[pfn] = 0
            kept = pool.owned[pfn] != 0
            pool.c[ATOMICS] += kept
            pool.c[REFERENCES] += kept
        else:
            kept = _keep(pool, pfn)
        if not kept:
            pool.pfns[gone] = pfn
            gone += 1
        if gone == BATCH:
            leave(pool, host, gone, pool.pfns)
            gone = 0
    leave(pool, host, gone, pool.pfns)


@implement_close(Order0RecycleState)
def _close(pool: Order0RecycleState, host: Host) -> int:
    """Unmaps what is in the FIFO and drops the driver's references."""
    pool.at[CLOSING] = 1
    while stores.count(pool.fifo):
        pfn = stores.take_oldest(pool.fifo)
        pool.owned[pfn] = 0
        pool.pfns[0] = pfn
        unmap(pool, host, 1, 0, pool.pfns)
        if pool.held[pfn]:
            pool.c[ATOMICS] += 1
            pool.c[REFERENCES] += 1
        else:
            free(pool, host, 1, pool.pfns)
    return inflight(pool)


@kernel
def _oldest_free(pool: Order0RecycleState, n: int) -> int:
    """Up to ``n`` from the FIFO to ``fresh``, up to the first that the stack holds; how many."""
    got = 0
    while got < n and stores.count(pool.fifo):
        if pool.held[stores.oldest(pool.fifo)]:
            pool.c[BUSY] += 1
            break
        pool.fresh[got] = stores.take_oldest(pool.fifo)
        got += 1
    pool.c[REUSED] += got
    return got


@kernel
def _lend(pool: Order0RecycleState, n: int, start: int, mem: Ints, iova: Ints) -> None:
    """Hands out ``n`` pages of ``fresh`` from number ``start`` on; the driver has them all."""
    for i in range(n):
        pool.owned[pool.fresh[i]] = 1
        lend(pool, pool.fresh[i], start + i, mem, iova)


@kernel
def _keep(pool: Order0RecycleState, pfn: int) -> bool:
    """Appends it to the FIFO; False: no room, or the pool is closing."""
    if pool.at[CLOSING] or not stores.room(pool.fifo):
        return False
    stores.append(pool.fifo, pfn)
    pool.c[RECYCLED_CACHE] += 1
    return True
