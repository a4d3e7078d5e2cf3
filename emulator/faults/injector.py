# SPDX-License-Identifier: MIT
"""Arms faults in one device and takes them away, keeps their trace, and says whose fault it was.

The device gets ports whose inside can be exchanged while it runs. Without an armed fault the
inside is the plain port and the two watching layers of :mod:`emulator.faults.watch`; a device
that is built without an injector has none of this.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from emulator.faults.fault import Fault
from emulator.faults.plan import FaultPlan
from emulator.faults.ports import (
    BusLayer,
    IrqLayer,
    MapPort,
    ObserverLayer,
    PlainMaps,
    Ports,
)
from emulator.faults.registry import fault_class
from emulator.faults.trigger import Trigger
from emulator.faults.watch import CompletionWatch, CompletionWriter, RingWatch
from emulator.iommu.mapping import Mapping
from emulator.ledger import DeviceLedger
from emulator.ledger.violation import ViolationLog
from emulator.nic.bus import NicBus
from emulator.nic.registers import DMABED_CTRL, DMABED_CTRL_RESET
from emulator.ports import DmaPort, IrqPort, Observer

TRACE_LINES = 10_000
"""Lines kept; counts go on."""

Build = Callable[[DmaPort, IrqPort, Observer], NicBus]


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One act of misbehaviour."""

    time_ns: int
    number: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.number} {self.name} at {self.time_ns / 1e9:.9f} s, by order: {self.text}"


@dataclass(frozen=True, slots=True)
class FaultReport:
    """What the faults of one device did since it was built.

    refused, landed: accesses of the faults' own. by_order: violations that the ledger found while
    a fault acted, by rule. first_ns, last_ns: of the trace (None: nothing was done).
    """

    counts: dict[str, int]
    refused: int
    landed: int
    by_order: dict[str, int]
    first_ns: int | None
    last_ns: int | None
    lines: tuple[str, ...]


