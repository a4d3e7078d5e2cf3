# SPDX-License-Identifier: MIT
"""The ordered set of IOVA ranges in which Linux looks for a free one, with the steps it takes.

The search goes down from where the last allocation was made (one such place below 4 GiB, one for
all), from neighbour to neighbour, until a hole is large enough; a search that reaches the bottom
starts once more from the top. A free above that place moves it back up, so the next search walks
over all that lies between: this is why the cost grows with what is mapped.

Neighbours are linked by address; the balanced tree of the kernel serves to find a range to free,
which a dictionary does here.
"""

from __future__ import annotations

from dataclasses import dataclass

from emulator.iommu.model.errors import IovaNotAllocatedError, IovaSpaceFullError, ModelError

PAGE_SHIFT = 12
LOW_LIMIT_PFN = 1 << (32 - PAGE_SHIFT)


@dataclass(slots=True)
class _Range:
    low: int
    high: int  # the last pfn; a mark that holds nothing ends before it starts
    below: _Range | None = None
    above: _Range | None = None


@dataclass(slots=True)
class TreeCounts:
    """What the tree was asked for; ``visits`` are ranges stepped over by searches."""

    allocations: int = 0
    frees: int = 0
    visits: int = 0
    longest_search: int = 0
    retries: int = 0


class IovaTree:
    """Allocates ranges of page frame numbers from the top down, aligned to their own size.

    Args:
        bits: of an address of the device's DMA mask, 32 to 64.
        start_pfn: none is given out below it.

    Raises:
        ModelError: the bits are out of range or leave no space above ``start_pfn``.
    """

    def __init__(self, bits: int = 48, start_pfn: int = 1) -> None:
        if not 32 <= bits <= 64 or not 1 <= start_pfn < LOW_LIMIT_PFN:
            raise ModelError(f"{bits} bits from pfn {start_pfn}: 32 to 64 bits, below 4 GiB")
        self.counts = TreeCounts()
        self._start = start_pfn
        self._limit = 1 << (bits - PAGE_SHIFT)
        floor = _Range(0, start_pfn - 1)
        top = _Range(self._limit, self._limit)
        _link(floor, top)
        low_top = top
        if self._limit > LOW_LIMIT_PFN:
            # Ranges are aligned to their size: none lies across 4 GiB, so a mark may stand there.
            low_top = _Range(LOW_LIMIT_PFN, LOW_LIMIT_PFN - 1)
            _link(floor, low_top)
            _link(low_top, top)
        self._tops = {True: low_top, False: top}
        self._places = {True: low_top, False: top}
        self._too_large = 1 << 63
        self._ranges: dict[int, _Range] = {}

    def __len__(self) -> int:
        return len(self._ranges)

    def __contains__(self, pfn: object) -> bool:
        return pfn in self._ranges

    def ranges(self) -> list[tuple[int, int]]:
        """(first pfn, pages) of all that is allocated, by address."""
        return sorted((each.low, each.high - each.low + 1) for each in self._ranges.values())

    def allocate(self, pages: int) -> int:
        """The first pfn of a free range of ``pages``, below 4 GiB if there is one.

        Raises:
            IovaSpaceFullError: there is none below the device's mask.
            ModelError: no pages.
        """
        if pages < 1:
            raise ModelError(f"an IOVA of {pages} pages: must be at least 1")
        found = self._search(pages, low=True) if pages < self._too_large else None
        if found is None and self._tops[True] is not self._tops[False]:
            found = self._search(pages, low=False)
        if found is None:
            raise IovaSpaceFullError(
                f"no {pages} free pages below pfn {self._limit:#x}: {len(self)} ranges are held"
            )
        self.counts.allocations += 1
        return found.low

    def free(self, pfn: int) -> int:
        """Gives the range at ``pfn`` back; its pages.

        Raises:
            IovaNotAllocatedError: no range begins there.
        """
        gone = self._ranges.pop(pfn, None)
        if gone is None:
            raise IovaNotAllocatedError(f"no IOVA range begins at pfn {pfn:#x}")
        below, above = gone.below, gone.above
        assert below is not None and above is not None  # the marks at both ends are never freed
        for low, place in self._places.items():
            covers = not low or gone.low < LOW_LIMIT_PFN
            if place is gone or (covers and gone.low >= place.low):
                self._places[low] = above
        if gone.low < LOW_LIMIT_PFN:
            self._too_large = 1 << 63
        _link(below, above)
        self.counts.frees += 1
        return gone.high - gone.low + 1

    def _search(self, pages: int, low: bool) -> _Range | None:
        place = self._places[low]
        found = self._descend(place, self._start, pages)
        if found is None and place is not self._tops[low]:
            self.counts.retries += 1
            found = self._descend(self._tops[low], place.high + 1, pages)
        if found is None:
            if low:
                self._too_large = pages
            return None
        self._places[found.high < LOW_LIMIT_PFN] = found
        self._ranges[found.low] = found
        return found

    def _descend(self, above: _Range, floor: int, pages: int) -> _Range | None:
        """Takes the first hole below ``above`` that is large enough and not below ``floor``."""
        align = -(1 << (pages - 1).bit_length())
        visits = 0
        found = None
        below = above.below
        while below is not None:
            visits += 1
            first = (above.low - pages) & align
            if first < floor:
                break
            if first > below.high:
                found = _Range(first, first + pages - 1)
                _link(below, found)
                _link(found, above)
                break
            above, below = below, below.below
        self.counts.visits += visits
        self.counts.longest_search = max(self.counts.longest_search, visits)
        return found


def _link(below: _Range, above: _Range) -> None:
    below.above, above.below = above, below
