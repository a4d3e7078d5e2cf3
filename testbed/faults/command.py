# SPDX-License-Identifier: MIT
"""``dmabed fault NAME`` and ``dmabed faults``: plays faults, prints what came of them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emulator.errors import DmabedError
from emulator.faults.fault import Outcome
from emulator.faults.plan import FaultPlan, parse_plan
from emulator.faults.registry import ELSEWHERE, FAULTS, fault_class
from testbed.faults.inprocess import play_fault, play_no_memory, play_plan
from testbed.faults.memory import NoMemory
from testbed.faults.process import MSG_TIMEOUTS_MS, PATIENT_MS, PLAYS, play_process
from testbed.faults.results import FaultResult, matrix
from testbed.faults.vm import ELSEWHERE as NOT_IN_VM
from testbed.faults.vm import NIC, FaultGuest, needs_iommu, ruined
from testbed.rig import open_rig
from testbed.scenario import Iommu, VmPlan
from vm.artifacts import Artifacts, setup
from vm.errors import GuestError
from vm.kernel_config import flavour_for
from vm.machine import ALL_IOMMUS

RUNGS = ("in-process", "vm")
USUAL_IOMMU: Iommu = "intel-strict"
_BAD = (Outcome.STUCK, Outcome.BROKEN)


def add_fault_actions(actions: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """The two actions, with their options."""
    names = [*FAULTS, NoMemory.name, *PLAYS]
    one = actions.add_parser("fault", help="play one fault and say how it was taken")
    one.add_argument("name", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    one.add_argument("--plan", type=Path, help="a TOML file in place of the fault's own plan")
    every = actions.add_parser("faults", help="play all faults and print the matrix")
    for parser in (one, every):
        parser.add_argument("--rung", choices=RUNGS, help="default: every rung it applies to")
        parser.add_argument("--seed", type=int, default=1, help="of all that is random")
        parser.add_argument(
            "--iommu", action="extend", nargs="+", choices=(*ALL_IOMMUS, "all"), metavar="IOMMU",
            help=f"of the guest, one or more of: {', '.join(ALL_IOMMUS)}, all; else {USUAL_IOMMU}",
        )  # fmt: skip
    one.set_defaults(action=_one)
    every.set_defaults(action=_all)


def _one(chosen: argparse.Namespace) -> int:
    plan = parse_plan(chosen.plan.read_text(), str(chosen.plan)) if chosen.plan else None
    results = []
    for rung in (chosen.rung,) if chosen.rung else RUNGS:
        if rung == "vm":
            for iommu in wanted_iommus(chosen.iommu):
                results += asyncio.run(play_in_guests([chosen.name], chosen.seed, plan, iommu))
        elif chosen.name not in PLAYS:
            results.append(_in_process(chosen.name, chosen.seed, plan))
    if not results:
        raise DmabedError(f"{chosen.name} is played on the rung vm only")
    about = FAULTS.get(chosen.name) or PLAYS.get(chosen.name) or NoMemory
    print(f"{about.number} {chosen.name}: {about.shows}\n")
    for result in results:
        print("\n".join(result.trace[-20:]))
        print(f"{result.column}: {result.detail}\n")
    return _say(results)


def _all(chosen: argparse.Namespace) -> int:
    results: list[FaultResult] = []
    print(f"seed {chosen.seed}")
    if chosen.rung != "vm":
        names = [*FAULTS, NoMemory.name]
        results += [_told(_in_process(name, chosen.seed, None)) for name in names]
    if chosen.rung != "in-process":
        for iommu in wanted_iommus(chosen.iommu):
            names = played_behind(iommu)
            results += asyncio.run(play_in_guests(names, chosen.seed, None, iommu))
    print()
    for number, why in ELSEWHERE.items():
        print(f"{number}: {why}")
    for name, why in NOT_IN_VM.items():
        print(f"{fault_class(name).number} {name}: in-process only: {why}")
    return _say(results)


def wanted_iommus(chosen: Sequence[str] | None) -> list[Iommu]:
    """Those that were asked for, once each, in the order of their list."""
    asked = chosen or [USUAL_IOMMU]
    return [iommu for iommu in ALL_IOMMUS if iommu in asked or "all" in asked]


def played_behind(iommu: Iommu) -> list[str]:
    """Faults for a guest; without an IOMMU those that only one makes, or refuses, are left out."""
    names = [name for name in FAULTS if name not in NOT_IN_VM]
    if iommu == "none":
        left_out = [name for name in names if needs_iommu(name)]
        names = [name for name in names if name not in left_out]
        print(f"left out without an IOMMU, see docs/faults.md: {', '.join(left_out)}")
    return [*names, *PLAYS]


def _say(results: list[FaultResult]) -> int:
    print(matrix(results))
    return 0 if all(result.ok for result in results) else 3


def _told(result: FaultResult) -> FaultResult:
    print(f"{result.number} {result.name}, {result.column}: {result.word}", flush=True)
    return result


def _in_process(name: str, seed: int, plan: FaultPlan | None) -> FaultResult:
    if name == NoMemory.name:
        return play_no_memory(seed=seed)
    if plan is None:
        return play_fault(name, seed=seed)
    kind = fault_class(name)
    return play_plan(plan, "page_pool", seed, kind.number, name, kind.expect)


async def play_in_guests(
    names: list[str], seed: int, plan: FaultPlan | None, iommu: Iommu
) -> list[FaultResult]:
    """Plays ``names`` in guests: device faults in one, until one of them ruins it."""
    artifacts = setup(print, flavour=flavour_for([iommu]))
    results: list[FaultResult] = []

    def keep(result: FaultResult) -> None:
        results.append(_told(replace(result, iommu=iommu)))

    waiting = [name for name in names if name in FAULTS]
    while waiting:
        async for result in _series(artifacts, waiting, seed, plan, iommu):
            keep(result)
        done = {result.name for result in results}
        waiting = [name for name in waiting if name not in done]
    for name in names:
        if name in PLAYS:
            keep(await _alone(artifacts, name, iommu))
    return results


@contextlib.asynccontextmanager
async def fault_guest(
    artifacts: Artifacts, folder: Path, iommu: Iommu, msg_timeout_ms: int = PATIENT_MS
) -> AsyncIterator[FaultGuest]:
    """A guest whose NIC can be ordered to misbehave, driver up; logs go to ``folder``.

    msg_timeout_ms: how long QEMU waits for an answer of the NIC.
    """
    vm = VmPlan(memory_mib=256)
    async with open_rig(
        artifacts, iommu, folder, vm, NIC,
        faulty=True, free_ports=1, msg_timeout_ms=msg_timeout_ms,
    ) as rig:  # fmt: skip
        guest = FaultGuest(rig)
        try:
            await guest.start()
            yield guest
        finally:
            await guest.abandon()


async def _series(
    artifacts: Artifacts, names: list[str], seed: int, plan: FaultPlan | None, iommu: Iommu
) -> AsyncIterator[FaultResult]:
    with tempfile.TemporaryDirectory() as folder:
        async with fault_guest(artifacts, Path(folder), iommu) as guest:
            for name in names:
                try:
                    result = await guest.play(name, plan, seed)
                except GuestError as error:
                    result = ruined(name, error)
                yield result
                if result.outcome in _BAD:
                    return
            await guest.stop()


async def _alone(artifacts: Artifacts, name: str, iommu: Iommu) -> FaultResult:
    with tempfile.TemporaryDirectory() as folder:
        timeout_ms = MSG_TIMEOUTS_MS.get(name, PATIENT_MS)
        async with fault_guest(artifacts, Path(folder), iommu, timeout_ms) as guest:
            return await play_process(guest, name)
