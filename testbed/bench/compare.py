# SPDX-License-Identifier: MIT
"""Received packets per second: our NIC against QEMU's own, one guest, one IOMMU, one run.

All NICs sit in the same guest. One at a time is fed as fast as it takes frames, the guest's sink
counts what arrives by its own clock, and rounds alternate between the NICs so that a machine that
changes its speed does so for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.bench import interleaved, pingpong
from testbed.bench.feeder import Feeder
from testbed.errors import Problem, RigError, ScenarioError
from testbed.laboratory import Traffic
from testbed.report.progress import RunProgress
from testbed.results import BenchRow, RunResult
from testbed.rig import Rig, open_rig
from testbed.run import host_facts
from testbed.scenario import BenchNic, BenchPlan, Iommu, Scenario, Strategy, frame_length_bytes
from vm.artifacts import Artifacts
from vm.kernel import Flavour
from vm.kernel_config import flavour_for
from vm.machine import QemuNic

#: Our names for QEMU's NICs, their QEMU model, kernel module and MAC address.
_MODELS = {
    "virtio-net": ("virtio-net-pci", "virtio_net", "52:54:00:db:ed:01"),
    "e1000e": ("e1000e", "e1000e", "52:54:00:db:ed:02"),
    "igb": ("igb", "igb", "52:54:00:db:ed:03"),
}
#: Debian's cloud kernel, which all else runs on, has no drivers for these.
_FULL_KERNEL_NICS = frozenset({"e1000e", "igb"})
_PAIRS = 2000
#: How long a feeder may take to start and a NIC to take its first frames.
_FLOW_S = 20.0


@dataclass(frozen=True, slots=True)
class _Peer:
    """One of QEMU's NICs in the guest: the feeder's socket, QEMU's socket, and the model."""

    ours: Path
    theirs: Path
    nic: QemuNic


def kernel_flavour(plan: BenchPlan) -> Flavour:
    """Which of Debian's kernels has drivers for all the NICs of ``plan``."""
    return "full" if _FULL_KERNEL_NICS & set(plan.nics) else flavour_for(plan.iommus)


class BenchRun:
    """The comparison that ``scenario`` asks for."""

    def __init__(self, scenario: Scenario, artifacts: Artifacts, folder: Path) -> None:
        if scenario.bench is None:
            raise ScenarioError(scenario.source, [Problem(1, "has no [bench] table to run")])
        self._scenario, self._artifacts, self._folder = scenario, artifacts, folder
        self._plan: BenchPlan = scenario.bench
        self._notes: list[str] = []
        tree = artifacts.kernel.module_tree()
        self._models = {n: m for n, m in _MODELS.items() if n in self._plan.nics and m[1] in tree}
        self._notes += [
            f"{name}: the guest's kernel has no driver for it"
            for name in self._plan.nics
            if name in _MODELS and name not in self._models
        ]

    @property
    def nics(self) -> list[BenchNic]:
        """The NICs that can be had."""
        return [n for n in self._plan.nics if n not in _MODELS or n in self._models]

    @property
    def steps(self) -> int:
        """How many single measurements there are."""
        cells = len(self._plan.iommus) * len(self._plan.frame_bytes) * len(self.nics)
        return cells * self._plan.samples + self._interleaves * len(self._plan.frame_bytes)

    @property
    def _interleaves(self) -> bool:
        """Whether both sides of the interleaved comparison are asked for."""
        wanted = set(interleaved.SIDES) <= set(self._plan.iommus)
        return wanted and "dmabed page_pool" in self._plan.nics

    async def run(self, progress: RunProgress) -> RunResult:
        """Everything; the rows are medians."""
        rows: list[BenchRow] = []
        self._notes += _busy_note()
        for iommu in self._plan.iommus:
            progress.stage(f"boot {iommu}")
            async with self._bench_rig(iommu) as bench:
                self._notes.append(f"{iommu}: boot to agent: {bench.boot_s:.2f} s")
                self._floor_note(iommu, await bench.floor())
                for frame_bytes in self._plan.frame_bytes:
                    rows += await self._cell(bench, iommu, frame_bytes, progress)
        if self._interleaves:
            self._notes += await self._in_turns(progress)
        return RunResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            scenario=self._scenario.name,
            title=self._scenario.title,
            seed=self._scenario.seed,
            command=f"dmabed bench {self._scenario.name}",
            host=host_facts(self._artifacts),
            qemu_version=".".join(map(str, self._artifacts.qemu.version)),
            kernel_release=self._artifacts.kernel.release,
            bench=tuple(rows),
            notes=tuple(self._notes),
        )

    async def _in_turns(self, progress: RunProgress) -> list[str]:
        """The comparison that needs more than ratios of medians: see its module."""
        folder, sizes = self._folder / "in-turns", self._plan.frame_bytes
        found = await interleaved.compare(self._scenario, self._artifacts, folder, sizes, progress)
        return [str(comparison) for comparison in found]

    async def _cell(
        self, bench: _BenchRig, iommu: Iommu, frame_bytes: int, progress: RunProgress
    ) -> list[BenchRow]:
        samples: dict[str, list[float]] = {nic: [] for nic in self.nics}
        for _ in range(self._plan.samples):
            for nic in self.nics:
                progress.stage(f"{iommu}, {frame_bytes} B, {nic}")
                rate = await bench.rate(nic, frame_length_bytes(frame_bytes), self._plan)
                samples[nic].append(rate)
                progress.done(f"{iommu}, {frame_bytes} B, {nic}: {rate / 1000:.1f} kpps")
        return [
            BenchRow(nic, iommu, frame_bytes, statistics.median(taken), tuple(taken))
            for nic, taken in samples.items()
        ]

    def _floor_note(self, iommu: str, measured: dict[str, float]) -> None:
        """What a trapped access costs beside the socket's own round trip, in the same minute."""
        if iommu == "none":
            measured = {"register read": measured["register read"]}  # a map is no message then
        for name, felt_ns in measured.items():
            floor = pingpong.measure(name, _PAIRS)
            self._notes.append(
                f"{iommu}: {name}: {felt_ns / 1000:.1f} us in the guest, "
                f"{felt_ns / floor.median_ns:.2f} times the socket's own round trip "
                f"({floor.median_ns / 1000:.1f} us)"
            )

    @contextlib.asynccontextmanager
    async def _bench_rig(self, iommu: Iommu) -> AsyncIterator[_BenchRig]:
        folder = self._folder / iommu
        folder.mkdir(parents=True)
        peers: dict[str, _Peer] = {}
        for name, (model, _, mac) in self._models.items():
            ours, theirs = folder / f"{name}.feed", folder / f"{name}.nic"
            peers[name] = _Peer(ours, theirs, QemuNic(model, str(theirs), str(ours), mac))  # type: ignore[arg-type]
        others = [peer.nic for peer in peers.values()]
        loaded = [module for _, module, _ in self._models.values()]
        scenario = self._scenario
        async with open_rig(
            self._artifacts, iommu, folder, scenario.vm, scenario.nic, others=others, loaded=loaded
        ) as rig:
            await rig.load_sink(verify=False)
            yield _BenchRig(rig, peers, scenario)


