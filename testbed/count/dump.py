# SPDX-License-Identifier: MIT
"""What the counting plugin (``vm/plugin/count.c``) wrote down, as data.

A dump is text: ``dump VERSION``, a line per vCPU, a line per translation block that ran between
marks, ``end``. All numbers are since the dump before. ``busy`` stands where a dump was asked for
while a vCPU was between marks, and none was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from testbed.errors import TestbedError


class DumpError(TestbedError):
    """The plugin's file is not what it should be; the text says where."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Executed: instructions, those of them that are atomic, memory reads and writes."""

    instructions: int = 0
    atomics: int = 0
    loads: int = 0
    stores: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.instructions + other.instructions,
            self.atomics + other.atomics,
            self.loads + other.loads,
            self.stores + other.stores,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A translation block on one vCPU: its address, how often its start was reached, its counts."""

    pc: int
    vcpu: int
    entries: int
    counts: Counts


@dataclass(slots=True)
class Dump:
    """Everything between two dumps.

    polls: begin marks, one per NAPI poll. interrupts: taken between marks, by their number, and
    what they executed, which is in no block. between: all that ran between marks, counted without
    blocks: what blocks and interrupts must add up to.
    """

    polls: int = 0
    interrupts: int = 0
    in_interrupts: Counts = Counts()
    between: Counts = Counts()
    blocks: list[Block] = field(default_factory=list)

    @property
    def total(self) -> Counts:
        """Of all blocks."""
        return sum((block.counts for block in self.blocks), Counts())


def parse_dumps(text: str) -> list[Dump]:
    """All dumps of a file, oldest first.

    Raises:
        DumpError: a line is not understood, the last dump is not complete, or blocks and
            interrupts do not add up to the total.
    """
    return list(_dumps(enumerate(text.splitlines(), 1)))


class DumpReader:
    """Reads the plugin's file as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def read(self) -> list[Dump]:
        """The dumps since the last call, oldest first. Raises: as :func:`parse_dumps`."""
        with self.path.open() as file:
            file.seek(self._read)
            text = file.read()
            self._read = file.tell()
        return parse_dumps(text)


def _dumps(lines: Iterable[tuple[int, str]]) -> Iterator[Dump]:
    dump: Dump | None = None
    for number, line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "busy" and dump is None:
            continue
        if (kind == "dump") != (dump is None):
            raise DumpError(f"plugin's counts, line {number}: {line!r} out of place")
        if kind == "end" and dump is not None:
            _check_sum(dump, number)
            yield dump
            dump = None
        elif dump is None:
            dump = Dump()
        else:
            _take(dump, kind, rest.split(), number)
    if dump is not None:
        raise DumpError("plugin's counts: the last dump has no end")


def _counts(numbers: list[int]) -> Counts:
    instructions, atomics, loads, stores = numbers
    return Counts(instructions, atomics, loads, stores)


def _check_sum(dump: Dump, number: int) -> None:
    found = dump.total + dump.in_interrupts
    if found != dump.between:
        raise DumpError(
            f"plugin's counts, dump that ends in line {number}: blocks and interrupts add up to"
            f" {found}, but {dump.between} ran between marks"
        )


def _take(dump: Dump, kind: str, words: list[str], number: int) -> None:
    try:
        if kind == "vcpu":
            _, polls, interrupts, *counts = (int(word) for word in words)
            dump.polls += polls
            dump.interrupts += interrupts
            dump.in_interrupts += _counts(counts[:4])
            dump.between += _counts(counts[4:])
            return
        if kind == "block":
            vcpu, entries, *counts = (int(word) for word in words[1:])
            dump.blocks.append(Block(int(words[0], 16), vcpu, entries, _counts(counts)))
            return
    except (ValueError, IndexError):
        pass
    raise DumpError(f"plugin's counts, line {number}: not understood: {kind} {' '.join(words)}")
