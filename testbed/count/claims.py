# SPDX-License-Identifier: MIT
"""Claims of the discussion of April 2016 that can be counted, beside what was counted.

Each claim is a function of the rows and gives None if the rows it needs were not counted. The
bounds in the verdicts are those of the claim's own words: "none" is less than one in two hundred
packets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from testbed.count.results import CountResult, CountRow, Fate, Mode
from testbed.report.units import span

Judgement = Literal["holds", "in part", "does not hold"]

_NONE = 0.005
#: Cycles at 3 GHz for a frame of 64 bytes at 10 Gb/s (67.2 ns), Brouer in the thread.
BUDGET_CYCLES = 201
#: Instructions per cycle that no packet path has been seen to reach.
_BEST_IPC = 4.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim, what was counted (short: in a few words), and whether that bears it out."""

    number: str
    who: str
    claim: str
    counted: str
    short: str
    judgement: Judgement


def claims(result: CountResult) -> list[Claim]:
    """Every claim that ``result`` has the rows for."""
    found = (make(result) for make in _CLAIMS)
    return [claim for claim in found if claim is not None]


def _rows(result: CountResult, mode: Mode, *fates: Fate) -> list[CountRow]:
    return [row for row in result.rows if row.mode == mode and row.fate in fates]


def _calls(rows: Sequence[CountRow]) -> list[float]:
    return [value for row in rows for value in (row.maps, row.unmaps)]


def _pool(result: CountResult) -> Claim | None:
    rows = _rows(result, "page_pool", "drop", "deliver")
    if not rows:
        return None
    atomics = [row.buffer_atomics for row in rows]
    worst = max(*_calls(rows), *atomics)
    return Claim(
        "T1",
        "Brouer",
        "a pool of mapped pages per queue: no map, no unmap, no atomic where the same CPU frees",
        f"maps and unmaps {span(_calls(rows), '{:.3f}')}, atomics of pool, driver and page"
        f" allocator {span(atomics, '{:.3f}')}",
        f"{span(_calls(rows), '{:.3g}')} maps, {span(atomics, '{:.2g}')} atomics",
        "holds" if worst < _NONE else "does not hold",
    )


def _array(result: CountResult) -> Claim | None:
    drop, deliver = (_rows(result, "array_cache", fate) for fate in ("drop", "deliver"))
    if not drop or not deliver:
        return None
    atomics = [row.buffer_atomics for row in drop]
    maps = [row.maps for row in deliver]
    lost = max(maps) >= _NONE
    judgement: Judgement = "in part" if lost else "holds"
    return Claim(
        "T2",
        "Starovoitov",
        "a plain array of pages: zero atomics per packet",
        f"dropped by the driver: {span(atomics, '{:.3f}')} atomics; given to the stack the page is"
        f" lost: {span(maps, '{:.3f}')} maps, {span([r.atomics for r in deliver], '{:.1f}')}"
        " atomics",
        f"{span(atomics, '{:.2g}')} atomics dropped, {span(maps, '{:.2g}')} maps delivered",
        judgement if max(atomics) < _NONE else "does not hold",
    )


def _flip(result: CountResult) -> Claim | None:
    rows = _rows(result, "half_page_flip", "deliver")
    if not rows:
        return None
    atomics = [row.buffer_atomics for row in rows]
    return Claim(
        "T3",
        "Brouer, Dumazet",
        "half pages, flipped: two atomics per packet",
        f"{span(atomics, '{:.3f}')}: put_page() alone, as references are taken in bulk since;"
        f" maps {span([row.maps for row in rows], '{:.3f}')}",
        f"{span(atomics, '{:.2f}')} atomics",
        "holds" if all(abs(value - 2) < 0.05 for value in atomics) else "does not hold",
    )


def _order(result: CountResult) -> Claim | None:
    rows = _rows(result, "order_fallback", "deliver")
    if not rows:
        return None
    shared = max(row.maps for row in rows) < 0.1
    return Claim(
        "T4",
        "Brouer",
        "a block of high order shares its map and its allocation; dear under memory pressure",
        f"maps {span([row.maps for row in rows], '{:.3f}')}, allocations"
        f" {span([row.allocations for row in rows], '{:.3f}')}, atomics of buffers"
        f" {span([row.buffer_atomics for row in rows], '{:.3f}')}; pressure was not counted",
        f"{span([row.maps for row in rows], '{:.3g}')} maps",
        "in part" if shared else "does not hold",
    )


def _recycle(result: CountResult) -> Claim | None:
    rows = _rows(result, "order0_recycle", "deliver")
    if not rows:
        return None
    allocations = [row.allocations for row in rows]
    return Claim(
        "T5",
        "Dumazet",
        "single pages with the recycle trick: hardly any page is allocated in practice",
        f"allocations {span(allocations, '{:.3f}')}, maps"
        f" {span([row.maps for row in rows], '{:.3f}')}, atomics of buffers"
        f" {span([row.buffer_atomics for row in rows], '{:.3f}')}",
        f"{span(allocations, '{:.2g}')} allocations",
        "holds" if max(allocations) < 0.01 else "does not hold",
    )


def _bulk(result: CountResult) -> Claim | None:
    pairs = [
        (row.iommu, row.instructions / single.instructions)
        for row in _rows(result, "bulk_map", "deliver")
        if (single := result.row("map_per_packet", row.iommu, "deliver"))
    ]
    if not pairs:
        return None
    said = ", ".join(f"{ratio:.2f} {iommu}" for iommu, ratio in pairs)
    return Claim(
        "T10",
        "Brouer",
        "allocating, mapping and freeing in bulk amortises what each costs",
        f"instructions of bulk_map over map_per_packet: {said}",
        f"{span([ratio for _, ratio in pairs], '{:.2f}')} of the instructions",
        "holds" if all(ratio < 0.95 for _, ratio in pairs) else "in part",
    )


def _budget(result: CountResult) -> Claim | None:
    rows = [result.row("page_pool", "none", fate) for fate in ("drop", "deliver", "forward")]
    known = [row for row in rows if row is not None]
    if not known:
        return None
    said = [
        f"{row.fate} {row.instructions:.0f} ({row.instructions / BUDGET_CYCLES:.1f} a cycle)"
        for row in known
    ]
    fits = [row.instructions <= _BEST_IPC * BUDGET_CYCLES for row in known]
    judgement: Judgement = "holds" if all(fits) else "in part" if any(fits) else "does not hold"
    return Claim(
        "T20",
        "Brouer",
        f"{BUDGET_CYCLES} cycles per packet for the whole path",
        f"instructions with page_pool, no IOMMU: {', '.join(said)}",
        ", ".join(f"{row.fate} {row.instructions:.0f} instructions" for row in known),
        judgement,
    )


_CLAIMS: tuple[Callable[[CountResult], Claim | None], ...] = (
    _pool,
    _array,
    _flip,
    _order,
    _recycle,
    _bulk,
    _budget,
)
