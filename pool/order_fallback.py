# SPDX-License-Identifier: MIT
"""``order_fallback``: buffers cut out of blocks of eight pages, or of less when memory is split.

Whose: mlx4's, described by Jesper Dangaard Brouer (thread row T4). Eric Dumazet names the price
(T5): a packet that waits pins its whole block and tells the socket of its own fragment only.

How: the driver asks for a block of order 3, maps it once, and hands out the buffers in it one after
the other; references for all of them are added at once, and the stack drops one each. When no such
block is to be had it tries order 2, 1 and 0, each refusal a trip through the allocator's slow path.
The block is unmapped when the device is done with its last buffer, and freed with the last
reference. So per block: an allocation, a map, an unmap and an atomic; per packet one atomic.

Where it breaks: fragmented memory makes each refill search four times and shrinks what a
map is shared by; the device reaches all packets of a block until the last buffer of it is
filled; and a sender who keeps one packet in eight pages waiting pins far more than is accounted.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.blocks import (
    add_block,
    block_of,
    blocks_for,
    end_mapping,
    free_block,
    per_block,
    stride_of,
)
from pool.counters import ALLOCATIONS, ATOMICS, GIVEN, OWN, REFERENCES, SINGLE_CALLS
from pool.guarantees import Guarantees
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    CONF,
    HEADROOM,
    SYNC,
    hand_over,
    hand_to_cpu,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
    lend_part,
    map_blocks,
)
from pool.stores import Queue

PREFER_ORDER = 3
"""MLX4_EN_ALLOC_PREFER_ORDER for 4 KiB pages: the highest order the allocator calls cheap."""

READY, NEXT = AT, AT + 1
"""In ``at``: buffers not handed out yet; number of the next of them in the oldest open block."""
STRIDE, PREFER = CONF, CONF + 1
FAILED_ATTEMPTS, BLOCKS = OWN, OWN + 1
"""Counters; those from ``BLOCKS`` on are by order."""


class OrderFallbackState(NamedTuple):
    """open: first frames of blocks of which not all buffers were handed out.

    first: of each frame's block. order, away, refs: int64[frames], by first frame: of the block;
    buffers the device is not done with; buffers not given back.
    """

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    fresh: Ints
    open: Queue
    first: Ints
    order: Ints
    away: Ints
    refs: Ints


class OrderFallback(BufferPool):
    """prefer_order: of the blocks asked for first.

    failed_attempts: allocator calls that found no block of the order asked for; blocks_order_<n>:
    blocks allocated of that order.
    """

    name: ClassVar[str] = "order_fallback"
    guarantees = Guarantees(mapped_while_read=True, mapped_in_store=True, shares_mapping=True)

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        prefer_order: int = PREFER_ORDER,
    ) -> None:
        super().__init__(allocator, dma, config)
        orders = (f"blocks_order_{order}" for order in range(prefer_order + 1))
        self.own_counters = ("failed_attempts", *orders)
        self.slot_bytes = stride_of(config.headroom, config.buffer_bytes)
        self.state = OrderFallbackState(
            *self.common(2, (self.slot_bytes, prefer_order)),
            np.zeros(BATCH, np.int64),
            stores.make_queue(self.frames),
            *(np.zeros(self.frames, np.int64) for _ in range(4)),
        )

    @property
    def truesize(self) -> int:
        """The fragment alone, as the driver of 2016 accounts it."""
        return self.slot_bytes

    @property
    def blocks(self) -> list[int]:
        """Blocks allocated, by order."""
        return [int(count) for count in self.state.c[BLOCKS:]]


@implement_take(OrderFallbackState)
def _take(pool: OrderFallbackState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Goes on in the open block, then in new ones."""
    if pool.at[READY] < n:
        _add_blocks(pool, host, n - pool.at[READY])
    n = min(n, pool.at[READY])
    for i in range(n):
        first = stores.oldest(pool.open)
        lend_part(pool, first, pool.at[NEXT] * pool.conf[STRIDE], i, mem, iova)
        _go_on(pool, first)
    return n


