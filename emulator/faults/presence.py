# SPDX-License-Identifier: MIT
"""X-45, X-46, X-55, X-56: a device that is gone, frozen, or in part silent."""

from __future__ import annotations

from dataclasses import replace

from emulator.faults.fault import Fault, Outcome
from emulator.faults.interrupts import CURED, RegisterFault
from emulator.faults.places import offset_of, place_of
from emulator.faults.ports import BusLayer, CompletionPort, IrqLayer, Ports, Publication
from emulator.nic.identity import FIRST_QUEUE_VECTOR
from emulator.nic.registers import DMABED_CTRL, DMABED_CTRL_RESET
from emulator.ports import IrqPort


class _AwayBus(BusLayer):
    """Reads are ones, writes are lost, nothing happens, while ``fault`` lasts."""

    def __init__(self, ports: Ports, fault: Gone | Frozen) -> None:
        super().__init__(ports.bus)
        self._fault = fault

    def mmio_read(self, offset: int, size: int) -> int:
        value = self.port.mmio_read(offset, size)
        return (1 << 8 * size) - 1 if self._fault.away and self._fault.all_ones else value

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        if not self._fault.away or self._fault.lets_through(offset, value):
            self.port.mmio_write(offset, value, size, now_ns)

    def step(self, now_ns: int) -> int | None:
        return None if self._fault.away else self.port.step(now_ns)


class Gone(Fault):
    """Pulled out: reads are ones, writes are lost, no DMA; comes back as after power-on."""

    number, name = "X-45", "gone"
    shows = "a device that vanishes is noticed and let go of in bounded time, and used again after"
    expect = frozenset({Outcome.RECOVERED})
    default = "nth = 20\nlasting_us = 1500000"
    all_ones = True

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, bus=_AwayBus(ports, self))

    @property
    def away(self) -> bool:
        """Whether it is."""
        return self.trigger.lasts(self.bench.now_ns)

    def act(self, now_ns: int) -> int | None:
        """Loses all state when it goes."""
        if self.trigger.begins(now_ns):
            self.did("the device is gone")
            self.bench.base.bus.power_reset(now_ns)
        return self.trigger.end_ns(now_ns)

    def lets_through(self, offset: int, value: int) -> bool:
        """No write gets through."""
        return False


class Frozen(Fault):
    """Registers answer, but nothing else happens and writes are lost, until a reset."""

    number, name = "X-55", "frozen"
    shows = "a device that answers and does nothing is found by a timer, and a reset thaws it"
    expect = frozenset({Outcome.RECOVERED})
    default = "nth = 20\nuntil_reset = 1"
    all_ones = False

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, bus=_AwayBus(ports, self))

    @property
    def away(self) -> bool:
        """Whether it is frozen."""
        return self.trigger.lasts(self.bench.now_ns)

    def act(self, now_ns: int) -> int | None:
        """See :class:`Fault`."""
        if self.trigger.begins(now_ns):
            self.did("the device froze")
        return self.trigger.end_ns(now_ns)

    def lets_through(self, offset: int, value: int) -> bool:
        """A reset, if that is what ends it."""
        reset = offset == DMABED_CTRL and bool(value & DMABED_CTRL_RESET)
        return reset and bool(self.spec.until_reset)


class AllOnes(RegisterFault):
    """One read is all ones, the next is right: of any register, or of the one at ``amount``."""

    number, name = "X-46", "all-ones"
    shows = "one read of ones is not taken for a value, and ends no loop the wrong way"
    expect = CURED
    default = "every = 3\ntimes = 4"

    def read(self, offset: int, value: int) -> int:
        """See :class:`RegisterFault`."""
        if self.amount(offset) != offset or not self.trigger.strikes(self.bench.now_ns):
            return value
        self.did(f"read of {offset:#x} is all ones")
        return 0xFFFF_FFFF


class _StalledIrq(IrqLayer):
    def __init__(self, port: IrqPort, fault: QueueStall) -> None:
        super().__init__(port)
        self._fault = fault

    def raise_vector(self, vector: int) -> None:
        if not self._fault.holds(vector - FIRST_QUEUE_VECTOR):
            self.port.raise_vector(vector)


class _StalledCompletions:
    def __init__(self, port: CompletionPort, fault: QueueStall) -> None:
        self._port, self._fault = port, fault

    def publish(self, batch: Publication) -> None:
        if not self._fault.swallows(batch):
            self._port.publish(batch)


class QueueStall(Fault):
    """Completions and interrupts of one queue do not come, until a reset; others go on."""

    number, name = "X-55", "queue-stall"
    shows = "one silent queue among busy ones is named, and the reset brings it back"
    expect = frozenset({Outcome.RECOVERED})
    default = "nth = 5\nqueue = 0\nuntil_reset = 1"

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        completions = _StalledCompletions(ports.completions, self)
        return replace(ports, completions=completions, irq=_StalledIrq(ports.irq, self))

    def holds(self, queue: int) -> bool:
        """Whether ``queue`` is silent now."""
        fits = self.trigger.fits(queue=queue) and queue >= 0
        return fits and self.trigger.lasts(self.bench.now_ns)

    def swallows(self, batch: Publication) -> bool:
        """Whether the completions are lost."""
        if self.trigger.fits(queue=batch.queue) and self.trigger.begins(self.bench.now_ns):
            self.did(f"queue {batch.queue} falls silent")
        return self.holds(batch.queue)


class TxStall(RegisterFault):
    """The device does not look at transmit doorbells for ``lasting_us`` (20 ms)."""

    number, name = "X-56", "tx-stall"
    shows = "frames wait for a device that stops sending; the queue stops, nothing overflows"
    expect = CURED
    default = "nth = 2\nlasting_us = 20000"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._waiting: dict[int, int] = {}

    def swallows(self, offset: int, value: int, now_ns: int) -> bool:
        """Keeps the last doorbell of each queue."""
        place = place_of(offset)
        if place is None or place.name != "TX_TAIL" or not self.trigger.fits(place.queue):
            return False
        if self.trigger.begins(now_ns):
            self.did(f"queue {place.queue} stops sending")
        if not self.trigger.lasts(now_ns):
            return False
        self._waiting[place.queue] = value
        return True

    def act(self, now_ns: int) -> int | None:
        """Rings what waited when the time is over."""
        if self._waiting and not self.trigger.lasts(now_ns):
            self.disarmed(now_ns)
        return self.trigger.end_ns(now_ns) if self._waiting else None

    def was_reset(self, now_ns: int) -> None:
        """What waited was for rings that are gone."""
        super().was_reset(now_ns)
        self._waiting.clear()

    def disarmed(self, now_ns: int) -> None:
        """See :class:`Fault`."""
        for queue, value in self._waiting.items():
            self.bench.base.bus.mmio_write(offset_of(queue, "TX_TAIL"), value, 4, now_ns)
        self._waiting.clear()
