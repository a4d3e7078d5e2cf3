# SPDX-License-Identifier: MIT
"""What a register is: the vocabulary of the generated :mod:`emulator.nic.registers`.

Source: the properties of SystemRDL 2.0 that ``registers.rdl`` uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property


class Access(Enum):
    """What software may do with a field."""

    RO = "read"
    RW = "read, write"
    WO = "write; reads 0"
    W1C = "read; write 1 to clear"
    PULSE = "write 1 to act; reads 0"


@dataclass(frozen=True)
class Field:
    """Bits ``low + width - 1`` to ``low`` of a register.

    ``reset`` is None where the device sets the value. ``fixed``: it never changes.
    """

    name: str
    low: int
    width: int
    access: Access
    reset: int | None = None
    fixed: bool = False
    doc: str = ""

    @property
    def high(self) -> int:
        """The field's highest bit."""
        return self.low + self.width - 1

    @property
    def mask(self) -> int:
        """Ones where the field lies in its register."""
        return ((1 << self.width) - 1) << self.low

    def get(self, value: int) -> int:
        """The field within the register's ``value``."""
        return (value & self.mask) >> self.low


@dataclass(frozen=True)
class Register:
    """A register: ``offset`` in bytes from the BAR or from its queue pair, ``width`` in bits."""

    name: str
    offset: int
    width: int
    fields: tuple[Field, ...]
    title: str = ""
    doc: str = ""

    def mask(self, *kinds: Access) -> int:
        """Ones at every field whose access is one of ``kinds``."""
        return sum(f.mask for f in self.fields if f.access in kinds)

    @cached_property
    def reset(self) -> int:
        """The value after a reset, with 0 for fields that the device sets."""
        return sum((f.reset or 0) << f.low for f in self.fields)

    @cached_property
    def readable(self) -> int:
        """Ones at the fields that software can read back."""
        return self.mask(Access.RO, Access.RW, Access.W1C)

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return self.width // 8


@dataclass(frozen=True)
class RegisterMap:
    """Every register: the global ones, those of one queue pair, and where the pairs lie (bytes)."""

    registers: tuple[Register, ...]
    queue_registers: tuple[Register, ...]
    queue_base: int
    queue_stride: int
    queues_max: int
