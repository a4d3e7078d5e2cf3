# SPDX-License-Identifier: MIT
"""One device's address space: which IOVAs reach memory, and where.

Most look-ups come in batches of a NAPI poll, most changes are single pages. Linux keeps the IOVAs
of a device dense and below 4 GiB, so pages there have their page words in one flat array, indexed
by page number: a look-up costs the same with one mapping as with a million, a change is one store.
Mappings of more than ``SMALL_MAX`` bytes (all of RAM, without a vIOMMU) are sorted extents. One
compiled loop looks in both. A sorted list of 2 MiB chunks finds what an unmap covers without
walking pages: a sweep over the whole address space costs as much as the mappings it removes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emulator.iommu.errors import (
    BeyondMemoryError,
    NoPermissionError,
    OverlapError,
    PartialUnmapError,
    TooManyMappingsError,
    UnalignedError,
    WrapAroundError,
    ZeroSizeError,
)
from emulator.iommu.mapping import (
    IOVA_END,
    MAY_READ,
    MAY_WRITE,
    MEMORY_MAX,
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    Mapping,
    Memory,
    page_word,
    target_of,
)
from emulator.iommu.tables import (
    LOOK_CLOSER,
    SEVERAL,
    PageWords,
    Piece,
    Translation,
    extents_of,
    locate,
)

__all__ = ["SMALL_MAX", "AddressSpace", "Piece", "Translation"]

SMALL_MAX = 2 << 20
CHUNK_SHIFT = 9


class AddressSpace:
    """The live mappings of one device.

    Args:
        name: of the device, for messages.
        max_mappings: further ones are refused with ENOSPC.

    ``changes`` rises with every map and unmap: what was found before one need not hold after it.
    """

    def __init__(self, name: str, max_mappings: int = 1 << 20) -> None:
        self.name = name
        self.max_mappings = max_mappings
        self.memories: dict[int, Memory] = {}
        self._generation = 0
        self._count = 0
        self._words = PageWords()
        self._owners: dict[int, Mapping] = {}
        self._chunks: dict[int, set[int]] = {}
        self._chunk_keys: list[int] = []
        self._big: list[Mapping] = []
        self._extents = extents_of([])
        self.changes = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Mapping]:
        """Every live mapping: small ones by IOVA, then big ones by IOVA."""
        for key in self._chunk_keys:
            for page in sorted(self._chunks[key]):
                yield self._owners[page]
        yield from self._big

    def map(
        self,
        iova: int,
        size: int,
        memory: Memory | None,
        offset: int,
        readable: bool,
        writable: bool,
        now_ns: int,
    ) -> Mapping:
        """Makes ``size`` bytes from ``iova`` on reach ``memory`` from ``offset`` on.

        Raises:
            MappingError: (its subclasses) nothing was changed; carries the errno to answer.
        """
        if (iova | size | offset) & PAGE_MASK or not 0 < size <= IOVA_END - iova or iova < 0:
            _refuse_range(iova, size, offset)
        self._refuse_target(iova, size, memory, offset, readable or writable)
        self._generation = generation = self._generation + 1
        mapping = Mapping(iova, size, memory, offset, readable, writable, generation, now_ns)
        if size > SMALL_MAX:
            self._add_big(mapping)
        else:
            self._add_small(mapping)
        self._count += 1
        self.changes += 1
        return mapping

    def unmap(self, iova: int, size: int, now_ns: int) -> list[Mapping]:
        """Removes every mapping within the range: none, one or many; returns them by IOVA.

        Raises:
            MappingError: bad range, or it would cut a mapping; nothing was changed.
        """
        self.changes += 1
        mapping = self._owners.get(iova >> PAGE_SHIFT)
        if mapping is not None and mapping.iova == iova and mapping.size == size:
            self._remove_small(mapping)
            return [mapping]
        if (iova | size) & PAGE_MASK or not 0 < size <= IOVA_END - iova or iova < 0:
            _refuse_range(iova, size, 0)
        return self._unmap_range(iova, iova + size)

    def unmap_all(self, now_ns: int) -> list[Mapping]:
        """Removes everything; returns what was alive."""
        removed = sorted(self)
        self.changes += 1
        self._words.clear()
        self._owners.clear()
        self._chunks.clear()
        self._chunk_keys.clear()
        self._big.clear()
        self._extents = extents_of(self._big)
        self._count = 0
        return removed

    def find(self, iova: int) -> Mapping | None:
        """The mapping that holds ``iova``."""
        mapping = self._owners.get(iova >> PAGE_SHIFT)
        if mapping is None and self._big:
            at = bisect_right(self._big, iova, key=_start) - 1
            if at >= 0 and iova < self._big[at].end:
                mapping = self._big[at]
        return mapping

    def forget(self, memory: Memory) -> None:
        """Drops the reference to a memory that no mapping uses any more."""
        if self.memories.get(memory.index) is memory:
            del self.memories[memory.index]

    def translate(
        self, iovas: NDArray[np.uint64], lengths: NDArray[np.int64], write: bool
    ) -> Translation:
        """Where each access lands; see :class:`Translation`. One crossing mappings is not ok."""
        targets, ok = np.empty(len(iovas), np.int64), np.empty(len(iovas), np.bool_)
        need = MAY_WRITE if write else MAY_READ
        home = locate(iovas, lengths, self._words.near, self._extents, need, targets, ok)
        if home != LOOK_CLOSER:
            return Translation(targets, ok, True, home)
        self._look_closer(iovas, lengths, write, targets, ok)
        return Translation(targets, ok, bool(ok.all()), SEVERAL)

    def split(self, iova: int, length: int, write: bool) -> list[Piece] | None:
        """The access in pieces cut at the ends of mappings, or None if any byte is refused."""
        if length <= 0 or iova < 0 or iova + length > IOVA_END:
            return None
        pieces: list[Piece] = []
        end = iova + length
        while iova < end:
            mapping = self.find(iova)
            if mapping is None or not (mapping.writable if write else mapping.readable):
                return None
            part = min(end, mapping.end) - iova
            pieces.append(Piece(iova, part, mapping))
            iova += part
        return pieces

    # ------------------------------------------------------------------ map
    def _refuse_target(
        self, iova: int, size: int, memory: Memory | None, offset: int, allowed: bool
    ) -> None:
        if not allowed:
            raise NoPermissionError(f"{self.name}: mapping {iova:#x}+{size:#x} allows nothing")
        if self._count >= self.max_mappings:
            raise TooManyMappingsError(f"{self.name}: {self._count} mappings, the limit")
        if memory is None:
            return
        index = memory.index
        if not 0 <= index <= MEMORY_MAX or not 0 <= offset <= len(memory.array) - size:
            raise BeyondMemoryError(
                f"{self.name}: mapping {iova:#x}+{size:#x} needs {offset + size:#x} bytes of "
                f"memory {index}, which has {len(memory.array):#x}"
            )
        if self.memories.get(index) is not memory:
            self.memories[index] = memory

    def _refuse_overlap(self, iova: int, size: int, other: Mapping) -> None:
        raise OverlapError(f"{self.name}: mapping {iova:#x}+{size:#x} overlaps {other}")

    def _add_small(self, mapping: Mapping) -> None:
        iova, size = mapping.iova, mapping.size
        first = iova >> PAGE_SHIFT
        word = page_word(mapping)
        if self._big:
            self._check_big_overlap(iova, size)
        if size == PAGE_SIZE:
            if first in self._owners:
                self._refuse_overlap(iova, size, self._owners[first])
            self._owners[first] = mapping
            self._words[first] = word
        else:
            self._add_pages(mapping, first, word)
        chunk = self._chunks.get(first >> CHUNK_SHIFT)
        if chunk is None:
            insort(self._chunk_keys, first >> CHUNK_SHIFT)
            self._chunks[first >> CHUNK_SHIFT] = {first}
        else:
            chunk.add(first)

    def _add_pages(self, mapping: Mapping, first: int, word: int) -> None:
        pages = range(first, first + (mapping.size >> PAGE_SHIFT))
        for page in pages:
            if page in self._owners:
                self._refuse_overlap(mapping.iova, mapping.size, self._owners[page])
        step = 0 if mapping.memory is None else PAGE_SIZE
        self._owners.update(dict.fromkeys(pages, mapping))
        for i, page in enumerate(pages):
            self._words[page] = word + step * i

    def _check_big_overlap(self, iova: int, size: int) -> None:
        at = bisect_left(self._big, iova + size, key=_start) - 1
        if at >= 0 and self._big[at].end > iova:
            self._refuse_overlap(iova, size, self._big[at])

    def _add_big(self, mapping: Mapping) -> None:
        self._check_big_overlap(mapping.iova, mapping.size)
        low = self._owners.get(mapping.iova >> PAGE_SHIFT)
        inside = next(self._starts(mapping.iova, mapping.end), None)
        if low is not None or inside is not None:
            other = low if low is not None else self._owners[inside or 0]
            self._refuse_overlap(mapping.iova, mapping.size, other)
        insort(self._big, mapping, key=_start)
        self._extents = extents_of(self._big)

    # ------------------------------------------------------------------ unmap
    def _starts(self, begin: int, end: int) -> Iterator[int]:
        """First pages of the small mappings that start in [begin, end), by page."""
        low, high = begin >> PAGE_SHIFT, end >> PAGE_SHIFT
        at = bisect_left(self._chunk_keys, low >> CHUNK_SHIFT)
        stop = bisect_right(self._chunk_keys, (high - 1) >> CHUNK_SHIFT)
        for key in self._chunk_keys[at:stop]:
            chunk = self._chunks[key]
            if high - low < len(chunk):
                yield from (page for page in range(low, high) if page in chunk)
            else:
                yield from sorted(page for page in chunk if low <= page < high)

    def _unmap_range(self, begin: int, end: int) -> list[Mapping]:
        for edge in (begin, end):
            cut = self.find(edge) if edge < IOVA_END else None
            if cut is not None and cut.iova < edge:
                raise PartialUnmapError(
                    f"{self.name}: unmap of {begin:#x}+{end - begin:#x} would cut {cut}"
                )
        removed = [self._owners[page] for page in self._starts(begin, end)]
        for mapping in removed:
            self._remove_small(mapping)
        if self._big:
            removed = sorted(removed + self._remove_big(begin, end), key=_start)
        return removed

    def _remove_small(self, mapping: Mapping) -> None:
        first = mapping.iova >> PAGE_SHIFT
        for page in range(first, first + (mapping.size >> PAGE_SHIFT)):
            del self._owners[page]
            del self._words[page]
        key = first >> CHUNK_SHIFT
        chunk = self._chunks[key]
        chunk.remove(first)
        if not chunk:
            del self._chunks[key]
            del self._chunk_keys[bisect_left(self._chunk_keys, key)]
        self._count -= 1

    def _remove_big(self, begin: int, end: int) -> list[Mapping]:
        at = bisect_left(self._big, begin, key=_start)
        stop = bisect_left(self._big, end, key=_start)
        removed = self._big[at:stop]
        del self._big[at:stop]
        self._count -= len(removed)
        self._extents = extents_of(self._big)
        return removed

    # ------------------------------------------------------------------ translate
    def _look_closer(
        self,
        iovas: NDArray[np.uint64],
        lengths: NDArray[np.int64],
        write: bool,
        targets: NDArray[np.int64],
        ok: NDArray[np.bool_],
    ) -> None:
        """The accesses that are not ``ok`` yet, one by one, into ``targets`` and ``ok``."""
        for row in np.flatnonzero(~ok).tolist():
            pieces = self.split(int(iovas[row]), int(lengths[row]), write)
            if pieces is not None and len(pieces) == 1:
                ok[row] = True
                targets[row] = target_of(pieces[0].mapping.memory, pieces[0].offset)


def _start(mapping: Mapping) -> int:
    return mapping.iova


def _refuse_range(iova: int, size: int, offset: int) -> None:
    where = f"range {iova:#x}+{size:#x}"
    if size == 0:
        raise ZeroSizeError(f"{where} is empty")
    if iova < 0 or size < 0 or iova + size > IOVA_END:
        raise WrapAroundError(f"{where} leaves the 64-bit address space")
    raise UnalignedError(f"{where}, file offset {offset:#x}: not multiples of {PAGE_SIZE}")
