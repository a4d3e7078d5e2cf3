# SPDX-License-Identifier: MIT
"""MSI-X: vector table, pending bits, and when a raised vector is delivered (PCI 3.0 section 6.8.2).

There are two kinds of client. QEMU keeps the guest's vector table to itself and tells us by event
descriptors: a vector can be delivered while it has one. A client of our own may write the table in
the BAR: from the first write to an entry on, that entry's mask bit counts as well. A vector that is
raised while something holds it back stays pending and is delivered once, when nothing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from emulator.pci.capabilities import MSIX_ENABLE, MSIX_ENTRY, MSIX_FUNCTION_MASK, MSIX_PBA_OFFSET

_CONTROL = 12
_MASKED = 1
_READ_ONLY_CONTROL_BYTES = 3


class Msix:
    """The MSI-X state of one function; ``deliver(vector)`` is called for each message to send."""

    def __init__(self, vectors: int, deliver: Callable[[int], None]) -> None:
        self.vectors = vectors
        self._deliver = deliver
        self._table = bytearray()
        self._triggers: set[int] = set()
        self._held: set[int] = set()
        self._connected = False
        self.reset()

    def reset(self) -> None:
        """Table, mask, enable and pending bits as after a reset; the client's triggers stay."""
        entry = bytes(_CONTROL) + _MASKED.to_bytes(4, "little")
        self._table[:] = entry * self.vectors
        self._written: set[int] = set()
        self._pending: set[int] = set()
        self._enabled = self._function_masked = False
        self._update()

    @property
    def pending(self) -> frozenset[int]:
        """Vectors whose pending bit is set."""
        return frozenset(self._pending)

    def raise_vector(self, vector: int) -> None:
        """Delivers ``vector`` or sets its pending bit.

        Ignored: a vector that does not exist, and any while MSI-X is off, since the function has no
        other way to interrupt. Event descriptors turn it on, as does the enable bit.
        """
        if vector in self._open:
            self._deliver(vector)
        elif 0 <= vector < self.vectors and (self._enabled or self._triggers):
            self._pending.add(vector)

    def connect(self, on: bool) -> None:
        """A message is a memory write: without bus mastering, or outside D0, all stay pending."""
        self._connected = on
        self._update()

    def control(self, value: int) -> None:
        """Message Control was written; turning MSI-X off forgets what is pending."""
        enabled = bool(value & MSIX_ENABLE)
        if self._enabled and not enabled:
            self._pending.clear()
        self._enabled = enabled
        self._function_masked = bool(value & MSIX_FUNCTION_MASK)
        self._update()

    def set_trigger(self, vectors: Iterable[int], present: bool) -> None:
        """The client gave, or took away, the event descriptors of ``vectors``."""
        change = self._triggers.update if present else self._triggers.difference_update
        change(vectors)
        self._update()

    def hold(self, vectors: Iterable[int], masked: bool) -> None:
        """The client masked or unmasked ``vectors`` by message."""
        change = self._held.update if masked else self._held.difference_update
        change(vectors)
        self._update()

    def disable(self) -> None:
        """The client took every event descriptor away: masks by message and pending bits go too."""
        self._triggers.clear()
        self._held.clear()
        self._pending.clear()
        self._update()

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes of the BAR: table, pending bits, zeros elsewhere."""
        return b"".join(self._byte(at) for at in range(offset, offset + size))

    def addressed(self, offset: int, size: int) -> list[tuple[int, bool]]:
        """Entries of which a write would change address or data, and whether they are unmasked.

        One that no client has written yet is not: its owner keeps the table elsewhere.
        """
        first, last = offset // MSIX_ENTRY, (offset + size - 1) // MSIX_ENTRY
        return [
            (vector, vector in self._written and not self._blocked(vector) and self._enabled)
            for vector in range(max(first, 0), min(last + 1, self.vectors))
            if offset < vector * MSIX_ENTRY + _CONTROL
        ]

    def write(self, offset: int, data: bytes) -> None:
        """Writes table entries; reserved bits and what is not the table are dropped."""
        for at, value in enumerate(data, offset):
            if not 0 <= at < len(self._table):
                continue
            within = at % MSIX_ENTRY
            if within < MSIX_ENTRY - _READ_ONLY_CONTROL_BYTES:
                self._table[at] = value & _MASKED if within == _CONTROL else value
            self._written.add(at // MSIX_ENTRY)
        self._update()

    def _byte(self, at: int) -> bytes:
        if 0 <= at < len(self._table):
            return bytes(self._table[at : at + 1])
        first = 8 * (at - MSIX_PBA_OFFSET)
        return bytes([sum(1 << bit for bit in range(8) if first + bit in self._pending)])

    def _blocked(self, vector: int) -> bool:
        masked = self._table[vector * MSIX_ENTRY + _CONTROL] & _MASKED
        return vector in self._held or (vector in self._written and bool(masked))

    def _update(self) -> None:
        """Works out which vectors can be delivered; sends what was pending on them, in order."""
        usable = self._triggers if self._connected and not self._function_masked else ()
        self._open = frozenset(vector for vector in usable if not self._blocked(vector))
        for vector in sorted(self._pending & self._open):
            self._pending.discard(vector)
            self._deliver(vector)
