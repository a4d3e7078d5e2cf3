# SPDX-License-Identifier: MIT
"""The page allocator as kernels: free lists by order, last freed first given out.

Blocks are split when a smaller one is wanted and none is there. They are not joined again: a model
of minutes of traffic needs no compaction, and ``fragmented`` says how much of memory begins split,
which is what order-3 allocations meet in practice. Where nothing of an order is left, the
allocator's slow path is entered, and fails (thread row T4).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel

MAX_ORDER = 9
"""Largest blocks: 2 MiB, the huge page of x86."""
SPLIT_ORDER = 3
"""Blocks that fragmentation splits: PAGE_ALLOC_COSTLY_ORDER."""

FAILED, SPLITS, IN_USE, IN_USE_PEAK, COUNTS = range(5)
"""Places in ``n``: calls that found nothing; blocks split; pages given out, now and at most."""


class Memory(NamedTuple):
    """n: int64[COUNTS]; depth: int64[orders], blocks in each list; free: int64[orders, frames]."""

    n: Ints
    depth: Ints
    free: Ints


def make_memory(frames: int, fragmented: float = 0.0, seed: int = 1) -> Memory:
    """``frames`` pages (a multiple of 512), the first block of which is never given out.

    fragmented: share of order-3 blocks of which somebody else holds a page, from 0 to 1.

    Raises:
        ValueError: no memory is left to give, or the share is none.
    """
    blocks = (frames >> MAX_ORDER) - 1
    if blocks < 1 or not 0.0 <= fragmented <= 1.0:
        raise ValueError(f"{frames} frames, {fragmented} fragmented: 1024 at least, 0 to 1")
    memory = Memory(
        np.zeros(COUNTS, np.int64),
        np.zeros(MAX_ORDER + 1, np.int64),
        np.zeros((MAX_ORDER + 1, frames), np.int64),
    )
    first = np.arange(blocks, 0, -1) << MAX_ORDER  # the lowest is given out first
    if fragmented == 0.0:
        _fill(memory, MAX_ORDER, first)
        return memory
    small = np.arange(((blocks + 1) << MAX_ORDER) - 8, (1 << MAX_ORDER) - 8, -8)
    hit = np.random.default_rng(seed).random(len(small)) < fragmented
    _fill(memory, SPLIT_ORDER, small[~hit])
    pages = (small[hit][:, None] + np.arange(6, -1, -1)).ravel()  # the eighth is somebody's
    _fill(memory, 0, pages)
    return memory


def _fill(memory: Memory, order: int, firsts: Ints) -> None:
    memory.free[order, : len(firsts)] = firsts
    memory.depth[order] = len(firsts)


@kernel
def take_block(memory: Memory, order: int) -> int:
    """First frame of a block of ``2**order`` pages, or -1."""
    found = order
    while found <= MAX_ORDER and memory.depth[found] == 0:
        found += 1
    if found > MAX_ORDER:
        memory.n[FAILED] += 1
        return -1
    memory.depth[found] -= 1
    first = memory.free[found, memory.depth[found]]
    while found > order:
        found -= 1
        memory.n[SPLITS] += 1
        put_block(memory, first + (1 << found), found)
    memory.n[IN_USE] += 1 << order
    memory.n[IN_USE_PEAK] = max(memory.n[IN_USE_PEAK], memory.n[IN_USE])
    return first


@kernel
def give_block(memory: Memory, first: int, order: int) -> None:
    """Takes back what :func:`take_block` gave."""
    memory.n[IN_USE] -= 1 << order
    put_block(memory, first, order)


@kernel
def put_block(memory: Memory, first: int, order: int) -> None:
    """Puts a block on top of its list."""
    memory.free[order, memory.depth[order]] = first
    memory.depth[order] += 1
