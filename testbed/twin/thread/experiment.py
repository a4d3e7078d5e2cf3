# SPDX-License-Identifier: MIT
"""A small run of the twin, measured between its first packets and its last.

What bringing a ring up and taking it down costs is left out: with thousands of packets, not
millions, it would show. The kernels run as Python, so nothing has to be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from driver.host.costs import load_host_costs
from emulator.ledger.columns.book import settle, settle_everything
from testbed.twin.interpreted import INTERPRETED, build_interpreted
from testbed.twin.result import TwinResult, measure
from testbed.twin.run import close, fill, run_packets
from testbed.twin.scenario import TwinScenario, scenario_of
from testbed.twin.world import World

PACKETS = 3200
MEMORY_MIB = 16
GHZ = 3.0
"""Of the host preset that is used unless another is named: linux-2016."""

HELD, FREE, ALL = "held by the stack", "free for anybody", "all of memory"


@dataclass(frozen=True, slots=True)
class Steady:
    """For each packet, while traffic flows. cycles: by category; exposure: byte-us by kind.

    pps: of all queues, as their CPUs allow (those that poll, or those that free if they are the
    busier). end: the same run from its first buffer to the last unmap.
    """

    maps: float
    unmaps: float
    invalidations: float
    misses: float
    reads: float
    atomics: float
    allocator_calls: float
    copies: float
    cycles: dict[str, float]
    exposure: dict[str, float]
    counters: dict[str, float]
    pps: float
    end: TwinResult

    @property
    def total(self) -> float:
        """Cycles of all categories."""
        return sum(self.cycles.values())

    @property
    def exposed(self) -> float:
        """byte-us of all kinds."""
        return sum(self.exposure.values())


def steady(
    strategy: str,
    preset: str,
    packets: int = PACKETS,
    warm_up: int = 0,
    **changes: Any,  # noqa: ANN401
) -> Steady:
    """Runs first polls and ``warm_up`` packets (0: half as many), then ``packets`` it measures.

    changes: of the scenario's keys, ``__`` for the dot: ``consumer__kind="socket"``.
    """
    return _steady(strategy, preset, packets, warm_up or packets // 2, tuple(changes.items()))


@cache
def _steady(
    strategy: str, preset: str, packets: int, warm_up: int, changes: tuple[tuple[str, object], ...]
) -> Steady:
    world = build_interpreted(scenario(strategy, preset, **dict(changes)))
    fill(world, INTERPRETED)
    run_packets(world, warm_up + _first_polls(world), engine=INTERPRETED)
    first, busy = _so_far(world), world.host.busy.copy()
    run_packets(world, packets, engine=INTERPRETED)
    last, busy = _so_far(world), world.host.busy - busy
    share = _between(first, last)
    ns = float(max(busy[0::2].sum(), busy[1::2].sum())) / (last.packets - first.packets)
    return Steady(
        maps=share(lambda r: r.maps_per_packet),
        unmaps=share(lambda r: r.unmaps_per_packet),
        invalidations=share(lambda r: r.invalidations_per_packet),
        misses=share(lambda r: r.iotlb_misses_per_packet),
        reads=share(lambda r: r.walk_reads_per_packet),
        atomics=share(lambda r: r.atomics_per_packet),
        allocator_calls=share(lambda r: r.allocator_calls_per_packet),
        copies=share(lambda r: r.copies_per_packet),
        cycles={key: share(lambda r, key=key: r.cycles[key]) for key in last.cycles},
        exposure={key: share(lambda r, key=key: r.exposure[key]) for key in last.exposure},
        counters={key: share(lambda r, k=key: r.counters[k] / r.packets) for key in last.counters},
        pps=len(world.queues) * 1e9 / ns,
        end=close(world, INTERPRETED),
    )


def scenario(strategy: str, preset: str, **changes: object) -> TwinScenario:
    """A scenario of 64-byte frames, all dropped, with 16 MiB of memory, but for ``changes``."""
    tree = TwinScenario(strategy, preset, PACKETS).to_json()
    for key, value in ({"memory__mib": MEMORY_MIB} | changes).items():
        *tables, last = key.split("__")
        node = tree
        for table in tables:
            node = node[table]
        if last not in node:
            raise KeyError(key)
        node[last] = value
    return scenario_of(tree)


def _first_polls(world: World) -> int:
    """Packets of the first polls, where those are short: so that no poll is cut to measure."""
    traffic = world.scenario.traffic
    return 0 if traffic.rate_gbps else traffic.first_poll * len(world.queues)


def cycles_of(host: str, ns: float) -> float:
    """Ns as cycles of a host preset."""
    return ns * load_host_costs(host).ghz


def _so_far(world: World) -> TwinResult:
    """The result if it ended now, exposure settled."""
    now = max([*world.clocks, float(world.host.clock[0])])
    for frame in range(len(world.host.book.since)):
        settle(world.host.book, frame, now)
    settle_everything(world.host.book, now)
    return measure(world, 0, 0)


def _between(first: TwinResult, last: TwinResult) -> Callable[[Callable[..., float]], float]:
    """Turns a quantity for each packet of two results into that of the packets between them."""
    packets = last.packets - first.packets

    def share(of: Callable[..., Any]) -> float:
        whole = of(last) * last.packets - of(first) * first.packets
        return round(float(whole / packets), 9)  # the rest is of dividing and multiplying

    return share
