# SPDX-License-Identifier: MIT
"""The device side of a run: NICs on their sockets, one ledger, and what can be done to them.

It lives in a process of its own (:mod:`testbed.device_process`), so that nothing else delays a
reply the guest waits for. Its public methods are what the run calls from outside.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.iommu.latency import MESSAGE_TIMEOUT_MS, LatencyModel
from emulator.ledger.events import EventKind
from emulator.ledger.facts import Fact
from emulator.ledger.guest_clock import Tick
from emulator.ledger.join import GuestView, Joined
from emulator.ledger.traced import TraceEvent
from emulator.nic.wire.base import Wire
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig, Range, Sizes
from emulator.nic.wire.pcap import PcapWriter, Replay, Tap, read_pcap
from testbed.errors import LaboratoryError
from testbed.misbehaving import Misbehaving


@dataclass(frozen=True, slots=True)
class Traffic:
    """Frames towards the guest: ``low`` to ``high`` bytes without FCS, see ``GeneratorConfig``."""

    low: int = 60
    high: int = 60
    count: int | None = None
    rate_pps: int | None = None
    flows: int = 1
    seed: int = 1

    def generator(self) -> Generator:
        """A generator that sends this."""
        sizes: Sizes = Fixed(self.low) if self.low == self.high else Range(self.low, self.high)
        config = GeneratorConfig(
            seed=self.seed, sizes=sizes, rate_pps=self.rate_pps, flows=self.flows, count=self.count
        )
        return Generator(config)


@dataclass(frozen=True, slots=True)
class Received:
    """What the guest sent: test frames, those damaged, those out of order, other frames."""

    frames: int
    corrupt: int
    misordered: int
    others: int


@dataclass(frozen=True, slots=True)
class Served:
    """Completions written since the rings were started, of all queues.

    quiet: the driver has seen them all and waits for an interrupt of every queue, and nothing waits
    to be transmitted.
    """

    received: int
    transmitted: int
    quiet: bool


@dataclass(frozen=True, slots=True)
class Exposed:
    """Mappings of a device and what is stale of them; times in ns.

    live: now, without the platform's own. at_release: when the driver said it had given all back
    (None: it has not). longest_ns, windows, open: stale windows since the case began. at_once: the
    most mappings known to have been stale together.
    """

    live: int
    at_release: int | None
    longest_ns: int
    windows: int
    open: int
    posted: int
    at_once: int


#: Events of a guest's trace that are handled at a time: the loop serves nobody meanwhile.
PORTION = 128


class Laboratory(Misbehaving):
    """What a run asks of its NICs and of their ledger, see :class:`testbed.benches.Benches`."""

    # ------------------------------------------------------------------ the cable
    def send(self, name: str, traffic: Traffic) -> None:
        """Plugs in a generator; it also checks the test frames that the guest sends."""
        self.unplug(name)
        bench = self._named(name)
        bench.generator = traffic.generator()
        self._plug(bench, bench.generator)

    def replay(self, name: str, source: Path, capture: Path | None = None) -> None:
        """Plugs in the frames of a pcap file; ``capture``: all frames seen go to that file."""
        self.unplug(name)
        bench = self._named(name)
        bench.replay = Replay(read_pcap(source))
        wire: Wire = bench.replay
        if capture is not None:
            file = capture.open("wb")
            bench.closers.append(file.close)
            bench.capture = PcapWriter(file.write)
            wire = Tap(wire, bench.capture)
        self._plug(bench, wire)

    def sent(self, name: str) -> tuple[int, bool]:
        """Frames that the plugged-in source has sent, and whether it is done."""
        bench = self._named(name)
        if bench.generator is not None:
            return bench.generator.total_sent, bench.generator.done
        if bench.replay is not None:
            return bench.replay.position, bench.replay.done
        raise LaboratoryError(f"{name}: nothing is plugged in; call send or replay first")

    def plugged(self, name: str) -> bool:
        """Whether a generator is plugged in."""
        return self._named(name).generator is not None

    def received(self, name: str) -> Received:
        """What the guest sent since :meth:`send`."""
        generator = self._named(name).generator
        if generator is None:
            raise LaboratoryError(f"{name}: no generator is plugged in; call send first")
        seen = generator.checker
        return Received(seen.frames, seen.corrupt, seen.misordered, seen.others)

    def served(self, name: str) -> Served:
        """What the NIC has completed, and whether its driver has nothing left to do."""
        pairs = self._named(name).device.nic.in_use()
        return Served(
            received=sum(pair.rx.ring.completed for pair in pairs),
            transmitted=sum(pair.tx.ring.completed for pair in pairs),
            quiet=all(
                pair.moderation.waits and pair.tx.ring.head == pair.tx.ring.tail for pair in pairs
            ),
        )

    def link(self, name: str, up: bool) -> None:
        """Plugs the cable in or pulls it out."""
        bench = self._named(name)
        bench.device.link(up, time.monotonic_ns())
        bench.seat.wake()

    # ------------------------------------------------------------------ the IOMMU
    def latency(self, name: str, model: LatencyModel) -> None:
        """How long maps and unmaps take from now on.

        Raises:
            LatencyError: a reply could come after QEMU has given up waiting for it.
        """
        model.refuse_beyond(MESSAGE_TIMEOUT_MS)
        self._named(name).seat.endpoint.latency = model

    # ------------------------------------------------------------------ the ledger
    def begin_case(self, name: str) -> None:
        """Stale windows and violations are counted from here."""
        bench, device = self._named(name), self._ledger_of(name)
        bench.kept_before = len(self.ledger.log.kept)
        bench.counted_before = sum(self.ledger.log.counts.values())
        device.stale.restart()
        device.flushes.restart()
        device.live_at_released = None

    def violations(self, name: str) -> list[str]:
        """Sentences of the violations since :meth:`begin_case`; one for all that were not kept."""
        bench, log = self._named(name), self.ledger.log
        told = [str(violation) for violation in log.kept[bench.kept_before :]]
        hidden = sum(log.counts.values()) - bench.counted_before - len(told)
        return [*told, f"and {hidden} more violations, counted only"] if hidden else told

    def found(self) -> list[tuple[str, int, str]]:
        """Rule, time in ns and words of each violation of any device that was kept."""
        return [(v.rule, v.time_ns, str(v)) for v in self.ledger.log.kept]

    def forget_violations(self) -> None:
        """Judges as if nothing had been found yet."""
        self.ledger.log.kept.clear()
        self.ledger.log.counts.clear()

    def notes(self, since_ns: int) -> list[tuple[int, int]]:
        """Time in ns and value of what drivers wrote to NOTE, of all devices, in order."""
        events = self.ledger.timeline.to_array()
        rows = events[(events["kind"] == EventKind.NOTE) & (events["time_ns"] >= since_ns)]
        return list(zip(rows["time_ns"].tolist(), rows["extra"].tolist(), strict=True))

    def clock(self) -> int:
        """Now, on the ledger's clock, in ns."""
        return time.monotonic_ns()

    def window_begin(self, name: str) -> None:
        """Counts maps, unmaps and packets from here."""
        self._ledger_of(name).window_begin(time.monotonic_ns(), "case")

    def window_end(self, name: str) -> dict[str, Any]:
        """The counts since :meth:`window_begin`: ``Amortisation.to_json``."""
        return self._ledger_of(name).window_end(time.monotonic_ns(), "case").to_json()

    def exposed(self, name: str) -> Exposed:
        """What the device can reach now, and could reach for too long."""
        device = self._ledger_of(name)
        open_since = device.stale.open_since.values()
        ages = [time.monotonic_ns() - since for since in open_since]
        windows = device.stale.windows
        live = [m for m in device.live.mappings() if m.generation not in device.state.baseline]
        return Exposed(
            live=len(live),
            at_release=device.live_at_released,
            longest_ns=max([windows.longest_ns, *ages]),
            windows=windows.count + len(ages),
            open=len(ages),
            at_once=max(device.flushes.most, device.live_at_released or 0),
            posted=sum(pages.total() for pages in device.state.posted.values()),
        )

    def why_closed(self, name: str) -> str:
        """Why the device may not do DMA now; empty: it may."""
        state = self._ledger_of(name).state
        return "" if state.gate_open else state.gate_why

    def activity(self, name: str) -> tuple[int, int, int]:
        """Maps, unmaps and packets since the device was served."""
        totals = self._ledger_of(name).totals
        return totals.maps, totals.unmaps, totals.packets

    def totals(self, name: str) -> dict[str, Any]:
        """Counts since the device was served."""
        return self._ledger_of(name).totals.to_json()

    def verdict(self) -> dict[str, Any]:
        """See ``Verdict.to_json``."""
        return self.ledger.verdict().to_json()

    def rules(self, name: str) -> list[tuple[str, str, list[str]]]:
        """Number and title of each rule, and what it did not judge of that NIC, and why."""
        device = self._ledger_of(name)
        return [(rule.number, rule.title, rule.not_judged()) for rule in device.rules]

    def save_events(self, path: Path) -> None:
        """Writes the ledger's timeline to ``path`` (.npz, or .csv)."""
        data = self.ledger.to_csv() if path.suffix == ".csv" else self.ledger.to_npz()
        path.write_bytes(data)

    # ------------------------------------------------------------------ the guest's side
    def trace_begins(self, name: str, stack: bool = False) -> None:
        """The guest's tracer runs from now on; ``stack``: it tells what the stack holds, too."""
        bench = self._named(name)
        if bench.guest is None:
            bench.guest = GuestView(self._ledger_of(name), self._clock)
        bench.guest.begin(time.monotonic_ns(), stack)

    def traced(self, name: str, events: list[TraceEvent], lost: int) -> None:
        """What the guest traced next (at most :data:`PORTION` events, so that nobody waits)."""
        self._guest_of(name).take(events, lost)

    def ticked(self, name: str, tick: Tick) -> None:
        """All that the guest traced up to ``tick`` is here; :meth:`join_traced` goes on with it."""
        memories = self._named(name).seat.endpoint.space.memories.values()
        memory = max(memories, key=lambda memory: len(memory.array), default=None)
        self._guest_of(name).ticked(memory, tick)

    def join_traced(self, name: str) -> int:
        """Joins the next :data:`PORTION` events with what the device saw; how many are left."""
        return self._guest_of(name).tell(PORTION)

    def trace_ended(self, name: str) -> Joined:
        """The trace is over, and nothing is under way in the guest."""
        return self._guest_of(name).settle()

    def _guest_of(self, name: str) -> GuestView:
        guest = self._named(name).guest
        if guest is None:
            raise LaboratoryError(f"{name}: the guest is not traced; call trace_begins first")
        return guest

    def mapped_while_read(self, name: str, by_design: bool) -> None:
        """Whether the driver's strategy keeps pages mapped while the stack reads them."""
        self._ledger_of(name).state.mapped_while_read = by_design

    def tell(self, name: str, fact: Fact) -> None:
        """Something that the guest or the testbed found out just now."""
        self._ledger_of(name).tell(time.monotonic_ns(), fact)

    def save_verdict(self, path: Path) -> None:
        """Writes the verdict, with what was not judged and why, to ``path`` (.json)."""
        path.write_text(json.dumps(self.verdict(), indent=1))

    def device_errors(self, name: str) -> int:
        """Exceptions out of the device model: a bug of ours each."""
        return self._named(name).seat.endpoint.device_errors
