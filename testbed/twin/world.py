# SPDX-License-Identifier: MIT
"""Builds a twin of a scenario: host, queues, pools. The only place that knows all parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driver.host.costs import load_host_costs
from driver.host.memory import make_memory
from emulator.errors import DmabedError
from emulator.iommu.model import unit
from emulator.iommu.model.costs import IommuCosts, Translation, load_costs
from emulator.kernel import packed
from emulator.ledger.columns.book import make_book
from pool import ports
from pool.buffers import IovaArray, PfnArray
from pool.errors import MissingPortError, PoolError
from pool.interface import Direction, PoolConfig
from pool.pool import BufferPool
from pool.ports import NO_ADDRESS
from pool.registry import STRATEGIES
from testbed.twin import host as h
from testbed.twin import queue as q
from testbed.twin.host import Host, make_host
from testbed.twin.queue import Queue, make_queue
from testbed.twin.scenario import TwinScenario
from testbed.twin.traffic import make_tables

SPACE_PAGES = 1 << 20
"""IOVA pages below 4 GiB, where Linux looks first."""

_CONSUMERS = {
    "drop": q.DROP,
    "discard": q.DISCARD,
    "forward": q.FORWARD,
    "forward-remote": q.FORWARD_REMOTE,
    "socket": q.SOCKET,
    "storage": q.STORAGE,
    "initiator": q.STORAGE,
}


class NotApplicableError(DmabedError):
    """A strategy cannot work on that IOMMU; the text says what it lacks."""


@dataclass(slots=True)
class World:
    """A twin that has not run, or has: its arrays say which.

    The records are the same arrays, for compiled code.
    """

    scenario: TwinScenario
    costs: IommuCosts
    host: Host
    pools: list[BufferPool]
    queues: list[Queue]
    host_record: Any
    pool_records: list[Any]
    queue_records: list[Any]
    clocks: list[float]
    """ns, of each queue's CPU: how far its virtual time has got."""

    def records(self, number: int) -> tuple[Any, Any, Any]:
        """Pool, host and queue ``number``, for :func:`testbed.twin.poll.drive`."""
        return self.pool_records[number], self.host_record, self.queue_records[number]


def build(scenario: TwinScenario) -> World:
    """A world at time 0, nothing allocated or posted.

    Raises:
        NotApplicableError: the strategy needs what the IOMMU of the preset cannot do.
        TrafficError: the packets cannot be had.
    """
    costs = load_costs(scenario.preset)
    host, host_record = packed(_host(scenario, costs))
    try:
        pools = [_pool(scenario, host) for _ in range(scenario.driver.queues)]
    except MissingPortError as error:
        lack = "needs an IOMMU that can show scattered pages in a row"
        raise NotApplicableError(f"{scenario.strategy} under {scenario.preset}: {lack}") from error
    except PoolError as error:
        raise NotApplicableError(f"{scenario.strategy} under {scenario.preset}: {error}") from error
    pool_records = []
    for pool in pools:
        pool.state, record = packed(pool.state)
        pool_records.append(record)
    made = [packed(_queue(scenario, number, pool)) for number, pool in enumerate(pools)]
    queues, queue_records = [views for views, _ in made], [record for _, record in made]
    clocks = [0.0] * len(pools)
    return World(
        scenario, costs, host, pools, queues, host_record, pool_records, queue_records, clocks
    )


def _host(scenario: TwinScenario, costs: IommuCosts) -> Host:
    frames = scenario.memory.mib << 8
    memory = make_memory(frames, scenario.memory.fragmented, scenario.seed)
    cpus = 2 * scenario.driver.queues
    io = unit.make_iommu(costs, cpus, SPACE_PAGES)
    everything = costs.translation in (Translation.NONE, Translation.DIRECT_WINDOW)
    book = make_book(
        frames, SPACE_PAGES, scenario.devices.count, everything, scenario.devices.shared_domain
    )
    host = make_host(load_host_costs(scenario.host), memory, io, book, cpus)
    if scenario.memory.debug_checks:
        host.price[h.DEBUG] = 0.0
    return host


def _pool(scenario: TwinScenario, host: Host) -> BufferPool:
    driver = scenario.driver
    kind = "map_per_packet" if scenario.consumer.kind == "initiator" else scenario.strategy
    config = PoolConfig(
        pool_size=driver.pool_size,
        headroom=driver.headroom,
        buffer_bytes=driver.buffer_bytes,
        direction=Direction.FROM_DEVICE,
        sync=driver.sync,
        references=driver.references,
    )
    dma = TwinDma(host) if unit.is_identity(host.io) else JoiningTwinDma(host)
    return STRATEGIES[kind](TwinPages(host), dma, config)


