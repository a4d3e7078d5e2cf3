# SPDX-License-Identifier: MIT
"""X-30 to X-38: completions that are torn, doubled, lost, early, or say what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from emulator.faults.fault import CANARY, Fault, Outcome
from emulator.faults.ports import CompletionPort, Ports, Publication
from emulator.faults.trigger import NS_PER_US
from emulator.faults.watch import PHASE, WatchedRing
from emulator.nic.descriptors import RX_DESC
from emulator.nic.registers import DMABED_COMPLETION_STATUS_EOP, DMABED_COMPLETION_STATUS_SOP
from emulator.ports import DmaFault, RingKind

EOP = np.uint32(DMABED_COMPLETION_STATUS_EOP)
SOP = np.uint32(DMABED_COMPLETION_STATUS_SOP)
LOST = frozenset({Outcome.RECOVERED, Outcome.DETECTED})
Entries = NDArray[Any]


class _Spoiler:
    def __init__(self, port: CompletionPort, fault: CompletionFault) -> None:
        self._port, self._fault = port, fault

    def publish(self, batch: Publication) -> None:
        self._fault.publish(batch, self._port)


class CompletionFault(Fault):
    """Spoils completions as they become visible; strikes by completion, of both directions.

    receive_only: transmit completions are left alone.
    """

    expect: ClassVar[frozenset[Outcome]] = LOST
    default: ClassVar[str] = "nth = 300"
    receive_only: ClassVar[bool] = False

    def wrap(self, ports: Ports) -> Ports:
        """See :class:`Fault`."""
        return replace(ports, completions=_Spoiler(ports.completions, self))

    def publish(self, batch: Publication, port: CompletionPort) -> None:
        """Hands on ``batch``, spoilt where the trigger says so."""
        row = -1 if self.receive_only and batch.tx else self._row(batch)
        if row < 0:
            port.publish(batch)
            return
        what = "transmit" if batch.tx else "receive"
        self.did(f"{what} completion {batch.index + row} of queue {batch.queue}")
        self.spoil(batch, row, port)

    def _row(self, batch: Publication) -> int:
        """The first completion that is struck; -1: none."""
        if not self.trigger.fits(queue=batch.queue):
            return -1
        now_ns = self.bench.now_ns
        rows = range(len(batch.entries))
        return next((row for row in rows if self.trigger.strikes(now_ns)), -1)

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """Publishes ``batch`` with its row ``row`` changed by :meth:`change`."""
        self.change(batch, row)
        port.publish(batch)

    def change(self, batch: Publication, row: int) -> None:
        """Changes ``batch.entries`` in place."""
        raise NotImplementedError


def part(batch: Publication, rows: slice) -> Publication:
    """Those ``rows`` (start and stop given) of ``batch``."""
    return replace(batch, index=batch.index + rows.start, entries=batch.entries[rows])


class TornCompletion(CompletionFault):
    """The status word is there, the other words come ``amount`` us (100) later."""

    number, name = "X-30", "torn-completion"
    shows = "a driver that finds half a completion does not act on the other half"
    expect = LOST | {Outcome.SURVIVED}

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._repair: tuple[WatchedRing, Publication, CompletionPort] | None = None
        self._due_ns = 0

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """Publishes the torn entry and keeps the true one."""
        ring = self.bench.watch.rings[batch.queue, batch.kind]
        whole = part(batch, slice(row, row + 1))
        self._due_ns = self.bench.now_ns + self.amount(100) * NS_PER_US
        self._repair = ring, replace(whole, entries=whole.entries.copy()), port
        status = batch.entries["status"][row].copy()
        batch.entries[row : row + 1].view(np.uint8)[:] = 0xFF
        batch.entries["status"][row] = status
        port.publish(batch)

    def act(self, now_ns: int) -> int | None:
        """Completes what was torn, unless the ring was stopped since."""
        if self._repair is None or now_ns < self._due_ns:
            return None if self._repair is None else self._due_ns
        ring, whole, port = self._repair
        self._repair = None
        if self.bench.watch.rings.get((whole.queue, whole.kind)) is ring:
            port.publish(whole)
        return None


class DuplicateCompletion(CompletionFault):
    """The struck completion appears a second time, behind its batch."""

    number, name = "X-31", "duplicate-completion"
    shows = "the same buffer completed twice is not freed twice"
    expect = LOST | {Outcome.SURVIVED}
    default = "after_us = 500000"

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """The copy has the phase that its place wants."""
        again = batch.index + len(batch.entries)
        copy = batch.entries[row : row + 1].copy()
        copy["status"] = copy["status"] & ~PHASE | PHASE * np.uint32(batch.phase(again))
        port.publish(batch)
        port.publish(replace(batch, index=again, entries=copy))


class PoisonedSlots(CompletionFault):
    """Descriptors are overwritten with poison as soon as they are used up."""

    number, name = "X-32", "poisoned-slots"
    shows = "a driver does not read back what the device could have changed"
    expect = frozenset({Outcome.SURVIVED})
    default = "times = 0"

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """Before the completions are visible, so that no descriptor posted anew is hit."""
        kind = RingKind.TX_DESC if batch.tx else RingKind.RX_DESC
        ring = self.bench.watch.rings.get((batch.queue, kind))
        poison = CANARY * (RX_DESC.size // len(CANARY))
        if ring is not None:
            for slot in batch.entries["id"].tolist():
                self.bench.base.dma.write(ring.iova + slot * RX_DESC.size, poison)
        port.publish(batch)


class SwappedCompletions(CompletionFault):
    """Two neighbours change places."""

    number, name = "X-33", "swapped-completions"
    shows = "on a ring that completes in order, a completion out of order is noticed"

    def change(self, batch: Publication, row: int) -> None:
        """Ids only; the last of a batch is given the id after the next."""
        ids = batch.entries["id"]
        if row + 1 < len(ids):
            ids[row : row + 2] = ids[row : row + 2][::-1].copy()
        else:
            ids[row] = (int(ids[row]) + 1) % batch.size


class MissingCompletion(CompletionFault):
    """A completion never comes; those after it do."""

    number, name = "X-33", "missing-completion"
    shows = "a hole in a ring is found by whoever compares with the device's own count"

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """What is before it, and what is behind."""
        for rows in (slice(0, row), slice(row + 1, len(batch.entries))):
            if rows.start < rows.stop:
                port.publish(part(batch, rows))


class EarlyCompletion(CompletionFault):
    """A buffer that nothing was written to is completed: the next of the ring."""

    number, name = "X-33", "early-completion"
    shows = "a completion for nothing hands the driver old bytes: only the frame's contents tell"
    expect = LOST | {Outcome.SURVIVED, Outcome.REFUSED}
    default = "after_us = 500000"
    receive_only = True

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """The ledger is told what the driver is told: the buffer is not the device's any more."""
        port.publish(batch)
        owned = self.bench.watch.posted_now.get((batch.queue, RingKind.RX_DESC))
        if not owned:
            return
        buffer, at = owned[0], batch.index + len(batch.entries)
        lie = batch.entries[-1:].copy()
        lie["id"] = at % batch.size
        lie["status"] = SOP | EOP | PHASE * np.uint32(batch.phase(at))
        lie["len"] = lie["frame_len"] = 60
        iovas, lengths = np.array([buffer.iova], np.uint64), np.array([buffer.length])
        told = self.bench.watch.port
        told.returned(self.bench.now_ns, batch.queue, RingKind.RX_DESC, iovas, lengths)
        port.publish(replace(batch, index=at, entries=lie))
        self.bench.watch.early[batch.queue] = at + 1


