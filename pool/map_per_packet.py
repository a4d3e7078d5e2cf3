# SPDX-License-Identifier: MIT
"""``map_per_packet``: one page, one map and one unmap for every packet.

Whose: nobody's proposal; it is what drivers did before they recycled pages, and what the DMA API's
documentation describes. The discussion of April 2016 measures everything against it.

How: taking allocates a page and maps it; when the device has filled it, it is unmapped before
anybody reads; giving it back frees it. A buffer that was never filled is unmapped when given back.

Where it breaks: an IOVA, a page-table update and, under a strict IOMMU, an invalidation per packet,
far beyond the 67 ns of a small frame at 10 Gb/s. In return the device reaches a page only while it
is posted: with strict invalidation nothing else comes close in safety.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from emulator.kernel import Ints, kernel
from pool import ports
from pool.counters import ALLOCATIONS, ATOMICS, GIVEN, RELEASED, SINGLE_CALLS
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host
from pool.steps import (
    BATCH,
    CLOSING,
    frames_of,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
    map_blocks,
    unmap,
)


class MapPerPacketState(NamedTuple):
    """Nothing of its own: there is no store."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints


class MapPerPacket(BufferPool):
    """No pool at all behind the pool interface."""

    name: ClassVar[str] = "map_per_packet"
    guarantees = Guarantees()

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        common = self.common()
        self.state = MapPerPacketState(*common, common[-1].copy())


@implement_take(MapPerPacketState)
def _take(pool: MapPerPacketState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """``n`` single-page allocations and maps."""
    done = 0
    while done < n:
        want = min(BATCH, n - done)
        got = ports.alloc_pages(host, want, 0, False, pool.fresh)
        pool.c[SINGLE_CALLS] += calls_for(want, got)
        count = map_blocks(pool, host, got, 0, False, pool.fresh)
        pool.c[ALLOCATIONS] += count
        for i in range(count):
            lend(pool, pool.fresh[i], done + i, mem, iova)
        done += count
        if count < want:
            break
    return done


@implement_receive(MapPerPacketState)
def _receive(
    pool: MapPerPacketState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Unmaps, which also makes the bytes the CPU's: an unmap hands over the whole mapping."""
    _unmap_all(pool, host, n, mem)
    for i in range(n):
        iova[i] = NO_ADDRESS


@implement_give(MapPerPacketState)
def _give(
    pool: MapPerPacketState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Frees the pages, after an unmap if they were not received; no store, so no context."""
    _unmap_all(pool, host, n, mem)
    pool.c[GIVEN] += n
    pool.c[RELEASED] += n
    pool.c[ATOMICS] += n  # put_page()
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        ports.free_pages(host, count, 0, False, pool.pfns)


@implement_close(MapPerPacketState)
def _close(pool: MapPerPacketState, host: Host) -> int:
    """Nothing is kept, so nothing is released."""
    pool.at[CLOSING] = 1
    return inflight(pool)


@kernel
def _unmap_all(pool: MapPerPacketState, host: Host, n: int, mem: Ints) -> None:
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        unmap(pool, host, count, 0, pool.pfns)
