# SPDX-License-Identifier: MIT
"""The twin's counts beside those of the guest's kernel, and for each difference its reason.

Two counts are equal if they differ by less than a call in two hundred packets: as often a page is
taken for page tables or skbs. What differs by more must be what :data:`REASONS` say, to within the
bounds they give; a difference that they do not explain is shown as such, and fails the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pool.bulk_map import GROUP
from testbed.count.results import FATES, CountResult, CountRow, Fate, Mode, TwinRow

EQUAL = 0.005
QUANTITIES = ("maps", "unmaps", "allocations", "frees", "atomics")
"""In the order of the tables. Of the guest, atomics are those of driver, pool and page allocator,
without locks: :attr:`testbed.count.results.CountRow.buffer_atomics`."""
UNEXPLAINED = "?"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the guest counts ``more(twin)`` more than the twin, give or take ``slack``.

    applies: to the guest's row and the quantity.
    """

    key: str
    text: str
    applies: Callable[[CountRow, str], bool]
    more: Callable[[float], float]
    slack: float = 0.0


def _is_call_of_dma_api(quantity: str) -> bool:
    return quantity in ("maps", "unmaps")


REASONS = (
    Reason(
        "a",
        "the guest's poll also maps the packet that is sent, and unmaps it when that is done: one"
        " more of each; the twin maps what it receives only",
        lambda row, quantity: row.fate == "forward" and _is_call_of_dma_api(quantity),
        lambda twin: 1.0,
    ),
    Reason(
        "b",
        "without an IOMMU `dma_map_sg()` joins nothing: the guest counts the call, the twin the"
        f" {GROUP} addresses that it gives",
        lambda row, quantity: (
            row.mode == "bulk_map" and row.iommu == "none" and _is_call_of_dma_api(quantity)
        ),
        lambda twin: twin / GROUP - twin,
    ),
    Reason(
        "c",
        "skbs wait to be sent, so the slab allocator takes pages for them and gives them back, and"
        " the transmit ring has a lock: together for less than one packet in five, and no buffer's",
        lambda row, quantity: row.fate == "forward" and not _is_call_of_dma_api(quantity),
        lambda twin: 0.1,
        slack=0.1,
    ),
    Reason(
        "d",
        "virtio-iommu's driver allocates each request, so the slab allocator's pages come and go:"
        " less than one packet in twenty",
        lambda row, quantity: row.iommu.startswith("virtio") and not _is_call_of_dma_api(quantity),
        lambda twin: 0.025,
        slack=0.025,
    ),
    Reason(
        "e",
        "a page whose packet is still on its way out is not free yet, so new ones are mapped until"
        " there are enough, by page_pool 64 at a time: less than one packet in six",
        lambda row, quantity: (
            row.fate == "forward"
            and row.mode in ("page_pool", "order0_recycle", "half_page_flip")
            and _is_call_of_dma_api(quantity)
        ),
        lambda twin: 0.08,
        slack=0.08,
    ),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """One quantity of a cell; reasons: their keys, none if the two are equal."""

    twin: float
    guest: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """A strategy and a fate under all IOMMUs: ``pairs[quantity]``, one for each IOMMU."""

    mode: Mode
    fate: Fate
    pairs: dict[str, tuple[Pair, ...]]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Keys of what explains its differences, in order, each once."""
        return _keys(pair for pairs in self.pairs.values() for pair in pairs)


def compare(result: CountResult) -> list[Compared]:
    """Every strategy and fate that was counted, those of a fate together."""
    found: dict[tuple[Mode, Fate], list[tuple[CountRow, TwinRow]]] = {}
    for row in sorted(result.rows, key=lambda row: FATES.index(row.fate)):
        twin = result.twin_row(row)
        if twin is not None:
            found.setdefault((row.mode, row.fate), []).append((row, twin))
    return [
        Compared(mode, fate, {name: tuple(_pairs(name, rows)) for name in QUANTITIES})
        for (mode, fate), rows in found.items()
    ]


def _pairs(quantity: str, rows: Sequence[tuple[CountRow, TwinRow]]) -> Iterable[Pair]:
    for row, twin in rows:
        guest = row.buffer_atomics if quantity == "atomics" else float(getattr(row, quantity))
        ours = float(getattr(twin, quantity))
        yield Pair(ours, guest, _reasons(row, quantity, ours, guest))


def _reasons(row: CountRow, quantity: str, twin: float, guest: float) -> tuple[str, ...]:
    if abs(guest - twin) < EQUAL:
        return ()
    known = [reason for reason in REASONS if reason.applies(row, quantity)]
    for count in range(1, len(known) + 1):  # no more reasons than are needed
        some = known[:count]
        more = sum(reason.more(twin) for reason in some)
        if abs(guest - twin - more) < EQUAL + sum(reason.slack for reason in some):
            return tuple(reason.key for reason in some)
    return (UNEXPLAINED,)


def _keys(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(sorted({key for pair in pairs for key in pair.reasons}))


def cell(pairs: Sequence[Pair]) -> str:
    """``1.00`` where twin and guest agree, else the twin's and the guest's: ``0, 1.00 a``."""
    twin, reasons = _spread([pair.twin for pair in pairs]), _keys(pairs)
    if not reasons:
        return twin
    guest = _spread([pair.guest for pair in pairs])
    return f"{twin}, {guest} {''.join(reasons)}"


def _spread(values: Sequence[float]) -> str:
    low, high = _short(min(values)), _short(max(values))
    return low if low == high else f"{low}-{high}"


def _short(value: float) -> str:
    """As tables have a count per packet; what is equal to 0 or to 1 is one digit."""
    if value == round(value):
        return f"{value:.0f}"
    return f"{value:.4f}" if value < 0.1 else f"{value:.2f}"