class BadIndex(CompletionFault):
    """The id is one that no slot has; ``amount`` 0: ring size, 1: one more, else 0xffff."""

    number, name = "X-34", "bad-index"
    shows = "an index from the device is bounded before it is used"

    def change(self, batch: Publication, row: int) -> None:
        """See the class."""
        choices = (batch.size, batch.size + 1, 0xFFFF)
        batch.entries["id"][row] = choices[min(self.amount(2), 2)]


class _Lie(CompletionFault):
    """Changes members of received completions by a function each."""

    expect = frozenset({Outcome.DETECTED})
    receive_only = True
    lies: ClassVar[tuple[Callable[[Entries, int], None], ...]] = ()

    def change(self, batch: Publication, row: int) -> None:
        """The lies in turn, or the one that ``amount`` numbers."""
        turn = self.trigger.taken - 1 if self.spec.amount is None else self.spec.amount
        self.lies[turn % len(self.lies)](batch.entries, row)


def _clear(bits: np.uint32) -> Callable[[Entries, int], None]:
    def change(entries: Entries, row: int) -> None:
        entries["status"][row] &= ~bits

    return change


def _length(value: int) -> Callable[[Entries, int], None]:
    def change(entries: Entries, row: int) -> None:
        entries["len"][row] = value
        entries["frame_len"][row] = value

    return change


