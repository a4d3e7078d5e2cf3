# SPDX-License-Identifier: MIT
"""Frozen dataclasses to JSON and back, strictly: what is written is what is read, or a named error.

Every key of a dataclass has to be there and no other; a whole number is no ``true``; numbers are
finite; a ``Literal`` is one of its words. Nothing is guessed and nothing is dropped.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from testbed.errors import ResultsError

T = TypeVar("T")

KINDS = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
#: Up to here every whole number is a float.
LARGEST_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class AtLeast:
    """``Annotated[float, AtLeast(0)]``: a number that is not smaller."""

    low: float


def to_json(value: object) -> str:
    """A dataclass as indented JSON, with a newline at its end.

    Raises:
        ResultsError: a field holds what its annotation does not allow.
    """
    try:
        plain = json.loads(json.dumps(dataclasses.asdict(value)))  # type: ignore[call-overload]
    except TypeError as error:
        raise ResultsError("", f"cannot be written: {error}") from error
    decode(type(value), plain, "")
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def parse_json(text: str | bytes) -> object:
    """The value of a JSON text, in which no key occurs twice and every number is finite.

    Raises:
        ResultsError: it is not JSON, or not of that kind.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except ValueError as error:
        raise ResultsError("", f"not JSON: {error}") from None
    except RecursionError:
        raise ResultsError("", "not JSON that can be read: nested too deeply") from None


def decode(hint: Any, value: object, where: str) -> Any:  # noqa: ANN401
    """``value`` (of :func:`parse_json`) as what the annotation ``hint`` says.

    Raises:
        ResultsError: it is something else; ``where`` is the path to it, ``cases[2].packets``.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        kind, *limits = get_args(hint)
        return _limited(decode(kind, value, where), limits, where)
    if origin is Literal:
        return _word(get_args(hint), value, where)
    if origin in (Union, types.UnionType):
        kind = next(arg for arg in get_args(hint) if arg is not types.NoneType)
        return None if value is None else decode(kind, value, where)
    if origin is tuple:
        return _elements(get_args(hint)[0], value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        return _object(hint, value, where)
    return _scalar(hint, value, where)


def _scalar(kind: type, value: object, where: str) -> object:
    if kind is float and type(value) is int and abs(value) <= LARGEST_EXACT:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        _refuse(where, value, KINDS[kind])
    return value


def _limited(value: float | None, limits: list[AtLeast], where: str) -> float | None:
    for limit in limits:
        if value is not None and value < limit.low:
            _refuse(where, value, f"at least {limit.low:g}")
    return value


def _word(words: tuple[object, ...], value: object, where: str) -> object:
    if value not in words:
        _refuse(where, value, "one of: " + ", ".join(map(str, words)))
    return value


def _elements(kind: object, value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        _refuse(where, value, "a list")
    return tuple(decode(kind, each, f"{where}[{index}]") for index, each in enumerate(value))


def _object(cls: type[T], value: object, where: str) -> T:
    if not isinstance(value, dict):
        _refuse(where, value, "an object")
    names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    for key in value:
        if key not in names:
            raise ResultsError(where, f'unknown key "{key}"; known: {", ".join(names)}')
    for name in names:
        if name not in value:
            raise ResultsError(where, f'the key "{name}" is missing')
    hints = hints_of(cls, include_extras=True)
    dot = where + "." if where else ""
    return cls(**{name: decode(hints[name], value[name], dot + name) for name in names})


def _refuse(where: str, value: object, wanted: str) -> NoReturn:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    raise ResultsError(where, f"{shown} is not {wanted}")


def _refuse_constant(name: str) -> NoReturn:
    raise ResultsError("", f"not JSON: {name} is no number that can be compared")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    seen = dict(pairs)
    if len(seen) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ResultsError("", f'the key "{twice}" occurs twice in one object')
    return seen
