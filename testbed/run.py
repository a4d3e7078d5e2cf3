# SPDX-License-Identifier: MIT
"""Scenario in, results out: boots each IOMMU once, runs its cases, then the curve."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from emulator.iommu.latency import Delay, LatencyModel
from emulator.iommu.preset import load_preset
from testbed.guest_facts import Retained
from testbed.laboratory import Exposed, Traffic
from testbed.measured import MapTimes, Reception, Steady
from testbed.report.progress import RunProgress
from testbed.results import (
    CaseResult,
    CurvePoint,
    HostFacts,
    Judgement,
    RuleSeen,
    RunResult,
    Verdict,
)
from testbed.rig import Rig, open_rig
from testbed.scenario import (
    Case,
    CaseMatrix,
    CurvePlan,
    Iommu,
    Scenario,
    Strategy,
    frame_length_bytes,
)
from vm.artifacts import Artifacts

_MAP_PAIRS = 400
#: Packets of each case whose payload the guest checks; those that are timed are only counted.
_CHECKED = 1000
#: The first of them stay with the guest's stack until the case is over, and are checked again.
_RETAINED = 256
#: Packets that tell roughly how fast a strategy is at one latency.
_CURVE_TRIAL = 300
#: How long to look on after a release for stale mappings to go: Linux's flush queue has a timer of
#: 10 ms, or of 1 s for one queue shared by all CPUs (drivers/iommu/dma-iommu.c).
_STALE_WAIT_S = 3.0


class ScenarioRun:
    """One run of ``scenario``; logs and the ledger's events go to ``folder``."""

    def __init__(
        self, scenario: Scenario, artifacts: Artifacts, folder: Path, progress: RunProgress
    ) -> None:
        self._scenario, self._artifacts = scenario, artifacts
        self._folder, self._progress = folder, progress
        self._logs: list[str] = []
        self._warnings: list[str] = []
        self._judged: list[Judgement] = []

    async def run(self) -> RunResult:
        """All cases, then the curve.

        Raises:
            TestbedError, VmError: something did not do what a measurement needs.
        """
        cases: list[CaseResult] = []
        for iommu in self._scenario.cases.iommus if self._scenario.cases else ():
            cases += await self._cases_of(iommu)
        curve = await self._curve(self._scenario.curve) if self._scenario.curve else []
        return RunResult(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            scenario=self._scenario.name,
            title=self._scenario.title,
            seed=self._scenario.seed,
            command=shlex.join(["dmabed", *sys.argv[1:]]),
            host=host_facts(self._artifacts),
            qemu_version=".".join(map(str, self._artifacts.qemu.version)),
            kernel_release=self._artifacts.kernel.release,
            cases=tuple(cases),
            curve=tuple(curve),
            judged=tuple(self._judged),
            log_files=tuple(self._logs),
            notes=tuple(self._warnings),
        )

    # ------------------------------------------------------------------ cases
    async def _cases_of(self, iommu: Iommu) -> list[CaseResult]:
        matrix = self._scenario.cases
        assert matrix is not None
        mine = [case for case in matrix if case.iommu == iommu]
        self._progress.stage(f"boot {iommu}")
        async with self._rig(iommu, iommu) as rig:
            await rig.load_sink(verify=False)
            results = []
            for case in mine:
                self._progress.stage(str(case))
                results.append(await self._case(rig, case, matrix))
                self._progress.done(_headline(results[-1]))
            self._keep(rig, iommu)
        return results

    async def _case(self, rig: Rig, case: Case, matrix: CaseMatrix) -> CaseResult:
        rig.devices.call("begin_case", "nic")
        retained = Retained(rig, _RETAINED)
        await rig.latency(preset_model(self._scenario.latency.preset, self._scenario.seed))
        await rig.load(case.strategy, self._scenario.nic)
        times = await rig.map_times(_MAP_PAIRS)
        await retained.begin()
        checked = await self._checked(rig, case.frame_bytes)
        steady = await self._steady(rig, case.frame_bytes, matrix)
        await retained.end()
        if case.iommu != "none":
            await rig.count_pools()
        await rig.unload()
        exposed = await rig.exposed(_STALE_WAIT_S)
        await rig.check_guest()
        violations = rig.devices.call("violations", "nic")
        return _case_result(case, checked, steady, times, exposed, violations)

    async def _checked(self, rig: Rig, frame_bytes: int) -> Reception:
        """Some packets of which the guest checks every byte, before those that are timed."""
        await rig.sink.verify(True)
        checked = await rig.receive(self._traffic(frame_bytes)(_CHECKED))
        await rig.sink.verify(False)
        return checked.reception

    async def _steady(self, rig: Rig, frame_bytes: int, matrix: CaseMatrix) -> Steady:
        traffic = self._traffic(frame_bytes)
        if matrix.packets is not None:
            await rig.receive(traffic(max(matrix.packets // 10, 1)))
            return await rig.receive(traffic(matrix.packets))
        assert matrix.seconds is not None
        return await rig.receive_for(matrix.seconds, matrix.warmup_seconds, traffic)

    def _traffic(self, frame_bytes: int) -> Callable[[int], Traffic]:
        length, flows = frame_length_bytes(frame_bytes), 4 * self._scenario.nic.queues
        seed = self._scenario.seed
        return lambda count: Traffic(length, length, count, flows=flows, seed=seed)

    # ------------------------------------------------------------------ the curve
    async def _curve(self, plan: CurvePlan) -> list[CurvePoint]:
        self._progress.stage(f"boot {plan.iommu} for the curve")
        async with self._rig(plan.iommu, "curve") as rig:
            await rig.load_sink(verify=False)
            points = []
            for strategy in plan.strategies:
                points += await self._curve_of(rig, plan, strategy)
            self._keep(rig, "curve")
        return points

    async def _curve_of(self, rig: Rig, plan: CurvePlan, strategy: Strategy) -> list[CurvePoint]:
        """The points of one strategy, in rounds: a slow minute of the machine hits all of them."""
        traffic = self._traffic(plan.frame_bytes)
        await rig.latency(LatencyModel())
        await rig.load(strategy, self._scenario.nic)
        samples: dict[float, list[Steady]] = {}
        for latency_us in plan.latencies_us:
            self._progress.stage(f"{strategy}, {latency_us:g} us for each map and unmap")
            await rig.latency(constant_model(latency_us))
            samples[latency_us] = [await rig.receive(traffic(_CURVE_TRIAL))]
            self._progress.done()
        for _ in range(plan.rounds):
            for latency_us, taken in samples.items():
                await rig.latency(constant_model(latency_us))
                rate = max(s.reception.packets_per_second for s in taken)
                count = max(int(rate * plan.seconds / plan.rounds), 100)
                taken.append(await rig.receive(traffic(count), timeout_s=60 + 4 * plan.seconds))
        await rig.latency(LatencyModel())
        await rig.unload()
        return _with_ratios([_curve_point(plan, strategy, us, t[1:]) for us, t in samples.items()])

    # ------------------------------------------------------------------ around
    def _rig(self, iommu: Iommu, name: str) -> AbstractAsyncContextManager[Rig]:
        return open_rig(
            self._artifacts, iommu, self._folder / name, self._scenario.vm, self._scenario.nic
        )

    def _keep(self, rig: Rig, name: str) -> None:
        """The ledger's events, the names of the logs, and what the guest's kernel complained of."""
        rig.devices.call("save_events", self._folder / name / "events.npz")
        rig.devices.call("save_verdict", self._folder / name / "verdict.json")
        self._logs += [f"{name}/{log}" for log in ("console.log", "events.npz", "verdict.json")]
        self._warnings += [f"{name}: guest kernel: {w}" for w in rig.guest.kernel_warnings()]
        rules = rig.devices.call("rules", "nic")
        seen = tuple(RuleSeen(number, title, tuple(why)) for number, title, why in rules)
        self._judged.append(Judgement(name, seen))
        errors = rig.devices.call("device_errors", "nic")
        if errors:
            self._warnings.append(f"{name}: {errors} errors in the device model; see devices.log")


def preset_model(name: str, seed: int) -> LatencyModel:
    """The latency model of a preset; ``none`` delays nothing."""
    return LatencyModel() if name == "none" else load_preset(name, seed)


def constant_model(latency_us: float) -> LatencyModel:
    """``latency_us`` for every map and every unmap."""
    delay = Delay(mean_ns=round(latency_us * 1000))
    return LatencyModel(f"{latency_us:g} us", delay, delay)


def host_facts(artifacts: Artifacts) -> HostFacts:
    """What the figures depend on."""
    return HostFacts(
        cpu_count=os.cpu_count() or 1,
        accel=artifacts.acceleration.kind,
        cpu_model=_cpu_model(),
        system=f"{platform.system()} {platform.release()}",
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), "")


def _case_result(  # one argument for each thing that was looked at
    case: Case,
    checked: Reception,
    steady: Steady,
    times: MapTimes,
    exposed: Exposed,
    violations: list[str],
) -> CaseResult:
    counts, seen = steady.counts, steady.reception
    packets = counts["rx_packets"]
    notes = []
    if seen.packets != packets:
        notes.append(f"the guest counted {seen.packets} of {packets} packets")
    if checked.errors or checked.packets != _CHECKED:
        checks = f"the guest checked {checked.packets} of {_CHECKED} packets"
        notes.append(f"{checks}: {checked.errors} were wrong")
    if exposed.at_release is None:
        notes.append("the driver never said that it had given its memory back")
    verdict: Verdict = "violated" if violations or notes else "clean"
    if verdict == "clean" and (exposed.windows or exposed.at_once > 1):
        verdict = "exposed"
    return CaseResult(
        strategy=case.strategy,
        iommu=case.iommu,
        frame_bytes=case.frame_bytes,
        packets=packets,
        maps=counts["maps"],
        unmaps=counts["unmaps"],
        maps_per_packet=counts["maps"] / packets if packets else 0.0,
        unmaps_per_packet=counts["unmaps"] / packets if packets else 0.0,
        packets_per_second=seen.packets_per_second,
        live_after_release=exposed.at_release or 0,
        stale_at_once=exposed.at_once,
        verdict=verdict,
        map_ns=times.map_ns,
        unmap_ns=times.unmap_ns,
        map_p50_ns=times.map_p50_ns,
        unmap_p50_ns=times.unmap_p50_ns,
        stale_window_ns=exposed.longest_ns if exposed.windows else None,
        stale_open=bool(exposed.open),
        violations=tuple(violations),
        notes=tuple(notes),
    )


def _curve_point(
    plan: CurvePlan, strategy: Strategy, latency_us: float, rounds: list[Steady]
) -> CurvePoint:
    """One point: the median rate of its rounds, the sum of their counts."""
    packets = sum(steady.counts["rx_packets"] for steady in rounds)
    maps, unmaps = (sum(s.counts[name] for s in rounds) for name in ("maps", "unmaps"))
    return CurvePoint(
        strategy=strategy,
        iommu=plan.iommu,
        latency_us=latency_us,
        packets_per_second=median(s.reception.packets_per_second for s in rounds),
        packets=packets,
        seconds=sum(steady.reception.seconds for steady in rounds),
        ratio=1.0,
        maps_per_packet=maps / packets if packets else None,
        unmaps_per_packet=unmaps / packets if packets else None,
    )


def _with_ratios(points: list[CurvePoint]) -> list[CurvePoint]:
    """The same with ``ratio`` to the rate at latency 0 (to the first where there is none)."""
    if not points:
        return points
    base = next((p for p in points if p.latency_us == 0), points[0]).packets_per_second
    return [replace(p, ratio=p.packets_per_second / base if base else 0.0) for p in points]


def _headline(case: CaseResult) -> str:
    name = str(case.case)
    return (
        f"{name}: {case.maps_per_packet:.4f} maps a packet, "
        f"{case.packets_per_second / 1000:.1f} kpps, {case.verdict}"
    )
