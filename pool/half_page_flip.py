# SPDX-License-Identifier: MIT
"""``half_page_flip``: each half of a page in turn, as long as the stack has left the other.

Whose: the Intel drivers (igb, ixgbe, i40e), brought to the thread by Jesper Dangaard Brouer and
Eric Dumazet (row T3) as what a pool has to beat.

How: the driver keeps references to each of its pages. When the device has filled one half, one of
them goes to the stack with the packet, and the other half is posted next: allowed while no packet
before still has the page (in 2016 ``page_count <= 2``). Otherwise the page is unmapped and the
driver lets go of it. In 2016 the driver took a reference for every packet, so a packet cost two
atomics: that increment and the stack's ``put_page``. Since 2017 it takes 65,535 at a time and
counts without atomics how many are left (``pagecnt_bias``): ``put_page`` is what remains, and a
page that cannot be flipped costs two more, when it is taken and when it is given up.
``PoolConfig.references`` says which: 1 is the way of 2016.

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
    CONF,
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
AT_A_TIME = CONF
"""In ``conf``: references to a page that are taken by one atomic."""


class HalfPageFlipState(NamedTuple):
    """ready: halves to post, by their number in memory: that of the frame times 2, or 1 more.

    owned: int64[frames], references that the driver has; stack_refs: int8[frames], the stack.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    ready: Stack
    owned: Ints
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
            *self.common(0, (config.references,)),
            np.zeros(BATCH, np.int64),
            stores.make_stack(self.frames),
            np.zeros(self.frames, np.int64),
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
            _take_references(pool, pool.fresh[i], pool.conf[AT_A_TIME] - 1)  # it came with one
            pool.owned[pool.fresh[i]] += 1
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
            pool.owned[pfn] -= 1
            # No page is in a batch twice: only one half of it is posted.
            if pool.stack_refs[pfn] == 0 and not pool.at[CLOSING]:
                if pool.owned[pfn] == 0:
                    _take_references(pool, pfn, pool.conf[AT_A_TIME])
                _make_ready(pool, half ^ 1, flipped)
                flipped += 1
            else:
                _let_go(pool, pfn)
                iova[i] = NO_ADDRESS
                pool.pfns[lost] = pfn
                lost += 1
            pool.stack_refs[pfn] += 1
        hand_over(pool, host, flipped)
        unmap(pool, host, lost, 0, pool.pfns)
        pool.c[FLIPS] += flipped
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
                _count_put(pool, half >> 1)
            elif pool.at[CLOSING]:
                _end(pool, host, half >> 1)
            else:
                _make_ready(pool, half, ready)
                ready += 1
                continue
            freed = _gather_unused(pool, half >> 1, freed)
        hand_over(pool, host, ready)
        _free(pool, host, freed)


@implement_close(HalfPageFlipState)
def _close(pool: HalfPageFlipState, host: Host) -> int:
    """Gives up the pages of all ready halves."""
    pool.at[CLOSING] = 1
    while stores.count(pool.ready):
        pfn = stores.pop(pool.ready) >> 1
        _end(pool, host, pfn)
        _free(pool, host, _gather_unused(pool, pfn, 0))
    return inflight(pool)


@kernel
def _make_ready(pool: HalfPageFlipState, half: int, place: int) -> None:
    """The half is next; number ``place`` of those to be synced."""
    start = pool.conf[HEADROOM] + ((half & 1) << HALF_SHIFT)
    pool.iovas[place] = pool.iova[half >> 1] + start
    stores.push(pool.ready, half)


@kernel
def _take_references(pool: HalfPageFlipState, pfn: int, count: int) -> None:
    """``count`` more for the driver, by one atomic."""
    if count:
        pool.owned[pfn] += count
        pool.c[ATOMICS] += 1
        pool.c[REFERENCES] += 1


@kernel
def _let_go(pool: HalfPageFlipState, pfn: int) -> None:
    """The driver drops what references it has left; a packet has one, so they are not the last."""
    if pool.owned[pfn]:
        pool.owned[pfn] = 0
        pool.c[ATOMICS] += 1
        pool.c[REFERENCES] += 1


@kernel
def _end(pool: HalfPageFlipState, host: Host, pfn: int) -> None:
    """Unmaps the page and drops the driver's references, which may be the last."""
    pool.owned[pfn] = 0
    _count_put(pool, pfn)
    pool.fresh[0] = pfn
    unmap(pool, host, 1, 0, pool.fresh)


@kernel
def _count_put(pool: HalfPageFlipState, pfn: int) -> None:
    """One atomic; that of the last reference is part of freeing the page."""
    pool.c[ATOMICS] += 1
    pool.c[REFERENCES] += pool.owned[pfn] > 0 or pool.stack_refs[pfn] > 0


@kernel
def _gather_unused(pool: HalfPageFlipState, pfn: int, freed: int) -> int:
    """If nobody has the page now it is number ``freed`` of those to free; how many then."""
    if pool.owned[pfn] or pool.stack_refs[pfn]:
        return freed
    pool.pfns[freed] = pfn
    return freed + 1


@kernel
def _free(pool: HalfPageFlipState, host: Host, n: int) -> None:
    if n:
        pool.c[RELEASED] += n
        ports.free_pages(host, n, 0, False, pool.pfns)
