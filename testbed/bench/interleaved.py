# SPDX-License-Identifier: MIT
"""What a strict IOMMU costs ``page_pool``: two guests at once, measured in short windows in turns.

Whatever else the machine does then hits both alike, and what is left shows in the spread. Packets
and time are the device process's own: a guest that booted on a busy machine may have measured its
clock wrongly, and by more than what is looked for here. CPU time per packet is told beside the
rate, since it stays the same when others use the processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import RigError
from testbed.laboratory import Traffic
from testbed.report.progress import RunProgress
from testbed.rig import Rig, open_rig
from testbed.scenario import Iommu, Scenario, frame_length_bytes
from vm.artifacts import Artifacts
from vm.waiting import Looks

#: The configuration to compare with, and the one that is compared.
SIDES: tuple[Iommu, Iommu] = ("none", "intel-strict")
#: Pairs of windows for each frame size, and what a window takes, in s.
PAIRS = 10
_WARMUP_S, _WINDOW_S = 0.15, 0.4
_PACKETS_MIN, _FLOW_S = 5000, 20.0


@dataclass(frozen=True, slots=True)
class Window:
    """One window: packets a second, and CPU ns a packet of QEMU and of the device process."""

    packets_per_second: float
    guest_ns: float
    device_ns: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of some samples."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of at least two samples."""
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.3f} (quartiles {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Windows of both sides for one frame size; window ``i`` of each were next to each other."""

    frame_bytes: int
    base: Sequence[Window]
    other: Sequence[Window]

    def ratio(self, what: str) -> Spread:
        """A member of :class:`Window`, the other side over the base, pair by pair."""
        pairs = zip(self.base, self.other, strict=True)
        return Spread.of([getattr(other, what) / getattr(base, what) for base, other in pairs])

    def __str__(self) -> str:
        sides = [
            f"{name} {statistics.median(w.packets_per_second for w in taken) / 1000:.1f}"
            for name, taken in zip(SIDES, (self.base, self.other), strict=True)
        ]
        return (
            f"page_pool, {self.frame_bytes} B: {SIDES[1]} runs at "
            f"{self.ratio('packets_per_second')} times the rate of {SIDES[0]}, in {len(self.base)} "
            f"pairs of windows (kpps: {', '.join(sides)}); CPU time a packet: guest "
            f"{self.ratio('guest_ns')}, device {self.ratio('device_ns')} times"
        )


async def compare(
    scenario: Scenario,
    artifacts: Artifacts,
    folder: Path,
    frame_bytes: Sequence[int],
    progress: RunProgress,
) -> list[Comparison]:
    """Boots a guest of each side and measures in turns; one comparison for each frame size."""
    progress.stage(f"boot {' and '.join(SIDES)}")
    async with contextlib.AsyncExitStack() as stack:
        rigs = [
            await stack.enter_async_context(_loaded(scenario, artifacts, folder / iommu, iommu))
            for iommu in SIDES
        ]
        found = []
        for size in frame_bytes:
            progress.stage(f"page_pool, {size} B, {' and '.join(SIDES)} in turns")
            taken = await _in_turns(rigs, frame_length_bytes(size), scenario.seed)
            found.append(Comparison(size, *taken))
            progress.done(str(found[-1]))
        return found


@contextlib.asynccontextmanager
async def _loaded(
    scenario: Scenario, artifacts: Artifacts, folder: Path, iommu: Iommu
) -> AsyncIterator[Rig]:
    async with open_rig(artifacts, iommu, folder, scenario.vm, scenario.nic) as rig:
        await rig.load_sink(verify=False)
        await rig.load("page_pool", scenario.nic)
        yield rig
        await rig.unload()


async def _in_turns(rigs: Sequence[Rig], length: int, seed: int) -> list[list[Window]]:
    """``PAIRS`` windows of each of two rigs; who is first changes from pair to pair."""
    taken: list[list[Window]] = [[], []]
    for pair in range(PAIRS):
        for side in (0, 1) if pair % 2 == 0 else (1, 0):
            taken[side].append(
                await _window(rigs[side], Traffic(length, length, flows=4, seed=seed))
            )
    return taken


async def _window(rig: Rig, traffic: Traffic) -> Window:
    rig.devices.call("send", "nic", traffic)
    await _flow(rig, _WARMUP_S)
    processes = rig.guest.pid, rig.devices.pid
    rig.devices.call("window_begin", "nic")
    before = [cpu_ns(pid) for pid in processes]
    await _flow(rig, _WINDOW_S)
    after = [cpu_ns(pid) for pid in processes]
    counts = rig.devices.call("window_end", "nic")
    rig.devices.call("unplug", "nic")
    packets = counts["rx_packets"]
    guest_ns, device_ns = ((b - a) / packets for a, b in zip(before, after, strict=True))
    seconds = (counts["end_ns"] - counts["begin_ns"]) / 1e9
    return Window(packets / seconds, guest_ns, device_ns)


async def _flow(rig: Rig, seconds: float) -> None:
    """Waits so long, and until a fair number of packets has passed: others may have the processors.

    Raises:
        RigError: the guest does not take them.
    """
    sent = rig.devices.call("sent", "nic")[0]
    await asyncio.sleep(seconds)
    async for _ in Looks(_FLOW_S - seconds, seconds / 8):
        if rig.devices.call("sent", "nic")[0] - sent >= _PACKETS_MIN:
            return
    raise RigError(f"the guest took fewer than {_PACKETS_MIN} packets in {_FLOW_S} s")


def cpu_ns(pid: int) -> int:
    """CPU time that all threads of a process have had so far, ns.

    Source: /proc/<pid>/task/<tid>/schedstat, first number (Documentation/scheduler/sched-stats.rst
    of Linux): exact where the times of /proc/<pid>/stat are counted in ticks of 10 ms.
    """
    total = 0
    for task in os.scandir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
            total += int((Path(task.path) / "schedstat").read_text().split()[0])
    return total
