# SPDX-License-Identifier: MIT
"""What the ledger found, ready for a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from emulator.ledger.device import DeviceLedger
from emulator.ledger.rules.o2_cross_device import CrossDeviceRule
from emulator.ledger.rules.o10_window import WindowRule
from emulator.ledger.rules.o16_subpage import SubpageRule
from emulator.ledger.rules.o18_amortisation import Amortisation
from emulator.ledger.rules.o19_alias import AliasRule
from emulator.ledger.stale import Windows
from emulator.ledger.violation import Violation


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one device could still reach after it was given up.

    live: mappings now, baseline: of them the platform's. live_at_released: mappings beyond the
    baseline at a ``released`` or ``driver_removed`` mark since the driver was bound, the most
    there were (None: no such mark).
    windows, longest_ns: stale windows that have ended or, ``open_windows``, last until now.
    histogram: [upper bound in ns, count] in ascending order. shared_pages: mapped while another
    device had the same memory mapped. aliases: mapped while the device itself had it mapped.
    mapped_bytes, beside_bytes: asked of the guest's DMA API in a trace, and reachable beside them.
    heads: skb heads built where the device could write. unmap_latency: as histogram, of requests.
    traced, trace_lost: events of the guest's tracer that were told, and that are missing.
    clock_error_ns: how far the guest's times may be off. prompt: mappings that were gone when the
    guest said so, or so soon afterwards.
    """

    device: str
    live: int
    baseline: int
    live_at_released: int | None
    windows: int
    open_windows: int
    longest_ns: int
    mean_ns: int
    unmatched: int
    shared_pages: int
    histogram: list[tuple[int, int]]
    aliases: int = 0
    mapped_bytes: int = 0
    beside_bytes: int = 0
    heads: int = 0
    traced: int = 0
    trace_lost: int = 0
    clock_error_ns: int = 0
    prompt: int = 0
    unmap_latency: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, device: DeviceLedger, now_ns: int) -> Exposure:
        """The exposure of ``device``; windows that are still open count as ending now."""
        ended = device.stale.windows
        windows = Windows(
            ended.count, ended.longest_ns, ended.total_ns, ended.unmatched, ended.histogram.copy()
        )
        for since_ns in device.stale.open_since.values():
            windows.add(now_ns - since_ns)
        shared, alias = device.rule(CrossDeviceRule), device.rule(AliasRule)
        subpage, window = device.rule(SubpageRule), device.rule(WindowRule)
        generations = {mapping.generation for mapping in device.live.mappings()}
        return cls(
            device=device.name,
            live=device.live.count,
            baseline=len(generations & device.state.baseline),
            live_at_released=device.live_at_released,
            windows=windows.count,
            open_windows=len(device.stale.open_since),
            longest_ns=windows.longest_ns,
            mean_ns=windows.total_ns // windows.count if windows.count else 0,
            unmatched=windows.unmatched,
            shared_pages=0 if shared is None else shared.shared,
            histogram=_bounds(windows.histogram),
            aliases=0 if alias is None else alias.aliases,
            mapped_bytes=0 if subpage is None else subpage.mapped_bytes,
            beside_bytes=0 if subpage is None else subpage.beside_bytes,
            heads=0 if subpage is None else subpage.heads,
            traced=device.state.traced,
            trace_lost=device.state.trace_lost,
            clock_error_ns=device.state.clock_error_ns,
            prompt=ended.prompt,
            unmap_latency=[] if window is None else _bounds(window.latency),
        )

    @property
    def trace_line(self) -> list[str]:
        """What the guest's trace added; empty without one."""
        if not self.traced and not self.trace_lost:
            return []
        return [
            f"{self.device}: {self.traced} events of the guest's tracer, {self.trace_lost} lost, "
            f"clocks agree within {self.clock_error_ns / 1e3:.1f} us; {self.mapped_bytes} bytes "
            f"mapped, {self.beside_bytes} reachable beside them"
        ]


def _bounds(histogram: Counter[int]) -> list[tuple[int, int]]:
    return [(1 << k, count) for k, count in sorted(histogram.items()) if count]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a run.

    ok: no rule was broken. violations: the kept ones, in order; counts: all of them, by rule.
    exposed: under a lazy policy, some memory stayed reachable after it was given up.
    not_judged: by device, rule to what it did not judge here and which signal that would take.
    """

    ok: bool
    exposed: bool
    violations: tuple[Violation, ...]
    counts: dict[str, int]
    exposures: tuple[Exposure, ...]
    totals: dict[str, Amortisation]
    events: dict[str, int]
    not_judged: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The verdict in a word or two: ``clean``, ``exposed`` or ``violated O-3 O-7``."""
        if not self.ok:
            return "violated " + " ".join(self.counts)
        return "exposed" if self.exposed else "clean"

    @property
    def summary(self) -> list[str]:
        """Readable lines: the word, each device, each violation."""
        lines = [f"ledger: {self.word}"]
        for seen in self.exposures:
            released = "-" if seen.live_at_released is None else str(seen.live_at_released)
            lines.append(
                f"{seen.device}: {self.totals[seen.device].maps} maps, "
                f"{self.totals[seen.device].unmaps} unmaps, {seen.live} live "
                f"({seen.baseline} baseline), {released} live at release, {seen.windows} stale "
                f"windows, longest {seen.longest_ns / 1e6:.3f} ms"
            )
            lines += seen.trace_line
        lines += self.silences
        lines += map(str, self.violations)
        hidden = sum(self.counts.values()) - len(self.violations)
        return [*lines, f"and {hidden} more violations, counted only"] if hidden else lines

    @property
    def silences(self) -> list[str]:
        """A line for each device: rules whose silence says nothing, or not everything."""
        lines = []
        for name, rules in self.not_judged.items():
            alike: dict[str, list[str]] = {}
            for rule, why in rules.items():
                alike.setdefault("; ".join(why), []).append(rule)
            parts = [f"{' '.join(numbers)} {why}" for why, numbers in alike.items()]
            if parts:
                lines.append(f"{name}: not judged here: {', '.join(parts)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "ok": self.ok,
            "exposed": self.exposed,
            "word": self.word,
            "summary": self.summary,
            "violations": [violation.to_json() for violation in self.violations],
            "counts": self.counts,
            "exposures": [asdict(exposure) for exposure in self.exposures],
            "totals": {name: total.to_json() for name, total in self.totals.items()},
            "events": self.events,
            "not_judged": self.not_judged,
        }
