# SPDX-License-Identifier: MIT
"""Rules for the values of a TOML file: what is allowed, in words, and what is wrong with a value.

A rule is attached to a field of a dataclass with ``Annotated``; :func:`table_faults` then checks a
whole TOML table against the dataclass, and :func:`build_table` makes the dataclass.
"""

from __future__ import annotations

import difflib
import math
import types
from collections.abc import Collection, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from emulator.toml_lines import KeyPath

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the value at ``path``; ``text`` is the whole sentence."""

    path: KeyPath
    text: str


class Rule(Protocol):
    """What one value may be."""

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        ...

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """Everything wrong with ``value``, found at ``path``."""
        ...


def dotted(path: KeyPath) -> str:
    """``cases.iommus[1]`` for ``("cases", "iommus", 1)``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


def show(value: object) -> str:
    """A value as a TOML author wrote it, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(word: str, known: Collection[str]) -> str:
    """``; did you mean "..."?`` when a known word is near, else nothing."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def _fault(rule: Rule, value: object, path: KeyPath, what: str, hint: str = "") -> Fault:
    text = f"{dotted(path)} = {show(value)} {what}; allowed: {rule.allowed}{hint}"
    return Fault(path, text)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in a closed range."""

    low: int
    high: int
    power_of_two: bool = False

    @property
    def allowed(self) -> str:
        """See :class:`Rule`."""
        kind = "a power of two" if self.power_of_two else "a whole number"
        return f"{kind} from {self.low} to {self.high}"

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """See :class:`Rule`."""
        if type(value) is not int:
            yield _fault(self, value, path, "is not a whole number")
        elif not self.low <= value <= self.high:
            yield _fault(self, value, path, "is out of range")
        elif self.power_of_two and value & (value - 1):
            yield _fault(self, value, path, "is not a power of two")


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, whole or not, in a closed range; ``unit`` is for the reader."""

    low: float
    high: float
    unit: str

    @property
    def allowed(self) -> str:
        """See :class:`Rule`."""
        return f"a number from {self.low:.10g} to {self.high:.10g} ({self.unit})"

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """See :class:`Rule`."""
        if type(value) not in (int, float):
            yield _fault(self, value, path, "is not a number")
        elif not (math.isfinite(value) and self.low <= value <= self.high):  # type: ignore[arg-type, operator]
            yield _fault(self, value, path, "is out of range")


@dataclass(frozen=True, slots=True)
class Text:
    """A string that says something."""

    @property
    def allowed(self) -> str:
        """See :class:`Rule`."""
        return "a text of 1 to 200 characters on one line"

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """See :class:`Rule`."""
        if not isinstance(value, str):
            yield _fault(self, value, path, "is not a text")
        elif not value.strip() or len(value) > 200 or not value.isprintable():
            yield _fault(self, value, path, "is empty, too long or has control characters")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """See :class:`Rule`."""
        return ", ".join(self.words)

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """See :class:`Rule`."""
        if not isinstance(value, str):
            yield _fault(self, value, path, "is not a text")
        elif value not in self.words:
            yield _fault(self, value, path, "is unknown", did_you_mean(value, self.words))


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list with at least one element and none of them twice."""

    item: Rule

    @property
    def allowed(self) -> str:
        """See :class:`Rule`."""
        return f"a list, each element once, of: {self.item.allowed}"

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        """See :class:`Rule`."""
        if not isinstance(value, list):
            yield _fault(self, value, path, "is not a list")
            return
        if not value:
            yield _fault(self, value, path, "is an empty list")
        first: dict[object, int] = {}
        for index, element in enumerate(value):
            here = (*path, index)
            wrong = list(self.item.faults(element, here))
            yield from wrong
            if not wrong and first.setdefault(element, index) != index:
                again = dotted((*path, first[element]))
                yield _fault(self.item, element, here, f"repeats {again}")


def table_faults(
    cls: type, table: object, path: KeyPath = (), name: str = "the scenario"
) -> Iterator[Fault]:
    """Everything wrong with ``table`` as a value of the dataclass ``cls``: keys, types, ranges.

    name: of the table in sentences, if it is the whole file (an empty ``path``).
    """
    name = f"[{dotted(path)}]" if path else name
    if not isinstance(table, dict):
        yield Fault(path, f"{dotted(path)} = {show(table)} is not a table; write {name}")
        return
    rules = _rules(cls)
    for key, value in table.items():
        if key not in rules:
            allowed = ", ".join(rules)
            hint = did_you_mean(key, rules)
            full = dotted((*path, key))
            yield Fault((*path, key), f"unknown key {full}; allowed in {name}: {allowed}{hint}")
        elif isinstance(rule := rules[key], type):
            yield from table_faults(rule, value, (*path, key))
        else:
            yield from rule.faults(value, (*path, key))
    for field in fields(cls):
        required = field.init and field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in table:
            rule = rules[field.name]
            allowed = "a table" if isinstance(rule, type) else rule.allowed
            yield Fault(path, f"{name} lacks the key {field.name}; allowed: {allowed}")


def build_table(cls: type[T], table: dict[str, Any]) -> T:
    """The dataclass ``cls`` from a table without faults; lists become tuples."""
    rules = _rules(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        rule = rules[key]
        if isinstance(rule, type):
            values[key] = build_table(rule, value)
        elif isinstance(value, list):
            values[key] = tuple(value)
        else:
            values[key] = value
    return cls(**values)


def _rules(cls: type) -> dict[str, Rule | type]:
    """For every key of ``cls`` its :class:`Rule`, or the dataclass of a sub-table."""
    hints = get_type_hints(cls, include_extras=True)
    return {f.name: _rule(hints[f.name]) for f in fields(cls) if not f.metadata.get("derived")}


def _rule(hint: object) -> Rule | type:
    if get_origin(hint) is Annotated:
        rule: Rule = get_args(hint)[1]
        return rule
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(arg for arg in get_args(hint) if arg is not types.NoneType)
    if not (isinstance(hint, type) and is_dataclass(hint)):
        raise TypeError(f"{hint!r} has neither a rule nor is it a dataclass")
    return hint
