# SPDX-License-Identifier: MIT
"""The least that can play the host of a compiled buffer strategy, and polls to run on it.

Memory is an array of flags, the page of a frame is mapped where it lies in memory, and every misuse
is counted instead of raised, since compiled code raises nothing. All in one file: Numba looks only
at the file of the function it compiled to see whether what it cached is still true.
"""

from typing import NamedTuple

import numpy as np

from emulator.kernel import Bytes, Ints, compiled, kernel
from pool import ports, steps
from pool.buffers import PAGE_SHIFT
from pool.ports import NO_ADDRESS

FREE, NEXT_RANGE = 0, 1
"""Places in ``at``: single pages on the stack; address of the next joined range."""
ALLOCS, FREES, MAPS, UNMAPS, TO_DEVICE, TO_CPU, COPIED, MISUSES = range(8)
"""Counts, of pages and buffers."""
RANGES = 1 << 40
"""Joined ranges lie from here up."""


class TinyHost(NamedTuple):
    """The lower half of the frames serves blocks, the upper single pages, last freed first.

    mapped: by frame, how often it is mapped; ranges: frames of the joined ranges, in order of
    their addresses.
    """

    at: Ints
    c: Ints
    stack: Ints
    used: Bytes
    mapped: Bytes
    ranges: Ints


