# SPDX-License-Identifier: MIT
"""Rung vm: a fault against the Linux driver in a guest, one after the other in the same guest.

The script is the same for every fault: traffic and pings, the rings changed, the interface down and
up, time for the driver's timers, the fault taken away, traffic again. A loop in the guest pings
the peer all the time and notes when an answer came: its longest gap is how long the NIC was away.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import NamedTuple

from emulator.errors import DmabedError
from emulator.faults.fault import Outcome
from emulator.faults.injector import FaultReport
from emulator.faults.maps import MapFault
from emulator.faults.plan import FaultPlan
from emulator.faults.registry import default_plan, fault_class
from emulator.ledger.facts import Took
from emulator.ledger.policy import LIMITS_UNDER_FAULTS_NS
from emulator.nic.wire.peer import PEER_IP
from testbed.errors import RigError
from testbed.faults.results import FaultResult
from testbed.guest_facts import timed
from testbed.laboratory import Traffic
from testbed.rig import GUEST_ADDRESS, Rig
from testbed.scenario import NicPlan
from vm.errors import CommandTimeout, VmError
from vm.splats import drivers_fault
from vm.waiting import Looks

RUNG = "vm"
NIC = NicPlan(queues=2, rx_ring=256, tx_ring=256)
#: After so long a command in the guest is given up; rule O-17 has long spoken then.
GIVEN_UP_S = max(LIMITS_UNDER_FAULTS_NS.values()) / 1e9 + 5
#: A gap between two answers that is shorter than this is not a stall, in s: one ping's patience.
_NOISE_S = 1.2
_BACK_S = 25.0
_AGAIN = 400
#: Faults that nothing in the script gives an opportunity to, and what is armed before them.
_RESET = '[[fault]]\nname = "bad-index"\nafter_us = 300000\n'
_BEFORE = {"stuck-reset": _RESET, "forgotten-config": _RESET}
#: Faults that need more than this rung's script has: they are played in-process.
ELSEWHERE = {
    "other-device": "the guest has one NIC",
    "before-bus-master": "the driver stays loaded",
    "backwards-index": "the driver looks at these counts only when a queue is silent",
}
#: A guest's clock and traffic are coarser: what the in-process rung must see may pass unseen here,
#: or need the timer. What must be refused must be refused here as well.
_IN_A_GUEST = frozenset({Outcome.SURVIVED, Outcome.RECOVERED, Outcome.DETECTED})
_NOTHING_LANDS = frozenset({Outcome.REFUSED})
_COUNTERS = ("rx_bad", "tx_bad", "rx_dropped", "tx_errors", "rx_alloc_fail")
_PINGS = "/tmp/answers"
#: While this file is there, no answer is expected: rings are being changed on purpose.
_HOLD, _END = "/tmp/hold", "/tmp/end"
_LOOP = (
    f"until [ -e {_END} ]; do {{ [ -e {_HOLD} ] || ping -c1 -W1 {PEER_IP} >/dev/null 2>&1; }} && "
    f"cut -d' ' -f1 /proc/uptime >> {_PINGS}; sleep 0.05; done"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Of the driver, summed over queues."""

    noticed: int
    resets: int
    rescues: int
    dma_faults: int


class Came(NamedTuple):
    """What came of a play, and what was seen; recovered_ms: None where the whole play counts."""

    outcome: Outcome
    detail: str
    recovered_ms: float | None = None


