# SPDX-License-Identifier: MIT
"""``--vary driver.queues=1,2,4``: which scenarios a sweep consists of."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.sweep.errors import VaryError
from testbed.twin.scenario import TwinScenario, dotted_keys, varied

_MOST = 100_000
_EVERY = "all"


@dataclass(frozen=True, slots=True)
class Axis:
    """A dotted key of the scenario and the values it takes, in order and each once."""

    key: str
    values: tuple[object, ...]


def parse_axis(text: str) -> Axis:
    """``KEY=VALUE,VALUE`` as an axis; ``strategy=all`` and ``preset=all`` mean each there is.

    Raises:
        VaryError: it is not of that form.
    """
    key, equals, values = text.partition("=")
    key = key.strip()
    parts = [part.strip() for part in values.split(",")]
    if not equals or not key or "" in parts:
        raise VaryError(f"--vary {text}: write KEY=VALUE,VALUE as in driver.queues=1,2,4")
    if parts == [_EVERY] and key in ("strategy", "preset"):
        return Axis(key, _every(key))
    # By their text: 1 and true are equal, and yet two values.
    values_by_text = {repr(value): value for value in map(_value, parts)}
    return Axis(key, tuple(values_by_text.values()))


def _every(key: str) -> tuple[str, ...]:
    from testbed.twin.scenario import PRESET_NAMES, STRATEGY_NAMES

    return STRATEGY_NAMES if key == "strategy" else PRESET_NAMES


def _value(text: str) -> object:
    """As TOML would read it; a word without quotes is a text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float, str)) else text


def grid(base: TwinScenario, axes: Sequence[Axis]) -> list[TwinScenario]:
    """The scenarios of all combinations, the last axis changing fastest; each once.

    Raises:
        VaryError: a key is unknown or varied twice, a value is not allowed, or they are too many.
    """
    keys = [axis.key for axis in axes]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise VaryError(f"--vary {twice[0]} is given twice; write its values in one list")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > _MOST:
        raise VaryError(f"{count} points; at most {_MOST} are swept at once")
    found = [_at(base, axes, values) for values in itertools.product(*(a.values for a in axes))]
    return list(dict.fromkeys(found))


def _at(base: TwinScenario, axes: Sequence[Axis], values: Sequence[object]) -> TwinScenario:
    scenario = base
    for axis, value in zip(axes, values, strict=True):
        try:
            scenario = varied(scenario, axis.key, value)
        except ValueError as error:
            raise VaryError(f"--vary {axis.key}={value}: {error}") from None
    return scenario


def value_at(scenario: TwinScenario, key: str) -> object:
    """The scenario's value at a dotted key.

    Raises:
        VaryError: there is no such key.
    """
    tree = scenario.to_json()
    if key not in dotted_keys(tree):
        raise VaryError(f"no key {key}")
    *tables, last = key.split(".")
    for table in tables:
        tree = tree[table]
    return tree[last]