@implement_receive(OrderFallbackState)
def _receive(
    pool: OrderFallbackState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; unmaps the blocks whose last buffer this is."""
    hand_to_cpu(pool, host, n, iova, lengths)
    for i in range(n):
        _device_done(pool, host, block_of(pool, mem[i]))
    for i in range(n):
        if pool.away[block_of(pool, mem[i])] == 0:
            iova[i] = NO_ADDRESS


@implement_give(OrderFallbackState)
def _give(
    pool: OrderFallbackState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Drops a reference each, wherever; nothing is posted a second time."""
    pool.c[GIVEN] += n
    pool.c[ATOMICS] += n
    for i in range(n):
        first = block_of(pool, mem[i])
        if not received[i]:
            _device_done(pool, host, first)
        pool.c[REFERENCES] += pool.refs[first] > 1
        _put(pool, host, first)


@implement_close(OrderFallbackState)
def _close(pool: OrderFallbackState, host: Host) -> int:
    """Drops the open blocks' buffers that were never handed out."""
    pool.at[CLOSING] = 1
    while pool.at[READY]:
        first = stores.oldest(pool.open)
        _go_on(pool, first)
        _device_done(pool, host, first)
        _put(pool, host, first)
    return inflight(pool)


@kernel
def _go_on(pool: OrderFallbackState, first: int) -> None:
    """The next buffer of the oldest open block, ``first``, is no longer to be handed out."""
    pool.at[READY] -= 1
    pool.at[NEXT] += 1
    if pool.at[NEXT] == per_block(pool.order[first], pool.conf[STRIDE]):
        stores.take_oldest(pool.open)
        pool.at[NEXT] = 0


@kernel
def _add_blocks(pool: OrderFallbackState, host: Host, need: int) -> None:
    """New blocks with at least ``need`` buffers, or all there are; each the largest there is.

    A block that cannot be had is looked for again, order by order, for every block (mlx4's way).
    """
    while need > 0:
        order = pool.conf[PREFER]
        got = _allocate(pool, host, blocks_for(need, order, pool.conf[STRIDE]), order)
        while got == 0 and order > 0:
            order -= 1
            got = _allocate(pool, host, 1, order)
        if got == 0:
            return
        need -= got * per_block(order, pool.conf[STRIDE])


@kernel
def _allocate(pool: OrderFallbackState, host: Host, want: int, order: int) -> int:
    """``want`` calls for a block, up to the first that fails; how many are mapped and open now."""
    done, opened, more = 0, 0, True
    while done < want and more:
        count = min(BATCH, want - done)
        got = ports.alloc_pages(host, count, order, False, pool.fresh)
        kept = map_blocks(pool, host, got, order, False, pool.fresh)
        for i in range(kept):
            _open(pool, host, pool.fresh[i], order)
        done += got
        opened += kept
        more = got == count
    pool.c[SINGLE_CALLS] += calls_for(want, done)
    pool.c[FAILED_ATTEMPTS] += done < want
    pool.c[BLOCKS + order] += opened
    return opened


@kernel
def _open(pool: OrderFallbackState, host: Host, first: int, order: int) -> None:
    """The block's buffers are next to be handed out."""
    buffers = per_block(order, pool.conf[STRIDE])
    add_block(pool, first, order)
    stores.append(pool.open, first)
    pool.order[first] = order
    pool.away[first] = buffers
    pool.refs[first] = buffers
    pool.at[READY] += buffers
    pool.c[ALLOCATIONS] += 1 << order
    pool.c[ATOMICS] += 1  # the references of all buffers, added at once
    pool.c[REFERENCES] += 1
    if pool.conf[SYNC]:
        _hand_block_over(pool, host, first, buffers)


@kernel
def _hand_block_over(pool: OrderFallbackState, host: Host, first: int, buffers: int) -> None:
    """Syncs all buffers of the block."""
    place = pool.iova[first] + pool.conf[HEADROOM]
    for start in range(0, buffers, BATCH):
        count = min(BATCH, buffers - start)
        for i in range(count):
            pool.iovas[i] = place + (start + i) * pool.conf[STRIDE]
        hand_over(pool, host, count)


@kernel
def _device_done(pool: OrderFallbackState, host: Host, first: int) -> None:
    """The device will not touch one more buffer of the block; after the last it is unmapped."""
    pool.away[first] -= 1
    if pool.away[first] == 0:
        end_mapping(pool, host, first, pool.order[first])


@kernel
def _put(pool: OrderFallbackState, host: Host, first: int) -> None:
    """One more reference is dropped; after the last the block is freed."""
    pool.refs[first] -= 1
    if pool.refs[first] == 0:
        free_block(pool, host, first, pool.order[first])
