# SPDX-License-Identifier: MIT
"""X-13 to X-15: a device that does not stop, does not reset, or forgets more than it should."""

from __future__ import annotations

from dataclasses import replace

from emulator.faults.fault import Fault, Outcome
from emulator.faults.interrupts import CURED, RegisterFault
from emulator.faults.places import QueueRegister, offset_of, place_of
from emulator.faults.ports import BusLayer, ObserverLayer, Ports, RingKey
from emulator.faults.trigger import NS_PER_US
from emulator.nic.registers import (
    DMABED_CTRL,
    DMABED_CTRL_RESET,
    DMABED_QP_RX_CTRL_ENABLE,
    DMABED_QP_RX_CTRL_RUNNING,
    DMABED_STATUS,
    DMABED_STATUS_READY,
)
from emulator.ports import Observer, RingKind

_KINDS = {
    "RX": (RingKind.RX_DESC, RingKind.RX_CQ),
    "TX": (RingKind.TX_DESC, RingKind.TX_CQ),
}
_DEFAULT_US = 2_000


class _DeafObserver(ObserverLayer):
    """Does not pass on what rings do that were said to have stopped."""

    def __init__(self, port: Observer, fault: EarlyStopAck) -> None:
        super().__init__(port)
        self._fault = fault

    def passes(self, key: RingKey) -> bool:
        return not self._fault.pretends(*key)


class _EarlyBus(BusLayer):
    def __init__(self, ports: Ports, fault: EarlyStopAck) -> None:
        super().__init__(ports.bus)
        self._fault = fault

    def mmio_read(self, offset: int, size: int) -> int:
        value = self.port.mmio_read(offset, size)
        return 0 if place_of(offset) in self._fault.running_on else value

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        if not self._fault.keeps_running(offset, value, now_ns):
            self.port.mmio_write(offset, value, size, now_ns)

    def step(self, now_ns: int) -> int | None:
        if not self._fault.running_on:
            return self.port.step(now_ns)
        with self._fault.bench.by_order(self._fault):
            return self.port.step(now_ns)


class EarlyStopAck(Fault):
    """A ring says that it has stopped and goes on for ``amount`` us (2 ms).

    The ledger is told what the driver is told; what the device does after that is by order.
    """

    number, name = "X-13", "early-stop-ack"
    shows = "a driver cannot know better: only unmapping keeps a lying device out of freed memory"
    expect = frozenset({Outcome.REFUSED, Outcome.SURVIVED, Outcome.DETECTED})
    default = "times = 2"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self.running_on: dict[QueueRegister, int] = {}
        self._observer: Observer = self.bench.watch

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        self._observer = ports.observer
        observer = _DeafObserver(ports.observer, self)
        return replace(ports, observer=observer, bus=_EarlyBus(ports, self))

    def pretends(self, queue: int, kind: RingKind) -> bool:
        """Whether the ring was said to have stopped and has not."""
        return any(
            place.queue == queue and kind in _KINDS[place.name[:2]] for place in self.running_on
        )

    def keeps_running(self, offset: int, value: int, now_ns: int) -> bool:
        """Whether the write that stops a ring is put off."""
        place = place_of(offset)
        self._give_in(place, offset == DMABED_CTRL and bool(value & DMABED_CTRL_RESET), now_ns)
        if place is None or place.name not in ("RX_CTRL", "TX_CTRL"):
            return False
        running = [kind for kind in _KINDS[place.name[:2]] if self._runs(place.queue, kind)]
        if value & DMABED_QP_RX_CTRL_ENABLE or not running or not self.trigger.fits(place.queue):
            return False
        if not self.trigger.strikes(now_ns):
            return False
        self.did(f"{place} says stopped and is not")
        for kind in running:
            self._observer.ring_stopped(now_ns, place.queue, kind)
        self.running_on[place] = now_ns + self.amount(_DEFAULT_US) * NS_PER_US
        return True

    def _give_in(self, place: QueueRegister | None, reset: bool, now_ns: int) -> None:
        """Ring registers cannot be written while the ring runs: it stops before they are."""
        for running in list(self.running_on):
            if reset or (place is not None and _side(place) == _side(running)):
                self._stop([running], now_ns)

    def act(self, now_ns: int) -> int | None:
        """Stops what has run on long enough."""
        self._stop([p for p, due_ns in self.running_on.items() if due_ns <= now_ns], now_ns)
        return min(self.running_on.values(), default=None)

    def disarmed(self, now_ns: int) -> None:
        """Everything stops."""
        self._stop(list(self.running_on), now_ns)

    def _runs(self, queue: int, kind: RingKind) -> bool:
        return (queue, kind) in self.bench.watch.rings

    def _stop(self, places: list[QueueRegister], now_ns: int) -> None:
        """Passes the stops on; only then the observer listens again."""
        for place in places:
            offset = offset_of(place.queue, place.name)
            self.bench.base.bus.mmio_write(offset, 0, 4, now_ns)
            self.running_on.pop(place, None)


def _side(place: QueueRegister) -> tuple[int, str]:
    return place.queue, place.name[:2]


class StuckStop(RegisterFault):
    """A ring never says that it has stopped."""

    number, name = "X-14", "stuck-stop"
    shows = "a ring that does not stop is stopped by a reset, in bounded time"
    expect = CURED
    default = "until_reset = 1"

    def read(self, offset: int, value: int) -> int:
        """See :class:`RegisterFault`."""
        place = place_of(offset)
        if place is None or place.name not in ("RX_CTRL", "TX_CTRL") or value:
            return value
        if not (self.trigger.lasts(self.bench.now_ns) or self._sets_in(place)):
            return value
        return DMABED_QP_RX_CTRL_ENABLE | DMABED_QP_RX_CTRL_RUNNING

    def _sets_in(self, place: QueueRegister) -> bool:
        if not self.trigger.fits(place.queue) or not self.trigger.begins(self.bench.now_ns):
            return False
        self.did(f"{place} reads as running")
        return True


class StuckReset(RegisterFault):
    """A reset takes ``amount`` us (300 ms; more than 500 ms is longer than the driver waits)."""

    number, name = "X-14", "stuck-reset"
    shows = "a reset that takes long is waited for, one that takes too long is given up and retried"
    expect = CURED
    default = "times = 1"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._until_ns = 0

    def swallows(self, offset: int, value: int, now_ns: int) -> bool:
        """The reset itself happens; only its end is not told."""
        if offset == DMABED_CTRL and value & DMABED_CTRL_RESET and self.trigger.strikes(now_ns):
            self._until_ns = now_ns + self.amount(300_000) * NS_PER_US
            self.did(f"STATUS.ready held back for {self.amount(300_000)} us")
        return False

    def read(self, offset: int, value: int) -> int:
        """See :class:`RegisterFault`."""
        late = offset == DMABED_STATUS and self.bench.now_ns < self._until_ns
        return value & ~DMABED_STATUS_READY if late else value


class ForgottenConfig(RegisterFault):
    """CTRL.reset forgets the MAC address as well."""

    number, name = "X-15", "forgotten-config"
    shows = "after a reset the driver sets everything anew, what should have survived included"
    expect = CURED
    default = "times = 0"

    def swallows(self, offset: int, value: int, now_ns: int) -> bool:
        """A reset by power comes first."""
        if offset == DMABED_CTRL and value & DMABED_CTRL_RESET and self.trigger.strikes(now_ns):
            self.did("the reset forgot the MAC address")
            self.bench.base.bus.power_reset(now_ns)
        return False
