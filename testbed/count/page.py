# SPDX-License-Identifier: MIT
"""The tables of docs/counting.md, made of the count that is kept: ``make thread`` renews them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from emulator.errors import DmabedError
from testbed.count.against import QUANTITIES, REASONS, cell, compare
from testbed.count.kept import load_count
from testbed.count.priced import priced
from testbed.count.reprice import preset_name
from testbed.count.results import MODES, CountResult, CountRow, Mode
from testbed.report.readme_text import replace_block
from testbed.report.units import MISSING, span
from testbed.report.writer import write_atomically
from testbed.scenario import Iommu

PAGE = Path(__file__).resolve().parents[2] / "docs" / "counting.md"
FOUND, TWIN, PRICED = "found", "against the twin", "re-priced"
"""Names of the blocks: between ``<!-- name -->`` and ``<!-- /name -->``."""
WALLS: tuple[Iommu, ...] = ("none", "intel-strict")
_FATE = {"drop": "dropped", "deliver": "delivered", "forward": "forwarded"}


def counting_page(text: str, result: CountResult) -> str:
    """The page ``text`` with its tables as ``result`` has them.

    Raises:
        ReportError: the marks of a block are missing.
    """
    text = replace_block(text, FOUND, found_table(result), PAGE)
    text = replace_block(text, TWIN, twin_table(result), PAGE)
    return replace_block(text, PRICED, priced_table(result), PAGE)


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


def priced_table(result: CountResult) -> str:
    """Cycles by the re-priced twin beside the instructions counted, packets delivered."""
    head = (
        "strategy",
        "twin, no IOMMU",
        "counted",
        "twin, intel-strict",
        "counted",
        "waiting besides",
    )
    return _table(head, (_priced(result, mode) for mode in MODES))


def _priced(result: CountResult, mode: Mode) -> tuple[str, ...]:
    name, cells, waiting = preset_name(result), [f"`{mode}`"], 0.0
    for iommu in WALLS:
        twin = priced(name, mode, iommu, "deliver")
        row = result.row(mode, iommu, "deliver")
        counted = f"{row.instructions:.0f}" if row else MISSING
        cells += [f"{twin.executing:.0f}", counted]
        waiting = twin.waiting
    return (*cells, f"{waiting:.0f}")


def main() -> int:
    """Writes the page's tables anew; 1 with the error on standard error if that cannot be."""
    try:
        text = counting_page(PAGE.read_text(encoding="utf-8"), load_count())
        write_atomically(PAGE, text.encode())
    except DmabedError as error:
        print(f"counting: {error}", file=sys.stderr)
        return 1
    print(f"{PAGE}: {len(MODES)} strategies")
    return 0


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
