# SPDX-License-Identifier: MIT
"""What the twin counts for a cell: the same strategy, traffic, ring and fate as in the guest.

The traffic is the guest's: bursts of 512 frames, all there before the poll begins, so eight polls
of 64, two bursts to warm up and then those that count; one queue of 1024 descriptors. Time between
bursts passes without a count, so there is none here.

Who frees decides the fate. The driver's own drop is the consumer ``discard``: the buffer goes back
unused. A packet that the stack is given is freed in the same poll; ``page_pool`` gets its page back
into the poll's cache (the skb is marked), every other strategy is only owed a ``put_page()``, as if
another CPU had done it. Forwarded packets are freed by the transmit completion: the same.
"""

from __future__ import annotations

from functools import cache

from driver.model.structs import DMABED_RX_HEADROOM
from pool.buffers import PAGE_SIZE
from testbed.count.results import Fate, Mode, TwinRow
from testbed.count.session import BURST, NIC, WARM_UP
from testbed.predict import NAPI_BUDGET, PRESET
from testbed.scenario import Iommu
from testbed.twin import host as h
from testbed.twin.interpreted import INTERPRETED, build_interpreted
from testbed.twin.run import fill, run_packets
from testbed.twin.scenario import Consumer, Driver, MemoryPlan, Traffic, TwinScenario
from testbed.twin.world import World

_COMES_BACK: frozenset[Mode] = frozenset({"page_pool"})
"""Strategies to which the stack itself brings a page back (``recycle`` in the driver's ops)."""
_SLOT: dict[Mode, int] = {"half_page_flip": PAGE_SIZE // 2, "order_fallback": PAGE_SIZE // 2}
"""Bytes that the driver cuts for a buffer, its headroom and the skb's shared info included."""
_MEMORY_MIB = 64


def twin_scenario(mode: Mode, preset: str, fate: Fate) -> TwinScenario:
    """The cell as a scenario of the twin, 64-byte frames, the IOMMU's ``preset``."""
    return TwinScenario(
        strategy=mode,
        preset=preset,
        packets=BURST,
        driver=Driver(
            queues=1,
            ring=NIC.rx_ring,
            pool_size=NIC.rx_ring,
            budget=NAPI_BUDGET,
            headroom=DMABED_RX_HEADROOM,
            buffer_bytes=_SLOT.get(mode, PAGE_SIZE) - DMABED_RX_HEADROOM,
        ),
        traffic=Traffic(first_poll=NAPI_BUDGET),
        consumer=Consumer(kind=_consumer(mode, fate)),
        memory=MemoryPlan(mib=_MEMORY_MIB),
    )


def _consumer(mode: Mode, fate: Fate) -> str:
    if fate == "drop":
        return "discard"
    if mode not in _COMES_BACK:
        return "socket" if fate == "deliver" else "forward-remote"
    return "drop" if fate == "deliver" else "forward"


def twin_row(mode: Mode, iommu: Iommu, fate: Fate, bursts: int = 2) -> TwinRow:
    """Runs the cell in the twin, as Python: some tenths of a second."""
    return TwinRow(mode, iommu, fate, *_counted(mode, PRESET[iommu], fate, bursts))


@cache
def _counted(mode: Mode, preset: str, fate: Fate, bursts: int) -> tuple[float, ...]:
    """Per packet: maps, unmaps, allocations, frees, atomics."""
    world = build_interpreted(twin_scenario(mode, preset, fate))
    fill(world, INTERPRETED)
    run_packets(world, WARM_UP * BURST, engine=INTERPRETED)
    before = _counts(world)
    run_packets(world, bursts * BURST, engine=INTERPRETED)
    return tuple(
        (after - first) / (bursts * BURST)
        for first, after in zip(before, _counts(world), strict=True)
    )


def _counts(world: World) -> tuple[int, ...]:
    counters, n = world.pools[0].counters, world.host.n
    return (
        counters.maps,
        counters.unmaps,
        int(n[h.ALLOC_CALLS]),
        int(n[h.FREE_CALLS]),
        counters.atomics,
    )
