# SPDX-License-Identifier: MIT
"""Reads latency presets: TOML in which every number says where it comes from.

Each of the tables ``[map]`` and ``[unmap]`` has keys of :class:`emulator.iommu.latency.Delay`; a
number is written ``mean_ns = { value = 235, source = "costs.md: ..." }``. The source is a
row of ``docs/costs.md``, or ``assumption: ...`` with the reason.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from emulator.errors import DmabedError
from emulator.iommu.latency import Delay, LatencyError, LatencyModel, Shape

PRESETS = Path(__file__).parent / "presets"
_NUMBERS = ("mean_ns", "per_page_ns", "spread_ns", "max_ns")
_TABLES = ("map", "unmap")
_TOP = ("about", *_TABLES)
SOURCE = re.compile(r"(costs\.md|counted|assumption): \S.*")


class PresetError(DmabedError):
    """A preset was refused; the text begins with file and line."""


def preset_names() -> list[str]:
    """Names of the presets that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_preset(name: str, seed: int = 1) -> LatencyModel:
    """The preset called ``name``.

    Raises:
        PresetError: there is no such preset; the text lists them.
    """
    if name not in preset_names():
        raise PresetError(f"no preset '{name}': there are {', '.join(preset_names())}")
    path = PRESETS / f"{name}.toml"
    return parse_preset(path.read_text(encoding="utf-8"), path.name, name, seed)


def parse_preset(text: str, file: str, name: str, seed: int = 1) -> LatencyModel:
    """The model that ``text`` describes; ``file`` is for messages.

    Raises:
        PresetError: not TOML, an unknown key, a negative number or a missing source.
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
    delays = [_delay(tree.get(table, {}), table, where) for table in _TABLES]
    return LatencyModel(name, delays[0], delays[1], seed)


class Where:
    """Finds the line of a key, for messages."""

    def __init__(self, text: str, file: str) -> None:
        self._lines = text.splitlines()
        self._file = file

    def of(self, table: str, key: str) -> str:
        """``file:line`` of ``key`` in ``[table]`` (of the table itself if the key is not found)."""
        current, table_line = "", 1
        for number, line in enumerate(self._lines, 1):
            if header := re.match(r"\s*\[\s*([\w-]+)", line):
                current = header[1]
                table_line = number if current == table else table_line
            if current == table and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line):
                return f"{self._file}:{number}"
            if header and not table and current == key:
                return f"{self._file}:{number}"
        return f"{self._file}:{table_line}"


def refuse_unknown(tree: dict[str, Any], known: tuple[str, ...], table: str, where: Where) -> None:
    """Refuses a key that is not among those known, with the line it is on."""
    for key in tree:
        if key not in known:
            allowed = ", ".join(known)
            raise PresetError(f"{where.of(table, key)}: unknown key '{key}'; allowed: {allowed}")


def _delay(tree: object, table: str, where: Where) -> Delay:
    if not isinstance(tree, dict):
        raise PresetError(f"{where.of('', table)}: '{table}' must be a table")
    refuse_unknown(tree, (*_NUMBERS, "shape"), table, where)
    numbers = {key: _number(tree[key], table, key, where) for key in _NUMBERS if key in tree}
    shape = tree.get("shape", Shape.CONSTANT.value)
    if shape not in list(Shape):
        allowed = ", ".join(Shape)
        raise PresetError(
            f"{where.of(table, 'shape')}: unknown shape {shape!r}; allowed: {allowed}"
        )
    try:
        return Delay(shape=Shape(shape), **numbers)
    except LatencyError as error:
        raise PresetError(f"{where.of(table, 'shape')}: [{table}] {error}") from error


def _number(entry: object, table: str, key: str, where: Where) -> int:
    line = where.of(table, key)
    if not isinstance(entry, dict) or set(entry) != {"value", "source"}:
        raise PresetError(f'{line}: write {key} = {{ value = <ns>, source = "..." }}')
    value, source = entry["value"], entry["source"]
    if type(value) is not int or value < 0:
        raise PresetError(f"{line}: {key} is {value!r}: must be a whole number of ns, not negative")
    if not isinstance(source, str) or not SOURCE.fullmatch(source):
        raise PresetError(
            f"{line}: source of {key} must begin 'costs.md: <row>', 'counted: <cells>' or "
            "'assumption: <why>'"
        )
    return value
