# SPDX-License-Identifier: MIT
"""The table of planted bugs: plant, rung, rule, time to detection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from testbed.plants.catalogue import BUGS, Catch
from testbed.plants.guest import RUNG as VM
from testbed.plants.guest import run_plants
from testbed.plants.twin import RUNG as TWIN
from testbed.plants.twin import run_plant
from testbed.report.units import duration
from vm.artifacts import setup

RUNGS = (TWIN, VM)


def plants_table(catches: Iterable[Catch]) -> Table:
    """A row for each plant and rung; rules that spoke besides the one named are in brackets."""
    table = Table(box=None, pad_edge=False)
    for column in ("plant", "bug", "rung", "rule", "time to detection"):
        table.add_column(column)
    for catch in catches:
        named = [rule for rule in catch.spoke if rule in catch.plant.rules]
        others = [rule for rule in catch.spoke if rule not in catch.plant.rules]
        rules = " ".join(named) or "NOT CAUGHT"
        if others:
            rules += f" ({' '.join(others)})"
        plant = catch.plant
        table.add_row(plant.name, plant.bug, catch.rung, rules, time_to(catch.latency_ns))
    return table


def kernel_lines(catches: Iterable[Catch]) -> list[str]:
    """What the guest's own kernel said first of each plant, and how often it spoke."""
    lines = []
    for catch in sorted(catches, key=lambda catch: catch.plant.number):
        if catch.kernel:
            first, more = catch.kernel[0], len(catch.kernel) - 1
            words = first.partition(": ")[2] or first
            lines.append(f"{catch.plant.name}: {words}" + (f" (and {more} more)" if more else ""))
    return ["the guest's kernel said:", *lines] if lines else []


def time_to(ns: int | None) -> str:
    """A time in the unit that suits it; ``-`` for None, ``at once`` for 0."""
    if not ns:
        return "-" if ns is None else "at once"
    return duration(ns)


def show_plants(rungs: Sequence[str], folder: Path) -> int:
    """Plays all plants on the rungs, prints the table; returns the exit status.

    1: a bug was not caught, or a sound driver was blamed.
    """
    catches: list[Catch] = []
    blamed: list[str] = []
    if TWIN in rungs:
        for bug in BUGS:
            catches.append(run_plant(bug))
            blamed += [f"{bug.name}, twin: {rule}" for rule in run_plant(bug, planted=False).spoke]
    if VM in rungs:
        folder.mkdir(parents=True, exist_ok=True)
        sound, caught = asyncio.run(run_plants(setup(print), folder))
        catches += caught
        blamed += [f"vm: {rule}" for rule in (sound.spoke if sound else ())]
    missed = [f"{catch.plant.name} on {catch.rung}" for catch in catches if not catch.caught]
    Console(width=120).print(plants_table(sorted(catches, key=lambda catch: catch.plant.number)))
    print(*kernel_lines(catches), sep="\n")
    print(f"{len(catches) - len(missed)} of {len(catches)} caught by the rule named", *missed)
    print("the sound driver was", "blamed:" if blamed else "never blamed", *blamed)
    return 1 if missed or blamed else 0
