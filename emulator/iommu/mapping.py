# SPDX-License-Identifier: MIT
"""A mapping, the memory behind it, and the word that says where a page of it lies.

A *target* packs where a byte is into one int64, so that a look-up of many accesses is one array:
bits 63..50 index of the memory plus 1 (0: reachable only by messages to the client),
bits 49..0 offset in that memory. A *page word* is the target of a page's first byte with what is
allowed in its low bits, which an aligned offset leaves free: 0 stands for an unmapped page.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PAGE_MASK = PAGE_SIZE - 1
IOVA_END = 1 << 64

MAY_READ = 1
MAY_WRITE = 2
MEMORY_SHIFT = 50
OFFSET_MASK = (1 << MEMORY_SHIFT) - 1
MEMORY_MAX = (1 << (63 - MEMORY_SHIFT)) - 2
REMOTE = -1


class Memory(Protocol):
    """Guest memory that lies in this process: one mmap of the client's file."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """uint8[bytes], writable; offset 0 is offset 0 of the file."""
        ...

    @property
    def index(self) -> int:
        """Number of this memory within the process: 0 to ``MEMORY_MAX``, unique while in use."""
        ...


class Mapping(NamedTuple):
    """``size`` bytes from ``iova`` on are bytes of ``memory`` from ``offset`` on.

    ``memory`` is None when the client gave no file: then only messages to it reach the bytes.
    ``generation`` rises with every mapping of the space; ``mapped_ns`` is when it was made.
    """

    iova: int
    size: int
    memory: Memory | None
    offset: int
    readable: bool
    writable: bool
    generation: int
    mapped_ns: int

    @property
    def end(self) -> int:
        """First IOVA behind the mapping."""
        return self.iova + self.size

    @property
    def memory_index(self) -> int:
        """Index of the memory, or ``REMOTE``."""
        return REMOTE if self.memory is None else self.memory.index

    def __str__(self) -> str:
        rights = ("R" if self.readable else "-") + ("W" if self.writable else "-")
        place = "remote" if self.memory is None else f"memory {self.memory.index}+{self.offset:#x}"
        return f"{self.iova:#x}+{self.size:#x} {rights} -> {place} (generation {self.generation})"


def target_of(memory: Memory | None, offset: int) -> int:
    """The packed place of byte ``offset`` of ``memory`` (offset is ignored without memory)."""
    return 0 if memory is None else (memory.index + 1) << MEMORY_SHIFT | offset


def page_word(mapping: Mapping) -> int:
    """The page word of the first page of ``mapping``."""
    allowed = (MAY_READ if mapping[4] else 0) | (MAY_WRITE if mapping[5] else 0)
    return target_of(mapping[2], mapping[3]) | allowed
