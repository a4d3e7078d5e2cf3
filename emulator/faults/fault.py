# SPDX-License-Identifier: MIT
"""What every fault is: a number, a name, what it shows, and a wrapper around some port."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from enum import Enum
from typing import ClassVar, Protocol

from emulator.faults.plan import FaultSpec
from emulator.faults.ports import Ports
from emulator.faults.trigger import Trigger
from emulator.faults.watch import RingWatch
from emulator.iommu.mapping import Mapping
from emulator.ports import DmaFault

CANARY = bytes.fromhex("dbedca0a")
"""What a rogue write leaves behind where it lands."""


class Outcome(Enum):
    """How host and driver took a fault; the first four are what may be expected."""

    REFUSED = "refused"  # nothing of it reached memory
    DETECTED = "detected"  # something was lost, and counted or reported
    SURVIVED = "survived"  # nothing was lost
    RECOVERED = "recovered"  # traffic stopped and came back
    IDLE = "idle"  # it found nothing to spoil
    BLAMED = "blamed"  # the ledger accused the driver
    STUCK = "stuck"  # traffic did not come back, or a call did not end
    BROKEN = "broken"  # the driver failed


class Bench(Protocol):
    """What a fault may use of the device it is in."""

    @property
    def watch(self) -> RingWatch:
        """Rings and buffers of the device."""
        ...

    @property
    def base(self) -> Ports:
        """The ports as they are without any fault."""
        ...

    @property
    def now_ns(self) -> int:
        """Time of the last call that had one."""
        ...

    @property
    def mastering(self) -> bool:
        """Whether the device may do DMA."""
        ...

    def live(self) -> list[Mapping]:
        """The device's live mappings."""
        ...

    def foreign(self) -> list[Mapping]:
        """Live mappings of all other devices."""
        ...

    def stall(self, duration_ns: int) -> None:
        """Lets the host wait for that long."""
        ...

    def by_order(self, fault: Fault) -> AbstractContextManager[None]:
        """What the ledger objects to within is the fault's doing."""
        ...

    def trace(self, fault: Fault, text: str) -> None:
        """Counts and records one act of misbehaviour."""
        ...


class Fault:
    """One misbehaviour, armed. Subclasses wrap ports in :meth:`wrap`, or act by themselves.

    number: of the catalogue (docs/faults.md). name: for plans and the command line. shows: what is
    learned from it, one line. expect: outcomes that are right. default: what the matrix arms.
    refused, landed: accesses of its own that were refused, that reached memory.
    """

    number: ClassVar[str]
    name: ClassVar[str]
    shows: ClassVar[str]
    expect: ClassVar[frozenset[Outcome]]
    default: ClassVar[str] = ""

    def __init__(self, spec: FaultSpec, trigger: Trigger, bench: Bench) -> None:
        self.spec, self.trigger, self.bench = spec, trigger, bench
        self.refused = self.landed = 0
        self.prepare()

    def prepare(self) -> None:
        """Sets up what the fault itself remembers."""

    def wrap(self, ports: Ports) -> Ports:
        """``ports`` with those that it spoils wrapped."""
        return ports

    def act(self, now_ns: int) -> int | None:
        """Called before each step of the device; returns when to be called at the latest."""
        return self.trigger.end_ns(now_ns)

    def was_reset(self, now_ns: int) -> None:
        """The driver has reset the device."""
        self.trigger.was_reset()

    def disarmed(self, now_ns: int) -> None:
        """It is taken away: undo what would outlast it."""

    # ------------------------------------------------------------------ for subclasses
    def did(self, text: str) -> None:
        """Records one act of misbehaviour."""
        self.bench.trace(self, text)

    def amount(self, default: int) -> int:
        """The plan's ``amount``, or ``default``."""
        return default if self.spec.amount is None else self.spec.amount

    def attempt(self, targets: Iterable[tuple[int, int, bool]]) -> None:
        """Reads or writes (iova, length, write) by the device's own port, all of it by order."""
        with self.bench.by_order(self):
            for iova, length, write in targets:
                verb = "write" if write else "read"
                try:
                    self._access(iova, length, write)
                except DmaFault as fault:
                    self.refused += 1
                    what = f"refused: {fault.reason}"
                else:
                    self.landed += 1
                    what = "landed"
                self.did(f"{verb} of {length} bytes at {iova:#x} {what}")

    def _access(self, iova: int, length: int, write: bool) -> None:
        dma = self.bench.base.dma
        if write:
            dma.write(iova, (CANARY * (length // len(CANARY) + 1))[:length])
        else:
            dma.read(iova, length)
