# SPDX-License-Identifier: MIT
"""``shadow_copy``: the device gets permanently mapped buffers, the stack gets copies.

Whose: Alex Markuze, Adam Morrison and Dan Tsafrir, "True IOMMU protection from DMA attacks: when
copy is faster than zero copy" (ASPLOS 2016), published in the very month of the discussion.

How: shadow pages are mapped once and hold nothing but packets. A received packet is copied to a
private page that was never mapped, and its shadow can be posted again at once. Neither a map nor
an unmap nor an invalidation per packet, and the device never reaches a byte the stack reads: the
only strategy here that is safe byte by byte without an unmap. The private page is set aside when
the shadow is posted, so that receiving cannot fail.

Where it breaks: the copy, and it grows with the packet: cheap for 64 bytes, not for 9000. Twice
the memory for every posted buffer, and an allocation and a ``put_page`` per packet.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.buffers import PAGE_SHIFT
from pool.counters import ALLOCATIONS, COPIES, GIVEN, OWN, RECYCLED_CACHE, SINGLE_CALLS
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for, free, leave, leave_all, lend_fresh
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, CopyPages, Host, missing_port
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    HEADROOM,
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
from pool.stores import Stack

SPARE = AT
"""In ``at``: how many of ``private`` no posted shadow needs."""
BYTES_COPIED, UNRESERVED = range(OWN, OWN + 2)


class ShadowCopyState(NamedTuple):
    """Stacks of frames: shadows at home; private: pages for copies of those posted, and spares."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    shadows: Stack
    private: Stack


class ShadowCopy(BufferPool):
    """Shadows grow to what the device ever had posted at one time.

    ``copies`` counts the packets; bytes_copied: from shadow to private pages; unreserved: buffers
    not handed out because there was no private page to go with them.

    Raises:
        MissingPortError: the allocator cannot copy.
    """

    name: ClassVar[str] = "shadow_copy"
    guarantees = Guarantees(mapped_in_store=True)
    own_counters = ("bytes_copied", "unreserved")

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        if not isinstance(allocator, CopyPages):
            raise missing_port(allocator, CopyPages, self.name)
        super().__init__(allocator, dma, config)
        self.state = ShadowCopyState(
            *self.common(1),
            np.zeros(BATCH, np.int64),
            stores.make_stack(self.frames),
            stores.make_stack(self.frames),
        )


@implement_take(ShadowCopyState)
def _take(pool: ShadowCopyState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Shadows, each with a private page set aside."""
    reserved = _reserve(pool, host, n)
    done = min(reserved, stores.count(pool.shadows))
    for i in range(done):
        lend(pool, stores.pop(pool.shadows), i, mem, iova)
    done = lend_fresh(pool, host, done, reserved, mem, iova)
    for _ in range(done, reserved):
        pool.pfns[0] = stores.pop(pool.private)
        free(pool, host, 1, pool.pfns)
    return done


@implement_receive(ShadowCopyState)
def _receive(
    pool: ShadowCopyState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Copies ``lengths[i]`` bytes each; the buffers are now private pages, unmapped."""
    hand_to_cpu(pool, host, n, iova, lengths)
    for i in range(n):  # no address is needed any more: iova has the copies' places
        iova[i] = (stores.pop(pool.private) << PAGE_SHIFT) + pool.conf[HEADROOM]
        pool.c[BYTES_COPIED] += lengths[i]
    pool.c[COPIES] += n
    ports.copy_bytes(host, n, mem, iova, lengths)
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        _shadows_home(pool, host, count, pool.pfns)
    for i in range(n):
        mem[i] = iova[i]
        iova[i] = NO_ADDRESS


@implement_give(ShadowCopyState)
def _give(
    pool: ShadowCopyState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Private pages are freed; unused shadows are kept, and their private pages for the next."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        unused = freed = 0
        for i in range(start, min(start + BATCH, n)):
            pfn = mem[i] >> PAGE_SHIFT
            if received[i]:
                pool.pfns[freed] = pfn
                freed += 1
            else:
                pool.fresh[unused] = pfn
                unused += 1
        free(pool, host, freed, pool.pfns)
        pool.at[SPARE] += unused
        _shadows_home(pool, host, unused, pool.fresh)
    if pool.at[CLOSING]:
        _free_spares(pool, host)


@implement_close(ShadowCopyState)
def _close(pool: ShadowCopyState, host: Host) -> int:
    """Unmaps and frees the shadows that are home."""
    pool.at[CLOSING] = 1
    _free_spares(pool, host)
    leave_all(pool, host, pool.shadows)
    return inflight(pool)


@kernel
def _reserve(pool: ShadowCopyState, host: Host, n: int) -> int:
    """Sets up to ``n`` private pages aside, spares first, then allocated singly; how many."""
    spare, more = min(n, pool.at[SPARE]), True
    pool.at[SPARE] -= spare
    done = spare
    while done < n and more:
        want = min(BATCH, n - done)
        got = ports.alloc_pages(host, want, 0, False, pool.fresh)
        for i in range(got):
            stores.push(pool.private, pool.fresh[i])
        pool.c[SINGLE_CALLS] += calls_for(want, got)
        done += got
        more = got == want
    pool.c[ALLOCATIONS] += done - spare
    pool.c[UNRESERVED] += n - done
    return done


@kernel
def _free_spares(pool: ShadowCopyState, host: Host) -> None:
    for _ in range(pool.at[SPARE]):
        pool.pfns[0] = stores.pop(pool.private)
        free(pool, host, 1, pool.pfns)
    pool.at[SPARE] = 0


@kernel
def _shadows_home(pool: ShadowCopyState, host: Host, n: int, pfns: Ints) -> None:
    """``n`` (at most BATCH) shadows are ready to be posted, or leave a closing pool."""
    if pool.at[CLOSING]:
        leave(pool, host, n, pfns)
        return
    hand_to_device(pool, host, n, pfns)
    for i in range(n):
        stores.push(pool.shadows, pfns[i])
    pool.c[RECYCLED_CACHE] += n
