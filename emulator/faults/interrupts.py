# SPDX-License-Identifier: MIT
"""X-39 to X-44: interrupts, doorbells and registers that do not do what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from emulator.faults.fault import Fault, Outcome
from emulator.faults.places import QueueRegister, place_of
from emulator.faults.ports import BusLayer, IrqLayer, Ports
from emulator.faults.trigger import NS_PER_US
from emulator.nic.identity import FIRST_QUEUE_VECTOR
from emulator.ports import IrqPort

CURED = frozenset({Outcome.RECOVERED, Outcome.SURVIVED})


class _Irq(IrqLayer):
    def __init__(self, port: IrqPort, fault: VectorFault) -> None:
        super().__init__(port)
        self._fault = fault

    def raise_vector(self, vector: int) -> None:
        self._fault.raised(vector, self.port)


class VectorFault(Fault):
    """Does something else where an interrupt is to be raised."""

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, irq=_Irq(ports.irq, self))

    def raised(self, vector: int, port: IrqPort) -> None:
        """The NIC raises ``vector``."""
        if self.trigger.fits(vector=vector) and self.trigger.strikes(self.bench.now_ns):
            self.instead(vector, port)
        else:
            port.raise_vector(vector)

    def instead(self, vector: int, port: IrqPort) -> None:
        """What happens in place of ``vector``."""
        raise NotImplementedError


class LostInterrupt(VectorFault):
    """An interrupt is not raised."""

    number, name = "X-40", "lost-interrupt"
    shows = "frames wait for the next event or the driver's own timer, not for ever"
    expect = CURED
    default = "after_us = 500000\ntimes = 2"

    def instead(self, vector: int, port: IrqPort) -> None:
        """Nothing."""
        self.did(f"vector {vector} not raised")


class WrongVector(VectorFault):
    """The interrupt of one vector arrives as another's: ``amount``, or the next."""

    number, name = "X-42", "wrong-vector"
    shows = "an interrupt on the wrong vector is as one lost there and a spurious one here"
    expect = CURED
    default = "after_us = 500000\ntimes = 2"

    def instead(self, vector: int, port: IrqPort) -> None:
        """The other vector."""
        other = self.amount(vector + 1)
        self.did(f"vector {other} raised in place of {vector}")
        port.raise_vector(other)


class InterruptStorm(Fault):
    """A vector is raised each microsecond for ``lasting_us`` (20 ms), ``amount`` times (1)."""

    number, name = "X-41", "interrupt-storm"
    shows = "a vector that never rests costs time, not the host"
    expect = CURED
    default = "lasting_us = 20000"

    def act(self, now_ns: int) -> int | None:
        """See :class:`Fault`."""
        trigger = self.trigger
        if trigger.begins(now_ns):
            self.did(f"storm on vector {self._vector}")
        if not trigger.lasts(now_ns):
            return None
        for _ in range(self.amount(1)):
            self.bench.base.irq.raise_vector(self._vector)
        return now_ns + NS_PER_US

    @property
    def _vector(self) -> int:
        return FIRST_QUEUE_VECTOR if self.spec.vector is None else self.spec.vector


class SpuriousInterrupt(Fault):
    """Vectors without a cause, one that does not exist included."""

    number, name = "X-42", "spurious-interrupt"
    shows = "an interrupt that nobody meant is ignored, after the driver is down as well"
    expect = CURED
    default = "times = 50"

    def act(self, now_ns: int) -> int | None:
        """One a step, the vectors in turn."""
        if not self.trigger.exhausted and self.trigger.strikes(now_ns):
            vector = self.trigger.taken % (FIRST_QUEUE_VECTOR + 8)
            self.did(f"vector {vector} raised for nothing")
            self.bench.base.irq.raise_vector(vector)
        return None


class _Bus(BusLayer):
    def __init__(self, ports: Ports, fault: RegisterFault) -> None:
        super().__init__(ports.bus)
        self._fault = fault

    def mmio_read(self, offset: int, size: int) -> int:
        return self._fault.read(offset, self.port.mmio_read(offset, size))

    def mmio_write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        if not self._fault.swallows(offset, value, now_ns):
            self.port.mmio_write(offset, value, size, now_ns)


