# SPDX-License-Identifier: MIT
"""Rung in-process: a fault against the Python driver, in virtual time, with traffic both ways.

The script is the same for every fault: traffic, a change of rings, down and up, a reset that the
driver asks for, a trickle while its timers run, the fault taken away, traffic again, and the driver
removed. What is learned is whether every call ended, the second traffic came whole, nothing was
left mapped, and whom the ledger blames.
"""

from __future__ import annotations

import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from driver.model.errors import DriverError
from driver.model.host import run_to_completion as go
from driver.model.inprocess import Machine
from driver.model.main import (
    dmabed_get_stats64,
    dmabed_open,
    dmabed_probe,
    dmabed_remove,
    dmabed_set_ringparam,
    dmabed_stop,
)
from driver.model.stack import Drop, Forward
from driver.model.structs import Config
from driver.model.updown import dmabed_schedule_reset
from emulator.faults.fault import Outcome
from emulator.faults.injector import Injector
from emulator.faults.plan import FaultPlan
from emulator.faults.registry import default_plan, fault_class
from emulator.frames import FrameBatch
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from testbed.faults.memory import NoMemory
from testbed.faults.results import FaultResult

RUNG = "in-process"
MAC = bytes.fromhex("02dbed000001")
SECOND_NS = 1_000_000_000
#: No call of the driver may take longer, whatever the device does (rule O-17).
CALL_BOUND_NS = 3 * SECOND_NS
BURST = 1_200
_BURST_PPS = 2_000_000
_TRICKLE_PPS = 50
_TRICKLE_S = 2
_QUIET_S = 4
_PAUSE_NS = 2_000_000


class Line:
    """A wire whose source is exchanged, and which keeps when frames came back: ns, in order."""

    def __init__(self) -> None:
        self.source: Generator | None = None
        self.arrivals: list[int] = []

    def receive(self, room: int, now_ns: int) -> FrameBatch:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self.source.receive(room, now_ns) if self.source else FrameBatch.empty()

    def transmit(self, frames: FrameBatch, now_ns: int) -> None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        self.arrivals.append(now_ns)
        if self.source:
            self.source.transmit(frames, now_ns)

    def next_due_ns(self, now_ns: int) -> int | None:
        """See :class:`~emulator.nic.wire.base.Wire`."""
        return self.source.next_due_ns(now_ns) if self.source else None


class Misbehaviour(Protocol):
    """What is set off and taken away again: faults of the device, or of the host's memory."""

    def arm(self, now_ns: int) -> None:
        """Begins."""
        ...

    def disarm(self, now_ns: int) -> None:
        """Ends."""
        ...


@dataclass
class _DeviceFault:
    injector: Injector
    plan: FaultPlan

    def arm(self, now_ns: int) -> None:
        self.injector.arm(self.plan, now_ns)

    def disarm(self, now_ns: int) -> None:
        self.injector.disarm(now_ns)


@dataclass
class Seen:
    """What a play has seen. corrupt: of all frames that came back; again: of the last traffic.

    misplaced: of the first burst under the fault. over_ns: when the fault was taken away.
    silent: from when to when nothing was sent.
    """

    corrupt: int = 0
    misplaced: int = 0
    sent_again: int = 0
    came_again: int = 0
    asked_resets: int = 0
    longest_call_ns: int = 0
    over_ns: int = 0
    silent: tuple[int, int] = (0, 0)
    refusals: list[str] = field(default_factory=list)


