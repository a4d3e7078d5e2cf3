# SPDX-License-Identifier: MIT
"""A plan of faults: which, when, how often, where. A TOML file, or a refusal that names the line.

    seed = 7

    [[fault]]
    name = "lost-interrupt"
    queue = 0          # only this queue pair; without it: any
    every = 3          # each third opportunity
    times = 2          # at most twice; 0: without end

An opportunity is what the fault could spoil: an interrupt, a run of completions, a register read.
Of ``nth``, ``every`` and ``probability`` at most one says which of them are taken (without any:
all), ``after_us`` from when on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from emulator.faults.errors import FaultPlanError
from emulator.fields import Choice, Fault, Integer, Number, build_table, show, table_faults
from emulator.toml_lines import KeyPath, error_line, key_lines

MAX_BYTES = 64 * 1024
MAX_FAULTS = 64
MAX_US = 600_000_000
NAMES: list[str] = []
"""Names of all faults; :mod:`emulator.faults.registry` fills it when it is imported."""

_SEED = Integer(0, (1 << 63) - 1)
_COUNT = Integer(0, 1 << 31)
_MICROSECONDS = Integer(0, MAX_US)


class _Name(Choice):
    """The name of a fault, by the registry."""

    def __init__(self) -> None:
        super().__init__(())

    @property
    def allowed(self) -> str:
        return ", ".join(NAMES)

    def faults(self, value: object, path: KeyPath) -> Iterator[Fault]:
        yield from Choice(tuple(NAMES)).faults(value, path)


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One ``[[fault]]``.

    queue, vector: the only one to suffer; None: any. nth: the opportunity that it begins with,
    from 1; every: each so-many-th; probability: of each. after_us: not earlier after arming.
    times: at most so often (0: no bound). lasting_us: how long a state lasts, 0: until disarmed.
    until_reset: a reset of the device cures it. amount: what it means is the fault's matter.
    """

    name: Annotated[str, _Name()]
    queue: Annotated[int | None, Integer(0, 15)] = None
    vector: Annotated[int | None, Integer(0, 127)] = None
    nth: Annotated[int | None, Integer(1, 1 << 31)] = None
    every: Annotated[int | None, Integer(1, 1 << 31)] = None
    probability: Annotated[float | None, Number(0, 1, "of each opportunity")] = None
    after_us: Annotated[int, _MICROSECONDS] = 0
    times: Annotated[int, _COUNT] = 1
    lasting_us: Annotated[int, _MICROSECONDS] = 0
    until_reset: Annotated[int, Integer(0, 1)] = 0
    amount: Annotated[int | None, Integer(0, (1 << 63) - 1)] = None


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults to arm together; ``seed`` makes all that is random repeat."""

    faults: tuple[FaultSpec, ...] = ()
    seed: int = 1


def parse_plan(text: str, source: str = "plan") -> FaultPlan:
    """The plan in ``text`` (TOML).

    Raises:
        FaultPlanError: it is not TOML, or says what no plan can say; every problem at once.
    """
    if len(text) > MAX_BYTES:
        raise FaultPlanError(source, [(1, f"longer than {MAX_BYTES} characters")])
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = error_line(error, text)
        raise FaultPlanError(source, [(line, f"not TOML: {error}")]) from None
    found = list(_problems(document))
    if found:
        lines = key_lines(text)
        raise FaultPlanError(source, [(_line(lines, one.path), one.text) for one in found])
    specs = tuple(build_table(FaultSpec, table) for table in document.get("fault", ()))
    return FaultPlan(specs, document.get("seed", FaultPlan().seed))


def _problems(document: dict[str, Any]) -> Iterator[Fault]:
    for key in document:
        if key not in ("seed", "fault"):
            yield Fault((key,), f"unknown key {key}; allowed in the plan: seed, fault")
    if "seed" in document:
        yield from _SEED.faults(document["seed"], ("seed",))
    tables = document.get("fault", [])
    if not isinstance(tables, list):
        yield Fault(("fault",), f"fault = {show(tables)} is not a list; write [[fault]]")
        return
    if len(tables) > MAX_FAULTS:
        yield Fault(("fault", MAX_FAULTS), f"more than {MAX_FAULTS} faults")
    for index, table in enumerate(tables):
        path: KeyPath = ("fault", index)
        wrong = list(table_faults(FaultSpec, table, path))
        yield from wrong or _crossed(table, path)


def _crossed(table: dict[str, Any], path: KeyPath) -> Iterator[Fault]:
    chosen = [key for key in ("nth", "every", "probability") if key in table]
    if len(chosen) > 1:
        text = f"both {chosen[0]} and {chosen[1]}; at most one says which opportunities are taken"
        yield Fault((*path, chosen[1]), text)


def _line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of ``path``, or of the nearest thing above it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
