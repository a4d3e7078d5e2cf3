# SPDX-License-Identifier: MIT
"""A run with made-up but plausible numbers, to lay out and to twist."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from testbed.report.plots import Plot, draw
from testbed.results import (
    BenchRow,
    CaseResult,
    CurvePoint,
    HostFacts,
    Judgement,
    RuleSeen,
    RunResult,
)
from testbed.scenario import IOMMUS, STRATEGIES

# packets per second by (IOMMU, strategy) at 64 B, then at 1500 B
RATES = {
    ("none", "map_per_packet"): (101_300, 84_900),
    ("none", "page_pool"): (104_100, 88_200),
    ("intel-strict", "map_per_packet"): (7_410, 7_020),
    ("intel-strict", "page_pool"): (101_900, 86_300),
    ("virtio-lazy", "map_per_packet"): (12_870, 11_760),
    ("virtio-lazy", "page_pool"): (102_600, 87_000),
    ("virtio-strict", "map_per_packet"): (6_080, 5_890),
    ("virtio-strict", "page_pool"): (102_200, 86_700),
}
CURVE = {0: (101_900, 7_410), 10: (101_200, 6_430), 50: (101_700, 4_240), 200: (100_900, 1_862),
         1000: (101_400, 466)}  # fmt: skip
#: Behind an IOMMU, and without one.
RULES = (
    (
        RuleSeen("O-1", "no access outside live mappings"),
        RuleSeen("O-5", "no buffer posted twice", ("buffers the stack reads (needs the stack)",)),
        RuleSeen("O-8", "pool pages are somebody's"),
    ),
    (
        RuleSeen("O-1", "no access outside live mappings"),
        RuleSeen("O-5", "no buffer posted twice", ("buffers the stack reads (needs the stack)",)),
        RuleSeen("O-8", "pool pages are somebody's", ("needs page_pool counts",)),
    ),
)


def make_case(strategy: str, iommu: str, frame_bytes: int) -> CaseResult:
    rate = RATES[iommu, strategy][0 if frame_bytes == 64 else 1]
    packets = rate * 12 // 10
    mapping = strategy == "map_per_packet" and iommu != "none"
    lazy = iommu == "virtio-lazy"
    pool = strategy == "page_pool"
    return CaseResult(
        strategy=strategy,  # type: ignore[arg-type]
        iommu=iommu,  # type: ignore[arg-type]
        frame_bytes=frame_bytes,
        packets=packets,
        maps=packets if mapping else 0,
        unmaps=packets if mapping else 0,
        maps_per_packet=1.0 if mapping else 0.0,
        unmaps_per_packet=1.0 if mapping else 0.0,
        packets_per_second=float(rate),
        map_ns=None if pool else (61_240.0 if mapping else 48.0),
        unmap_ns=None if pool else (58_900.0 if mapping else 31.0),
        map_p50_ns=None if pool else (59_000.0 if mapping else 45.0),
        unmap_p50_ns=None if pool else (57_000.0 if mapping else 30.0),
        live_after_release=(4096 if pool else 812) if lazy else 0,
        stale_at_once=(4096 if pool else 1000) if lazy else 0,
        stale_window_ns=(9_810_000 if not pool else 2_460_000_000) if lazy else None,
        stale_open=lazy and pool and frame_bytes == 1500,
        verdict="exposed" if lazy else "clean",
    )


@pytest.fixture(scope="session")
def run() -> RunResult:
    cases = tuple(
        make_case(strategy, iommu, frame)
        for iommu in IOMMUS
        for frame in (64, 1500)
        for strategy in reversed(STRATEGIES)
    )
    curve = tuple(
        CurvePoint(
            strategy=strategy,
            iommu="intel-strict",
            latency_us=float(us),
            packets_per_second=float(CURVE[us][index]),
            packets=CURVE[us][index],
            seconds=1.0,
            ratio=CURVE[us][index] / CURVE[0][index],
            maps_per_packet=float(index),
            unmaps_per_packet=float(index),
        )
        for us in CURVE
        for index, strategy in enumerate(STRATEGIES)
    )
    return RunResult(
        created="2025-11-23T04:41:07+00:00",
        scenario="run",
        title="What a mapping costs, and what it leaves exposed",
        seed=1,
        command="make run",
        host=HostFacts(cpu_count=2, accel="tcg", cpu_model="Some CPU", system="Linux 6.1 x86_64"),
        qemu_version="11.1.3",
        kernel_release="6.12.9-cloud-amd64",
        cases=cases,
        curve=curve,
        judged=tuple(Judgement(boot, RULES[boot == "none"]) for boot in (*IOMMUS, "curve")),
        log_files=("events.bin", "console.log"),
    )


@pytest.fixture(scope="session")
def plots(run: RunResult) -> tuple[Plot, ...]:
    """The figures of the run, drawn once."""
    return draw(run)


@pytest.fixture
def bench(run: RunResult) -> RunResult:
    rates = {"dmabed page_pool": 201_000.0, "virtio-net": 86_000.0, "e1000e": 72_000.0}
    rows = tuple(
        BenchRow(nic, iommu, 64, rate, (rate - 1, rate, rate + 1))
        for nic, rate in rates.items()
        for iommu in ("none", "virtio-lazy")
    )
    return dataclasses.replace(run, cases=(), curve=(), bench=rows)


@pytest.fixture
def with_case(run: RunResult) -> Callable[..., RunResult]:
    """The run with its first case (or the one at ``index``) changed."""

    def change(index: int = 0, **values: object) -> RunResult:
        cases = list(run.cases)
        cases[index] = dataclasses.replace(cases[index], **values)  # type: ignore[arg-type]
        return dataclasses.replace(run, cases=tuple(cases))

    return change