class RegisterFault(Fault):
    """Changes what registers read, or loses writes to them."""

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, bus=_Bus(ports, self))

    def read(self, offset: int, value: int) -> int:
        """What the register at ``offset``, which holds ``value``, reads as."""
        return value

    def swallows(self, offset: int, value: int, now_ns: int) -> bool:
        """Whether the write is lost."""
        return False

    def strikes_at(self, place: QueueRegister | None, *names: str) -> bool:
        """Whether ``place`` is one of the registers ``names`` in scope, and is struck."""
        return (
            place is not None
            and place.name in names
            and self.trigger.fits(queue=place.queue)
            and self.trigger.strikes(self.bench.now_ns)
        )


class SlowRegister(RegisterFault):
    """A register read takes ``amount`` us (20 ms): the CPU that reads it waits."""

    number, name = "X-43", "slow-register"
    shows = "a device that answers late delays whoever reads it, and nothing else"
    expect = CURED
    default = "times = 3"

    def read(self, offset: int, value: int) -> int:
        """See :class:`RegisterFault`."""
        if self.trigger.strikes(self.bench.now_ns):
            delay = self.amount(20_000)
            self.did(f"read of {offset:#x} delayed by {delay} us")
            self.bench.stall(delay * NS_PER_US)
        return value


class LostWrite(RegisterFault):
    """Writes to the queues' ``registers`` do not arrive."""

    registers: ClassVar[tuple[str, ...]]
    expect = CURED
    default = "after_us = 500000\ntimes = 2"

    def swallows(self, offset: int, value: int, now_ns: int) -> bool:
        """See :class:`RegisterFault`."""
        place = place_of(offset)
        if not self.strikes_at(place, *self.registers):
            return False
        self.did(f"{place} = {value:#x} lost")
        return True


class LostDoorbell(LostWrite):
    """A doorbell does not arrive."""

    number, name = "X-43", "lost-doorbell"
    shows = "a doorbell that is lost is rung again by the next one, or by the driver's timer"
    registers = ("RX_TAIL", "TX_TAIL")


class LostArm(LostWrite):
    """A request for an interrupt does not arrive."""

    number, name = "X-43", "lost-arm"
    shows = "a queue that was never armed is armed again by the driver's timer"
    registers = ("ARM",)


class BackwardsIndex(RegisterFault):
    """The count of used descriptors reads as less than before, or as more than the ring has."""

    number, name = "X-39", "backwards-index"
    shows = "a count that runs backwards or beyond its ring is not believed"
    expect = CURED
    default = "every = 2\ntimes = 6"

    def read(self, offset: int, value: int) -> int:
        """Both in turn."""
        place = place_of(offset)
        if not self.strikes_at(place, "RX_HEAD", "TX_HEAD"):
            return value
        lie = value - 1 if self.trigger.taken % 2 else value + (1 << 20)
        self.did(f"{place} reads {lie & 0xFFFF_FFFF} in place of {value}")
        return lie & 0xFFFF_FFFF


class LinkFlap(Fault):
    """The cable is pulled out for ``lasting_us`` (5 ms) and put back, under load."""

    number, name = "X-44", "link-flap"
    shows = "traffic goes on when the link does"
    expect = CURED | {Outcome.DETECTED}
    default = "nth = 3\nlasting_us = 5000"

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._down = False

    def act(self, now_ns: int) -> int | None:
        """See :class:`Fault`."""
        if self.trigger.begins(now_ns):
            self._down = True
            self.did("link down")
            self.bench.base.bus.link(False, now_ns)
        elif self._down and not self.trigger.lasts(now_ns):
            self.disarmed(now_ns)
        return self.trigger.end_ns(now_ns) if self._down else None

    def disarmed(self, now_ns: int) -> None:
        """The link comes back."""
        if self._down:
            self._down = False
            self.bench.base.bus.link(True, now_ns)
