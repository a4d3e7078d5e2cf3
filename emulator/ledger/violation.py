# SPDX-License-Identifier: MIT
"""What a rule says, and the bounded log of what all of them said."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    iova, size: bytes. page: offset of the guest page in its memory, memory: that memory's index
    (None: not known). generation, mapped_ns: of the mapping concerned (None: there was none).
    """

    rule: str
    device: str
    time_ns: int
    cause: str
    iova: int = 0
    size: int = 0
    memory: int | None = None
    page: int | None = None
    generation: int | None = None
    mapped_ns: int | None = None

    def __str__(self) -> str:
        text = f"{self.rule} {self.device} at {_seconds(self.time_ns)}: {self.cause}"
        if self.iova or self.size:
            text += f"; IOVA {self.iova:#x}+{self.size:#x}"
        if self.page is not None:
            text += f", guest page {self.page:#x} of memory {self.memory}"
        if self.generation is not None:
            text += f", generation {self.generation}"
        if self.mapped_ns is not None:
            text += f", mapped at {_seconds(self.mapped_ns)}"
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the readable line under ``text``."""
        return {**asdict(self), "text": str(self)}


class ViolationLog:
    """Keeps the first ``keep`` violations of each rule and counts all of them.

    ordered: by rule, how often it would have spoken of what was ordered.
    """

    def __init__(self, keep: int = 100) -> None:
        self.keep = keep
        self.kept: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.ordered: Counter[str] = Counter()

    def add(self, violation: Violation) -> None:
        """Counts ``violation`` and keeps it unless its rule has spoken ``keep`` times."""
        self.counts[violation.rule] += 1
        if self.counts[violation.rule] <= self.keep:
            self.kept.append(violation)

    def has_room(self, rule: str) -> bool:
        """Whether the next violation of ``rule`` would be kept in full."""
        return self.counts[rule] < self.keep

    def count_only(self, rule: str, number: int) -> None:
        """Counts further violations that nobody would keep."""
        self.counts[rule] += number


def _seconds(time_ns: int) -> str:
    return f"{time_ns / 1e9:.9f} s"
