# SPDX-License-Identifier: MIT
"""``dmabed attack``: attacks under each IOMMU, prints and writes what came of it."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed.attack.report import Conditions, findings_of, headline_of, write_attack
from testbed.attack.run import UNMAP_US, Outcome, run_attack
from testbed.report.units import duration
from testbed.report.writer import point_latest
from testbed.scenario import Iommu, RxMode
from vm.artifacts import Artifacts, setup
from vm.kernel_config import flavour_for


def show_attacks(
    iommus: Sequence[Iommu], strategy: RxMode, folder: Path, unmap_us: int = UNMAP_US
) -> int:
    """Attacks under each IOMMU, prints and writes what came of it; returns the exit status.

    3: memory was written under a strict IOMMU.
    """
    outcomes, used = [], []
    for iommu in iommus:
        artifacts = setup(print, flavour=flavour_for([iommu]))
        attack = run_attack(artifacts, folder / iommu, iommu, strategy, unmap_us)
        outcomes.append(asyncio.run(attack))
        used.append(artifacts)
    page = write_attack(outcomes, _conditions(used, unmap_us), folder)
    point_latest(folder)
    print(f"{unmap_us} us added to each unmap")
    Console(width=120).print(attack_table(outcomes))
    for outcome in outcomes:
        _print_windows(outcome)
    print(f"\n{headline_of(outcomes).text}")
    for finding in findings_of(outcomes):
        print(f"{finding.topic}: {finding.text}")
    print(f"\nreport: {page}")
    return 3 if any(one.broken for one in outcomes) else 0


def _conditions(used: Sequence[Artifacts], unmap_us: int) -> Conditions:
    return Conditions(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["dmabed", *sys.argv[1:]]),
        qemu=".".join(map(str, used[0].qemu.version)),
        kernels=tuple(dict.fromkeys(artifacts.kernel.release for artifacts in used)),
        accel={"kvm": "KVM", "tcg": "software emulation"}[used[0].acceleration.kind],
        unmap_us=unmap_us,
    )


def attack_table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each attack."""
    table = Table(box=None, pad_edge=False)
    for column in (
        "IOMMU", "strategy", "pages attacked", "live at release", "still written", "writes",
        "longest window", "arrived at the victim",
    ):  # fmt: skip
        table.add_column(column)
    for one in outcomes:
        attack = one.attack
        longest = duration(attack.windows[-1]) if attack.windows else "-"
        numbers = (attack.targets, one.live_at_release, attack.hit, attack.writes)
        table.add_row(one.iommu, one.strategy, *map(str, numbers), longest, str(one.arrived))
    return table


def _print_windows(outcome: Outcome) -> None:
    if not outcome.attack.windows:
        return
    print(f"\n{outcome.iommu}: last accepted write to each page, from the note that it was given")
    most = max(count for _, count in outcome.histogram)
    for bound, count in outcome.histogram:
        print(f"  < {duration(bound):>8} {count:5} {'#' * max(1, 50 * count // most)}")
