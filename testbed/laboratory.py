# SPDX-License-Identifier: MIT
"""The device side of a run: NICs on their sockets, one ledger, and what can be done to them.

It lives in a process of its own (:mod:`testbed.device_process`), so that nothing else delays a
reply the guest waits for. Its public methods are what the run calls from outside.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.endpoint import Endpoint
from emulator.faults.device import FaultyNicDevice
from emulator.faults.injector import FaultReport, Injector
from emulator.faults.plan import FaultPlan
from emulator.faults.session import FaultySession
from emulator.iommu.latency import MESSAGE_TIMEOUT_MS, LatencyModel
from emulator.ledger import DeviceLedger, Ledger, Policy
from emulator.ledger.events import EventKind
from emulator.ledger.facts import Fact
from emulator.ledger.join import GuestView, Joined, Sample, TraceEvent
from emulator.loop import DeviceLoop
from emulator.nic.config import NicConfig
from emulator.nic.wire.base import Wire
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig, Range, Sizes
from emulator.nic.wire.pcap import PcapWriter, Replay, Tap, read_pcap
from emulator.nic_device import NicDevice
from emulator.seat import DeviceSeat
from testbed.attack.attacker import Attack, AttackNic
from testbed.cable import Cable
from testbed.errors import LaboratoryError
from testbed.plants.liar import LiarNic

MakeNic = Callable[[NicConfig, Wire], Any]
"""What makes a NIC, with the methods of :class:`NicDevice`, on a cable."""


@dataclass(frozen=True, slots=True)
class NicSpec:
    """One NIC to serve: its name in the ledger, its socket, and what it is built with.

    faulty: it can be ordered to misbehave; costs a little at each access.
    model: the class of the device; others than NicDevice misbehave when they are told to.
    """

    name: str
    socket: Path
    config: NicConfig
    faulty: bool = False
    model: type[NicDevice] = NicDevice


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


@dataclass(slots=True)
class _Bench:
    """A NIC and what is plugged in."""

    device: Any
    seat: DeviceSeat
    cable: Cable
    injector: Injector | None = None
    generator: Generator | None = None
    replay: Replay | None = None
    capture: PcapWriter | None = None
    kept_before: int = 0
    counted_before: int = 0
    guest: GuestView | None = None
    closers: list[Any] = field(default_factory=list)


class Laboratory:
    """Serves ``specs`` and judges them by ``policy``; ``make`` makes each NIC.

    Every method that takes the name of a NIC raises LaboratoryError if there is none of that name.

    Raises:
        DmabedError: a socket cannot be listened at; none is left behind then.
    """

    def __init__(self, specs: list[NicSpec], policy: Policy, make: MakeNic = NicDevice) -> None:
        self._make = make
        self.ledger = Ledger(time.monotonic_ns, policy)
        self._benches: dict[str, _Bench] = {}
        self._samples: list[Sample] = []
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for spec in specs:
                self._benches[spec.name] = self._bench(spec)
            undo.pop_all()
        self.loop = DeviceLoop([bench.seat for bench in self._benches.values()])

    def _bench(self, spec: NicSpec) -> _Bench:
        cable = Cable()
        injector = self._injector(spec.name) if spec.faulty else None
        device: Any
        if injector:
            device = FaultyNicDevice(spec.config, cable, injector)
        elif spec.model is not NicDevice:
            device = spec.model(spec.config, cable)
        else:
            device = self._make(spec.config, cable)
        endpoint = Endpoint(device, spec.name, self.ledger, LatencyModel())
        device.link(True, time.monotonic_ns())
        served = FaultySession(endpoint, injector) if injector else None
        return _Bench(device, DeviceSeat(endpoint, spec.socket, served), cable, injector)

    def _injector(self, name: str) -> Injector:
        ledger = self.ledger
        return Injector(
            ledger.device(name),
            ledger.log,
            lambda: list(ledger.devices.values()),
            lambda duration_ns: time.sleep(duration_ns / 1e9),
        )

    def close(self) -> None:
        """Ends all sessions and closes all files."""
        for name, bench in self._benches.items():
            self.unplug(name)
            bench.seat.close()

    def _named(self, name: str) -> _Bench:
        if name not in self._benches:
            raise LaboratoryError(f'no NIC "{name}"; there are: {", ".join(self._benches)}')
        return self._benches[name]

    def _ledger_of(self, name: str) -> DeviceLedger:
        self._named(name)
        return self.ledger.devices[name]

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

    def unplug(self, name: str) -> None:
        """Takes away what :meth:`send` or :meth:`replay` plugged in; closes the capture."""
        bench = self._named(name)
        bench.cable.plug(None)
        if bench.capture is not None:
            bench.capture.flush()
        for close in bench.closers:
            close()
        bench.generator = bench.replay = bench.capture = None
        bench.closers.clear()

    def sent(self, name: str) -> tuple[int, bool]:
        """Frames that the plugged-in source has sent, and whether it is done."""
        bench = self._named(name)
        if bench.generator is not None:
            return bench.generator.total_sent, bench.generator.done
        if bench.replay is not None:
            return bench.replay.position, bench.replay.done
        raise LaboratoryError(f"{name}: nothing is plugged in; call send or replay first")

    def received(self, name: str) -> Received:
        """What the guest sent since :meth:`send`."""
        generator = self._named(name).generator
        if generator is None:
            raise LaboratoryError(f"{name}: no generator is plugged in; call send first")
        seen = generator.checker
        return Received(seen.frames, seen.corrupt, seen.misordered, seen.others)

    def link(self, name: str, up: bool) -> None:
        """Plugs the cable in or pulls it out."""
        bench = self._named(name)
        bench.device.link(up, time.monotonic_ns())
        bench.seat.wake()

    def lie(self, name: str, lying: bool) -> None:
        """Whether the NIC's completions name buffers that were never posted.

        Raises:
            LaboratoryError: it was not built to lie.
        """
        device = self._named(name).device
        if not isinstance(device, LiarNic):
            raise LaboratoryError(f"{name} does not lie; serve a LiarNic")
        device.port.lying = lying

    def attack(self, name: str) -> None:
        """When the driver gives its memory back next, the NIC attacks it.

        Raises:
            LaboratoryError: it was not built to.
        """
        self._attacker(name).armed = True
        self._ledger_of(name).state.by_order = "an attack on what it was given before"

    def attacked(self, name: str) -> Attack:
        """What came of the last attack."""
        return self._attacker(name).result

    def _attacker(self, name: str) -> AttackNic:
        device = self._named(name).device
        if not isinstance(device, AttackNic):
            raise LaboratoryError(f"{name} attacks nobody; serve an AttackNic")
        return device

    def _plug(self, bench: _Bench, wire: Wire) -> None:
        bench.cable.plug(wire)
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

    def totals(self, name: str) -> dict[str, Any]:
        """Counts since the device was served."""
        return self._ledger_of(name).totals.to_json()

    def verdict(self) -> dict[str, Any]:
        """See ``Verdict.to_json``."""
        return self.ledger.verdict().to_json()

    def save_events(self, path: Path) -> None:
        """Writes the ledger's timeline to ``path`` (.npz, or .csv)."""
        data = self.ledger.to_csv() if path.suffix == ".csv" else self.ledger.to_npz()
        path.write_bytes(data)

    # ------------------------------------------------------------------ faults
    def arm(self, name: str, plan: FaultPlan) -> None:
        """Lets the NIC misbehave by ``plan``.

        Raises:
            LaboratoryError: it was not built to. UnknownFaultError: see the registry.
        """
        self._injector_of(name).arm(plan, time.monotonic_ns())
        self._named(name).seat.wake()

    def disarm(self, name: str) -> None:
        """The NIC behaves again."""
        self._injector_of(name).disarm(time.monotonic_ns())
        self._named(name).seat.wake()

    def fault_report(self, name: str) -> FaultReport:
        """What it did by order so far."""
        return self._injector_of(name).report()

    def blames(self, name: str) -> dict[str, int]:
        """Violations by rule that nobody ordered."""
        return self._injector_of(name).blames()

    def _injector_of(self, name: str) -> Injector:
        injector = self._named(name).injector
        if injector is None:
            raise LaboratoryError(f"{name}: was not built to misbehave; set NicSpec.faulty")
        return injector

    # ------------------------------------------------------------------ the guest's side
    def trace_begins(self, name: str) -> None:
        """The guest's tracer runs from now on."""
        bench = self._named(name)
        if bench.guest is None:
            bench.guest = GuestView(self._ledger_of(name), self._samples)
        bench.guest.begin(time.monotonic_ns())

    def join_trace(self, name: str, events: list[TraceEvent], lost: int) -> Joined:
        """Joins what the guest traced since :meth:`trace_begins` with what the device saw."""
        bench = self._named(name)
        if bench.guest is None:
            raise LaboratoryError(f"{name}: no trace to join; call trace_begins first")
        memories = bench.seat.endpoint.space.memories.values()
        memory = max(memories, key=lambda memory: len(memory.array), default=None)
        return bench.guest.join(memory, events, lost)

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
