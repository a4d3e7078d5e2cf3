# SPDX-License-Identifier: MIT
"""What strategies share that cut mapped blocks into buffers and keep the blocks until closed."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports, stores
from pool.blocks import (
    BlockState,
    add_block,
    block_of,
    blocks_for,
    end_mapping,
    free_block,
    per_block,
    stride_of,
)
from pool.buffers import PAGE_SHIFT
from pool.counters import ALLOCATIONS, SINGLE_CALLS, TAKEN
from pool.interface import DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for
from pool.pool import BufferPool
from pool.ports import Host
from pool.steps import BATCH, CLOSING, CONF, HEADROOM, hand_over, map_blocks
from pool.stores import Stack, make_stack

STRIDE, ORDER, OWN_CONF = CONF, CONF + 1, CONF + 2
"""Places in ``conf``: bytes from one buffer to the next; of the blocks; a strategy's own."""


class CarvedState(BlockState, Protocol):
    """fresh: int64[BATCH], new blocks; blocks: first frames of all there are.

    A strategy keeps the places in memory (:mod:`pool.blocks`) of the buffers that are home.
    """

    @property
    def fresh(self) -> Ints: ...  # noqa: D102
    @property
    def blocks(self) -> Stack: ...  # noqa: D102


class CarvedPool(BufferPool):
    """Base: blocks of ``2**order`` pages."""

    def __init__(
        self, allocator: PageAllocator, dma: DmaApi, config: PoolConfig, order: int
    ) -> None:
        super().__init__(allocator, dma, config)
        self.order = order
        self.slot_bytes = stride_of(config.headroom, config.buffer_bytes)

    @property
    def truesize(self) -> int:
        """The buffer, rounded up to a cache line."""
        return self.slot_bytes

    def carved(
        self, own_at: int = 0
    ) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints]:
        """What a state begins with: the common arrays, ``fresh``, ``first`` and ``away``."""
        return (
            *self.common(own_at, (self.slot_bytes, self.order)),
            np.zeros(BATCH, np.int64),
            np.zeros(self.frames, np.int64),
            np.zeros(self.frames, np.int64),
        )

    def all_blocks(self) -> Stack:
        """Room for every block there can be."""
        return make_stack((self.frames >> self.order) + 1)


@kernel
def grow(pool: CarvedState, host: Host, blocks: int, limit: int, store: Stack) -> int:
    """Allocates and maps up to ``blocks`` blocks, a call each; how many buffers that made.

    The first ``limit`` of them are put into ``store``, so that the first is its topmost.
    """
    bottom, more = stores.count(store), True
    while blocks > 0 and more:
        want = min(BATCH, blocks)
        got = ports.alloc_pages(host, want, pool.conf[ORDER], False, pool.fresh)
        pool.c[SINGLE_CALLS] += calls_for(want, got)
        kept = map_blocks(pool, host, got, pool.conf[ORDER], False, pool.fresh)
        for i in range(kept):
            limit -= _cut(pool, host, pool.fresh[i], limit, store)
        blocks -= want
        more = got == want
    _turn_over(store, bottom)
    return stores.count(store) - bottom


@kernel
def _cut(pool: CarvedState, host: Host, first: int, limit: int, store: Stack) -> int:
    """Puts up to ``limit`` buffers of a new block into ``store``; how many."""
    add_block(pool, first, pool.conf[ORDER])
    stores.push(pool.blocks, first)
    pool.c[ALLOCATIONS] += 1 << pool.conf[ORDER]
    buffers = min(limit, per_block(pool.conf[ORDER], pool.conf[STRIDE]))
    for start in range(0, buffers, BATCH):
        count = min(BATCH, buffers - start)
        for i in range(count):
            offset = (start + i) * pool.conf[STRIDE] + pool.conf[HEADROOM]
            stores.push(store, (first << PAGE_SHIFT) + offset)
            pool.iovas[i] = pool.iova[first] + offset
        hand_over(pool, host, count)
    return buffers


@kernel
def _turn_over(store: Stack, bottom: int) -> None:
    """What lies above ``bottom`` comes to lie the other way round."""
    top = stores.count(store) - 1
    while bottom < top:
        below, above = store.items[bottom], store.items[top]
        store.items[bottom], store.items[top] = above, below
        bottom += 1
        top -= 1


@kernel
def blocks_missing(pool: CarvedState, buffers: int) -> int:
    """Blocks that so many more buffers need."""
    return blocks_for(buffers, pool.conf[ORDER], pool.conf[STRIDE])


@kernel
def lend_cut(pool: CarvedState, place: int, number: int, mem: Ints, iova: Ints) -> None:
    """Hands out the buffer at ``place`` as number ``number`` of the batch."""
    first = block_of(pool, place)
    pool.away[first] += 1
    mem[number] = place
    iova[number] = pool.iova[first] + place - (first << PAGE_SHIFT)
    pool.c[TAKEN] += 1


@kernel
def take_back(pool: CarvedState, host: Host, n: int, mem: Ints) -> None:
    """Buffers are home again: synced, or in a closing pool counted until their block may leave."""
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        for i in range(count):
            place = mem[start + i]
            first = block_of(pool, place)
            pool.away[first] -= 1
            if pool.at[CLOSING]:
                _release_whole(pool, host, first)
            else:
                pool.iovas[i] = pool.iova[first] + place - (first << PAGE_SHIFT)
        if not pool.at[CLOSING]:
            hand_over(pool, host, count)


@kernel
def close_blocks(pool: CarvedState, host: Host) -> None:
    """Unmaps and frees the blocks that have all their buffers; ``give`` does it with the others."""
    pool.at[CLOSING] = 1
    while stores.count(pool.blocks):
        _release_whole(pool, host, stores.pop(pool.blocks))


@kernel
def _release_whole(pool: CarvedState, host: Host, first: int) -> None:
    """Unmaps and frees the block if none of its buffers is out."""
    if pool.away[first] == 0:
        end_mapping(pool, host, first, pool.conf[ORDER])
        free_block(pool, host, first, pool.conf[ORDER])
