# SPDX-License-Identifier: MIT
"""Facts that come seldom, or from elsewhere than the device: each is told as one object.

Maps, unmaps, accesses and ring events have hooks of their own, for they are frequent; everything
else goes through :meth:`emulator.ledger.device.DeviceLedger.tell`, which hands a fact to the rules
that listen for its type and costs nothing where none does. Times are ns on the ledger's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from emulator.ledger.events import EventKind
from emulator.ledger.signals import Signal


@dataclass(slots=True)
class Fact:
    """Base of the facts: where a fact comes from, and how the timeline records it."""

    signal: ClassVar[Signal]
    event: ClassVar[EventKind] = EventKind.GUEST_SAID

    def place(self) -> tuple[int, int, int] | None:
        """IOVA, size and ``extra`` of its event; None: extra is the number of the type's name."""
        return None


# ---------------------------------------------------------------------- the device's side
@dataclass(slots=True)
class Armed(Fact):
    """The driver wrote ARM: it has consumed so many completions; so many were written.

    All modulo 2^16. rx_size, tx_size: entries of the completion rings (0: not running).
    """

    signal: ClassVar[Signal] = Signal.MMIO
    event: ClassVar[EventKind] = EventKind.ARMED
    queue: int
    rx_seen: int
    rx_done: int
    rx_size: int
    tx_seen: int
    tx_done: int
    tx_size: int

    def place(self) -> tuple[int, int, int]:
        """Counts that were seen as the IOVA, those done as the size."""
        return self.tx_seen << 16 | self.rx_seen, self.tx_done << 16 | self.rx_done, self.queue


@dataclass(slots=True)
class Interrupted(Fact):
    """A message of MSI-X ``vector`` went out; ``queue``: whose it is (None: no queue's)."""

    signal: ClassVar[Signal] = Signal.IRQ
    event: ClassVar[EventKind] = EventKind.INTERRUPT
    vector: int
    queue: int | None = None

    def place(self) -> tuple[int, int, int]:
        """The vector is ``extra``."""
        return 0, 0, self.vector


@dataclass(slots=True)
class VectorsChanged(Fact):
    """The client enabled, masked or unmasked vectors, or turned MSI-X off (``enabled`` False).

    masked: None leaves the masks as they are.
    """

    signal: ClassVar[Signal] = Signal.IRQ
    vectors: tuple[int, ...]
    enabled: bool | None = None
    masked: bool | None = None


@dataclass(slots=True)
class TableWritten(Fact):
    """Address or data of a table entry was written; ``live``: a message could go out meanwhile."""

    signal: ClassVar[Signal] = Signal.IRQ
    vector: int
    live: bool


# ---------------------------------------------------------------------- the guest's side
@dataclass(slots=True)
class TraceBegan(Fact):
    """The guest traces from here on, without a gap: what was there before is not known.

    stack: its sink traces, too, what it keeps: :class:`Held` and :class:`Freed` will be told late.
    """

    signal: ClassVar[Signal] = Signal.TRACE
    stack: bool = False


@dataclass(slots=True)
class GuestMapped(Fact):
    """The guest's DMA API mapped exactly these bytes (``phys``: guest physical address).

    coherent: ring memory and the like, wholly the device's to reach.
    """

    signal: ClassVar[Signal] = Signal.TRACE
    event: ClassVar[EventKind] = EventKind.GUEST_MAP
    iova: int
    size: int
    phys: int | None = None
    coherent: bool = False

    def place(self) -> tuple[int, int, int]:
        """The physical address is ``extra``."""
        return self.iova, self.size, self.phys or 0


@dataclass(slots=True)
class GuestUnmapped(Fact):
    """The guest's DMA API gave these bytes up."""

    signal: ClassVar[Signal] = Signal.TRACE
    event: ClassVar[EventKind] = EventKind.GUEST_UNMAP
    iova: int
    size: int

    def place(self) -> tuple[int, int, int]:
        """Bytes as the guest gave them."""
        return self.iova, self.size, 0


@dataclass(slots=True)
class GuestSettled(Fact):
    """Everything the guest traced so far was told, without a gap, and nothing is under way."""

    signal: ClassVar[Signal] = Signal.TRACE


@dataclass(slots=True)
class HeadBuilt(Fact):
    """The guest put an skb's head, with its shared info, into this page of its memory.

    frame: packed target of the page >> 12, as in :class:`emulator.ledger.live.LiveSet`.
    """

    signal: ClassVar[Signal] = Signal.TRACE
    frame: int


@dataclass(slots=True)
class Held(Fact):
    """The stack reads these receive buffers from now on.

    places: of their first bytes, as :func:`emulator.iommu.mapping.target_of` packs them: the stack
    has memory, whatever is mapped at the buffer's IOVA meanwhile.
    """

    signal: ClassVar[Signal] = Signal.STACK
    places: tuple[int, ...]


@dataclass(slots=True)
class Freed(Fact):
    """The stack is done with these receive buffers; ``places`` as when it took them."""

    signal: ClassVar[Signal] = Signal.STACK
    places: tuple[int, ...]


@dataclass(slots=True)
class PayloadChecked(Fact):
    """Received frames were looked at again, long after they were received.

    changed: of ``frames``, those that are no longer what they were; where: words on the first.
    """

    signal: ClassVar[Signal] = Signal.PAYLOAD
    frames: int
    changed: int
    where: str = ""
    iova: int = 0


@dataclass(slots=True)
class PoolCounted(Fact):
    """What the driver's page pools say at a quiet moment, in pages.

    inflight: mapped by the pools and not released. cached: of them in the pools' own stores, held:
    with the stack; None where the guest does not tell. slots: receive descriptors of all queues; a
    driver may have filled those that the device has not looked at yet, for it tells in batches, and
    the device fetches in batches. None: it has looked at all.
    """

    signal: ClassVar[Signal] = Signal.POOL
    inflight: int
    cached: int | None = None
    held: int | None = None
    slots: int | None = None


@dataclass(slots=True)
class Took(Fact):
    """An operation (``ifdown``, ``remove``, ``reset``, ...) took so long."""

    signal: ClassVar[Signal] = Signal.TIMES
    what: str
    duration_ns: int


@dataclass(slots=True)
class Checked(Fact):
    """A checker of the guest was read; ``problems``: what it said, nothing if all is well.

    absent: the guest's kernel was built without it, so that its silence says nothing.
    """

    signal: ClassVar[Signal] = Signal.CHECKERS
    checker: str
    problems: tuple[str, ...] = ()
    absent: bool = False