class FaultGuest:
    """A rig whose driver is loaded and up, with a loop of pings; see :meth:`start`."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._loop: asyncio.Task[object] | None = None
        self._damaged = 0

    async def start(self) -> None:
        """Loads driver and sink, gives the interface its address, and begins to ping."""
        rig = self.rig
        await rig.load_sink(verify=True)
        await rig.load("page_pool", NIC)
        await rig.guest.run(f"ip addr add {GUEST_ADDRESS} dev {rig.interface}")
        await self.answered(_BACK_S)
        self._loop = asyncio.create_task(rig.guest.run(_LOOP, timeout_s=None, check=False))

    async def remove_driver(self) -> float:
        """Interface down and module out; seconds it took.

        Raises:
            RigError: longer than :data:`GIVEN_UP_S`. CommandFailed: the module stays.
        """
        await self.stop_pings()
        down = await self._timed("ifdown", f"ip link set {self.rig.interface} down", check=False)
        return down + await self._timed("remove", "rmmod dmabed_nic")

    async def abandon(self) -> None:
        """The guest is about to be ended: nobody waits for its pings."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)

    async def stop_pings(self) -> None:
        """Ends the loop in the guest."""
        if self._loop is None:
            return
        await self.rig.guest.run(f"touch {_END}")
        await asyncio.gather(self._loop, return_exceptions=True)
        self._loop = None

    async def stop(self) -> None:
        """Ends the pings and takes the driver away; everything must be given back.

        Raises:
            RigError: it was not.
        """
        await self.remove_driver()
        exposed = await self.rig.exposed(wait_s=3)
        if exposed.live or exposed.posted:
            raise RigError(f"the driver is gone and left {exposed}")

    async def play(self, name: str, plan: FaultPlan | None = None, seed: int = 1) -> FaultResult:
        """Plays fault ``name``, by its default plan if none is given.

        Raises:
            UnknownFaultError: there is none of that name.
        """
        kind = fault_class(name)
        plan = plan or default_plan(name, seed, _BEFORE.get(name, ""))
        before, splats = await self._counted(), len(self.rig.guest.console.splats)
        report_before = self._report()
        blamed_before = self.blames()
        began = await self._uptime()
        outcome, detail = Outcome.BROKEN, ""
        try:
            longest = await self._script(plan)
            detail = f"longest call {longest:.1f} s"
            outcome = Outcome.SURVIVED
        except (VmError, RigError) as error:
            detail = f"{type(error).__name__}: {error}".splitlines()[0]
            outcome = Outcome.STUCK
        after, gap = before, 0.0
        try:
            after, gap = await self._counted(), await self._longest_gap(began)
        except VmError:
            if outcome is not Outcome.STUCK:
                raise
        self.rig.tell(Took("recovery", round(gap * 1e9)))
        report = self._report()
        if outcome is Outcome.SURVIVED:
            blamed = {
                rule: count
                for rule, count in self.blames().items()
                if count > blamed_before.get(rule, 0)
            }
            warnings = drivers_fault(self.rig.guest.console.splats[splats:])
            outcome = _judge(report_before, report, before, after, gap)
            detail += f"; {_difference(before, after)}"
            if blamed or warnings:
                outcome = Outcome.BLAMED if blamed else Outcome.BROKEN
                detail += f"; {blamed} {warnings}"
        return FaultResult(
            number=kind.number,
            name=name,
            rung=RUNG,
            outcome=outcome,
            expected=kind.expect if kind.expect == _NOTHING_LANDS else kind.expect | _IN_A_GUEST,
            recovered_ms=gap * 1e3,
            acts=sum(report.counts.values()) - sum(report_before.counts.values()),
            detail=detail,
            trace=report.lines,
        )

    async def _script(self, plan: FaultPlan) -> float:
        """Returns the seconds of the longest command."""
        rig, interface = self.rig, self.rig.interface
        rig.devices.call("arm", "nic", plan)
        try:
            rig.devices.call("send", "nic", Traffic(count=600, rate_pps=1500, flows=8))
            await asyncio.sleep(1.5)
            calls = [
                await self._timed(what, f"touch {_HOLD}; {command}", check=False)
                for what, command in (
                    ("resize", f"ethtool -G {interface} rx 128"),
                    ("ifdown", f"ip link set {interface} down"),
                    ("ifup", f"ip link set {interface} up; rm {_HOLD}"),
                )
            ]
            rig.devices.call("send", "nic", Traffic(count=300, rate_pps=1500, flows=8))
            await asyncio.sleep(2.5)
            calls.append(await self._timed("resize", f"ethtool -G {interface} rx 256", check=False))
        finally:
            rig.devices.call("disarm", "nic")
            rig.devices.call("unplug", "nic")
        self._damaged += await self.rig.sink.damaged()
        await self.clean_traffic()
        return max(calls)

    async def clean_traffic(self) -> None:
        """The interface answers, and takes clean traffic whole.

        Raises:
            RigError: it does not.
        """
        rig = self.rig
        if not await self._answers():
            await asyncio.sleep(2)
            await rig.guest.run(f"ip link set {rig.interface} up", check=False)
        await self.answered(_BACK_S)
        steady = await rig.receive(Traffic(count=_AGAIN, rate_pps=4000, flows=4))
        reception = steady.reception
        if reception.packets != _AGAIN or reception.errors:
            raise RigError(f"of {_AGAIN} frames after the fault came {reception}")

    async def answered(self, timeout_s: float) -> None:
        """Returns when the peer answers a ping.

        Raises:
            RigError: not in time.
        """
        async for _ in Looks(timeout_s, 0.2):
            if await self._answers():
                return
        raise RigError(f"no answer to a ping for {timeout_s} s")

    async def _answers(self) -> bool:
        said = await self.rig.guest.run(f"ping -c1 -W1 {PEER_IP}", check=False)
        return said.status == 0

    async def _timed(self, what: str, command: str, check: bool = True) -> float:
        """Runs ``command``, of which the ledger is told; seconds it took.

        Raises:
            RigError: longer than :data:`GIVEN_UP_S`. CommandFailed: ``check`` and it failed.
        """
        try:
            return await timed(self.rig, what, command, GIVEN_UP_S, check) / 1e9
        except CommandTimeout as error:
            raise RigError(f"{command} did not end in {GIVEN_UP_S:g} s") from error

    def blames(self) -> dict[str, int]:
        """Of the driver, by rule: what the ledger of the NIC found wrong so far."""
        blames: dict[str, int] = self.rig.devices.call("blames", "nic")
        return blames

    def _report(self) -> FaultReport:
        report: FaultReport = self.rig.devices.call("fault_report", "nic")
        return report

    async def _uptime(self) -> float:
        said = await self.rig.guest.run(f": > {_PINGS}; cut -d' ' -f1 /proc/uptime")
        return float(said.stdout)

    async def _longest_gap(self, began: float) -> float:
        """Seconds between two answers, by the guest's clock."""
        said = await self.rig.guest.run(f"cat {_PINGS}; cut -d' ' -f1 /proc/uptime")
        times = [began, *map(float, said.stdout.split())]
        return max(after - before for before, after in itertools.pairwise(times))

    async def _counted(self) -> Counted:
        said = await self.rig.guest.run(f"ethtool -S {self.rig.interface}")
        sums: dict[str, int] = {}
        for line in said.stdout.splitlines():
            name, _, value = line.strip().partition(": ")
            key = name.partition("_")[2] if name[:1] == "q" and "_" in name else name
            sums[key] = sums.get(key, 0) + (int(value) if value.isdigit() else 0)
        noticed = self._damaged + sum(sums.get(name, 0) for name in _COUNTERS)
        return Counted(
            noticed, *(sums.get(name, 0) for name in ("resets", "rescues", "dma_faults"))
        )


