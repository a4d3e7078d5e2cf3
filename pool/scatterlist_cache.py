# SPDX-License-Identifier: MIT
"""``scatterlist_cache``: sets of pages kept together with the list that describes them.

Whose: Sagi Grimberg, Bart Van Assche, Christoph Hellwig and Chuck Lever, for storage targets and
NFS (thread row T18): their unit is a command, not a packet, so keep whole page sets with their
scatterlist, their mapping and what the driver attached to it, such as a memory key.

How: a set has ``set_pages`` pages, mapped by one call, joined in one IOVA range where the DMA API
can. Its buffers carry the set's number in ``opaques``. A set is whole again when all its buffers
are back; up to ``pool_size`` pages' worth of whole sets are kept, and a command that finds one maps
nothing. The list is as long as the set, not ``SCSI_MAX_SG_SEGMENTS`` entries for every command.

Where it breaks: one buffer that is held keeps its whole set from use; commands of other sizes waste
the rest of a set; the data of one command stays in reach of the device while the next is served.
Without an IOMMU, or with a DMA API that cannot join, it is a map per page.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.buffers import PAGE_SHIFT, BufferBatch
from pool.counters import (
    ALLOCATIONS,
    ATOMICS,
    BULK_CALLS,
    GIVEN,
    MAP_ERRORS,
    MAPPED_PAGES,
    MAPS,
    OWN,
    RECYCLED_RING,
    RING_OPS,
    UNMAPPED_PAGES,
    UNMAPS,
)
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import free
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host, ScatterDma
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    CONF,
    frames_of,
    hand_to_cpu,
    hand_to_device,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    map_blocks,
    unmap,
)
from pool.stores import Stack

SCSI_MAX_SG_SEGMENTS = 128
"""include/scsi/scsi.h of 2016: entries a command's first scatterlist chunk is allocated with."""
SCATTERLIST_BYTES = 32
"""sizeof(struct scatterlist) on x86-64."""
SET_PAGES = 16

OPEN, NEXT = AT, AT + 1
"""In ``at``: the set that is being handed out; number of its next page, its size: there is none."""
PAGES, JOINS = CONF, CONF + 1
"""In ``conf``: pages of a set; whether the DMA API joins pages."""
SET_HITS, SET_MISSES = range(OWN, OWN + 2)


class ScatterlistCacheState(NamedTuple):
    """Sets have a place, which another gets when they end, and a serial number of their own.

    pages: int64[places, set_pages], frames of each; serial, away: int64[places], number and buffers
    not home; of: int64[frames], place of the set a frame is in; unused: places; whole: places of
    the sets that are kept.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    pages: Ints
    serial: Ints
    away: Ints
    of: Ints
    unused: Stack
    whole: Stack


class ScatterlistCache(BufferPool):
    """set_pages: pages of a set.

    set_hits: sets, that is commands, that came mapped from the cache; set_misses: that had to be
    allocated and mapped. An entry of the store, as ``ring_ops`` counts them, is a set.
    """

    name: ClassVar[str] = "scatterlist_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("set_hits", "set_misses")

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        set_pages: int = SET_PAGES,
    ) -> None:
        super().__init__(allocator, dma, config)
        places = self.frames // set_pages + 1
        keep = max(1, config.pool_size // set_pages)
        self.state = ScatterlistCacheState(
            *self.common(2, (set_pages, int(isinstance(dma, ScatterDma)))),
            np.zeros((places, set_pages), np.int64),
            np.zeros(places, np.int64),
            np.zeros(places, np.int64),
            np.zeros(self.frames, np.int64),
            stores.make_stack(places),
            stores.make_stack(min(places, keep)),
        )
        self.state.at[NEXT] = set_pages
        for place in range(places):
            stores.push(self.state.unused, place)

    @property
    def sets(self) -> int:
        """Sets there are."""
        return int(stores.room(self.state.unused))

    @property
    def table_bytes(self) -> int:
        """Bytes of the scatterlists of all sets there are."""
        return self.sets * int(self.state.conf[PAGES]) * SCATTERLIST_BYTES

    @property
    def table_bytes_at_maximum(self) -> int:
        """The same if every set had the list that a SCSI command gets."""
        return self.sets * SCSI_MAX_SG_SEGMENTS * SCATTERLIST_BYTES

    def take(self, n: int) -> BufferBatch:
        """See :meth:`BufferPool.take`; ``opaques`` are the numbers of the sets."""
        batch = super().take(n)
        serials = self.state.serial[self.state.of[batch.pfns]]
        return replace(batch, opaques=serials.view(np.uint64))


@implement_take(ScatterlistCacheState)
def _take(pool: ScatterlistCacheState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Buffers of whole sets, kept ones first; what is left of a set is next."""
    for i in range(n):
        if pool.at[NEXT] == pool.conf[PAGES] and not _open_set(pool, host):
            return i
        lend(pool, pool.pages[pool.at[OPEN], pool.at[NEXT]], i, mem, iova)
        pool.at[NEXT] += 1
    return n


