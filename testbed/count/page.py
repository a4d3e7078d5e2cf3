# SPDX-License-Identifier: MIT
"""The tables of docs/counting.md, made of the count that is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from testbed.count.against import QUANTITIES, REASONS, cell, compare
from testbed.count.results import MODES, CountResult, CountRow, Mode
from testbed.report.readme_text import replace_block
from testbed.report.units import span

PAGE = Path(__file__).resolve().parents[2] / "docs" / "counting.md"
FOUND, TWIN = "found", "against the twin"
"""Names of the blocks: between ``<!-- name -->`` and ``<!-- /name -->``."""
_FATE = {"drop": "dropped", "deliver": "delivered", "forward": "forwarded"}


def counting_page(text: str, result: CountResult) -> str:
    """The page ``text`` with its tables as ``result`` has them.

    Raises:
        ReportError: the marks of a block are missing.
    """
    text = replace_block(text, FOUND, found_table(result), PAGE)
    return replace_block(text, TWIN, twin_table(result), PAGE)


def found_table(result: CountResult) -> str:
    """Instructions and atomics per packet of each strategy, and what it maps."""
    head = (
        "strategy",
        "dropped, any IOMMU",
        "delivered, no IOMMU",
        "delivered, intel-strict",
        "maps delivered",
    )
    return _table(head, (_found(result, mode) for mode in MODES))


def _found(result: CountResult, mode: Mode) -> tuple[str, ...]:
    delivered = [row for row in result.rows if (row.mode, row.fate) == (mode, "deliver")]
    return (
        f"`{mode}`",
        _costs([row for row in result.rows if (row.mode, row.fate) == (mode, "drop")]),
        *(
            _costs([row for row in delivered if row.iommu == iommu])
            for iommu in ("none", "intel-strict")
        ),
        span((row.maps for row in delivered), "{:.4g}"),
    )


def _costs(rows: Sequence[CountRow]) -> str:
    instructions = span((row.instructions for row in rows), "{:.0f}")
    return f"{instructions}, {span((row.atomics for row in rows), '{:.2g}')}"


def twin_table(result: CountResult) -> str:
    """The twin's counts beside the guest's, and why they differ where they do."""
    compared = compare(result)
    lines = (
        (_FATE[each.fate], f"`{each.mode}`", *(cell(each.pairs[name]) for name in QUANTITIES))
        for each in compared
    )
    used = {key for each in compared for key in each.reasons}
    why = [f"- {reason.key}: {reason.text}." for reason in REASONS if reason.key in used]
    return _table(("packets", "strategy", *QUANTITIES), lines) + "\n" + "\n".join(why) + "\n"


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