def ruined(name: str, error: DmabedError) -> FaultResult:
    """Of a fault that cost the guest its life, or what had to be asked of it afterwards."""
    kind = fault_class(name)
    detail = f"{type(error).__name__}: {error}".splitlines()[0]
    return FaultResult(kind.number, name, RUNG, Outcome.BROKEN, kind.expect, acts=1, detail=detail)


def not_given_back(error: DmabedError) -> FaultResult:
    """Of a driver that went, after all the faults, and left something or did not go."""
    detail = f"{type(error).__name__}: {error}".splitlines()[0]
    expected = frozenset({Outcome.SURVIVED})
    return FaultResult("X-0", "removal-at-the-end", RUNG, Outcome.STUCK, expected, detail=detail)


def needs_iommu(name: str) -> bool:
    """Whether it is a fault of the IOMMU, or one that nothing but an IOMMU refuses."""
    kind = fault_class(name)
    return issubclass(kind, MapFault) or Outcome.REFUSED in kind.expect


def _judge(
    before: FaultReport, after: FaultReport, was: Counted, now: Counted, gap_s: float
) -> Outcome:
    refused, landed = after.refused - before.refused, after.landed - before.landed
    if after.counts == before.counts:
        return Outcome.IDLE
    if refused and not landed:
        return Outcome.REFUSED
    if now.resets > was.resets or now.rescues > was.rescues or gap_s > _NOISE_S:
        return Outcome.RECOVERED
    if now.noticed > was.noticed or now.dma_faults > was.dma_faults:
        return Outcome.DETECTED
    return Outcome.SURVIVED


def _difference(was: Counted, now: Counted) -> str:
    return (
        f"{now.noticed - was.noticed} noticed, {now.resets - was.resets} resets, "
        f"{now.rescues - was.rescues} rescues, {now.dma_faults - was.dma_faults} DMA refused"
    )
