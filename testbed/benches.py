# SPDX-License-Identifier: MIT
"""The NICs of a run, each on its socket with what is plugged in, and the ledger that judges."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.endpoint import Endpoint
from emulator.faults.device import FaultyNicDevice
from emulator.faults.injector import Injector
from emulator.faults.session import FaultySession
from emulator.iommu.latency import LatencyModel
from emulator.ledger import DeviceLedger, Ledger, Policy
from emulator.ledger.guest_clock import GuestClock
from emulator.ledger.join import GuestView
from emulator.loop import DeviceLoop
from emulator.nic.config import NicConfig
from emulator.nic.wire.base import Wire
from emulator.nic.wire.generator import Generator
from emulator.nic.wire.pcap import PcapWriter, Replay
from emulator.nic_device import NicDevice
from emulator.seat import DeviceSeat
from testbed.cable import Cable
from testbed.errors import LaboratoryError

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


@dataclass(slots=True)
class Bench:
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


class Benches:
    """Serves ``specs`` and judges them by ``policy``; ``make`` makes each NIC.

    Every method that takes the name of a NIC raises LaboratoryError if there is none of that name.

    Raises:
        DmabedError: a socket cannot be listened at; none is left behind then.
    """

    def __init__(self, specs: list[NicSpec], policy: Policy, make: MakeNic = NicDevice) -> None:
        self._make = make
        self.ledger = Ledger(time.monotonic_ns, policy)
        self._benches: dict[str, Bench] = {}
        self._clock = GuestClock()
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for spec in specs:
                self._benches[spec.name] = self._bench(spec)
            undo.pop_all()
        self.loop = DeviceLoop([bench.seat for bench in self._benches.values()])

    def _bench(self, spec: NicSpec) -> Bench:
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
        return Bench(device, DeviceSeat(endpoint, spec.socket, served), cable, injector)

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

    def _named(self, name: str) -> Bench:
        if name not in self._benches:
            raise LaboratoryError(f'no NIC "{name}"; there are: {", ".join(self._benches)}')
        return self._benches[name]

    def _ledger_of(self, name: str) -> DeviceLedger:
        self._named(name)
        return self.ledger.devices[name]

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

    def _plug(self, bench: Bench, wire: Wire) -> None:
        bench.cable.plug(wire)
        bench.seat.wake()
