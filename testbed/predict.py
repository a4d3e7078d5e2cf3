# SPDX-License-Identifier: MIT
"""``dmabed predict``: the VM's scenario in the twin, predicted counts beside the measured ones.

The twin's driver is the kernel module's: its ring and pool sizes, its buffers, its NAPI budget. A
window of as many packets as were measured follows a warm-up, as in the VM. Counts of strict IOMMUs
follow from the algorithm and must agree to the last one. With lazy unmapping the counts of the
window do as well, but what is alive after the release is what the flush queue holds at that moment:
luck of timing, for which only a range can be predicted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from driver.model.structs import DMABED_RX_BUF_LEN, DMABED_RX_HEADROOM
from emulator.errors import DmabedError
from emulator.iommu.model.costs import load_costs
from testbed.results import CaseResult, RunResult
from testbed.scenario import STRATEGIES, Iommu, NicPlan, frame_length_bytes, load_scenario
from testbed.twin import queue as q
from testbed.twin.poll import RUN, drive
from testbed.twin.run import close, fill
from testbed.twin.scenario import Consumer, Driver, MemoryPlan, Traffic, TwinScenario
from testbed.twin.world import World, build

PRESET: dict[Iommu, str] = {
    "none": "passthrough",
    "intel-strict": "vtd-strict",
    "virtio-lazy": "vtd-lazy",
    "virtio-strict": "vtd-strict",
}
"""Of the twin, for each IOMMU of the VM: only counts are compared, and these it shares."""

NAPI_BUDGET = 64
_FCS = 4
_WARM_UP = 8192
"""Packets before the window: every ring and store has gone round by then."""


class PredictError(DmabedError):
    """The results cannot be predicted; the text says why."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One case: counts of the window of ``packets``, then mappings alive after the release.

    live_low, live_high: all that the twin allows; equal unless ``lazy``.
    """

    strategy: str
    iommu: str
    frame_bytes: int
    packets: int
    lazy: bool
    maps: int
    maps_measured: int
    unmaps: int
    unmaps_measured: int
    live: int
    live_low: int
    live_high: int
    live_measured: int

    @property
    def agrees(self) -> bool:
        """Whether the window's counts are equal, and the live mappings where they should be."""
        counts = (self.maps, self.unmaps) == (self.maps_measured, self.unmaps_measured)
        return counts and self.live_low <= self.live_measured <= self.live_high


def predictions(measured: RunResult) -> list[Prediction]:
    """A row for each case of ``measured`` that maps page by page, in its order.

    The strategies that map blocks or groups are left out: their counts hang on where a window
    begins. ``make count`` holds them against the twin.

    Raises:
        PredictError: it has no such case, or is of a scenario that does not come with the project.
        ScenarioMissingError: the same.
    """
    cases = [case for case in measured.cases if case.strategy in STRATEGIES]
    if not cases:
        raise PredictError("no cases in these results; measure some with: dmabed run")
    nic = load_scenario(measured.scenario).nic
    return [_predict(case, nic) for case in cases]


def twin_of(case: CaseResult, nic: NicPlan) -> TwinScenario:
    """The twin's scenario for a case of the VM.

    The guest's stack is done with a packet in the poll, on its one CPU. A frame that is longer
    than a buffer comes as several packets, see :func:`buffers_of`.
    """
    length = frame_length_bytes(case.frame_bytes)
    return TwinScenario(
        strategy=case.strategy,
        preset=PRESET[case.iommu],
        packets=max(case.packets, 1),
        traffic=Traffic(frame_bytes=min(length, DMABED_RX_BUF_LEN) + _FCS),
        driver=Driver(
            queues=nic.queues,
            ring=nic.rx_ring,
            pool_size=nic.rx_ring,
            budget=NAPI_BUDGET,
            headroom=DMABED_RX_HEADROOM,
            buffer_bytes=DMABED_RX_BUF_LEN,
        ),
        consumer=Consumer(kind="drop"),
        memory=MemoryPlan(mib=max(128, nic.queues * nic.rx_ring * 4 // 256 + 4)),
    )


def buffers_of(frame_bytes: int) -> int:
    """Receive buffers that a frame of the VM's scenario takes."""
    return -(-frame_length_bytes(frame_bytes) // DMABED_RX_BUF_LEN)


def _predict(case: CaseResult, nic: NicPlan) -> Prediction:
    scenario = twin_of(case, nic)
    world = build(scenario)
    fill(world)
    _receive(world, _WARM_UP)
    before = _counts(world)
    _receive(world, case.packets * buffers_of(case.frame_bytes))
    after = _counts(world)
    live = close(world).live_after
    costs = load_costs(scenario.preset)
    lazy = case.iommu == "virtio-lazy"
    # Linux's ring of entries is full with one place free (iova.h), and the guest has one CPU.
    high = costs.queue_entries - 1 if lazy else live
    return Prediction(
        strategy=case.strategy,
        iommu=case.iommu,
        frame_bytes=case.frame_bytes,
        packets=case.packets,
        lazy=lazy,
        maps=after[0] - before[0],
        maps_measured=case.maps,
        unmaps=after[1] - before[1],
        unmaps_measured=case.unmaps,
        live=live,
        live_low=0 if lazy else live,
        live_high=max(high, live),
        live_measured=case.live_after_release,
    )


def _counts(world: World) -> tuple[int, int]:
    """Maps and unmaps that the device sees: none where nothing is translated."""
    if world.scenario.preset == PRESET["none"]:
        return 0, 0
    counters = [pool.counters for pool in world.pools]
    return sum(c.maps for c in counters), sum(c.unmaps for c in counters)


def _receive(world: World, packets: int) -> None:
    """``packets`` more, dealt out to the queues, and as in the VM each ring full afterwards."""
    queues = len(world.queues)
    for number in range(queues):
        share = packets // queues + (number < packets % queues)
        world.host.clock[0] = max(world.clocks)
        drive(*world.records(number), RUN, share, q.FOR_EVER)
        world.clocks[number] = float(world.host.clock[0])


def rows_json(rows: Sequence[Prediction]) -> str:
    """The rows as JSON, each with whether it agrees."""
    plain: list[dict[str, Any]] = [{**asdict(row), "agrees": row.agrees} for row in rows]
    return json.dumps(plain, indent=1) + "\n"
