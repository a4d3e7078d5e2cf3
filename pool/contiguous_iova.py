# SPDX-License-Identifier: MIT
"""``contiguous_iova``: 64 pages of a descriptor in one IOVA range, ended by one invalidation.

Whose: Benny Rubin and others, "Fast & Safe IO Memory Protection" (SOSP 2024): neither recycling nor
deferring, but strict unmapping made cheap by batching what belongs together.

How: a multi-packet receive descriptor has 64 pages. They are allocated in bulk, may lie anywhere in
memory and are mapped one behind the other in one range, so their page-table entries share cache
lines and page-walk caches. When the device is done with the last of them the range is unmapped, and
one invalidation covers it. Pages given back before that wait, so that no page is freed while the
device reaches it.

Where it breaks: the unit of safety is the descriptor: a packet is read while the range is still
mapped unless it is the last (``read_while_mapped``); the driver keeps a reference to its page until
then, which is two atomics more. A slow queue leaves its range mapped, and
its pages pinned, until 64 buffers were filled. It needs a DMA API that joins scattered pages.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Bytes, Ints, kernel
from pool import ports
from pool.buffers import PAGE_SHIFT
from pool.counters import (
    ALLOCATIONS,
    ATOMICS,
    BULK_CALLS,
    GIVEN,
    MAP_ERRORS,
    MAPPED_PAGES,
    MAPS,
    OWN,
    RELEASED,
    UNMAPPED_PAGES,
    UNMAPS,
)
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import free
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host, ScatterDma, missing_port
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    CONF,
    count_reference,
    hand_to_cpu,
    hand_to_device,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    map_blocks,
)

DESCRIPTOR_PAGES = BATCH
"""Pages of a descriptor, 64 as in the paper's NIC."""
NONE = -1

NEXT, PAGES = AT, AT + 1
"""In ``at``: number of the next page to hand out of the open descriptor; its pages."""
LIMIT, JOINS = CONF, CONF + 1
"""In ``conf``: pages of a descriptor, at most DESCRIPTOR_PAGES; whether the DMA API joins them."""
READ_WHILE_MAPPED, PARKED = range(OWN, OWN + 2)
KEPT, WAITS = 1, 2
"""Of a page whose range is mapped: the stack reads it, and the driver has a reference as well;
nobody reads it, and it is freed when the range ends."""


class ContiguousIovaState(NamedTuple):
    """open: int64[DESCRIPTOR_PAGES], frames of the descriptor that is being handed out.

    base, following: int64[frames], first and next frame of the descriptor a frame is in, NONE
    behind the last. away: int64[frames], by first frame, buffers the device is not done with.
    parked: int8[frames], KEPT, WAITS or neither. A frame's ``iova`` says whether its range lives.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    open: Ints
    base: Ints
    following: Ints
    away: Ints
    parked: Bytes


class ContiguousIova(BufferPool):
    """Descriptors of one queue.

    read_while_mapped: buffers that went to the stack while their descriptor's range was still
    mapped; parked: pages given back before their descriptor was done: freed later, with the others.

    Raises:
        MissingPortError: the DMA API cannot join scattered pages.
    """

    name: ClassVar[str] = "contiguous_iova"
    descriptor_pages: ClassVar[int] = DESCRIPTOR_PAGES
    must_join: ClassVar[bool] = True
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("read_while_mapped", "parked")

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        joins = isinstance(dma, ScatterDma)
        if self.must_join and not joins:
            raise missing_port(dma, ScatterDma, self.name)
        super().__init__(allocator, dma, config)
        self.state = ContiguousIovaState(
            *self.common(2, (self.descriptor_pages, int(joins))),
            np.zeros(DESCRIPTOR_PAGES, np.int64),
            np.zeros(self.frames, np.int64),
            np.zeros(self.frames, np.int64),
            np.zeros(self.frames, np.int64),
            np.zeros(self.frames, np.int8),
        )


@implement_take(ContiguousIovaState)
def _take(pool: ContiguousIovaState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Goes on in the open descriptor, then in new ones."""
    for i in range(n):
        if pool.at[NEXT] == pool.at[PAGES] and not _open_descriptor(pool, host):
            return i
        lend(pool, pool.open[pool.at[NEXT]], i, mem, iova)
        pool.at[NEXT] += 1
    return n


