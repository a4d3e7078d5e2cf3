# SPDX-License-Identifier: MIT
"""A strategy, as four kernels over its own state; what several of them share stands below.

Buffers travel in arrays. ``mem[i]`` is where buffer ``i`` begins in memory, in bytes from frame 0,
headroom not included, so ``mem >> PAGE_SHIFT`` is its frame; ``iova[i]`` is the same place as the
device addresses it, or NO_ADDRESS once the device no longer reaches it. All are int64, and calls
say how many of their elements count.

A state is a named tuple of arrays that begins with those of :class:`State`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from emulator.kernel import Ints, generic, kernel
from pool import ports
from pool.buffers import PAGE_SHIFT
from pool.counters import (
    ALLOCATIONS,
    ATOMICS,
    MAP_ERRORS,
    MAPPED_PAGES,
    MAPS,
    REFERENCES,
    RELEASED,
    SYNCS_FOR_CPU,
    SYNCS_FOR_DEVICE,
    TAKEN,
    UNMAPPED_PAGES,
    UNMAPS,
)
from pool.ports import NO_ADDRESS, Host

NAPI, REMOTE, TEARDOWN = 0, 1, 2
"""Where buffers are given back: the values of :class:`pool.interface.Context`."""

CLOSING, AT = 0, 1
"""Places in ``State.at``: whether the pool is closing; a strategy's own begin at ``AT``."""
HEADROOM, LENGTH, SYNC, SIZE, CONF = 0, 1, 2, 3, 4
"""Places in ``State.conf``: those of PoolConfig; a strategy's own begin at ``CONF``."""

BATCH = 64
"""Buffers a kernel handles at a time: a NAPI poll's worth."""


class State(Protocol):
    """What every strategy's state begins with.

    at: int64, what changes and is a number; c: the counters; conf: what does not change;
    iova: int64[frames], where each frame of this pool is mapped, or NO_ADDRESS;
    pfns, iovas: int64[BATCH], room for a batch on its way to or from the host.
    """

    @property
    def at(self) -> Ints: ...  # noqa: D102
    @property
    def c(self) -> Ints: ...  # noqa: D102
    @property
    def conf(self) -> Ints: ...  # noqa: D102
    @property
    def iova(self) -> Ints: ...  # noqa: D102
    @property
    def pfns(self) -> Ints: ...  # noqa: D102
    @property
    def iovas(self) -> Ints: ...  # noqa: D102


