# SPDX-License-Identifier: MIT
"""What ``dmabed compare`` runs, and what it found: every strategy under every IOMMU, two curves.

The grid takes the scenario as it is. The two curves change what they are about and keep the rest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.errors import ResultsError
from testbed.sweep.point import Point
from testbed.twin.scenario import (
    PRESET_NAMES,
    STRATEGY_NAMES,
    Consumer,
    Traffic,
    TwinScenario,
)

SCHEMA = "dmabed.comparison/1"

QUEUES = (1, 2, 4, 8, 16)
QUEUE_PRESETS = ("power-tce", "vtd-strict")
PUBLISHED_PRESETS = tuple(name for name in PRESET_NAMES if not name.startswith("counted-"))
"""Those that are compared unless named: what is counted on one machine goes with a host's prices
that are counted as well (``--set host=counted-...``)."""
QUEUE_STRATEGIES = ("map_per_packet", "page_pool")
_QUEUE_LINE_GBPS = 400.0
_QUEUE_RING = 256

BURST = 1024
"""Buffers that come back at once on the amortisation curve; what the pool has no room for is
unmapped and freed, so ``BURST / (BURST - pool_size)`` packets share a mapping."""
AMORTISED = (2, 4, 8, 16, 32, 64, 128, 256)
AMORTISATION_PRESETS = ("vtd-strict", "power-tce")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A whole comparison, points in the order they were asked for. created: ISO 8601."""

    created: str
    command: str
    base: TwinScenario
    grid: tuple[Point, ...]
    queues: tuple[Point, ...]
    amortisation: tuple[Point, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """All of them."""
        return (*self.grid, *self.queues, *self.amortisation)

    def to_json(self) -> str:
        """The text of comparison.json."""
        tree = {
            "schema": SCHEMA,
            "created": self.created,
            "command": self.command,
            "name": self.base.name,
            "base": self.base.to_json(),
            **{part: [p.to_json() for p in getattr(self, part)] for part in _PARTS},
        }
        return json.dumps(tree, indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes) -> Comparison:
        """A comparison from the text of comparison.json.

        Raises:
            ResultsError: not JSON, another schema, or a point that is none.
        """
        from testbed.sweep.point import named
        from testbed.twin.scenario import scenario_of

        try:
            tree: dict[str, Any] = json.loads(text)
            if tree.get("schema") != SCHEMA:
                what = f"{tree.get('schema')!r} is unknown; this version reads: {SCHEMA}"
                raise ResultsError("schema", what)
            return Comparison(
                created=str(tree["created"]),
                command=str(tree["command"]),
                base=named(scenario_of(tree["base"]), str(tree["name"])),
                **{part: tuple(map(Point.from_json, tree[part])) for part in _PARTS},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultsError("", f"not a comparison: {type(error).__name__}: {error}") from None

    @staticmethod
    def load(path: Path) -> Comparison:
        """As :meth:`from_json`, from a file, which the error then names."""
        try:
            return Comparison.from_json(path.read_bytes())
        except OSError as error:
            raise ResultsError(str(path), error.strerror or "cannot be read") from error
        except ResultsError as error:
            raise ResultsError(str(path), str(error)) from None


_PARTS = ("grid", "queues", "amortisation")


def grid_of(
    base: TwinScenario,
    strategies: tuple[str, ...] = STRATEGY_NAMES,
    presets: tuple[str, ...] = PUBLISHED_PRESETS,
) -> list[TwinScenario]:
    """``base`` with every strategy under every IOMMU."""
    return [replace(base, strategy=s, preset=p) for p in presets for s in strategies]


def queues_of(base: TwinScenario, counts: tuple[int, ...] = QUEUES) -> list[TwinScenario]:
    """One queue to many, each polled as fast as its CPU can, on a line that is no limit."""
    traffic = replace(base.traffic, kind="fixed", rate_gbps=0.0, line_gbps=_QUEUE_LINE_GBPS)
    driver = replace(base.driver, ring=min(base.driver.ring, _QUEUE_RING))
    # Of each queue; enough of them that filling the rings does not count.
    packets = {"map_per_packet": 100_000, "page_pool": 1_000_000}
    return [
        replace(
            base,
            strategy=strategy,
            preset=preset,
            packets=min(base.packets, packets[strategy]) * count,
            traffic=traffic,
            driver=replace(driver, queues=count),
            consumer=Consumer(),
        )
        for preset in QUEUE_PRESETS
        for strategy in QUEUE_STRATEGIES
        for count in counts
    ]


def amortisation_of(base: TwinScenario) -> list[TwinScenario]:
    """A pool too small for what comes back at once, by steps until nothing is unmapped any more.

    ``map_per_packet``, one packet for each mapping, is where the curve begins.
    """
    sizes = [*(BURST - BURST // packets for packets in AMORTISED), BURST]
    consumer = Consumer(kind="storage", batch=BURST)
    traffic = replace(base.traffic, rate_gbps=0.0) if base.traffic.kind == "fixed" else Traffic()
    common = replace(base, traffic=traffic, consumer=consumer, packets=min(base.packets, 1_000_000))
    found = []
    for preset in AMORTISATION_PRESETS:
        found.append(replace(common, strategy="map_per_packet", preset=preset))
        found += [
            replace(
                common,
                strategy="page_pool",
                preset=preset,
                driver=replace(common.driver, pool_size=size),
            )
            for size in sizes
        ]
    return found
