# SPDX-License-Identifier: MIT
"""The register file: decodes accesses to BAR0 by the generated tables, and keeps plain values.

What a register does beyond being kept is given as a handler per register name; no register is
spelled out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from emulator.nic.registers import MAP
from emulator.nic.regmap import Access, Register

Reader = Callable[[str, int], int]
"""(register's name, queue) -> its value."""
Writer = Callable[[str, int, int, int], None]
"""(register's name, queue, written bits of the writable fields, now_ns)."""

GLOBAL: Final = -1
"""The queue number that stands for the registers outside any pair."""

WRITABLE: Final = (Access.RW, Access.WO, Access.W1C, Access.PULSE)
WORD: Final = 4
MASK32: Final = 0xFFFF_FFFF


@dataclass(frozen=True)
class _Word:
    """Four bytes of the BAR: half of ``register`` (the upper one if ``upper``) of ``queue``.

    writable: ones at fields that take a write in any way; kept: at those that then hold it.
    """

    register: Register
    queue: int
    upper: bool
    writable: int
    kept: int


class RegisterFile:
    """BAR0 of a NIC with ``queues`` pairs.

    readers: where the value of a register comes from, if not from what was written.
    writers: told of each write. locked(name, queue): the register is read-only for now.
    Queue is :data:`GLOBAL` for global registers.
    """

    def __init__(
        self,
        queues: int,
        readers: Mapping[str, Reader],
        writers: Mapping[str, Writer],
        locked: Callable[[str, int], bool],
    ) -> None:
        self._words = dict(_words(queues))
        self._readers, self._writers, self._locked = readers, writers, locked
        self._values = {(w.queue, w.register.name): w.register.reset for w in self._words.values()}
        self._latched: dict[tuple[int, str], int] = {}

    def read(self, offset: int, size: int) -> int:
        """The ``size`` bytes at ``offset``; 0 where no register is, or for an illegal access."""
        if not _legal(offset, size):
            return 0
        value = self._read_word(offset)
        if size == 2 * WORD:
            value |= self._read_word(offset + WORD) << 32
        return value

    def write(self, offset: int, value: int, size: int, now_ns: int) -> None:
        """Writes ``size`` bytes at ``offset``, the lower word first; nothing if illegal."""
        if not _legal(offset, size):
            return
        for word in range(size // WORD):
            self._write_word(offset + word * WORD, value >> (32 * word) & MASK32, now_ns)

    def get(self, name: str, queue: int = GLOBAL) -> int:
        """What register ``name`` holds."""
        return self._values[queue, name]

    def set(self, name: str, value: int, queue: int = GLOBAL) -> None:
        """Makes register ``name`` hold ``value``: for the device itself, no handler is told."""
        self._values[queue, name] = value

    def reset(self, keep: frozenset[str]) -> None:
        """Every register but those named in ``keep`` takes its reset value."""
        for word in self._words.values():
            if word.register.name not in keep:
                self._values[word.queue, word.register.name] = word.register.reset
        self._latched.clear()

    def _read_word(self, offset: int) -> int:
        word = self._words.get(offset)
        if word is None:
            return 0
        register, key = word.register, (word.queue, word.register.name)
        if word.upper:
            return self._latched.get(key, 0)
        reader = self._readers.get(register.name)
        value = reader(register.name, word.queue) if reader else self._values[key]
        if register.size > WORD:
            self._latched[key] = value >> 32 & MASK32
        return value & register.readable & MASK32

    def _write_word(self, offset: int, value: int, now_ns: int) -> None:
        word = self._words.get(offset)
        if word is None or not word.writable:
            return
        name = word.register.name
        if self._locked(name, word.queue):
            return
        key = (word.queue, name)
        self._values[key] = (self._values[key] & ~word.kept) | (value & word.kept)
        writer = self._writers.get(name)
        if writer:
            writer(name, word.queue, value & word.writable, now_ns)


def _legal(offset: int, size: int) -> bool:
    return size in (WORD, 2 * WORD) and offset % size == 0


def _words(queues: int) -> Iterator[tuple[int, _Word]]:
    blocks = [(GLOBAL, 0, MAP.registers)]
    blocks += [
        (queue, MAP.queue_base + queue * MAP.queue_stride, MAP.queue_registers)
        for queue in range(queues)
    ]
    for queue, base, registers in blocks:
        for register in registers:
            writable, kept = register.mask(*WRITABLE), register.mask(Access.RW)
            for at in range(0, register.size, WORD):
                yield base + register.offset + at, _Word(register, queue, at > 0, writable, kept)
