# SPDX-License-Identifier: MIT
"""Numbers as people read them. Text is ASCII, so it survives any terminal and any pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Stands where there is no value.
MISSING = "-"

_STEPS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def duration(ns: float) -> str:
    """``ns`` nanoseconds with three significant digits and a unit: ``9.81 ms``, ``2 min 5 s``."""
    seconds = round(ns / 1e9)
    if seconds >= 120:
        return f"{seconds // 60} min {seconds % 60} s"
    for size, unit in _STEPS:
        if ns >= 0.9995 * size:
            return f"{significant(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def significant(value: float) -> str:
    """Three significant digits at least, no exponent: ``0.46``, ``33.1``, ``1065``."""
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def compact(value: float) -> str:
    """At most five characters below 100 000: ``0.46``, ``103.2``, ``1065``."""
    if value < 9.995:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 999.95 else f"{value:.0f}"


def per_packet(value: float) -> str:
    """A count per packet, to four decimals."""
    return f"{value:.4f}"


def ratio(value: float) -> str:
    """``1.92x``."""
    return f"{value:.2f}x" if value < 99.995 else f"{value:.0f}x"


def percent(value: float) -> str:
    """A share (1.0 is all) as ``97 %``; small ones keep a decimal."""
    return f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def latency(us: float) -> str:
    """An injected latency: ``0``, ``50 us``, ``1 ms``."""
    if us == 0:
        return "0"
    return f"{us / 1000:g} ms" if us >= 1000 else f"{us:g} us"


def span(values: Iterable[float], form: str = "{:.4f}") -> str:
    """``0.0000`` when all values read the same, else ``0.9998 to 1.0000``."""
    ordered = sorted(values)
    low, high = form.format(ordered[0]), form.format(ordered[-1])
    return low if low == high else f"{low} to {high}"


def sentence_list(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(count: int, one: str, many: str = "") -> str:
    """``1 mapping``, ``64 mappings``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
