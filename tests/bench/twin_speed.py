# SPDX-License-Identifier: MIT
"""How fast the twin is: ``python -m tests.bench.twin_speed [--strategies]``.

Process time, for the machine is shared; twin and SimPy take turns, and the best of each counts.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from pool.registry import STRATEGIES
from testbed.twin.run import run_twin
from testbed.twin.scenario import TwinScenario
from testbed.twin.traffic import wire_ns
from testbed.twin.world import NotApplicableError
from tests.bench.simpy_twin import PRESET, SimpyTwin

SIMPY_PACKETS, TWIN_PACKETS, TURNS = 20_000, 5_000_000, 3
SIZES = (1_000_000, 10_000_000, 100_000_000)


def seconds(work: Callable[[], object]) -> float:
    """Process time of ``work``."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def twin(packets: int, strategy: str = "page_pool") -> Callable[[], object]:
    """A run of the twin, ledger on."""
    scenario = TwinScenario(strategy, PRESET, packets)
    return lambda: run_twin(scenario)


def compare(console: Console) -> None:
    """Twin and SimPy in turns."""
    console.print("compiling ...", end="\r")
    twin(1000)()
    pairs = [
        (
            TWIN_PACKETS / seconds(twin(TWIN_PACKETS)),
            SIMPY_PACKETS / seconds(SimpyTwin(SIMPY_PACKETS).run),
        )
        for _ in range(TURNS)
    ]
    fast, plain = (max(rates) for rates in zip(*pairs, strict=True))
    table = Table("page_pool, vtd-strict, 64 B, drop, ledger on", "packets a second", "x")
    table.add_row("twin", f"{fast:,.0f}", f"{fast / plain:,.0f}")
    table.add_row("10 Gb/s wire", f"{1e9 / wire_ns(64, 10.0):,.0f}", "")
    table.add_row("SimPy, the same scenario", f"{plain:,.0f}", "1")
    console.print(table)


def grow(console: Console) -> None:
    """Time and memory against the number of packets."""
    table = Table("packets", "seconds", "ns a packet", "peak memory, MiB")
    for packets in SIZES:
        took = seconds(twin(packets))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        table.add_row(f"{packets:,}", f"{took:.2f}", f"{took / packets * 1e9:.1f}", f"{peak:.0f}")
    console.print(table)


def strategies(console: Console) -> None:
    """Every strategy; each compiles first."""
    table = Table("strategy", "packets a second")
    for name in sorted(STRATEGIES):
        try:
            twin(1000, name)()
        except NotApplicableError:
            continue
        took = min(seconds(twin(SIZES[0], name)) for _ in range(TURNS))
        table.add_row(name, f"{SIZES[0] / took:,.0f}")
    console.print(table)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategies", action="store_true", help="every strategy, too")
    options, console = parser.parse_args(), Console()
    compare(console)
    grow(console)
    if options.strategies:
        strategies(console)


if __name__ == "__main__":
    main()
