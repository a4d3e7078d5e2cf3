# SPDX-License-Identifier: MIT
"""``dmabed fault NAME`` and ``dmabed faults``: plays faults, prints what came of them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
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
from testbed.faults.vm import NIC, FaultGuest, needs_iommu, not_given_back, ruined
from testbed.report.writer import run_folder
from testbed.rig import open_rig
from testbed.scenario import Iommu, VmPlan
from vm.artifacts import Artifacts, setup
from vm.kernel_config import flavour_for
from vm.machine import ALL_IOMMUS

RUNGS = ("in-process", "vm")
USUAL_IOMMU: Iommu = "intel-strict"
_BAD = (Outcome.STUCK, Outcome.BROKEN)


def add_fault_actions(actions: Any, out: Path) -> None:  # noqa: ANN401 - argparse's type is private
    """The two actions, with their options; ``out``: where folders of runs are made."""
    names = [*FAULTS, NoMemory.name, *PLAYS]
    one = actions.add_parser("fault", help="play one fault and say how it was taken")
    one.add_argument("name", choices=names, metavar="NAME", help=f"one of: {', '.join(names)}")
    one.add_argument("--plan", type=Path, help="a TOML file in place of the fault's own plan")
    every = actions.add_parser("faults", help="play all faults and print the matrix")
    for parser, nargs in ((one, 1), (every, "+")):  # of one, the name may follow
        parser.add_argument("--rung", choices=RUNGS, help="default: every rung it applies to")
        parser.add_argument("--seed", type=int, default=1, help="of all that is random")
        parser.add_argument(
            "--iommu", action="extend", nargs=nargs, choices=(*ALL_IOMMUS, "all"), metavar="IOMMU",
            help=f"of the guest, one or more of: {', '.join(ALL_IOMMUS)}, all; else {USUAL_IOMMU}",
        )  # fmt: skip
        parser.add_argument("--out", type=Path, default=out, help="where guests' logs are kept")
    one.set_defaults(action=_one)
    every.set_defaults(action=_all)


def _one(chosen: argparse.Namespace) -> int:
    name = chosen.name
    plan = _plan_for(name, chosen.plan) if chosen.plan else None
    found = _Found(chosen)
    rungs = [rung for rung in RUNGS if chosen.rung in (None, rung)]
    wanted = wanted_iommus(chosen.iommu)
    refusals = {rung: why for rung in rungs if (why := _refusal(name, rung, wanted))}
    if len(refusals) == len(rungs):
        raise DmabedError(f"{name}: {'; '.join(refusals.values())}")
    if "in-process" in rungs and "in-process" not in refusals:
        found.keep(_in_process(name, chosen.seed, plan))
    if "vm" in rungs and "vm" not in refusals:
        for iommu in wanted:
            asyncio.run(found.in_guests([name], plan, iommu))
    about = FAULTS.get(name) or PLAYS.get(name) or NoMemory
    print(f"\n{about.number} {name}: {about.shows}\n")
    for result in found.results:
        print("\n".join(result.trace[-20:]))
        print(f"{result.column}: {result.detail}\n")
    return found.say()


def _plan_for(name: str, path: Path) -> FaultPlan:
    if name not in FAULTS:
        raise DmabedError(f"{name} is not a fault of the device, --plan has no say in it")
    try:
        return parse_plan(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DmabedError(f"{path} cannot be read as a plan: {error}") from error


def _refusal(name: str, rung: str, iommus: Sequence[Iommu]) -> str:
    """Why ``name`` cannot be played on ``rung``; empty if it can."""
    if rung == "in-process":
        return "played on the rung vm only" if name in PLAYS else ""
    if name == NoMemory.name:
        return "played in-process only: the guest's counterpart is failing-allocations"
    if name in NOT_IN_VM:
        return f"played in-process only: {NOT_IN_VM[name]}"
    if "none" in iommus and name in FAULTS and needs_iommu(name):
        return "not played behind the IOMMU none, see docs/faults.md"
    return ""


def _all(chosen: argparse.Namespace) -> int:
    found = _Found(chosen)
    print(f"seed {chosen.seed}")
    if chosen.rung != "vm":
        for name in (*FAULTS, NoMemory.name):
            found.keep(_in_process(name, chosen.seed, None))
    if chosen.rung != "in-process":
        try:
            for iommu in wanted_iommus(chosen.iommu):
                asyncio.run(found.in_guests(played_behind(iommu), None, iommu))
        except DmabedError:
            found.say()
            raise
    print()
    for number, why in ELSEWHERE.items():
        print(f"{number}: {why}")
    for name, why in NOT_IN_VM.items():
        print(f"{fault_class(name).number} {name}: in-process only: {why}")
    return found.say()


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


def _in_process(name: str, seed: int, plan: FaultPlan | None) -> FaultResult:
    if name == NoMemory.name:
        return play_no_memory(seed=seed)
    if plan is None:
        return play_fault(name, seed=seed)
    kind = fault_class(name)
    return play_plan(plan, "page_pool", seed, kind.number, name, kind.expect)


class _Found:
    """The results so far, each told as it comes; guests leave their logs in a folder of the run."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.results: list[FaultResult] = []
        self._seed, self._out = chosen.seed, chosen.out
        self._folder: Path | None = None

    def keep(self, result: FaultResult) -> None:
        """One more."""
        self.results.append(result)
        print(f"{result.number} {result.name}, {result.column}: {result.word}", flush=True)

    def say(self) -> int:
        """Prints the matrix; the exit status."""
        print(matrix(self.results))
        if self._folder is not None:
            print(f"logs of the guests: {self._folder}")
        return 0 if all(result.ok for result in self.results) else 3

    async def in_guests(self, names: list[str], plan: FaultPlan | None, iommu: Iommu) -> None:
        """Plays ``names`` in guests: device faults in one, until one of them ruins it."""
        artifacts = setup(print, flavour=flavour_for([iommu]))
        self._folder = self._folder or run_folder(self._out, kind="faults")
        waiting = [name for name in names if name in FAULTS]
        for number in itertools.count(1):
            if not waiting:
                break
            folder = self._folder / f"{iommu}-{number}"
            async for result in _series(artifacts, folder, waiting, self._seed, plan, iommu):
                self.keep(replace(result, iommu=iommu))
                waiting = [name for name in waiting if name != result.name]
        for name in names:
            if name in PLAYS:
                result = await _alone(artifacts, self._folder / f"{iommu}-{name}", name, iommu)
                self.keep(replace(result, iommu=iommu))


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
    artifacts: Artifacts,
    folder: Path,
    names: Sequence[str],
    seed: int,
    plan: FaultPlan | None,
    iommu: Iommu,
) -> AsyncIterator[FaultResult]:
    async with fault_guest(artifacts, folder, iommu) as guest:
        for name in names:
            try:
                result = await guest.play(name, plan, seed)
            except DmabedError as error:
                result = ruined(name, error)
            yield result
            if result.outcome in _BAD:
                return
        try:
            await guest.stop()
        except DmabedError as error:
            yield not_given_back(error)


async def _alone(artifacts: Artifacts, folder: Path, name: str, iommu: Iommu) -> FaultResult:
    timeout_ms = MSG_TIMEOUTS_MS.get(name, PATIENT_MS)
    async with fault_guest(artifacts, folder, iommu, timeout_ms) as guest:
        return await play_process(guest, name)
