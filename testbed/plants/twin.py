# SPDX-License-Identifier: MIT
"""Plants in the Python driver, in one process and virtual time."""

from __future__ import annotations

from collections.abc import Callable

from driver.model.errors import DriverError, NoMemoryError
from driver.model.host import run_to_completion as go
from driver.model.inprocess import InProcessHost, Machine
from driver.model.main import (
    dmabed_open,
    dmabed_probe,
    dmabed_remove,
    dmabed_set_ringparam,
    dmabed_stop,
)
from driver.model.plants import NOTE_PLANT, PLANTS, MapElsewhere
from driver.model.skb import SkbBatch
from driver.model.stack import Hold, LocalPages
from driver.model.steps import Steps
from driver.model.structs import Config, Priv
from driver.model.tx import dmabed_start_xmit
from emulator.frames import FrameBatch
from emulator.iommu.dma import SpaceDma
from emulator.iommu.mapping import PAGE_SHIFT, target_of
from emulator.ledger.events import EventKind
from emulator.ledger.facts import Checked, Freed, HeadBuilt, Held, PayloadChecked, Took
from emulator.nic.config import NicConfig
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from pool.errors import PoolError
from pool.interface import Context
from testbed.plants.catalogue import Catch, PlantedBug, Scene, first_of
from testbed.plants.liar import LiarPort

RUNG = "twin"
FRAMES = 400
_RINGS = Config(1, 64, 64)


class WatchedStack(Hold):
    """A stack that keeps frames for a few polls, and tells the ledger what it reads meanwhile."""

    def __init__(self, host: InProcessHost, polls: int) -> None:
        super().__init__()
        self._host, self._polls = host, polls
        self._copies: list[list[bytes]] = []

    async def receive(self, priv: Priv, queue: int, skbs: SkbBatch) -> None:
        """See :class:`driver.model.structs.Stack`: the oldest batch is freed in its turn."""
        host = self._host
        for pfn in skbs.buffers.pfns.tolist():
            frame = target_of(host.machine.memory, pfn << PAGE_SHIFT) >> PAGE_SHIFT
            host.ledger.tell(host.now_ns, HeadBuilt(frame))
        host.ledger.tell(host.now_ns, Held(places_of(host, skbs)))
        self._copies.append([bytes(frame) for frame in skbs.frames(host.memory)])
        await super().receive(priv, queue, skbs)
        if len(self.held) > self._polls:
            self.release_oldest()

    def release_oldest(self) -> None:
        """Looks at the frames once more, then frees them."""
        skbs, before = self.held.pop(0), self._copies.pop(0)
        after = [bytes(frame) for frame in skbs.frames(self._host.memory)]
        changed = [a != b for a, b in zip(after, before, strict=True)]
        where = f"frame {changed.index(True)} of its batch" if any(changed) else ""
        host = self._host
        host.ledger.tell(host.now_ns, PayloadChecked(len(before), sum(changed), where))
        host.ledger.tell(host.now_ns, Freed(places_of(host, skbs)))
        skbs.free(Context.REMOTE)

    def release_all(self) -> None:
        """Frees everything."""
        while self.held:
            self.release_oldest()


def places_of(host: InProcessHost, skbs: SkbBatch) -> tuple[int, ...]:
    """Where the frames' pieces begin in memory, as facts tell it."""
    first = target_of(host.machine.memory, 0)
    return tuple(first + place for place in skbs.buffers.memory.tolist())


class _Bed:
    """One run: a machine, its NIC (and for P17 another), the driver with the plant."""

    def __init__(self, bug: PlantedBug, planted: bool) -> None:
        self.bug = bug
        self.machine = Machine(pages=1 << 11)
        liar = bug.scene is Scene.LIES

        def lying(port: SpaceDma) -> LiarPort:
            return LiarPort(port, bool(liar and planted))

        wire = Generator(GeneratorConfig(seed=1, sizes=Fixed(60), count=FRAMES, flows=4))
        self.host = self.machine.add_device(_nic(0), wire, wrap=lying if liar else None)
        other = self.machine.add_device(_nic(1), wire)
        go(other.set_bus_master(True))
        other.ledger.note(0, 1)
        self.stack = WatchedStack(self.host, 2)
        self.host.ledger.trace_begins(0)
        self.host.ledger.state.mapped_while_read = bug.strategy == "page_pool"
        self.steps = self._steps(other) if planted else Steps()

    def _steps(self, other: InProcessHost) -> Steps:
        kind = PLANTS[self.bug.number]
        return kind(other) if issubclass(kind, MapElsewhere) else kind()

    def play(self) -> None:
        """Load, traffic, unload; a driver that crashes is what the guest's checkers see."""
        host, ledger = self.host, self.host.ledger
        try:
            self._life()
        except (DriverError, PoolError, IndexError) as error:
            problem = f"{type(error).__name__}: {error}"
            ledger.tell(host.now_ns, Checked("driver", (problem,)))
        else:
            ledger.tell(host.now_ns, Checked("driver"))

    def _life(self) -> None:
        priv = go(dmabed_probe(self.host, self.stack, self.bug.strategy, _RINGS, self.steps))
        go(dmabed_open(priv))
        self.machine.run([priv])
        if self.bug.scene is Scene.SEND:
            self._send(priv)
        if self.bug.scene is Scene.RELOAD:
            self._reload(priv)
        if self.bug.scene is not Scene.HOLD or type(self.steps) is Steps:
            self.stack.release_all()  # a sound driver waits for them
        self._timed("ifdown", lambda: go(dmabed_stop(priv)))
        self._timed("remove", lambda: go(dmabed_remove(priv)))

    def _timed(self, what: str, action: Callable[[], None]) -> None:
        before_ns = self.machine.now_ns
        action()
        now_ns = self.machine.now_ns
        self.host.ledger.tell(now_ns, Took(what, now_ns - before_ns))

    def _send(self, priv: Priv) -> None:
        """A frame in three pieces, of which the last cannot be mapped."""
        owner = LocalPages(self.machine.pages)
        frames = FrameBatch.of([bytes(6) + b"\x02" * 6 + b"\x88\xb5" + bytes(2000)])
        skbs = owner.skbs(self.host, frames, 700)
        space = self.host.space
        room, space.max_mappings = space.max_mappings, len(space) + 2
        go(dmabed_start_xmit(priv, 0, skbs))
        space.max_mappings = room

    def _reload(self, priv: Priv) -> None:
        """Rings for which there is no memory."""
        try:
            go(dmabed_set_ringparam(priv, 4096, 64))
        except NoMemoryError:
            return
        raise AssertionError("the reload was to fail")


def _nic(number: int) -> NicConfig:
    return NicConfig(mac=bytes([2, 0xDB, 0xED, 0, 0, number]), queues=1)


def run_plant(bug: PlantedBug, planted: bool = True) -> Catch:
    """Plays the bug's scene, with the bug or without it."""
    bed = _Bed(bug, planted)
    bed.play()
    ledger = bed.machine.ledger
    ledger.verdict()
    events = ledger.timeline.to_array()
    notes = events[(events["kind"] == EventKind.NOTE) & (events["extra"] > NOTE_PLANT)]
    acted_ns = int(notes["time_ns"][0]) if len(notes) else None
    if bug.scene is Scene.LIES and acted_ns is None:
        acted_ns = 0  # it crashed before it could say
    found = [(v.rule, v.time_ns, str(v)) for v in ledger.log.kept]
    return first_of(bug, RUNG, acted_ns, found)
