# SPDX-License-Identifier: MIT
"""``dmabed soak``: makes or reads a plan, plays it under each IOMMU, says what came of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from emulator.errors import DmabedError
from testbed.report.writer import point_latest, run_folder, write_atomically
from testbed.rig import open_rig
from testbed.scenario import Iommu, NicPlan, VmPlan
from testbed.seeds import chosen_seed
from testbed.soak.guest import HOLDER, SoakGuest
from testbed.soak.inprocess import RUNG as TWIN
from testbed.soak.inprocess import soak_in_process
from testbed.soak.plan import Leg, Plan, make_plan
from testbed.soak.result import SoakResult, soak_lines, soak_tables
from vm.artifacts import Artifacts, setup
from vm.kernel_config import flavour_for
from vm.machine import ALL_IOMMUS
from vm.module_build import build_program

SOAKED: tuple[Iommu, ...] = ("intel-strict", "virtio-lazy", "virtio-strict", "none")
PACKETS = 10_000_000
NIC = NicPlan(queues=4, rx_ring=256, tx_ring=256)
NICS = ("nic", "other")
RUNGS = ("vm", TWIN)
_SOURCE = Path(__file__).parent / "holder.c"
#: Guests that flood themselves on a busy host are slow to answer.
_SAY_EVERY_S = 10.0

Told = Callable[[str], None]


def add_soak(actions: Any, out: Path) -> None:  # noqa: ANN401 - argparse names no type for it
    """Adds the action to the command line; reports go to a folder in ``out`` by default."""
    what = "millions of packets while everything changes: nobody may be blamed"
    parser = actions.add_parser("soak", help=what, description=what)
    parser.add_argument("--rung", choices=RUNGS, default="vm")
    parser.add_argument("--packets", type=int, default=PACKETS, help="in all, received")
    parser.add_argument("--iommu", nargs="+", choices=ALL_IOMMUS, default=SOAKED)
    parser.add_argument("--seed", type=int, help="of plan and frames (default: 1)")
    parser.add_argument("--plan", type=Path, help="plan.txt of an earlier soak, played again")
    parser.add_argument("--out", type=Path, default=out, help="where the report's folder is made")
    parser.set_defaults(action=run_soak)


def run_soak(chosen: argparse.Namespace) -> int:
    """Soaks as the command line asks; the exit status is 3 if anything was not clean."""
    seed = chosen_seed(chosen.seed, 1)
    folder = run_folder(chosen.out, kind="soak")
    if chosen.rung == TWIN:
        results = [soak_in_process(chosen.packets, seed, told=print)]
    else:
        results = _in_guests(chosen, seed, folder)
    _save(results, folder)
    point_latest(folder)
    console = Console(width=120)
    for table in soak_tables(results):
        console.print(table)
        print()
    print("\n".join(soak_lines(results)))
    print(f"\n{folder / 'soak.json'}")
    return 0 if all(one.ok for one in results) else 3


def _save(results: list[SoakResult], folder: Path) -> None:
    text = json.dumps([asdict(one) for one in results], indent=1)
    write_atomically(folder / "soak.json", text.encode())


def _in_guests(chosen: argparse.Namespace, seed: int, folder: Path) -> list[SoakResult]:
    if chosen.plan:
        plan = Plan.parse(chosen.plan.read_text())
    else:
        plan = make_plan(seed, chosen.packets, tuple(chosen.iommu), NIC.queues)
    write_atomically(folder / "plan.txt", str(plan).encode())
    print(f"seed {plan.seed}; plan: {folder / 'plan.txt'}")
    results = []
    for iommu, legs in plan.legs.items():
        artifacts = setup(print, flavour=flavour_for([iommu]))
        told = lambda line, iommu=iommu: print(f"{iommu}: {line}", flush=True)  # noqa: E731
        results.append(asyncio.run(soak(artifacts, folder / iommu, iommu, legs, plan.seed, told)))
        _save(results, folder)  # whatever becomes of the next guest
    return results


async def soak(
    artifacts: Artifacts,
    folder: Path,
    iommu: Iommu,
    legs: list[Leg],
    seed: int,
    told: Told = lambda _: None,
) -> SoakResult:
    """One guest; what it ends by, if it does, is a note of the result.

    told: is called with a line from time to time, and with the leg after which something was wrong.
    """
    began = time.monotonic()
    notes: list[str] = []
    async with open_rig(artifacts, iommu, folder, VmPlan(), NIC, nics=NICS) as rig:
        await rig.guest.push(build_program(artifacts.toolchain, _SOURCE, folder), HOLDER, 0o755)
        guest = SoakGuest(rig, seed, mapped=iommu != "none")
        try:
            await guest.start()
            await _play(guest, legs, told)
            await guest.stop()
        except DmabedError as error:
            notes.append(f"{type(error).__name__}: {error}".strip())
        finally:
            await guest.abandon()
        call = rig.devices.call
        verdict = call("verdict")
        totals = [call("totals", name) for name in NICS]
        call("save_verdict", folder / "verdict.json")
        call("save_events", folder / "events.npz")
        notes += [f"{n} errors in the device model" for n in (call("device_errors", "nic"),) if n]
    tally = guest.tally
    return SoakResult(
        rung="vm",
        iommu=iommu,
        seed=seed,
        rx=sum(total["rx_packets"] for total in totals),
        tx=sum(total["tx_packets"] for total in totals),
        legs=tally.legs,
        operations={kind.value: count for kind, count in sorted(tally.operations.items())},
        late=tally.late,
        damaged=tally.damaged,
        longest_ns=tally.longest_ns,
        events=verdict["events"],
        word=verdict["word"],
        violations=[line for line in verdict["summary"] if line.startswith(("O-", "and "))],
        not_judged=verdict["not_judged"]["nic"],
        seconds=time.monotonic() - began,
        notes=notes,
    )


async def _play(guest: SoakGuest, legs: list[Leg], told: Told) -> None:
    said = time.monotonic()
    found = damaged = 0
    for number, leg in enumerate(legs, 1):
        await guest.play(leg)
        now = guest.rig.devices.call("found")
        if len(now) > found or guest.tally.damaged > damaged:
            told(f"leg {number} was not clean: {leg}")
            told(f"{guest.tally.damaged - damaged} frames damaged")
            for _, _, words in now[found:]:
                told(words)
            found, damaged = len(now), guest.tally.damaged
        if time.monotonic() - said > _SAY_EVERY_S or number == len(legs):
            packets = guest.rig.devices.call("totals", "nic")["rx_packets"]
            told(f"leg {number} of {len(legs)}, {packets:,} packets in")
            said = time.monotonic()
