# SPDX-License-Identifier: MIT
"""Blocks of pages cut into buffers: the arithmetic that several strategies share.

A buffer is known by its place in memory, headroom not included, so stores of buffers are plain
int64 arrays. It lies in one block as a whole, but may begin in one page and end in the next.
"""

from __future__ import annotations

from typing import Protocol

from emulator.kernel import Ints, kernel
from pool import ports
from pool.buffers import PAGE_SHIFT, PAGE_SIZE
from pool.counters import RELEASED
from pool.ports import Host
from pool.steps import State, unmap

CACHE_LINE = 64
"""Bytes; buffers start on one."""


class BlockState(State, Protocol):
    """What a state of blocks has besides.

    first: int64[frames], first frame of the block a frame is in; away: int64[frames], by first
    frame, buffers that the strategy waits for. ``iova`` is by first frame.
    """

    @property
    def first(self) -> Ints: ...  # noqa: D102
    @property
    def away(self) -> Ints: ...  # noqa: D102


def stride_of(headroom: int, buffer_bytes: int) -> int:
    """Bytes from one buffer to the next: headroom and payload, rounded up to a cache line."""
    return -(-(headroom + buffer_bytes) // CACHE_LINE) * CACHE_LINE


@kernel
def per_block(order: int, stride: int) -> int:
    """Buffers in a block of ``2**order`` pages, cut every ``stride`` bytes."""
    return (PAGE_SIZE << order) // stride


@kernel
def blocks_for(buffers: int, order: int, stride: int) -> int:
    """Blocks of that order that so many buffers need."""
    return -(-buffers // per_block(order, stride))


@kernel
def add_block(pool: BlockState, first: int, order: int) -> None:
    """A block begins there."""
    for pfn in range(first, first + (1 << order)):
        pool.first[pfn] = first
    pool.away[first] = 0


@kernel
def block_of(pool: BlockState, place: int) -> int:
    """First frame of the block that a buffer at ``place`` in memory is in."""
    return pool.first[place >> PAGE_SHIFT]


@kernel
def end_mapping(pool: BlockState, host: Host, first: int, order: int) -> None:
    """Unmaps the block, if it is mapped."""
    pool.pfns[0] = first
    unmap(pool, host, 1, order, pool.pfns)


@kernel
def free_block(pool: BlockState, host: Host, first: int, order: int) -> None:
    """The block leaves the pool."""
    pool.c[RELEASED] += 1 << order
    pool.pfns[0] = first
    ports.free_pages(host, 1, order, False, pool.pfns)
