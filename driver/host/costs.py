# SPDX-License-Identifier: MIT
"""What the host's own work costs: presets in TOML, in cycles, each number with its source.

A number is written ``order_0 = { value = 272, source = "costs.md: <row>" }``, as in the presets
of the IOMMU model; a list of numbers has one source. All tables and keys must be there.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emulator.iommu.preset import SOURCE, PresetError, Where, refuse_unknown
from emulator.kernel import Floats

COSTS = Path(__file__).parent / "costs"

KEYS = {
    "allocator": (
        "order_0",
        "order_1",
        "order_2",
        "order_3",
        "order_above",
        "bulk",
        "slow_path",
        "debug_check",
    ),
    "pool": ("store_op", "ring_op", "reference"),
    "dma": ("map_call", "unmap_call", "sync"),
    "copy": ("call", "per_100_bytes"),
    "stack": ("poll", "interrupt", "receive", "drop", "forward", "transmit", "socket", "command"),
}
"""Keys by table. Allocator: cycles of an allocation and its free together, ``bulk`` by log2 of the
batch; slow_path: of an allocation that fell from order 3 to 0; debug_check: what of each page's
allocation and free are the checks that find corruption, 0 where there are none. Pool: one operation
on a store of the same CPU, on one that others reach (lock included), one reference count."""
_TOP = ("about", "ghz", *KEYS)

BULK_SIZES = 7
"""Numbers in ``bulk``: batches of 1, 2, 4, ... 64."""


@dataclass(frozen=True, slots=True)
class HostCosts:
    """A preset. ``cycles`` by ``table.key``; ``bulk``: float64[BULK_SIZES], cycles a page."""

    name: str
    about: str
    ghz: float
    cycles: dict[str, float]
    bulk: Floats
    sources: dict[str, str]

    def ns(self, key: str) -> float:
        """The cost called ``table.key``, in ns."""
        return self.cycles[key] / self.ghz


def host_cost_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(path.stem for path in COSTS.glob("*.toml"))


def load_host_costs(name: str) -> HostCosts:
    """The preset called ``name``.

    Raises:
        PresetError: there is no such preset; the text lists them.
    """
    if name not in host_cost_names():
        raise PresetError(f"no host costs '{name}': there are {', '.join(host_cost_names())}")
    path = COSTS / f"{name}.toml"
    return parse_host_costs(path.read_text(encoding="utf-8"), path.name, name)


def parse_host_costs(text: str, file: str, name: str) -> HostCosts:
    """What ``text`` describes; ``file`` is for messages.

    Raises:
        PresetError: not TOML, unknown or missing key, negative number, missing source; the text
            begins with file and line.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise PresetError(f"{file}:{found[1] if found else 1}: {error}") from error
    where = Where(text, file)
    refuse_unknown(tree, _TOP, "", where)
    if not isinstance(tree.get("about"), str):
        raise PresetError(f"{file}:1: 'about' is missing: say in a sentence what this models")
    sources: dict[str, str] = {}
    ghz = _number(tree, "", "ghz", where, sources)
    cycles: dict[str, float] = {}
    for table, keys in KEYS.items():
        entries = tree.get(table)
        if not isinstance(entries, dict):
            raise PresetError(f"{where.of('', table)}: table [{table}] is missing")
        refuse_unknown(entries, keys, table, where)
        for key in keys:
            if key != "bulk":
                cycles[f"{table}.{key}"] = _number(entries, table, key, where, sources)
    bulk = _numbers(tree["allocator"], "allocator", "bulk", where, sources)
    if ghz <= 0:
        raise PresetError(f"{where.of('', 'ghz')}: ghz must be above 0")
    return HostCosts(name, tree["about"], ghz, cycles, bulk, sources)


def _entry(
    entries: dict[str, Any], table: str, key: str, where: Where, sources: dict[str, str]
) -> Any:  # noqa: ANN401
    """The value of an entry, whose source is noted."""
    entry = entries.get(key)
    line = where.of(table, key)
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise PresetError(f'{line}: [{table}] needs {key} = {{ value = ..., source = "..." }}')
    source = entry["source"]
    if not isinstance(source, str) or not SOURCE.fullmatch(source):
        raise PresetError(
            f"{line}: source of {key} must begin 'costs.md: <row>', 'counted: <cells>' or "
            "'assumption: <why>'"
        )
    sources[f"{table}.{key}" if table else key] = source
    return entry["value"]


def _number(
    entries: dict[str, Any], table: str, key: str, where: Where, sources: dict[str, str]
) -> float:
    value = _entry(entries, table, key, where, sources)
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise PresetError(f"{where.of(table, key)}: {key} is {value!r}: a number, not negative")
    return float(value)


def _numbers(
    entries: dict[str, Any], table: str, key: str, where: Where, sources: dict[str, str]
) -> Floats:
    value = _entry(entries, table, key, where, sources)
    good = isinstance(value, list) and len(value) == BULK_SIZES
    if not good or not all(type(item) in (int, float) and item >= 0 for item in value):
        raise PresetError(
            f"{where.of(table, key)}: {key} must be {BULK_SIZES} numbers, not negative"
        )
    return np.array(value, np.float64)