class MissingEnd(_Lie):
    """EOP missing, SOP missing, an end without bytes."""

    number, name = "X-35", "missing-end"
    shows = "a frame without end or beginning is dropped, and holds no buffer for long"
    default = "every = 200\ntimes = 3"
    lies = (_clear(EOP), _clear(SOP), _length(0))


class BadLength(_Lie):
    """Length 0, below an Ethernet header, beyond the buffer, 65535."""

    number, name = "X-37", "bad-length"
    shows = "a length from the device is bounded before it is used"
    default = "every = 100\ntimes = 4"
    lies = (_length(0), _length(13), _length(4096), _length(0xFFFF))


class ManyFragments(CompletionFault):
    """Frames are run together: one of ``amount`` (40) pieces."""

    number, name = "X-36", "many-fragments"
    shows = "a frame of more pieces than an skb can hold is dropped"
    expect = frozenset({Outcome.DETECTED})
    receive_only = True

    def prepare(self) -> None:
        """See :class:`Fault`."""
        self._left = self._bytes = 0

    def publish(self, batch: Publication, port: CompletionPort) -> None:
        """Goes on over batches until the frame has all its pieces."""
        if batch.tx or not self.trigger.fits(queue=batch.queue):
            port.publish(batch)
            return
        for row in range(len(batch.entries)):
            if not self._left and self.trigger.strikes(self.bench.now_ns):
                self._left, self._bytes = self.amount(40), 0
                self.did(f"{self._left} receive completions of queue {batch.queue} run together")
                self._piece(batch.entries, row, SOP)
            elif self._left:
                self._piece(batch.entries, row, np.uint32(0))
        port.publish(batch)

    def _piece(self, entries: Entries, row: int, first: np.uint32) -> None:
        self._left -= 1
        self._bytes += int(entries["len"][row])
        last = np.uint32(0) if self._left else EOP
        entries["status"][row] = entries["status"][row] & ~(SOP | EOP) | first | last
        entries["frame_len"][row] = self._bytes


class ChangingCompletion(CompletionFault):
    """Lengths of a completion go wild and come back while the driver may be reading them."""

    number, name = "X-38", "changing-completion"
    shows = "what is read twice may differ: each field is read once, or bounded after the last read"
    expect = frozenset({Outcome.SURVIVED, Outcome.DETECTED})
    default = "every = 3\ntimes = 200"
    receive_only = True

    def spoil(self, batch: Publication, row: int, port: CompletionPort) -> None:
        """True, wild, true, ... for ``amount`` (8) rounds."""
        port.publish(batch)
        wild = replace(batch, entries=batch.entries.copy())
        wild.entries["len"] = wild.entries["frame_len"] = 0xFFFF
        try:
            for _ in range(self.amount(8)):
                port.publish(wild)
                port.publish(batch)
        except DmaFault:  # the driver has taken the ring away meanwhile
            self.refused += 1