def _queue(scenario: TwinScenario, number: int, pool: BufferPool) -> Queue:
    driver, consumer, devices = scenario.driver, scenario.consumer, scenario.devices
    tables = make_tables(scenario.traffic, driver.queues, scenario.seed + number)
    queue = make_queue(driver.ring, driver.budget, tables.sizes, tables.gaps)
    device = number % devices.count
    queue.n[q.CPU], queue.n[q.DEVICE] = 2 * number, device
    queue.n[q.CONSUMER] = _CONSUMERS[consumer.kind]
    queue.n[q.BUDGET], queue.n[q.FIRST] = driver.budget, scenario.traffic.first_poll
    queue.n[q.LENGTH], queue.n[q.TRUESIZE] = pool.length, pool.truesize
    queue.n[q.BATCH], queue.n[q.LATE_EVERY] = consumer.batch, consumer.late_every
    queue.n[q.IOMMU_SHIFT] = pool.iommu_page_shift
    queue.n[q.ALLOCATOR_STORE] = pool.stores_in_allocator
    queue.n[q.DEVICE_PEER] = 1 - device if devices.count == 2 else -1
    queue.f[q.GAP_SCALE] = tables.scale
    queue.f[q.HOLD_NS], queue.f[q.LATE_NS] = consumer.hold_us * 1e3, consumer.late_us * 1e3
    return queue


class TwinPages:
    """The page allocator as a strategy's constructor sees it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @property
    def span(self) -> tuple[int, int]:
        """See :class:`pool.interface.PageAllocator`."""
        return 0, len(self._host.book.since)

    def alloc_pages(self, count: int, order: int = 0) -> PfnArray:
        """See :class:`pool.interface.PageAllocator`."""
        out = np.zeros(count, np.int64)
        got = ports.alloc_pages(self._host, count, order, False, out)
        return out[:got]

    def free_pages(self, pfns: PfnArray, order: int = 0) -> None:
        """See :class:`pool.interface.PageAllocator`."""
        ports.free_pages(self._host, len(pfns), order, False, pfns)

    def copy_bytes(
        self, sources: NDArray[Any], destinations: NDArray[Any], lengths: NDArray[Any]
    ) -> None:
        """See :class:`pool.ports.CopyPages`."""
        ports.copy_bytes(self._host, len(lengths), sources, destinations, lengths)


class TwinDma:
    """The DMA API as a strategy's constructor sees it; what it maps there, the host has mapped."""

    domain = 0

    def __init__(self, host: Host) -> None:
        self._host = host

    def map_pages(self, pfns: PfnArray, direction: Direction, order: int = 0) -> IovaArray:
        """See :class:`pool.interface.DmaApi`."""
        out = np.zeros(len(pfns), np.int64)
        ports.map_pages(self._host, len(pfns), order, pfns, out)
        return out.view(np.uint64)

    def unmap_pages(self, iovas: IovaArray, order: int = 0) -> None:
        """See :class:`pool.interface.DmaApi`."""
        ports.unmap_pages(self._host, len(iovas), order, iovas.view(np.int64))

    def map_range(self, pfn: int, pages: int, direction: Direction) -> int | None:
        """See :class:`pool.ports.RangeDma`."""
        iova = ports.map_range(self._host, pfn, pages)
        return None if iova == NO_ADDRESS else iova

    def unmap_range(self, iova: int, pages: int) -> None:
        """See :class:`pool.ports.RangeDma`."""
        ports.unmap_range(self._host, iova, pages)

    def sync_for_device(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """Not used by constructors."""

    def sync_for_cpu(self, iovas: IovaArray, lengths: NDArray[np.int64]) -> None:
        """Not used by constructors."""


class JoiningTwinDma(TwinDma):
    """With an IOMMU that can make scattered pages appear in a row."""

    def map_scattered(self, pfns: PfnArray, direction: Direction) -> int | None:
        """See :class:`pool.ports.ScatterDma`."""
        iova = ports.map_scattered(self._host, len(pfns), pfns)
        return None if iova == NO_ADDRESS else iova

    def unmap_scattered(self, iova: int, pages: int) -> None:
        """See :class:`pool.ports.ScatterDma`."""
        ports.unmap_scattered(self._host, iova, pages)