def _take(pool: State, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """Up to ``n`` mapped buffers into ``mem`` and ``iova``; how many. Only while not closing."""
    raise NotImplementedError


def _receive(pool: State, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints) -> None:
    """The device wrote ``lengths[i]`` bytes to each and is done: they become the CPU's.

    ``mem`` is changed where the stack gets another buffer, ``iova`` where the mapping ended.
    """
    raise NotImplementedError


def _give(pool: State, host: Host, n: int, mem: Ints, received: Ints, context: int) -> None:
    """Buffers come back; ``received[i]`` is 0 where the device never filled it."""
    raise NotImplementedError


def _close(pool: State, host: Host) -> int:
    """Releases what is not lent; pages still in flight. May be called again."""
    raise NotImplementedError


take, implement_take = generic(_take)
receive, implement_receive = generic(_receive)
give, implement_give = generic(_give)
close, implement_close = generic(_close)


@kernel
def inflight(pool: State) -> int:
    """Pages that entered the pool and did not leave it."""
    return pool.c[ALLOCATIONS] - pool.c[RELEASED]


@kernel
def lend(pool: State, pfn: int, place: int, mem: Ints, iova: Ints) -> None:
    """Hands out the buffer of a whole page as number ``place`` of the batch."""
    lend_part(pool, pfn, 0, place, mem, iova)


@kernel
def lend_part(pool: State, first: int, start: int, place: int, mem: Ints, iova: Ints) -> None:
    """Hands out what begins ``start`` bytes into the block at frame ``first``, with headroom."""
    start += pool.conf[HEADROOM]
    mem[place] = (first << PAGE_SHIFT) + start
    iova[place] = pool.iova[first] + start
    pool.c[TAKEN] += 1


@kernel
def count_reference(pool: State) -> None:
    """A reference to a page was taken, or dropped and was not the last: one atomic."""
    pool.c[ATOMICS] += 1
    pool.c[REFERENCES] += 1


@kernel
def map_blocks(pool: State, host: Host, n: int, order: int, bulk: bool, pfns: Ints) -> int:
    """Maps ``n`` new blocks; those refused are freed at once and left out of ``pfns``.

    Returns how many were mapped; ``pool.iova`` has the address of each by its first frame.
    """
    ports.map_pages(host, n, order, pfns, pool.iovas)
    kept = refused = 0
    for i in range(n):
        pfn = pfns[i]
        pool.iova[pfn] = pool.iovas[i]
        if pool.iovas[i] == NO_ADDRESS:
            pool.pfns[refused] = pfn
            refused += 1
        else:
            pfns[kept] = pfn
            kept += 1
    pool.c[MAPS] += kept
    pool.c[MAPPED_PAGES] += kept << order
    pool.c[MAP_ERRORS] += refused
    if refused:
        ports.free_pages(host, refused, order, bulk, pool.pfns)
    return kept


@kernel
def enter(pool: State, host: Host, n: int, bulk: bool, pfns: Ints) -> int:
    """Maps ``n`` (at most BATCH) new pages and counts them in; how many could be mapped."""
    n = map_blocks(pool, host, n, 0, bulk, pfns)
    pool.c[ALLOCATIONS] += n
    hand_to_device(pool, host, n, pfns)
    return n


@kernel
def hand_to_device(pool: State, host: Host, n: int, pfns: Ints) -> None:
    """Syncs whole buffers of ``n`` (at most BATCH) pages: nobody knows how much was written."""
    if pool.conf[SYNC]:
        for i in range(n):
            pool.iovas[i] = pool.iova[pfns[i]] + pool.conf[HEADROOM]
        hand_over(pool, host, n)


@kernel
def hand_over(pool: State, host: Host, n: int) -> None:
    """Syncs the ``n`` buffers whose addresses stand in ``pool.iovas``."""
    if n and pool.conf[SYNC]:
        pool.c[SYNCS_FOR_DEVICE] += n
        ports.sync_for_device(host, n, pool.iovas, pool.conf[LENGTH])


@kernel
def hand_to_cpu(pool: State, host: Host, n: int, iova: Ints, lengths: Ints) -> None:
    """Syncs what the device wrote."""
    pool.c[SYNCS_FOR_CPU] += n
    ports.sync_for_cpu(host, n, iova, lengths)


@kernel
def unmap(pool: State, host: Host, n: int, order: int, pfns: Ints) -> int:
    """Ends those mappings of ``n`` (at most BATCH) blocks that are alive; how many."""
    live = 0
    for i in range(n):
        if pool.iova[pfns[i]] != NO_ADDRESS:
            pool.iovas[live] = pool.iova[pfns[i]]
            pool.iova[pfns[i]] = NO_ADDRESS
            live += 1
    if live:
        ports.unmap_pages(host, live, order, pool.iovas)
        pool.c[UNMAPS] += live
        pool.c[UNMAPPED_PAGES] += live << order
    return live


@kernel
def frames_of(n: int, start: int, mem: Ints, pfns: Ints) -> None:
    """Frames of buffers ``start`` and the ``n`` from there on, into ``pfns``."""
    for i in range(n):
        pfns[i] = mem[start + i] >> PAGE_SHIFT


def no_addresses(n: int) -> Ints:
    """int64[n] of NO_ADDRESS."""
    return np.full(n, NO_ADDRESS, np.int64)
