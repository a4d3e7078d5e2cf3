# SPDX-License-Identifier: MIT
"""``half_page_flip``: each half of a page in turn, as long as the stack has left the other.

Whose: the Intel drivers (igb, ixgbe, i40e), brought to the thread by Jesper Dangaard Brouer and
Eric Dumazet (row T3) as what a pool has to beat.

How: the driver keeps a reference to each of its pages. When the device has filled one half, the
driver takes a reference for the stack and posts the other half next: allowed while the page has no
third user, so ``page_count <= 2`` with the reference just taken. Otherwise the page is unmapped and
the driver's reference goes to the stack with the packet. So two atomics a packet: the driver's
increment and the stack's ``put_page``; a page that cannot be flipped costs only the latter.

Where it breaks: the stack must be done with one half before the device has filled the other, so
slow consumers turn every flip into an unmap, an allocation and a map. Both halves share a mapping:
the device can write to the half that the stack reads. With pages of 8 KiB and more a half wastes
most of its bytes, and the drivers do something else there.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Bytes, Ints, kernel
from pool import ports, stores
from pool.buffers import PAGE_SHIFT, PAGE_SIZE
from pool.counters import ATOMICS, GIVEN, OWN, REFERENCES, RELEASED
from pool.errors import PoolError
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import alloc_singly
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host
from pool.steps import (
    BATCH,
    CLOSING,
    HEADROOM,
    hand_over,
    hand_to_cpu,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend_part,
    unmap,
)
from pool.stores import Stack

HALF_SHIFT = PAGE_SHIFT - 1
HALF = PAGE_SIZE // 2
FLIPS, FAILED_FLIPS = range(OWN, OWN + 2)


class HalfPageFlipState(NamedTuple):
    """ready: halves to post, by their number in memory: that of the frame times 2, or 1 more.

    owned, stack_refs: int8[frames], references that the driver and the stack have.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    ready: Stack
    owned: Bytes
    stack_refs: Bytes


class HalfPageFlip(BufferPool):
    """Buffers are at most half a page, headroom included: a batch's ``lengths`` say how long.

    flips: halves received whose page was kept, the other half next; failed_flips: whose page had
    to be given up, for the other half was still in use. Their sum is the number of buffers
    received.

    Raises:
        PoolError: the headroom fills the half.
    """

    name: ClassVar[str] = "half_page_flip"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)
    own_counters = ("flips", "failed_flips")
    slot_bytes = HALF

    def __init__(self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig) -> None:
        if config.headroom >= HALF:
            raise PoolError(f"headroom {config.headroom}: {self.name} needs less than {HALF}")
        super().__init__(allocator, dma, config)
        self.length = min(config.buffer_bytes, HALF - config.headroom)
        self.state = HalfPageFlipState(
            *self.common(),
            np.zeros(BATCH, np.int64),
            stores.make_stack(self.frames),
            np.zeros(self.frames, np.int8),
            np.zeros(self.frames, np.int8),
        )

    @property
    def truesize(self) -> int:
        """Half a page."""
        return HALF


@implement_take(HalfPageFlipState)
def _take(pool: HalfPageFlipState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Flipped halves, then first halves of pages allocated singly."""
    done, more = min(n, stores.count(pool.ready)), True
    for i in range(done):
        half = stores.pop(pool.ready)
        lend_part(pool, half >> 1, (half & 1) << HALF_SHIFT, i, mem, iova)
    while done < n and more:
        want = min(BATCH, n - done)
        got = alloc_singly(pool, host, want)
        for i in range(got):
            pool.owned[pool.fresh[i]] = 1
            lend_part(pool, pool.fresh[i], 0, done + i, mem, iova)
        done += got
        more = got == want
    return done


@implement_receive(HalfPageFlipState)
def _receive(
    pool: HalfPageFlipState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU, then flips each page or gives it up: that is unmapped."""
    hand_to_cpu(pool, host, n, iova, lengths)
    for start in range(0, n, BATCH):
        flipped = lost = 0
        for i in range(start, min(start + BATCH, n)):
            half = mem[i] >> HALF_SHIFT
            pfn = half >> 1
            # No page is in a batch twice: only one half of it is posted.
            if pool.stack_refs[pfn] == 0 and not pool.at[CLOSING]:
                _make_ready(pool, half ^ 1, flipped)
                flipped += 1
            else:
                pool.owned[pfn] = 0
                iova[i] = NO_ADDRESS
                pool.pfns[lost] = pfn
                lost += 1
            pool.stack_refs[pfn] += 1
        hand_over(pool, host, flipped)
        unmap(pool, host, lost, 0, pool.pfns)
        pool.c[FLIPS] += flipped
        pool.c[ATOMICS] += flipped
        pool.c[REFERENCES] += flipped
        pool.c[FAILED_FLIPS] += lost


@implement_give(HalfPageFlipState)
def _give(
    pool: HalfPageFlipState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Received: the stack's put_page(), wherever. Unused: the half is posted again."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        ready = freed = 0
        for i in range(start, min(start + BATCH, n)):
            half = mem[i] >> HALF_SHIFT
            if received[i]:
                pool.stack_refs[half >> 1] -= 1
            elif pool.at[CLOSING]:
                _end(pool, host, half >> 1)
            else:
                _make_ready(pool, half, ready)
                ready += 1
                continue
            freed = _drop(pool, half >> 1, freed)
        hand_over(pool, host, ready)
        _free(pool, host, freed)


@implement_close(HalfPageFlipState)
def _close(pool: HalfPageFlipState, host: Host) -> int:
    """Gives up the pages of all ready halves."""
    pool.at[CLOSING] = 1
    while stores.count(pool.ready):
        pfn = stores.pop(pool.ready) >> 1
        _end(pool, host, pfn)
        _free(pool, host, _drop(pool, pfn, 0))
    return inflight(pool)


@kernel
def _make_ready(pool: HalfPageFlipState, half: int, place: int) -> None:
    """The half is next; number ``place`` of those to be synced."""
    start = pool.conf[HEADROOM] + ((half & 1) << HALF_SHIFT)
    pool.iovas[place] = pool.iova[half >> 1] + start
    stores.push(pool.ready, half)


@kernel
def _end(pool: HalfPageFlipState, host: Host, pfn: int) -> None:
    """Unmaps the page and takes it from the driver."""
    pool.owned[pfn] = 0
    pool.fresh[0] = pfn
    unmap(pool, host, 1, 0, pool.fresh)


@kernel
def _drop(pool: HalfPageFlipState, pfn: int, freed: int) -> int:
    """Counts a put_page(); if nobody has the page now it is number ``freed`` of those to free."""
    pool.c[ATOMICS] += 1
    if pool.owned[pfn] or pool.stack_refs[pfn]:
        pool.c[REFERENCES] += 1
        return freed
    pool.pfns[freed] = pfn
    return freed + 1


@kernel
def _free(pool: HalfPageFlipState, host: Host, n: int) -> None:
    if n:
        pool.c[RELEASED] += n
        ports.free_pages(host, n, 0, False, pool.pfns)
