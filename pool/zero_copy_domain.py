# SPDX-License-Identifier: MIT
"""``zero_copy_domain``: pages of one application, filled by its own queue, never anybody else's.

Whose: Jesper Dangaard Brouer (thread row T16): zero-copy receive is safe when the NIC steers the
application's flow to a queue of its own, and every page carries the id of the domain it may be
shown to, checked whenever a page comes home.

How: the application registers ``pool_size`` pages; they are mapped once. Buffers go from a free
list to the device and, uncopied, to the application, which returns them through a refill ring that
it shares with the driver: one producer, one consumer, no atomic. A page whose ``domains`` entry
is not the pool's id is refused with the whole batch, so a page cannot cross from one application to
another even when both live on the same device and in the same IOMMU domain.

Where it breaks: it needs a filter in the NIC, for without one a stranger's packets land in the
application's memory. An application that does not return pages starves its queue, by design
(``starved``). The device can write to what the application reads.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.buffers import BufferBatch
from pool.counters import BULK_CALLS, GIVEN, OWN, RECYCLED_CACHE, RECYCLED_RING, RING_OPS
from pool.errors import WrongDomainError
from pool.guarantees import Guarantees
from pool.interface import Context, DmaApi, PageAllocator, PoolConfig
from pool.kept import leave, leave_all
from pool.pool import BufferPool
from pool.ports import Host
from pool.steps import (
    BATCH,
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
)
from pool.stores import Queue, Stack

REFUSED, STARVED = range(OWN, OWN + 2)


class ZeroCopyDomainState(NamedTuple):
    """home: frames on the free list; refill: those that the application returned."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    home: Stack
    refill: Queue


class ZeroCopyDomain(BufferPool):
    """cross_domain: id that buffers carry instead of the IOMMU domain's; default that one.

    ``copies`` stays 0: that is the point. refused: buffers of batches refused for a page of another
    domain; starved: buffers asked for while the application had all of its pages.
    """

    name: ClassVar[str] = "zero_copy_domain"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("refused", "starved")

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        cross_domain: int | None = None,
    ) -> None:
        super().__init__(allocator, dma, config)
        self._cross_domain = dma.domain if cross_domain is None else cross_domain
        self.state = ZeroCopyDomainState(
            *self.common(),
            np.zeros(config.pool_size, np.int64),
            stores.make_stack(config.pool_size),
            stores.make_queue(config.pool_size),
        )

    @property
    def domain(self) -> int:
        """Id that a buffer must carry to be taken back."""
        return self._cross_domain

    def give(self, batch: BufferBatch, context: Context) -> None:
        """See :meth:`BufferPool.give`.

        Raises:
            WrongDomainError: a page belongs to another application.
        """
        try:
            super().give(batch, context)
        except WrongDomainError:
            self.state.c[REFUSED] += len(batch)
            raise


@implement_take(ZeroCopyDomainState)
def _take(pool: ZeroCopyDomainState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """From the free list, then from what the application returned."""
    if inflight(pool) < pool.conf[SIZE]:
        _register(pool, host, pool.conf[SIZE] - inflight(pool))
    if stores.count(pool.home) < n:
        pool.c[RING_OPS] += stores.count(pool.refill)
        while stores.count(pool.refill):
            stores.push(pool.home, stores.take_oldest(pool.refill))
    got = min(n, stores.count(pool.home))
    for i in range(got):
        lend(pool, stores.pop(pool.home), i, mem, iova)
    pool.c[STARVED] += n - got
    return got


@implement_receive(ZeroCopyDomainState)
def _receive(
    pool: ZeroCopyDomainState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(ZeroCopyDomainState)
def _give(
    pool: ZeroCopyDomainState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """From another CPU by way of the refill ring, otherwise straight to the free list."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        if pool.at[CLOSING]:
            leave(pool, host, count, pool.pfns)
        else:
            hand_to_device(pool, host, count, pool.pfns)
            _store(pool, count, context == REMOTE)


@implement_close(ZeroCopyDomainState)
def _close(pool: ZeroCopyDomainState, host: Host) -> int:
    """Unregisters the pages that are home."""
    pool.at[CLOSING] = 1
    while stores.count(pool.refill):
        stores.push(pool.home, stores.take_oldest(pool.refill))
    leave_all(pool, host, pool.home)
    return inflight(pool)


@kernel
def _register(pool: ZeroCopyDomainState, host: Host, n: int) -> None:
    """Up to ``n`` more pages are the application's, by one bulk allocation."""
    pool.c[BULK_CALLS] += 1
    got = ports.alloc_pages(host, n, 0, True, pool.fresh)
    for start in range(0, got, BATCH):
        part = pool.fresh[start:]
        for i in range(enter(pool, host, min(BATCH, got - start), True, part)):
            stores.push(pool.home, part[i])


@kernel
def _store(pool: ZeroCopyDomainState, n: int, remote: bool) -> None:
    """Keeps ``n`` of ``pfns``."""
    if remote:
        for i in range(n):
            stores.append(pool.refill, pool.pfns[i])
        pool.c[RECYCLED_RING] += n
        pool.c[RING_OPS] += n
    else:
        for i in range(n):
            stores.push(pool.home, pool.pfns[i])
        pool.c[RECYCLED_CACHE] += n