def make(frames, ranges=1 << 16):
    """A host with ``frames`` frames; ``ranges`` pages can be joined in its whole life."""
    stack = np.arange(frames // 2, frames)[::-1].copy()
    used = np.zeros(frames, np.int8)
    used[0] = 1
    return TinyHost(
        np.array([len(stack), RANGES]),
        np.zeros(MISUSES + 1, np.int64),
        stack,
        used,
        np.zeros(frames, np.int8),
        np.zeros(ranges, np.int64),
    )


class TinyPorts:
    """What a pool's constructor asks of allocator and DMA API; both in one."""

    domain = 0

    def __init__(self, host):
        self.host, self.span = host, (0, len(host.used))

    def map_range(self, pfn, pages, direction):
        return ports.map_range(self.host, pfn, pages)

    def unmap_range(self, iova, pages):
        ports.unmap_range(self.host, iova, pages)

    def refuse(self, *arguments):
        raise AssertionError("the state's kernels are to be used")

    map_scattered = unmap_scattered = copy_bytes = refuse


@compiled
def polls(pool, host, rounds, n, late, mem, iova, lengths, received, counts):
    """``rounds`` polls of ``n``: take, receive all but a few, give those of two polls before.

    late: on another CPU in every ``late``-th poll. mem, iova, received: int64[2, n]; counts:
    int64[2], zeros; lengths: int64[n]. Pages in flight after a close: 0. Python calls
    ``polls.py_func`` for the same.
    """
    left = 0
    for poll in range(rounds + 3):  # each kernel is called at one place: that compiles faster
        row, context = poll & 1, steps.NAPI if poll % late else steps.REMOTE
        if poll >= rounds:
            left = steps.close(pool, host)
        steps.give(pool, host, counts[row], mem[row], received[row], context)
        counts[row] = 0
        if poll < rounds:
            counts[row] = got = steps.take(pool, host, n, mem[row], iova[row])
            filled = got - got // 8
            steps.receive(pool, host, filled, mem[row], iova[row], lengths)
            received[row, :filled] = 1
            received[row, filled:] = 0
    return left


@kernel
def _mark(host, pfn, pages, flags, value, misuses):
    """Sets a flag of each page; a page that has that value already is a misuse."""
    for frame in range(pfn, pfn + pages):
        host.c[MISUSES] += misuses * (flags[frame] == value)
        flags[frame] = value


@ports.implement_alloc_pages(TinyHost)
def _alloc(host, count, order, bulk, out):
    got = 0
    if order == 0:
        got = min(count, host.at[FREE])
        for i in range(got):
            host.at[FREE] -= 1
            out[i] = host.stack[host.at[FREE]]
    else:
        while got < count:
            first = _find_block(host, 1 << order, out, got)
            if first == 0:
                break
            out[got] = first
            got += 1
            _mark(host, first, 1 << order, host.used, 1, 1)
        host.c[ALLOCS] += got << order
        return got
    for i in range(got):
        _mark(host, out[i], 1, host.used, 1, 1)
    host.c[ALLOCS] += got
    return got


@kernel
def _find_block(host, size, out, got):
    """The lowest free block behind the last one found; 0: there is none."""
    first = out[got - 1] + size if got else size
    while first + size <= len(host.used) // 2:
        busy = 0
        for frame in range(first, first + size):
            busy += host.used[frame]
        if busy == 0:
            return first
        first += size
    return 0


@ports.implement_free_pages(TinyHost)
def _free(host, count, order, bulk, pfns):
    for i in range(count):
        _mark(host, pfns[i], 1 << order, host.used, 0, 1)
        if order == 0:
            host.stack[host.at[FREE]] = pfns[i]
            host.at[FREE] += 1
    host.c[FREES] += count << order


@ports.implement_map_pages(TinyHost)
def _map_pages(host, count, order, pfns, out):
    for i in range(count):
        out[i] = ports.map_range(host, pfns[i], 1 << order)


@ports.implement_unmap_pages(TinyHost)
def _unmap_pages(host, count, order, iovas):
    for i in range(count):
        ports.unmap_range(host, iovas[i], 1 << order)


@ports.implement_map_range(TinyHost)
def _map_range(host, pfn, pages):
    _mark(host, pfn, pages, host.mapped, 1, 1)
    host.c[MAPS] += 1
    return pfn << PAGE_SHIFT


@ports.implement_unmap_range(TinyHost)
def _unmap_range(host, iova, pages):
    _mark(host, iova >> PAGE_SHIFT, pages, host.mapped, 0, 1)
    host.c[UNMAPS] += 1


@ports.implement_map_scattered(TinyHost)
def _map_scattered(host, pages, pfns):
    address = host.at[NEXT_RANGE]
    start = (address - RANGES) >> PAGE_SHIFT
    if start + pages > len(host.ranges):
        return NO_ADDRESS
    for i in range(pages):
        _mark(host, pfns[i], 1, host.mapped, 1, 1)
        host.ranges[start + i] = pfns[i]
    host.at[NEXT_RANGE] += pages << PAGE_SHIFT
    host.c[MAPS] += 1
    return address


@ports.implement_unmap_scattered(TinyHost)
def _unmap_scattered(host, iova, pages):
    start = (iova - RANGES) >> PAGE_SHIFT
    for i in range(pages):
        _mark(host, host.ranges[start + i], 1, host.mapped, 0, 1)
    host.c[UNMAPS] += 1


@kernel
def _check_mapped(host, iova):
    """A sync of what is not mapped is a misuse."""
    pfn = iova >> PAGE_SHIFT
    if iova >= RANGES:
        pfn = host.ranges[(iova - RANGES) >> PAGE_SHIFT]
    host.c[MISUSES] += host.mapped[pfn] == 0


@ports.implement_sync_for_device(TinyHost)
def _sync_for_device(host, count, iovas, length):
    for i in range(count):
        _check_mapped(host, iovas[i])
    host.c[TO_DEVICE] += count


@ports.implement_sync_for_cpu(TinyHost)
def _sync_for_cpu(host, count, iovas, lengths):
    for i in range(count):
        _check_mapped(host, iovas[i])
    host.c[TO_CPU] += count


@ports.implement_copy_bytes(TinyHost)
def _copy_bytes(host, count, sources, targets, lengths):
    for i in range(count):
        host.c[MISUSES] += host.used[targets[i] >> PAGE_SHIFT] == 0
        host.c[COPIED] += lengths[i]
