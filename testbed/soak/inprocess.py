# SPDX-License-Identifier: MIT
"""The soak in one process and virtual time: the Python driver on every strategy there is.

Two NICs; some of what the first receives is kept by a stack that tells the ledger what it reads,
looks at every byte again when it is done, and may keep it while rings and drivers come and go.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from driver.model.errors import DriverError, NoMemoryError
from driver.model.host import run_to_completion as go
from driver.model.inprocess import InProcessHost, Machine
from driver.model.main import (
    dmabed_change_mtu,
    dmabed_open,
    dmabed_probe,
    dmabed_remove,
    dmabed_set_channels,
    dmabed_set_ringparam,
)
from driver.model.skb import SkbBatch
from driver.model.stack import Drop, Forward, LocalPages
from driver.model.steps import Steps
from driver.model.structs import Config, Priv
from driver.model.tx import dmabed_start_xmit
from emulator.frames import FrameBatch
from emulator.ledger.facts import Checked, Freed, Held, PayloadChecked, PoolCounted, Took
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Generator, GeneratorConfig, Range
from emulator.nic.wire.testframes import Checker
from pool.errors import PoolError
from pool.interface import Context
from pool.registry import STRATEGIES
from testbed.cable import Cable
from testbed.plants.twin import places_of
from testbed.soak.guest import READ_AFTER, Tally
from testbed.soak.plan import LEG_PACKETS, Kind, Leg, Operation, Planner
from testbed.soak.result import SoakResult

RUNG = "twin"
KINDS = (Kind.FLAP, Kind.RINGS, Kind.CHANNELS, Kind.RELOAD, Kind.SEND, Kind.SOCKET, Kind.RETAIN)
QUEUES = 4
_MTU = 9000
_BETWEEN_NS = 300_000
_OTHER_PPS = 20_000
#: One batch of frames in so many is kept for a while; at most so many at once, in all.
_ONE_IN, _KEPT = 50, 200
#: Batches of a queue that wait to be sent; what comes then is dropped, as a full qdisc drops.
_WAITING = 64
_SAY_EVERY_S = 10.0


@dataclass(slots=True)
class _Kept:
    skbs: SkbBatch
    bytes: list[bytes]
    since: int


class KeepingStack:
    """Checks every frame; sends it back if ``echo``, frees it, or keeps it some legs.

    leg: the number of the present one. context: in which it frees what it kept.
    """

    def __init__(self, host: InProcessHost, seed: int) -> None:
        self.echo, self.leg = False, 0
        self.context = Context.REMOTE
        self.late = 0
        self._host, self._checker = host, Checker()
        self._forward = Forward()
        self._random = random.Random(seed)
        self._kept: deque[_Kept] = deque()

    @property
    def corrupt(self) -> int:
        """Frames that were not what was sent."""
        return self._checker.corrupt

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """See :class:`driver.model.structs.Stack`."""
        frames = skbs.frames(self._host.memory)
        self._checker.take(frames)
        if self._random.randrange(_ONE_IN) == 0 and len(self._kept) < _KEPT:
            self._host.ledger.tell(self._host.now_ns, Held(places_of(self._host, skbs)))
            self._kept.append(_Kept(skbs, [bytes(frame) for frame in frames], self.leg))
        elif self.echo and len(self._forward.waiting.get(queue, ())) < _WAITING:
            await self._forward.receive(priv, queue, skbs)
        else:
            skbs.free(Context.NAPI)

    async def wake(self, priv: Priv, queue: int) -> None:
        """See :class:`driver.model.structs.Stack`."""
        await self._forward.wake(priv, queue)

    def read(self, legs: int) -> None:
        """Looks again at what was kept for so many legs or more, and frees it."""
        host, memory = self._host, self._host.memory
        while self._kept and self.leg - self._kept[0].since >= legs:
            kept = self._kept.popleft()
            after = [bytes(frame) for frame in kept.skbs.frames(memory)]
            changed = sum(a != b for a, b in zip(after, kept.bytes, strict=True))
            host.ledger.tell(host.now_ns, PayloadChecked(len(after), changed, "kept for some legs"))
            host.ledger.tell(host.now_ns, Freed(places_of(host, kept.skbs)))
            kept.skbs.free(self.context)
            self.late += len(after)

    def release(self) -> None:
        """Frees what waits to be sent."""
        self._forward.release()


class Soak:
    """One machine with two NICs; :meth:`play` leg after leg, then :meth:`stop`.

    steps: makes those of the first NIC's driver, each time it is loaded.
    """

    def __init__(self, seed: int, steps: Callable[[], Steps] = Steps) -> None:
        self.machine = Machine(contiguous=1 << 12)
        self.tally = Tally()
        self._seed, self._steps = seed, steps
        self._cable, other_cable = Cable(), Cable()
        self.host = self.machine.add_device(NicConfig(mac=_mac(0), queues=QUEUES), self._cable)
        other = self.machine.add_device(NicConfig(mac=_mac(1), queues=1), other_cable)
        self.stack = KeepingStack(self.host, seed)
        self._local = LocalPages(self.machine.pages)
        self._mode, self._cfg = "page_pool", Config(2, 256, 256)
        self._other = go(dmabed_probe(other, Drop(), "page_pool", Config(1, 256, 64)))
        go(dmabed_open(self._other))
        other_cable.plug(Generator(_config(seed, 60, 1514, 1, _OTHER_PPS)))
        other.touch()
        self._load()

    @property
    def received(self) -> int:
        """Packets of the first NIC."""
        return self.host.ledger.totals.rx_packets

    def play(self, leg: Leg) -> None:
        """One leg."""
        self._seed += 1
        self.tally.legs += 1
        self.stack.leg, self.stack.echo = self.tally.legs, leg.echo
        rate = 1_000_000 // (1 + leg.high // 1024)
        for operation in leg.during:
            self._plug(Generator(_config(self._seed, leg.low, leg.high, leg.flows, rate)))
            self._run(_BETWEEN_NS)
            self._do(operation)
            self.tally.operations[operation.kind] += 1
            self._run(_BETWEEN_NS)
        config = _config(self._seed, leg.low, leg.high, leg.flows, None, leg.count)
        source = Generator(config)
        self._plug(source)
        while not source.done:
            before = self.received
            self._run(_BETWEEN_NS)
            if self.received == before:
                self.stack.read(0)  # it has all the buffers that there are
        self._run(_BETWEEN_NS)
        self._look()

    def stop(self) -> None:
        """Everything is read, both drivers go."""
        self.stack.read(0)
        self._plug(None)
        self._run(_BETWEEN_NS)
        self._remove()
        go(dmabed_remove(self._other))
        self.host.ledger.tell(self.machine.now_ns, Checked("driver"))

    # ------------------------------------------------------------------ operations
    def _do(self, operation: Operation) -> None:
        match operation.kind:
            case Kind.FLAP:
                self.host.link(False)
                self._run(_BETWEEN_NS)
                self.host.link(True)
            case Kind.RINGS:
                rx, tx = operation.numbers
                self._timed("resize", lambda: self._resize(rx, tx))
            case Kind.CHANNELS:
                queues = operation.numbers[0]
                self._timed("resize", lambda: go(dmabed_set_channels(self._priv, queues)))
            case Kind.RELOAD:
                self._remove()
                self._mode = operation.values[0]
                self._load()
            case Kind.SEND:
                self._send(*operation.numbers)
            case Kind.SOCKET | Kind.RETAIN | Kind.MODE | Kind.TRACE:
                self.stack.read(0 if operation.kind is Kind.RETAIN else READ_AFTER)

    def _load(self) -> None:
        promised = STRATEGIES[self._mode].guarantees
        # What another core's cache holds cannot be had; DPDK wants a pool larger by all caches,
        # which the driver's, as large as its ring, is not: it would run dry for good.
        self.stack.context = Context.NAPI if self._mode == "mempool" else Context.REMOTE
        self.host.ledger.state.mapped_while_read = promised.mapped_while_read
        steps = self._steps()
        self._priv = go(dmabed_probe(self.host, self.stack, self._mode, self._cfg, steps))
        go(dmabed_change_mtu(self._priv, _MTU))
        go(dmabed_open(self._priv))

    def _remove(self) -> None:
        """Strategies whose pools cannot unmap what the stack holds have to wait for it."""
        self.stack.release()
        if not STRATEGIES[self._mode].guarantees.unmapped_by_close:
            self.stack.read(0)
        self._timed("remove", lambda: go(dmabed_remove(self._priv)))

    def _resize(self, rx: int, tx: int) -> None:
        """No room for new rings is no bug, as long as the old ones go on."""
        try:
            go(dmabed_set_ringparam(self._priv, rx, tx))
        except NoMemoryError:
            return
        self._cfg = Config(self._priv.cfg.queues, rx, tx)

    def _send(self, count: int, size: int) -> None:
        frames = FrameBatch.of([_mac(9) + _mac(0) + b"\x88\xb6" + bytes(size - 14)] * count)
        try:
            skbs = self._local.skbs(self.host, frames, 4096)
        except NoMemoryError:
            return
        go(dmabed_start_xmit(self._priv, 0, skbs)).free(Context.REMOTE)

    def _timed(self, what: str, action: Callable[[], None]) -> None:
        before_ns = self.machine.now_ns
        action()
        took_ns = self.machine.now_ns - before_ns
        self.host.ledger.tell(self.machine.now_ns, Took(what, took_ns))
        self.tally.longest_ns[what] = max(took_ns, self.tally.longest_ns.get(what, 0))

    # ------------------------------------------------------------------ around
    def _plug(self, source: Generator | None) -> None:
        self._cable.plug(source)
        self.host.touch()

    def _run(self, duration_ns: int) -> None:
        machine = self.machine
        machine.run([self._priv, self._other], machine.now_ns + duration_ns)

    def _look(self) -> None:
        self.stack.read(READ_AFTER)
        self.tally.damaged, self.tally.late = self.stack.corrupt, self.stack.late
        if self._mode == "page_pool":
            pools = [*(qp.rx.pool for qp in self._priv.set), *self._priv.dying]
            counted = PoolCounted(sum(pool.counters.inflight for pool in pools))
            self.host.ledger.tell(self.machine.now_ns, counted)
        self.machine.ledger.verdict()


def _mac(number: int) -> bytes:
    return bytes([2, 0xDB, 0xED, 0, 1, number])


def _config(
    seed: int, low: int, high: int, flows: int, rate: int | None, count: int | None = None
) -> GeneratorConfig:
    return GeneratorConfig(seed, Range(low, high), rate, flows, count)


def soak_in_process(
    packets: int,
    seed: int,
    told: Callable[[str], None] = lambda _: None,
    steps: Callable[[], Steps] = Steps,
    leg_packets: int = LEG_PACKETS,
) -> SoakResult:
    """Legs until the first NIC has received ``packets``, and each kind of operation was done.

    told: is called with a line from time to time, and with the leg after which something was wrong.
    A driver that raises an error is what a guest's checkers see (O-20).
    """
    began = said = time.monotonic()
    soak, found = Soak(seed, steps), 0
    planner = Planner(seed, False, QUEUES, KINDS, tuple(STRATEGIES), leg_packets)
    ledger = soak.machine.ledger
    try:
        for leg in planner.legs():
            soak.play(leg)
            if len(ledger.log.kept) > found:
                told(f"leg {soak.tally.legs} was not clean: {leg}")
                told("\n".join(map(str, ledger.log.kept[found:])))
                found = len(ledger.log.kept)
            if time.monotonic() - said > _SAY_EVERY_S:
                told(f"leg {soak.tally.legs}, {soak.received:,} of {packets:,} packets")
                said = time.monotonic()
            if soak.received >= packets and soak.tally.legs >= planner.at_least:
                break
        soak.stop()
    except (DriverError, PoolError, IndexError) as error:
        problem = f"leg {soak.tally.legs}: {type(error).__name__}: {error}"
        soak.host.ledger.tell(soak.machine.now_ns, Checked("driver", (problem,)))
    return _result(soak, seed, time.monotonic() - began)


def _result(soak: Soak, seed: int, seconds: float) -> SoakResult:
    verdict, tally = soak.machine.ledger.verdict(), soak.tally
    name = soak.host.ledger.name
    return SoakResult(
        rung=RUNG,
        iommu="",
        seed=seed,
        rx=sum(total.rx_packets for total in verdict.totals.values()),
        tx=sum(total.tx_packets for total in verdict.totals.values()),
        legs=tally.legs,
        operations={kind.value: count for kind, count in sorted(tally.operations.items())},
        late=tally.late,
        damaged=tally.damaged,
        longest_ns=tally.longest_ns,
        events=verdict.events,
        word=verdict.word,
        violations=[str(violation) for violation in verdict.violations],
        not_judged=verdict.not_judged[name],
        seconds=seconds,
    )
