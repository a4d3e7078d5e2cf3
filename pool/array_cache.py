# SPDX-License-Identifier: MIT
"""``array_cache``: a small array of mapped pages that only the queue's own poll touches.

Whose: Alexei Starovoitov (thread row T2). For dropping and forwarding at line rate a recycler with
any atomic per packet is out of the question; a plain array of page and DMA address is enough.

How: taking pops the array, and allocates and maps page by page what it lacks. A page given back
by the queue's own CPU is pushed; when the array is full the page is unmapped and freed. A page is
a packet, however small, so what a packet leaves of its page is waste, and counted.

Where it breaks: another CPU must not touch the array, so what comes back from there is unmapped
and freed; traffic that goes to sockets recycles nothing and pays as without a pool. While the
stack reads, the device can still write.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import stores
from pool.buffers import PAGE_SHIFT, PAGE_SIZE
from pool.counters import GIVEN, OWN, RECYCLED_CACHE
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import leave, leave_all, lend_fresh
from pool.pool import BufferPool
from pool.ports import Host
from pool.steps import (
    BATCH,
    CLOSING,
    REMOTE,
    hand_to_cpu,
    hand_to_device,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend,
)
from pool.stores import Stack

CACHE_FULL, REMOTE_FREES, BYTES_WASTED = range(OWN, OWN + 3)


class ArrayCacheState(NamedTuple):
    """array: of frames."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    array: Stack


class ArrayCache(BufferPool):
    """An array of ``pool_size`` pages.

    cache_full: pages that came back on the own CPU and found no room; remote_frees: pages that came
    back on another CPU, lost to the array; bytes_wasted: bytes of received buffers' pages in which
    no packet was.
    """

    name: ClassVar[str] = "array_cache"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True)
    own_counters = ("cache_full", "remote_frees", "bytes_wasted")

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        super().__init__(allocator, dma, config)
        array = stores.make_stack(config.pool_size)
        self.state = ArrayCacheState(*self.common(), np.zeros(BATCH, np.int64), array)


@implement_take(ArrayCacheState)
def _take(pool: ArrayCacheState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Pops, then allocates singly."""
    done = min(n, stores.count(pool.array))
    for i in range(done):
        lend(pool, stores.pop(pool.array), i, mem, iova)
    return lend_fresh(pool, host, done, n, mem, iova)


@implement_receive(ArrayCacheState)
def _receive(
    pool: ArrayCacheState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; the mapping stays."""
    hand_to_cpu(pool, host, n, iova, lengths)
    for i in range(n):
        pool.c[BYTES_WASTED] += PAGE_SIZE - lengths[i]


@implement_give(ArrayCacheState)
def _give(
    pool: ArrayCacheState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """To the array unless the page comes from another CPU or the pool is closing."""
    pool.c[GIVEN] += n
    # In teardown NAPI is off: nobody else is at the array.
    own = context != REMOTE and not pool.at[CLOSING]
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        kept = min(count, stores.room(pool.array)) if own else 0
        pool.c[CACHE_FULL] += own * (count - kept)
        pool.c[REMOTE_FREES] += (context == REMOTE) * count
        _recycle(pool, host, kept, start, mem)
        for i in range(kept, count):
            pool.pfns[i - kept] = mem[start + i] >> PAGE_SHIFT
        leave(pool, host, count - kept, pool.pfns)


@implement_close(ArrayCacheState)
def _close(pool: ArrayCacheState, host: Host) -> int:
    """Empties the array."""
    pool.at[CLOSING] = 1
    leave_all(pool, host, pool.array)
    return inflight(pool)


@kernel
def _recycle(pool: ArrayCacheState, host: Host, n: int, start: int, mem: Ints) -> None:
    """Pushes buffers ``start`` to ``start + n``."""
    for i in range(n):
        pool.pfns[i] = mem[start + i] >> PAGE_SHIFT
        stores.push(pool.array, pool.pfns[i])
    hand_to_device(pool, host, n, pool.pfns)
    pool.c[RECYCLED_CACHE] += n
