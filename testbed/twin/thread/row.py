# SPDX-License-Identifier: MIT
"""A row of the page: what was claimed, what the twin shows, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Facts = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One claim.

    verdict: in our model, in a few words. seen: a paragraph in which ``{name}`` and
    ``{name:format}`` stand for numbers of ``facts``. headers, lines: a table. facts: by name, of
    which seen and the tests take theirs.
    """

    number: int
    title: str
    who: str
    verdict: str
    claim: str
    seen: str
    assumes: str
    headers: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]
    facts: Facts = field(default_factory=dict)


def count(value: float) -> str:
    """A count for each packet, as tables have it."""
    return f"{abs(value):.4f}" if 0 < abs(value) < 0.1 else f"{abs(value):.2f}"


def whole(value: float) -> str:
    """A large number, grouped."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Packets a second, in millions."""
    return f"{value / 1e6:.2f} M"