class Play:
    """One machine, one NIC that misbehaves, an innocent one beside it, and the script.

    mode: the driver's receive strategy. seed: of traffic.
    """

    def __init__(self, mode: str = "page_pool", seed: int = 1) -> None:
        self.machine, self.line, self.stack = Machine(), Line(), Forward()
        self.memory = NoMemory(self.machine)
        self.seed, self.seen = seed, Seen()
        self.host = self.machine.add_device(NicConfig(mac=MAC), self.line, faulty=True)
        other = self.machine.add_device(NicConfig(mac=MAC[:5] + b"\x02"), Line())
        self.priv = go(dmabed_probe(self.host, self.stack, mode, Config(2, 128, 128)))
        self.innocent = go(dmabed_probe(other, Drop(), "page_pool", Config(1, 1024, 64)))
        for priv in (self.priv, self.innocent):
            go(dmabed_open(priv))

    @property
    def injector(self) -> Injector:
        """Of the NIC that misbehaves."""
        injector: Injector | None = self.host.injector
        assert injector is not None
        return injector

    def run(self, what: Misbehaviour) -> Seen:
        """Plays the script; lets what no driver should raise through."""
        self._traffic(BURST // 4)
        what.arm(self.machine.now_ns)
        self.seen.misplaced = self._traffic(BURST)
        self._trickle()
        self._quiet()
        self._call(dmabed_set_ringparam(self.priv, 64, 64))
        self._traffic(BURST // 2)
        self._call(self._down_and_up())
        self._traffic(BURST // 2)
        if self.priv.set:
            dmabed_schedule_reset(self.priv)
            self.seen.asked_resets += 1
        self._trickle()
        what.disarm(self.machine.now_ns)
        self.seen.over_ns = self.machine.now_ns
        self._settle()
        self._again()
        self._call(dmabed_stop(self.priv))
        self.stack.release()
        self._call(dmabed_remove(self.priv))
        self._call(dmabed_remove(self.innocent))
        return self.seen

    def left_over(self) -> list[str]:
        """What a driver that is gone must not leave behind."""
        pages, state = self.machine.pages.in_use, self.host.ledger.state
        left = [f"{len(list(self.host.space))} mappings"] if list(self.host.space) else []
        left += [f"{pages} pages"] if pages else []
        left += [f"{state.posted_count} posted buffers"] if state.posted_count else []
        return left + (["a pool"] if self.priv.dying else [])

    # ------------------------------------------------------------------ steps
    async def _down_and_up(self) -> None:
        """As a suspend: the interface down, bus mastering off and on, the interface up."""
        await dmabed_stop(self.priv)
        self.host.touch()
        self._wait(_PAUSE_NS)
        await self.host.set_bus_master(False)
        self._wait(_PAUSE_NS)
        if not self.priv.gone:
            await self.host.set_bus_master(True)
        await dmabed_open(self.priv)

    def _call(self, call: Coroutine[Any, Any, object]) -> None:
        """A call of the driver's: it may refuse, and has to end in time."""
        begin_ns = self.machine.now_ns
        try:
            go(call)
        except DriverError as error:
            self.seen.refusals.append(str(error))
        self.seen.longest_call_ns = max(self.seen.longest_call_ns, self.machine.now_ns - begin_ns)

    def _plug(self, count: int, rate: int) -> Generator:
        self.seed += 1
        config = GeneratorConfig(
            seed=self.seed, sizes=Fixed(200), count=count, rate_pps=rate, flows=16
        )
        self.line.source = Generator(config)
        self.host.touch()
        return self.line.source

    def _unplug(self, source: Generator) -> None:
        self.seen.corrupt += source.checker.corrupt
        self.line.source = None

    def _traffic(self, count: int) -> int:
        """A burst; returns how many frames came back that were not the next of their flow."""
        source = self._plug(count, _BURST_PPS)
        self._wait(SECOND_NS // 100)
        self._unplug(source)
        return source.checker.misordered

    def _trickle(self) -> None:
        source = self._plug(_TRICKLE_PPS * _TRICKLE_S, _TRICKLE_PPS)
        self.machine.run_timers([self.priv], self.machine.now_ns + _TRICKLE_S * SECOND_NS)
        self._unplug(source)

    def _quiet(self) -> None:
        """Nothing on the wire, for long enough that the driver's timers wonder."""
        begin_ns = self.machine.now_ns
        self.machine.run_timers([self.priv], begin_ns + _QUIET_S * SECOND_NS)
        self.seen.silent = (begin_ns, self.machine.now_ns)

    def _settle(self) -> None:
        """Time for a reset that is due, and up again if the driver gave up meanwhile."""
        self.machine.run_timers([self.priv], self.machine.now_ns + 3 * SECOND_NS)
        if not self.priv.set:
            self._call(dmabed_open(self.priv))

    def _again(self) -> None:
        source = self._plug(BURST, _BURST_PPS)
        self.machine.run_timers([self.priv], self.machine.now_ns + SECOND_NS)
        checker = source.checker
        self.seen.sent_again = BURST
        self.seen.came_again = checker.frames - checker.corrupt - checker.misordered
        self._unplug(source)

    def _wait(self, duration_ns: int) -> None:
        until_ns = self.machine.now_ns + duration_ns
        self.machine.run([self.priv], until_ns)
        self.machine.now_ns = max(self.machine.now_ns, until_ns)


def play_fault(name: str, mode: str = "page_pool", seed: int = 1) -> FaultResult:
    """Plays fault ``name`` by its default plan.

    Raises:
        UnknownFaultError: there is none of that name.
    """
    kind = fault_class(name)
    return play_plan(default_plan(name, seed), mode, seed, kind.number, name, kind.expect)


def play_plan(
    plan: FaultPlan, mode: str, seed: int, number: str, name: str, expected: frozenset[Outcome]
) -> FaultResult:
    """Plays any plan; number and name are for the report."""
    play = Play(mode, seed)
    return _judged(play, _DeviceFault(play.injector, plan), number, name, expected)


def play_no_memory(mode: str = "page_pool", seed: int = 1) -> FaultResult:
    """X-57: allocations of the host fail while rings are rebuilt and filled."""
    play = Play(mode, seed)
    return _judged(play, play.memory, play.memory.number, play.memory.name, play.memory.expect)


def _judged(
    play: Play, what: Misbehaviour, number: str, name: str, expected: frozenset[Outcome]
) -> FaultResult:
    try:
        play.run(what)
        outcome, detail = outcome_of(play)
    except Exception as error:  # what a driver lets through is the finding
        outcome, detail = Outcome.BROKEN, f"{type(error).__name__}: {error}"
    report = play.injector.report()
    acts = sum(report.counts.values()) or play.memory.failures
    return FaultResult(
        number=number,
        name=name,
        rung=f"{RUNG}, {play.priv.rx_mode}",
        outcome=outcome,
        expected=expected,
        recovered_ms=_gap_ms(play, report.first_ns),
        acts=acts,
        detail=detail,
        trace=report.lines,
    )


def outcome_of(play: Play) -> tuple[Outcome, str]:
    """The outcome of a play that ran to its end, and a line on what was seen."""
    seen, priv, report = play.seen, play.priv, play.injector.report()
    stats = dmabed_get_stats64(priv)
    resets = priv.resets - seen.asked_resets
    noticed = {
        "bad": stats.rx_bad + stats.tx_bad,
        "dropped": stats.rx_dropped + stats.tx_errors,
        "corrupt": seen.corrupt,
        "out of place": seen.misplaced,
        "refused to the NIC": priv.dma_faults,
        "allocations failed": stats.rx_alloc_fail,
    }
    told = [f"{value} {name}" for name, value in noticed.items() if value]
    detail = ", ".join(
        [*told, f"{resets} resets, {stats.rescues} rescues", *priv.suspicions[:2], *seen.refusals]
    )
    blamed, left = play.injector.blames(), play.left_over()
    if blamed or left:
        return (Outcome.BLAMED if blamed else Outcome.BROKEN), f"{blamed} {left} {detail}"
    if seen.longest_call_ns > CALL_BOUND_NS:
        return Outcome.STUCK, f"a call took {seen.longest_call_ns / 1e9:.1f} s; {detail}"
    if seen.came_again < seen.sent_again:
        return Outcome.STUCK, f"{seen.came_again} of {seen.sent_again} frames after it; {detail}"
    if not report.counts and not play.memory.failures:
        return Outcome.IDLE, detail
    if resets > 0 or stats.rescues:
        return Outcome.RECOVERED, detail
    if report.refused and not report.landed and not seen.corrupt:
        return Outcome.REFUSED, f"{report.refused} refused; {detail}"
    if told or report.by_order:
        return Outcome.DETECTED, detail
    return Outcome.SURVIVED, f"{report.landed} landed; {detail}"


def _gap_ms(play: Play, since_ns: int | None) -> float | None:
    """The longest time without a frame after the fault first struck."""
    if since_ns is None:
        return None
    until_ns, (first, last) = play.seen.over_ns, play.seen.silent
    times = [since_ns, *(at for at in play.line.arrivals if since_ns <= at <= until_ns), until_ns]
    gaps = (
        after - before - max(0, min(after, last) - max(before, first))
        for before, after in itertools.pairwise(times)
    )
    return max(gaps, default=0) / 1e6
