# SPDX-License-Identifier: MIT
"""What a run of the twin found: counts for each packet, cycles by category, exposure, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from driver.host.costs import load_host_costs
from emulator.iommu.model import places
from emulator.iommu.model.walker import pcie_write_gbps
from emulator.ledger.columns import book as b
from emulator.ledger.violation import Violation
from pool.buffers import PAGE_SIZE
from pool.counters import ATOMICS
from testbed.twin import host as h
from testbed.twin import queue as q
from testbed.twin.traffic import wire_ns
from testbed.twin.world import World

PCIE_TLP_GBPS = 113.7
"""A gen3 x16 slot after framing (docs/costs.md, PCIe bandwidth)."""


@dataclass(frozen=True, slots=True)
class TwinResult:
    """One scenario's outcome. ``*_per_packet`` are exact counts over ``packets``.

    cycles: for each packet by category, at the preset's clock; budget_cycles: those between two
    packets of this size on the line of the scenario. cpu_pps: packets a second of one core that
    does nothing else (the poll's, or the one that frees, if that is the busier), device_pps: of the
    device, as its translations allow, wire_pps: of the line; the least is ``pps``. exposure:
    byte-us for each packet by kind. pinned_bytes: of all pools at their most; pinned_per_claimed:
    bytes kept from use by held packets over the bytes they claim (0: nothing was held).
    live_after: mappings alive when the pools were closed. violations: by rule.
    """

    strategy: str
    preset: str
    packets: int
    lost: int
    seconds: float
    maps_per_packet: float
    unmaps_per_packet: float
    invalidations_per_packet: float
    iotlb_misses_per_packet: float
    walk_reads_per_packet: float
    atomics_per_packet: float
    allocator_calls_per_packet: float
    copies_per_packet: float
    cycles: dict[str, float]
    cycles_per_packet: float
    budget_cycles: float
    cpu_pps: float
    device_pps: float
    wire_pps: float
    pps: float
    exposure: dict[str, float]
    exposure_per_packet: float
    longest_stale_us: float
    stale_peak: int
    pinned_bytes: int
    pinned_per_claimed: float
    live_after: int
    inflight_after: int
    violations: dict[str, int]
    first_violations: list[str]
    counters: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values; :meth:`from_json` undoes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> TwinResult:
        """A result written by :meth:`to_json`.

        Raises:
            ValueError: a key is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(tree) != names:
            raise ValueError(f"not a twin's result: {sorted(names ^ set(tree))[:3]} ...")
        return cls(**tree)


def measure(world: World, live_after: int, inflight_after: int) -> TwinResult:
    """Reads the arrays of a world that has run and was closed."""
    packets = sum(int(queue.n[q.PACKETS]) for queue in world.queues)
    each = 1.0 / max(packets, 1)
    counters = _sum([pool.counters.as_dict() for pool in world.pools])
    io, host, ghz = world.host.io, world.host, load_host_costs(world.scenario.host).ghz
    cycles = _cycles(world, each, ghz)
    total = sum(cycles.values())
    size = sum(int(queue.n[q.BYTES]) for queue in world.queues) * each
    wire_pps = 1e9 / wire_ns(size, world.scenario.traffic.line_gbps)
    cpu_pps, device_pps = _cpu_pps(world, packets), _device_pps(world, packets, size)
    exposure = _exposure(world, each)
    return TwinResult(
        strategy=world.scenario.strategy,
        preset=world.scenario.preset,
        packets=packets,
        lost=sum(int(queue.n[q.LOST]) for queue in world.queues),
        seconds=max(world.clocks) / 1e9,
        maps_per_packet=counters["maps"] * each,
        unmaps_per_packet=counters["unmaps"] * each,
        invalidations_per_packet=int(io.n[places.INVALIDATIONS]) * each,
        iotlb_misses_per_packet=int(io.n[places.IOTLB_MISSES]) * each,
        walk_reads_per_packet=sum(int(queue.n[q.READS]) for queue in world.queues) * each,
        atomics_per_packet=sum(int(pool.state.c[ATOMICS]) for pool in world.pools) * each,
        allocator_calls_per_packet=int(host.n[h.ALLOC_CALLS]) * each,
        copies_per_packet=counters["copies"] * each,
        cycles=cycles,
        cycles_per_packet=total,
        budget_cycles=ghz * 1e9 / wire_pps,
        cpu_pps=cpu_pps,
        device_pps=device_pps,
        wire_pps=wire_pps,
        pps=min(cpu_pps * len(world.queues), device_pps, wire_pps),
        exposure=exposure,
        exposure_per_packet=sum(exposure.values()),
        longest_stale_us=float(host.book.f[b.LONGEST_NS]) / 1e3,
        stale_peak=int(host.book.n[b.STALE_PEAK]),
        pinned_bytes=sum(int(queue.n[q.INFLIGHT_PEAK]) for queue in world.queues) * PAGE_SIZE,
        pinned_per_claimed=_pinned_per_claimed(world),
        live_after=live_after,
        inflight_after=inflight_after,
        violations={f"O-{rule}": int(n) for rule, n in enumerate(host.book.broken) if n},
        first_violations=[str(found) for found in violations(world)],
        counters=counters,
    )


def violations(world: World) -> list[Violation]:
    """The first violation of each rule that was broken."""
    book, found = world.host.book, []
    for rule in np.flatnonzero(book.broken).tolist():
        when, frame, iova, device, other = book.first[rule].tolist()
        found.append(
            Violation(
                rule=f"O-{rule}",
                device=f"nic{int(device)}",
                time_ns=int(when),
                cause=_CAUSES[rule].format(other=int(other), frame=int(frame)),
                iova=max(int(iova), 0),
                page=int(frame) * PAGE_SIZE if frame >= 0 else None,
                memory=0 if frame >= 0 else None,
            )
        )
    return found


_CAUSES = {
    1: "access to frame {frame:#x} at an address that does not reach it",
    2: "frame {frame:#x} belongs to nic{other} and was reached",
    3: "frame {frame:#x} was unmapped or freed with {other} posted buffers in it",
    5: "a buffer in frame {frame:#x} was posted while it was out (1: posted, 2: held): {other}",
    7: "{other} mappings were left behind, or an unmap was of none",
}


def _sum(parts: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(part[key] for part in parts) for key in parts[0]}


def _cycles(world: World, each: float, ghz: float) -> dict[str, float]:
    """By category and for each packet; what the IOMMU model spent is in its own account."""
    spent = world.host.spent.copy()
    io = world.host.io
    spent[h.IOVA] += io.f[places.IOVA_NS]
    spent[h.PAGE_TABLE] += io.f[places.PAGE_TABLE_NS]
    spent[h.INVALIDATE] += io.f[places.INVALIDATION_NS]
    spent[h.WAIT] += io.f[places.WAIT_NS]
    return {
        name: float(ns) * ghz * each for name, ns in zip(h.CATEGORIES, spent.tolist(), strict=True)
    }


def _cpu_pps(world: World, packets: int) -> float:
    """Of the cores that poll, or of those that free if they are busier: each is one a queue."""
    busy = float(max(world.host.busy[0::2].sum(), world.host.busy[1::2].sum()))
    return packets * 1e9 / busy if busy else 0.0


def _device_pps(world: World, packets: int, size: float) -> float:
    """What translation and the slot allow; see WalkCosts.batch_ns for the bounds."""
    slot = pcie_write_gbps(max(1, int(size)), PCIE_TLP_GBPS) * 1e9 / 8 / max(size, 1.0)
    walk = world.costs.walk
    if walk is None or not packets:
        return slot
    n = world.host.io.n
    misses, reads = (
        int(n[places.IOTLB_MISSES]),
        sum(int(queue.n[q.READS]) for queue in world.queues),
    )
    walking = misses * walk.miss_fixed_ns + reads * walk.mem_read_ns
    base = packets * (walk.base_ns + walk.iotlb_hit_ns)
    if walk.inflight == 1:
        ns = base + walking / walk.parallelism
    else:
        ns = max(walking / walk.parallelism, (base + walking) / walk.inflight)
    return min(slot, packets * 1e9 / ns)


def _exposure(world: World, each: float) -> dict[str, float]:
    f = world.host.book.f
    return {
        "held by the stack": float(f[b.READ]) / 1e3 * each,
        "free for anybody": float(f[b.FREED]) / 1e3 * each,
        "all of memory": float(f[b.EVERYTHING]) / 1e3 * each,
    }


def _pinned_per_claimed(world: World) -> float:
    """Pages beyond those of a pool that holds nothing, over what the held packets claim."""
    claimed = sum(int(queue.n[q.HELD_PEAK]) * pool.truesize for queue, pool in _pairs(world))
    pinned = sum(
        int(queue.n[q.INFLIGHT_PEAK] - queue.n[q.INFLIGHT_FIRST]) for queue in world.queues
    )
    return pinned * PAGE_SIZE / claimed if claimed else 0.0


def _pairs(world: World) -> Any:  # noqa: ANN401
    return zip(world.queues, world.pools, strict=True)