@implement_receive(ScatterlistCacheState)
def _receive(
    pool: ScatterlistCacheState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(ScatterlistCacheState)
def _give(
    pool: ScatterlistCacheState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Sets that are whole again are kept, a lock each, or unmapped and freed."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        if not pool.at[CLOSING]:
            frames_of(count, start, mem, pool.pfns)
            hand_to_device(pool, host, count, pool.pfns)
        for i in range(start, start + count):
            _home(pool, host, pool.of[mem[i] >> PAGE_SHIFT])


@implement_close(ScatterlistCacheState)
def _close(pool: ScatterlistCacheState, host: Host) -> int:
    """Ends the sets that are whole."""
    pool.at[CLOSING] = 1
    for _ in range(pool.at[NEXT], pool.conf[PAGES]):
        _home(pool, host, pool.at[OPEN])
    pool.at[NEXT] = pool.conf[PAGES]
    while stores.count(pool.whole):
        _end(pool, host, stores.pop(pool.whole))
    return inflight(pool)


@kernel
def _open_set(pool: ScatterlistCacheState, host: Host) -> bool:
    """The next set is a kept or a new one; False: memory or address space is short."""
    if stores.count(pool.whole):
        pool.c[SET_HITS] += 1
        pool.c[ATOMICS] += 1
        pool.c[RING_OPS] += 1
        pool.at[OPEN] = stores.pop(pool.whole)
    elif not _build(pool, host):
        return False
    pool.away[pool.at[OPEN]] = pool.conf[PAGES]
    pool.at[NEXT] = 0
    return True


@kernel
def _build(pool: ScatterlistCacheState, host: Host) -> bool:
    """Makes and opens a new set, mapped and synced; False: memory or address space is short."""
    pool.c[BULK_CALLS] += 1
    place = stores.pop(pool.unused)  # there is one more than memory has sets
    pfns = pool.pages[place]
    got = ports.alloc_pages(host, pool.conf[PAGES], 0, True, pfns)
    if got < pool.conf[PAGES]:
        ports.free_pages(host, got, 0, True, pfns)
    elif _map_joined(pool, host, pfns) if pool.conf[JOINS] else _map_each(pool, host, pfns):
        pool.c[SET_MISSES] += 1
        pool.c[ALLOCATIONS] += got
        pool.serial[place] = pool.c[SET_MISSES]
        pool.at[OPEN] = place
        for start in range(0, got, BATCH):
            hand_to_device(pool, host, min(BATCH, got - start), pfns[start:])
        for i in range(got):
            pool.of[pfns[i]] = place
        return True
    stores.push(pool.unused, place)
    return False


@kernel
def _map_joined(pool: ScatterlistCacheState, host: Host, pfns: Ints) -> bool:
    """Maps a set as one range; False: refused, and the pages are freed."""
    address = ports.map_scattered(host, len(pfns), pfns)
    if address == NO_ADDRESS:
        pool.c[MAP_ERRORS] += 1
        ports.free_pages(host, len(pfns), 0, True, pfns)
        return False
    pool.c[MAPS] += 1
    pool.c[MAPPED_PAGES] += len(pfns)
    for i in range(len(pfns)):
        pool.iova[pfns[i]] = address + (i << PAGE_SHIFT)
    return True


@kernel
def _map_each(pool: ScatterlistCacheState, host: Host, pfns: Ints) -> bool:
    """Maps a set page by page; False: some were refused, and the pages are freed."""
    mapped = 0
    for start in range(0, len(pfns), BATCH):
        part = pfns[start:]
        mapped += map_blocks(pool, host, min(BATCH, len(part)), 0, True, part)
        if mapped < min(start + BATCH, len(pfns)):
            ports.free_pages(host, max(0, len(part) - BATCH), 0, True, part[BATCH:])
            _unmap_each(pool, host, mapped, pfns)
            ports.free_pages(host, mapped, 0, True, pfns)
            return False
    return True


@kernel
def _unmap_each(pool: ScatterlistCacheState, host: Host, n: int, pfns: Ints) -> None:
    """Ends the mappings of ``n`` pages."""
    for start in range(0, n, BATCH):
        unmap(pool, host, min(BATCH, n - start), 0, pfns[start:])


@kernel
def _home(pool: ScatterlistCacheState, host: Host, place: int) -> None:
    """A buffer of the set is home; once it is whole it is kept or ended."""
    pool.away[place] -= 1
    if pool.away[place]:
        return
    pool.c[ATOMICS] += 1
    if pool.at[CLOSING] or not stores.room(pool.whole):
        _end(pool, host, place)
    else:
        stores.push(pool.whole, place)
        pool.c[RECYCLED_RING] += pool.conf[PAGES]
        pool.c[RING_OPS] += 1


@kernel
def _end(pool: ScatterlistCacheState, host: Host, place: int) -> None:
    """Unmaps and frees the set."""
    pfns = pool.pages[place]
    if pool.conf[JOINS]:
        ports.unmap_scattered(host, pool.iova[pfns[0]], len(pfns))
        pool.c[UNMAPS] += 1
        pool.c[UNMAPPED_PAGES] += len(pfns)
        for i in range(len(pfns)):
            pool.iova[pfns[i]] = NO_ADDRESS
    else:
        _unmap_each(pool, host, len(pfns), pfns)
    free(pool, host, len(pfns), pfns)
    stores.push(pool.unused, place)