class Injector:
    """The faults of one device.

    Args:
        ledger: the device's; its violations are told apart by :meth:`blames`.
        log: of all violations of the ledger.
        others: ledgers of the other devices.
        stall: makes the host wait for so many ns.
    """

    def __init__(
        self,
        ledger: DeviceLedger,
        log: ViolationLog,
        others: Callable[[], Sequence[DeviceLedger]],
        stall: Callable[[int], None],
    ) -> None:
        self._ledger, self._log, self._others, self._stall = ledger, log, others, stall
        self.armed: list[Fault] = []
        self.lines: list[TraceLine] = []
        self.counts: Counter[str] = Counter()
        self.ordered: Counter[str] = Counter()
        self.refused = self.landed = 0
        self.now_ns = 0
        self.mastering = False
        self.maps: MapPort = PlainMaps()

    # ------------------------------------------------------------------ building
    def attach(self, build: Build, dma: DmaPort, irq: IrqPort, observer: Observer) -> FaultyBus:
        """Builds the device by ``build`` on wrapped ports; returns what the host talks to."""
        self.watch = RingWatch(observer)
        self._dma = CompletionWatch(dma, self.watch, CompletionWriter(dma))
        self._irq, self._observer = IrqLayer(irq), ObserverLayer(self.watch)
        device = build(self._dma, self._irq, self._observer)
        self.base = Ports(dma, irq, self.watch, device, self._dma.completions, PlainMaps())
        self.bus: NicBus = device
        return FaultyBus(self)

    def arm(self, plan: FaultPlan, now_ns: int) -> None:
        """Takes the present faults away and arms those of ``plan``.

        Raises:
            UnknownFaultError: a name is not in the registry.
        """
        classes = [fault_class(spec.name) for spec in plan.faults]
        self.disarm(now_ns)
        self.now_ns = now_ns
        for index, (spec, kind) in enumerate(zip(plan.faults, classes, strict=True)):
            trigger = Trigger(spec, plan.seed + index, now_ns)
            self.armed.append(kind(spec, trigger, self))
        self._rewire()

    def disarm(self, now_ns: int) -> None:
        """The device behaves again, as far as a device that has misbehaved can."""
        gone, self.armed = self.armed, []
        self.now_ns = now_ns
        self._rewire()
        for fault in gone:
            fault.disarmed(now_ns)
            self.refused += fault.refused
            self.landed += fault.landed

    def _rewire(self) -> None:
        ports = self.base
        for fault in self.armed:
            ports = fault.wrap(ports)
        self._dma.port, self._dma.completions = ports.dma, ports.completions
        self._irq.port, self._observer.port = ports.irq, ports.observer
        self.bus, self.maps = ports.bus, ports.maps

    # ------------------------------------------------------------------ Bench
    def live(self) -> list[Mapping]:
        """See :class:`~emulator.faults.fault.Bench`."""
        return self._ledger.live.mappings()

    def foreign(self) -> list[Mapping]:
        """See :class:`~emulator.faults.fault.Bench`."""
        others = [ledger for ledger in self._others() if ledger is not self._ledger]
        return [mapping for ledger in others for mapping in ledger.live.mappings()]

    def stall(self, duration_ns: int) -> None:
        """See :class:`~emulator.faults.fault.Bench`."""
        self._stall(duration_ns)

    @contextlib.contextmanager
    def by_order(self, fault: Fault) -> Iterator[None]:
        """See :class:`~emulator.faults.fault.Bench`."""
        before = Counter(self._log.counts)
        try:
            yield
        finally:
            self.ordered += Counter(self._log.counts) - before

    def trace(self, fault: Fault, text: str) -> None:
        """See :class:`~emulator.faults.fault.Bench`; also a mark on the ledger's timeline."""
        self.counts[fault.name] += 1
        line = TraceLine(self.now_ns, fault.number, fault.name, text)
        if len(self.lines) < TRACE_LINES:
            self.lines.append(line)
        self._ledger.marked(self.now_ns, f"{fault.number} {fault.name}")

    # ------------------------------------------------------------------ judging
    def blames(self) -> dict[str, int]:
        """Violations by rule that no fault ordered: the driver's, or the emulator's."""
        return dict(Counter(self._log.counts) - self.ordered)

    def map_refused(self, iova: int, size: int, now_ns: int) -> None:
        """The host was refused a map, by order: what comes of that is nobody's fault."""
        self._ledger.map_refused(now_ns, iova, size)

    def report(self) -> FaultReport:
        """What was done so far."""
        return FaultReport(
            counts=dict(self.counts),
            refused=self.refused + sum(fault.refused for fault in self.armed),
            landed=self.landed + sum(fault.landed for fault in self.armed),
            by_order=dict(self.ordered + self._log.ordered),
            first_ns=self.lines[0].time_ns if self.lines else None,
            last_ns=self.lines[-1].time_ns if self.lines else None,
            lines=tuple(map(str, self.lines[-100:])),
        )


class FaultyBus(BusLayer):
    """The host's side of a device that misbehaves: passes on to the injector's present wrappers."""

    def __init__(self, injector: Injector) -> None:
        super().__init__(injector.bus)
        self._injector = injector

    def mmio_read(self, offset: int, size: int) -> int:
        """See :class:`~emulator.nic.bus.NicBus`."""
        return self._injector.bus.mmio_read(offset, size)

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self._injector.now_ns = now_ns
        self._injector.bus.mmio_write(offset, value, size, now_ns)
        if offset == DMABED_CTRL and value & DMABED_CTRL_RESET:
            self._was_reset(now_ns)

    def step(self, now_ns: int) -> int | None:
        """Lets the faults act, then the device; returns the earliest time either wants."""
        injector = self._injector
        injector.now_ns = now_ns
        wanted = [fault.act(now_ns) for fault in injector.armed]
        wanted.append(injector.bus.step(now_ns))
        return min((time for time in wanted if time is not None), default=None)

    def bus_master(self, on: bool, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self._injector.now_ns, self._injector.mastering = now_ns, on
        self._injector.bus.bus_master(on, now_ns)

    def power_reset(self, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self._injector.now_ns = now_ns
        self._injector.bus.power_reset(now_ns)
        self._was_reset(now_ns)

    def link(self, up: bool, now_ns: int) -> None:
        """See :class:`~emulator.nic.bus.NicBus`."""
        self._injector.bus.link(up, now_ns)

    def _was_reset(self, now_ns: int) -> None:
        for fault in self._injector.armed:
            fault.was_reset(now_ns)
