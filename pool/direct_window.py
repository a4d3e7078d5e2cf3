# SPDX-License-Identifier: MIT
"""``direct_window``: all memory mapped once; a map is a sum and an unmap is nothing.

Whose: Thadeu Lima de Souza Cascardo for Power (thread row T12): enlarge the device's DMA window
until it holds all memory, map that when the driver probes, and never talk to the hypervisor again.

How: :class:`DirectWindow` maps the allocator's whole span as one range. A buffer's DMA address is
the window's start plus where its page lies. Pages come from the page allocator one by one and go
back there with ``put_page``: nothing is worth keeping when mapping is free.

Where it breaks: it is the IOMMU of no use. The device reaches every byte of memory, at all times:
before a buffer is posted, after it was freed, and what was never a buffer. It also needs a window
as large as memory, which not every platform has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

import numpy as np

from emulator.kernel import Ints, kernel
from pool import ports
from pool.buffers import PAGE_SHIFT
from pool.counters import (
    ALLOCATIONS,
    GIVEN,
    MAPPED_PAGES,
    MAPS,
    SINGLE_CALLS,
    TAKEN,
    UNMAPPED_PAGES,
    UNMAPS,
)
from pool.errors import PoolError
from pool.guarantees import Guarantees
from pool.interface import Direction, DmaApi, PageAllocator, PoolConfig
from pool.kept import calls_for, free
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS, Host, HostPorts, RangeDma, missing_port
from pool.steps import (
    AT,
    BATCH,
    CLOSING,
    HEADROOM,
    frames_of,
    hand_to_cpu,
    implement_close,
    implement_give,
    implement_receive,
    implement_take,
    inflight,
)

FIRST, PAGES, ADDRESS = 0, 1, 2
"""Places in ``WindowState.at``: first frame, how many, and where the device finds the first."""
OWNS_WINDOW = AT
"""In the pool's ``at``: the window is its own, and open."""


class WindowState(NamedTuple):
    """at: int64[3]."""

    at: Ints


class DirectWindow:
    """All of ``allocator``'s memory, mapped for the device of ``dma`` until :meth:`close`.

    Raises:
        MissingPortError: the DMA API has no ranges.
        PoolError: it refused the range.
    """

    def __init__(self, allocator: PageAllocator, dma: DmaApi, direction: Direction) -> None:
        if not isinstance(dma, RangeDma):
            raise missing_port(dma, RangeDma, "direct_window")
        self._ports = HostPorts(allocator, dma, direction)
        first, pages = allocator.span
        address = ports.map_range(self._ports, first, pages)
        if address == NO_ADDRESS:
            raise PoolError(
                f"direct_window: no IOVA range for {pages} pages; "
                "the window must be as large as memory: enlarge it or choose another strategy"
            )
        self.state = WindowState(np.array([first, pages, address], np.int64))

    @property
    def pages(self) -> int:
        """How many it holds."""
        return int(self.state.at[PAGES])

    def close(self) -> None:
        """Unmaps everything: when the driver is removed."""
        close_window(self.state, self._ports)


class DirectWindowState(NamedTuple):
    """window: of the device. ``iova`` is not used: every address is a sum."""

    at: Ints
    c: Ints
    conf: Ints
    iova: Ints
    pfns: Ints
    iovas: Ints
    window: WindowState


class DirectWindowPool(BufferPool):
    """window: of the device, shared by its queues; without one the pool makes and ends its own."""

    name: ClassVar[str] = "direct_window"
    guarantees = Guarantees(
        mapped_while_read=True,
        mapped_in_store=True,
        mapped_when_free=True,
        shares_mapping=True,
        reaches_everything=True,
    )
    iommu_page_shift = 21

    def __init__(
        self,
        allocator: PageAllocator,
        dma: DmaApi,
        config: PoolConfig,
        *,
        window: DirectWindow | None = None,
    ) -> None:
        super().__init__(allocator, dma, config)
        self.guarantees = replace(self.guarantees, mapped_after_close=window is not None)
        owns = window is None
        window = window or DirectWindow(allocator, dma, config.direction)
        self.state = DirectWindowState(*self.common(1), window.state)
        self.state.at[OWNS_WINDOW] = owns
        self.state.c[MAPS] += owns
        self.state.c[MAPPED_PAGES] += owns * window.pages


@implement_take(DirectWindowState)
def _take(pool: DirectWindowState, host: Host, n: int, mem: Ints, iova: Ints) -> int:
    """``n`` single-page allocations and sums."""
    done, more = 0, True
    while done < n and more:
        want = min(BATCH, n - done)
        got = ports.alloc_pages(host, want, 0, False, pool.pfns)
        for i in range(got):
            place = (pool.pfns[i] << PAGE_SHIFT) + pool.conf[HEADROOM]
            mem[done + i] = place
            iova[done + i] = address_in(pool.window, place)
        pool.c[SINGLE_CALLS] += calls_for(want, got)
        done += got
        more = got == want
    pool.c[ALLOCATIONS] += done
    pool.c[TAKEN] += done
    return done


@implement_receive(DirectWindowState)
def _receive(
    pool: DirectWindowState, host: Host, n: int, mem: Ints, iova: Ints, lengths: Ints
) -> None:
    """Syncs for the CPU; the device reaches the buffer as it reaches everything."""
    hand_to_cpu(pool, host, n, iova, lengths)


@implement_give(DirectWindowState)
def _give(
    pool: DirectWindowState, host: Host, n: int, mem: Ints, received: Ints, context: int
) -> None:
    """Frees the pages, which stay within reach."""
    pool.c[GIVEN] += n
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        frames_of(count, start, mem, pool.pfns)
        free(pool, host, count, pool.pfns)
    _end_window(pool, host)


@implement_close(DirectWindowState)
def _close(pool: DirectWindowState, host: Host) -> int:
    """Ends the pool's own window once nothing is out."""
    pool.at[CLOSING] = 1
    _end_window(pool, host)
    return inflight(pool)


@kernel
def _end_window(pool: DirectWindowState, host: Host) -> None:
    if pool.at[OWNS_WINDOW] and pool.at[CLOSING] and inflight(pool) == 0:
        pool.at[OWNS_WINDOW] = 0
        close_window(pool.window, host)
        pool.c[UNMAPS] += 1
        pool.c[UNMAPPED_PAGES] += pool.window.at[PAGES]


@kernel
def address_in(window: WindowState, place: int) -> int:
    """What replaces a map: where the device finds the byte at ``place`` in memory."""
    return place - (window.at[FIRST] << PAGE_SHIFT) + window.at[ADDRESS]


@kernel
def close_window(window: WindowState, host: Host) -> None:
    """Unmaps everything."""
    ports.unmap_range(host, window.at[ADDRESS], window.at[PAGES])
