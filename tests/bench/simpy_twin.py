# SPDX-License-Identifier: MIT
"""page_pool under strict VT-d as a user of SimPy would write it: what the twin's speed is beside.

Processes for device and driver, a store for each ring, an event for what takes time; an LRU of
the IOTLB, a pool with its cache and ring, and a ledger that knows what is mapped, who has which
page, and integrates exposure. Prices are the twin's own, so that both come to the same counts and
the same cycles.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Generator
from dataclasses import dataclass, field

import simpy

from driver.host.costs import HostCosts, load_host_costs
from emulator.iommu.model.costs import IommuCosts, load_costs

RING, BUDGET, CACHE, REFILL, PAGE = 512, 64, 128, 64, 4096
HOST, PRESET = "linux-2016", "vtd-strict"

Events = Generator[simpy.Event, object, None]


@dataclass
class PlainLedger:
    """What is mapped, who has which page, what is exposed (byte-ns), and what was wrong."""

    mapped: dict[int, int] = field(default_factory=dict)
    owner: dict[int, str] = field(default_factory=dict)
    since: dict[int, float] = field(default_factory=dict)
    exposed: float = 0.0
    violations: list[str] = field(default_factory=list)

    def post(self, page: int) -> None:
        """Rule O-5."""
        if self.owner.get(page, "home") != "home":
            self.violations.append(f"O-5: page {page} is posted and is {self.owner[page]}")
        self.owner[page] = "device"

    def write(self, iova: int, page: int) -> None:
        """Rule O-1."""
        if self.mapped.get(iova) != page:
            self.violations.append(f"O-1: page {page} written at {iova}")
        self.owner[page] = "home"

    def receive(self, page: int, now: float) -> None:
        """The stack reads what the device still reaches."""
        self.owner[page], self.since[page] = "stack", now

    def give(self, page: int, now: float) -> None:
        """It is done."""
        self.owner[page] = "home"
        self.exposed += PAGE * (now - self.since.pop(page))


class SimpyTwin:
    """One queue, 64-byte frames as fast as the driver polls, all dropped in the poll."""

    def __init__(self, packets: int) -> None:
        self.env = simpy.Environment()
        self.packets, self.received = packets, 0
        self.ring, self.done = simpy.Store(self.env), simpy.Store(self.env)
        self.host: HostCosts = load_host_costs(HOST)
        self.iommu: IommuCosts = load_costs(PRESET)
        self.ledger = PlainLedger()
        self.iotlb: OrderedDict[int, bool] = OrderedDict()
        self.cache: deque[tuple[int, int]] = deque()
        self.pages = self.maps = self.misses = 0
        self.busy_ns = 0.0

    def run(self) -> None:
        """Until all packets were received."""
        self.env.process(self.device())
        self.env.run(until=self.env.process(self.driver()))

    def work(self, ns: float) -> simpy.Event:
        """The CPU is busy."""
        self.busy_ns += ns
        return self.env.timeout(ns)

    def device(self) -> Events:
        """Fills every buffer that is posted, in order."""
        while True:
            iova, page = yield self.ring.get()  # type: ignore[misc]
            self.translate(iova)
            self.ledger.write(iova, page)
            yield self.done.put((iova, page))

    def translate(self, iova: int) -> None:
        """Looks it up in an LRU of as many entries as the preset's IOTLB has."""
        if iova in self.iotlb:
            self.iotlb.move_to_end(iova)
            return
        self.misses += 1
        self.iotlb[iova] = True
        caches = self.iommu.caches
        if caches is not None and len(self.iotlb) > caches.iotlb:
            self.iotlb.popitem(last=False)

    def driver(self) -> Events:
        """Fills the ring, then polls."""
        yield from self.refill(RING)
        host = self.host
        each = host.ns("stack.receive") + host.ns("stack.drop") + host.ns("dma.sync")
        while self.received < self.packets:
            batch = [(yield self.done.get())]
            while self.done.items and len(batch) < min(BUDGET, self.packets - self.received):
                batch.append((yield self.done.get()))
            yield self.work(host.ns("stack.poll"))
            for _, page in batch:
                self.ledger.receive(page, self.env.now)
                yield self.work(each)
            for buffer in batch:
                yield self.work(host.ns("dma.sync") + host.ns("pool.store_op"))
                self.ledger.give(buffer[1], self.env.now)
                self.cache.append(buffer)
            self.received += len(batch)
            yield from self.refill(len(batch))

    def refill(self, count: int) -> Events:
        """Posts buffers of the pool, which maps new pages a bulk at a time."""
        for _ in range(count):
            if not self.cache:
                yield self.work(self.fill_cache())
            yield self.work(self.host.ns("pool.store_op"))
            buffer = self.cache.pop()
            self.ledger.post(buffer[1])
            yield self.ring.put(buffer)

    def fill_cache(self) -> float:
        """A bulk of new pages, each mapped; what that takes."""
        for _ in range(REFILL):
            self.pages += 1
            self.maps += 1
            iova = (1 << 20) - self.pages
            self.ledger.mapped[iova] = self.pages
            self.cache.append((iova, self.pages))
        map_ns = self.iommu.map_ns + self.iommu.iova.tree_alloc_ns
        return REFILL * (self.host.bulk[-1] / self.host.ghz / 2 + map_ns)