@implement_receive(ContiguousIovaState)
def _receive(
    pool: ContiguousIovaState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; ends the ranges of which this was the last."""
    hand_to_cpu(pool, host, n, iova, lengths)
    for i in range(n):
        _device_done(pool, host, mem[i] >> PAGE_SHIFT)
    for i in range(n):
        pfn = mem[i] >> PAGE_SHIFT
        if pool.iova[pfn] != NO_ADDRESS:
            pool.c[READ_WHILE_MAPPED] += 1
            pool.parked[pfn] = KEPT
            count_reference(pool)
        else:
            iova[i] = NO_ADDRESS


@implement_give(ContiguousIovaState)
def _give(
    pool: ContiguousIovaState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Frees the pages of descriptors that are done; the others wait for theirs."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        freed = 0
        for i in range(start, min(start + BATCH, n)):
            pool.pfns[freed] = mem[i] >> PAGE_SHIFT
            freed += not _park(pool, pool.pfns[freed])
        free(pool, host, freed, pool.pfns)
    for i in range(n):
        if not received[i]:
            _device_done(pool, host, mem[i] >> PAGE_SHIFT)


@implement_close(ContiguousIovaState)
def _close(pool: ContiguousIovaState, host: Host) -> int:
    """Drops the open descriptor's pages that were never handed out."""
    pool.at[CLOSING] = 1
    for i in range(pool.at[NEXT], pool.at[PAGES]):
        _park(pool, pool.open[i])
    for i in range(pool.at[NEXT], pool.at[PAGES]):
        _device_done(pool, host, pool.open[i])
    pool.at[NEXT] = pool.at[PAGES]
    return inflight(pool)


@kernel
def _open_descriptor(pool: ContiguousIovaState, host: Host) -> bool:
    """Up to 64 pages in one range; False if memory or address space is short."""
    pool.c[BULK_CALLS] += 1
    count = ports.alloc_pages(host, pool.conf[LIMIT], 0, True, pool.open)
    if pool.conf[JOINS]:
        count = _map_joined(pool, host, count)
    else:
        count = map_blocks(pool, host, count, 0, True, pool.open)
    if count == 0:
        return False
    pool.c[ALLOCATIONS] += count
    first = last = pool.open[0]
    for i in range(count):
        pfn = pool.open[i]
        pool.following[last] = pfn
        pool.base[pfn], last = first, pfn
    pool.following[last] = NONE
    pool.away[first] = count
    pool.at[NEXT], pool.at[PAGES] = 0, count
    hand_to_device(pool, host, count, pool.open)
    return True


@kernel
def _map_joined(pool: ContiguousIovaState, host: Host, count: int) -> int:
    """Maps the ``count`` pages of ``open`` as one range; 0: refused, and they are freed."""
    if count == 0:
        return 0
    address = ports.map_scattered(host, count, pool.open)
    if address == NO_ADDRESS:
        pool.c[MAP_ERRORS] += 1
        ports.free_pages(host, count, 0, True, pool.open)
        return 0
    pool.c[MAPS] += 1
    pool.c[MAPPED_PAGES] += count
    for i in range(count):
        pool.iova[pool.open[i]] = address + (i << PAGE_SHIFT)
    return count


@kernel
def _park(pool: ContiguousIovaState, pfn: int) -> bool:
    """Keeps it until its range ends; False: that has ended."""
    if pool.iova[pfn] == NO_ADDRESS:
        return False
    if pool.parked[pfn] == KEPT:  # the stack's put_page(), not the last
        count_reference(pool)
    pool.parked[pfn] = WAITS
    pool.c[PARKED] += 1
    return True


@kernel
def _device_done(pool: ContiguousIovaState, host: Host, pfn: int) -> None:
    """The device will not touch it any more; a range it is done with ends here."""
    first = pool.base[pfn]
    pool.away[first] -= 1
    if pool.away[first] == 0:
        _end_range(pool, host, first)


@kernel
def _end_range(pool: ContiguousIovaState, host: Host, first: int) -> None:
    """Unmaps the range from ``first`` on, then frees what waits for that, all of it together."""
    pages = freed = 0
    pfn = first
    while pfn != NONE:
        pool.iovas[pages] = pool.iova[pfn]
        pool.iova[pfn] = NO_ADDRESS
        if pool.parked[pfn] == WAITS:
            pool.pfns[freed] = pfn
            freed += 1
        elif pool.parked[pfn] == KEPT:  # the driver's reference, not the last
            count_reference(pool)
        pool.parked[pfn] = 0
        pages += 1
        pfn = pool.following[pfn]
    if pool.conf[JOINS]:
        ports.unmap_scattered(host, pool.iovas[0], pages)
        pool.c[UNMAPS] += 1
    else:
        ports.unmap_pages(host, pages, 0, pool.iovas)
        pool.c[UNMAPS] += pages
    pool.c[UNMAPPED_PAGES] += pages
    if freed:
        pool.c[RELEASED] += freed
        pool.c[ATOMICS] += freed
        ports.free_pages(host, freed, 0, True, pool.pfns)
