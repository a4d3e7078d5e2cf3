# SPDX-License-Identifier: MIT
"""Configuration space as an engine: declared registers, and what a write does to each bit.

Every behaviour is a mask of the register that owns the bits, so that the header and the
capabilities are tables and the engine has no special case. Widths and offsets are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from emulator.pci.errors import BadDeviceError

SIZE = 4096
"""Bytes of PCI Express extended configuration space (PCIe base specification, 7.2)."""


@dataclass(frozen=True, slots=True)
class Register:
    """One register: ``width`` bytes at ``offset``; a bit in no mask is read-only.

    reset: value after a reset. write: bits that software sets and clears. w1c: bits cleared by
    writing 1. pulse: bits that read 0 and act when 1 is written. sticky: bits that a
    function-level reset leaves alone (RWS, RW1CS and ROS, and what PCIe 6.6.2 lists).
    """

    name: str
    offset: int
    width: int
    reset: int = 0
    write: int = 0
    w1c: int = 0
    pulse: int = 0
    sticky: int = 0

    def moved(self, prefix: str, base: int) -> Register:
        """The same register at ``base`` of configuration space, named ``prefix.name``."""
        masks = (self.reset, self.write, self.w1c, self.pulse, self.sticky)
        return Register(f"{prefix}.{self.name}", base + self.offset, self.width, *masks)

    def after_write(self, old: int, written: int, lanes: int) -> int:
        """The value once ``written`` has arrived in the bits ``lanes``; pulses are not stored."""
        kept = old & ~(self.write & lanes)
        return (kept | (written & self.write & lanes)) & ~(written & self.w1c & lanes)


class Change(NamedTuple):
    """A register that a write changed; ``new`` has the pulse bits that were written as 1."""

    name: str
    old: int
    new: int


class ConfigSpace:
    """4096 bytes of :class:`Register`; a byte that none of them owns reads 0 and ignores writes."""

    def __init__(self, registers: Iterable[Register]) -> None:
        self._registers = {r.name: r for r in registers}
        self._values = {r.name: r.reset for r in self._registers.values()}
        self._owner: list[Register | None] = [None] * SIZE
        self._image = bytearray(SIZE)
        for register in self._registers.values():
            self._claim(register)
            self._store(register, register.reset)

    def _claim(self, register: Register) -> None:
        span = range(register.offset, register.offset + register.width)
        taken = [self._owner[at] for at in span if at >= SIZE or self._owner[at]]
        if taken:
            raise BadDeviceError(
                f"register {register.name} at {register.offset:#x} overlaps {taken[0]}"
            )
        for at in span:
            self._owner[at] = register

    def _store(self, register: Register, value: int) -> None:
        self._values[register.name] = value
        end = register.offset + register.width
        self._image[register.offset : end] = value.to_bytes(register.width, "little")

    def register(self, name: str) -> Register:
        """The declaration of ``name``: where it lies and its masks. KeyError when there is none."""
        return self._registers[name]

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __setitem__(self, name: str, value: int) -> None:
        """The hardware's side of a register: no mask applies."""
        self._store(self._registers[name], value)

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; past the end there are ones, as on an empty bus."""
        if offset < 0:
            return b"\xff" * size
        return bytes(self._image[offset : offset + size]).ljust(size, b"\xff")

    def write(self, offset: int, data: bytes) -> list[Change]:
        """Applies ``data`` under the masks; returns the registers that changed, by offset.

        A write may cover part of a register or several; what lies past the end is dropped.
        """
        changes = []
        for register in self._overlapping(offset, offset + len(data)):
            written, lanes = _lanes(register, offset, data)
            old = self._values[register.name]
            stored = register.after_write(old, written, lanes)
            self._store(register, stored)
            new = stored | (written & lanes & register.pulse)
            if new != old:
                changes.append(Change(register.name, old, new))
        return changes

    def _overlapping(self, start: int, end: int) -> list[Register]:
        owners = self._owner[max(start, 0) : max(end, 0)]
        return list(dict.fromkeys(owner for owner in owners if owner))

    def reset(self) -> None:
        """A function-level reset: every bit but the sticky ones takes its reset value."""
        for register in self._registers.values():
            kept = self._values[register.name] & register.sticky
            self._store(register, kept | (register.reset & ~register.sticky))


def _lanes(register: Register, offset: int, data: bytes) -> tuple[int, int]:
    """Of ``data`` at ``offset``: the bits that fall on ``register``, and the mask of those bits."""
    start = max(register.offset, offset)
    end = min(register.offset + register.width, offset + len(data))
    shift = 8 * (start - register.offset)
    lanes = ((1 << 8 * (end - start)) - 1) << shift
    return int.from_bytes(data[start - offset : end - offset], "little") << shift, lanes