def _busy_note() -> list[str]:
    """Says when others use the processors, of which QEMU's NICs with their feeder need three."""
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load < cpus / 4:
        return []
    return [f"{load:.1f} processes were running on {cpus} CPUs before this began: factors may lie"]


class _BenchRig:
    """A guest with all NICs in it."""

    def __init__(self, rig: Rig, peers: dict[str, _Peer], scenario: Scenario) -> None:
        self._rig, self._peers, self._scenario = rig, peers, scenario
        self.boot_s = rig.guest.boot_s

    async def floor(self) -> dict[str, float]:
        """Median ns of a register read and of a map and unmap, as the guest feels them."""
        rig = self._rig
        await rig.load("page_pool")
        times, read_ns = await rig.map_times(_PAIRS), await rig.read_time(_PAIRS)
        await rig.unload()
        return {"register read": read_ns, "map + unmap": times.map_p50_ns + times.unmap_p50_ns}

    async def rate(self, nic: BenchNic, length: int, plan: BenchPlan) -> float:
        """Packets per second of one NIC."""
        if nic in _MODELS:
            return await self._rate_of_qemus(self._peers[nic], length, plan)
        strategy: Strategy = "page_pool" if nic == "dmabed page_pool" else "map_per_packet"
        return await self._rate_of_ours(strategy, length, plan)

    async def _rate_of_ours(self, strategy: Strategy, length: int, plan: BenchPlan) -> float:
        rig = self._rig
        await rig.load(strategy, self._scenario.nic)
        seed = self._scenario.seed
        rig.devices.call("send", "nic", Traffic(length, length, flows=4, seed=seed))
        rate = await self._count(rig.interface, plan)
        rig.devices.call("unplug", "nic")
        await rig.unload()
        return rate

    async def _rate_of_qemus(self, peer: _Peer, length: int, plan: BenchPlan) -> float:
        interface = await self._interface(peer.nic.mac)
        await self._rig.guest.run(f"ip link set {interface} mtu 1500 up")
        await self._rig.await_carrier(interface)
        with Feeder(peer.ours, peer.theirs, length, self._scenario.seed) as feeder:
            if not feeder.await_flow(_FLOW_S):
                raise RigError(f"{peer.nic.model} took no frame within {_FLOW_S} s")
            rate = await self._count(interface, plan)
        await self._rig.guest.run(f"ip link set {interface} down")
        return rate

    async def _count(self, interface: str, plan: BenchPlan) -> float:
        await asyncio.sleep(plan.warmup_seconds)
        await self._rig.sink.reset()
        await asyncio.sleep(plan.seconds)
        return (await self._rig.sink.reception(interface)).packets_per_second

    async def _interface(self, mac: str) -> str:
        said = await self._rig.guest.run(f"grep -l {mac} /sys/class/net/*/address")
        return said.stdout.split()[0].split("/")[4]
