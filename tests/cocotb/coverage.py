# SPDX-License-Identifier: MIT
"""Functional coverage: ways through the ATC's states, and where requests lie around 4 KiB."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from emulator.rtl.tlp import PAGE, AtsTlp, Kind

ATC_BINS = (
    "miss: asked", "hit: translated", "untranslated: ATS off", "untranslated: fallback or U",
    "granted: 4 KiB", "granted: larger", "granted: two at once", "granted: split completion",
    "refused: no access", "error completion", "overtaken by invalidate",
    "invalidate: hits read in flight", "invalidate: hits nothing",
    "invalidate: several in one completion",
    "function-level reset",
)  # fmt: skip
LENGTHS = (1, 16, 64, 256, 512)
OFFSETS = ("page start", "inside", "ends at page end", "last bytes")


def length_bin(length: int) -> str:
    """Which row a request of ``length`` bytes counts in."""
    return f"<= {next(limit for limit in LENGTHS if length <= limit)}"


def offset_bin(addr: int, length: int) -> str:
    """Which column."""
    at = addr % PAGE
    if at == 0:
        return OFFSETS[0]
    if at + length == PAGE:
        return OFFSETS[2]
    return OFFSETS[3] if at + length > PAGE - 16 else OFFSETS[1]


class Coverage:
    """Counts, kept in a file from one run to the next."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def hit(self, name: str) -> None:
        """Counts ``name``."""
        self.counts[name] += 1

    def request(self, tlp: AtsTlp) -> None:
        """Counts a memory request of the device."""
        if tlp.kind in (Kind.READ, Kind.WRITE) and tlp.size:
            kind = tlp.kind.name.lower()
            self.hit(f"{kind}|{length_bin(tlp.size)}|{offset_bin(tlp.addr, tlp.size)}")

    def save(self, path: Path) -> None:
        """Writes the counts."""
        path.write_text(json.dumps(self.counts))


def merged(paths: list[Path]) -> Counter[str]:
    """The counts of several runs together."""
    total: Counter[str] = Counter()
    for path in paths:
        total.update(json.loads(path.read_text()))
    return total


def table(counts: Counter[str]) -> str:
    """The report."""
    lines = ["ATC"]
    lines += [f"  {name:<42}{counts[name]:>8}" for name in ATC_BINS]
    for kind in ("write", "read"):
        lines.append(f"{kind}: length x place in its 4 KiB page")
        lines.append("  " + " " * 10 + "".join(f"{name:>18}" for name in OFFSETS))
        for limit in LENGTHS:
            row = f"<= {limit}"
            cells = (counts[f"{kind}|{row}|{name}"] for name in OFFSETS)
            lines.append(f"  {row:<10}" + "".join(f"{count:>18}" for count in cells))
    return "\n".join(lines)


def holes(counts: Counter[str]) -> list[str]:
    """The bins that nothing fell into, of those that must be reached."""
    wanted = list(ATC_BINS)
    wanted += [
        f"{k}|<= {n}|{o}" for k in ("write", "read") for n in LENGTHS[1:4] for o in OFFSETS[:3]
    ]
    return [name for name in wanted if not counts[name]]
