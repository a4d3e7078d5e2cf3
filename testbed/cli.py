# SPDX-License-Identifier: MIT
"""The command line of ``dmabed``.

In a guest: run, bench, count, vm, attack, plants, fault, faults, soak. In virtual time: twin,
compare, sweep, predict, reprice. For a device of one's own: serve.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from emulator.errors import DmabedError
from testbed.cli_twin import add_twin_actions
from testbed.count.command import add_count, add_reprice
from testbed.faults.command import add_fault_actions
from testbed.report.progress import RunProgress
from testbed.report.table import print_report, report_console
from testbed.report.writer import point_latest, run_folder, write_report
from testbed.results import RunResult
from testbed.run import ScenarioRun
from testbed.scenario import RX_MODES, Scenario, bundled_scenarios, load_scenario
from testbed.seeds import chosen_seed
from testbed.serve import serve
from testbed.shell import guest_shell
from testbed.soak.command import add_soak
from vm.artifacts import Artifacts, setup
from vm.kernel_config import flavour_for
from vm.machine import ALL_IOMMUS

OUT = Path("out")
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``dmabed``; returns the exit status (1: refused or failed, 3: violated)."""
    chosen = _parser().parse_args(arguments)
    action: Callable[[argparse.Namespace], int] = chosen.action
    try:
        return action(chosen)
    except DmabedError as error:
        sys.stderr.write(f"dmabed: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("dmabed: interrupted\n")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dmabed", description="A NIC in Python behind stock QEMU."
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    known = ", ".join(bundled_scenarios())
    for name, default, action, what in (
        ("run", "run", _run, "boot the VM, measure, print tables and verdict, write a report"),
        ("bench", "bench", _bench, "compare with the socket's round trip and QEMU's own NICs"),
    ):
        one = actions.add_parser(name, help=what, description=what)
        one.add_argument("scenario", nargs="?", default=default, help=f"a .toml file, or: {known}")
        one.add_argument("--seed", type=int, help="of all that is random (default: the scenario's)")
        one.add_argument("--out", type=Path, default=OUT, help="where the report's folder is made")
        one.set_defaults(action=action)
    add_count(actions, OUT)
    add_reprice(actions)
    shell = actions.add_parser("vm", help="a guest shell with the NIC up")
    shell.add_argument("--iommu", choices=ALL_IOMMUS, default="intel-strict")
    shell.add_argument("--rx-mode", choices=RX_MODES, default="page_pool")
    shell.set_defaults(action=lambda chosen: asyncio.run(guest_shell(chosen.iommu, chosen.rx_mode)))
    add_fault_actions(actions, OUT)

    plants = actions.add_parser("plants", help="plant bugs in the driver and see them caught")
    plants.add_argument("--rung", choices=("twin", "vm", "both"), default="both")
    plants.add_argument("--out", type=Path, default=OUT, help="where logs are kept")
    plants.set_defaults(action=_plants)
    attack = actions.add_parser("attack", help="write to memory the guest has given to others")
    attack.add_argument("--iommu", choices=ALL_IOMMUS[1:], action="append")
    attack.add_argument("--rx-mode", choices=RX_MODES, default="page_pool")
    attack.add_argument("--unmap-us", type=int, default=1000, help="added to each unmap")
    attack.add_argument("--out", type=Path, default=OUT, help="where logs and figures are kept")
    attack.set_defaults(action=_attack)
    add_soak(actions, OUT)
    server = actions.add_parser("serve", help="serve a device of your own to QEMU")
    server.add_argument("device", help="file.py:Class, a subclass of emulator.pci.device.PciDevice")
    server.add_argument("--socket", type=Path, required=True, help="UNIX socket to listen at")
    server.set_defaults(action=lambda chosen: serve(chosen.device, chosen.socket))
    add_twin_actions(actions)
    return parser


def _scenario(chosen: argparse.Namespace) -> Scenario:
    scenario = load_scenario(chosen.scenario)
    return replace(scenario, seed=chosen_seed(chosen.seed, scenario.seed))


def _run(chosen: argparse.Namespace) -> int:
    scenario = _scenario(chosen)
    if scenario.cases is None and scenario.curve is None:
        raise DmabedError(
            f"{scenario.source}: has neither [cases] nor [curve] to run; use: dmabed bench"
        )
    artifacts = setup(print, flavour=flavour_for(scenario.iommus))
    folder = run_folder(chosen.out)
    print(f"seed {scenario.seed}; {artifacts.acceleration.describe()}")
    with RunProgress(_steps(scenario)) as progress:
        result = asyncio.run(ScenarioRun(scenario, artifacts, folder, progress).run())
    return _finish(result, folder)


def _bench(chosen: argparse.Namespace) -> int:
    from testbed.bench.compare import BenchRun, kernel_flavour

    scenario = _scenario(chosen)
    flavour = kernel_flavour(scenario.bench) if scenario.bench else "cloud"
    artifacts: Artifacts = setup(print, flavour=flavour)
    folder = run_folder(chosen.out, kind="bench")
    bench = BenchRun(scenario, artifacts, folder)
    with RunProgress(bench.steps) as progress:
        result = asyncio.run(bench.run(progress))
    return _finish(result, folder)


def _plants(chosen: argparse.Namespace) -> int:
    from testbed.plants.table import RUNGS, show_plants

    rungs = RUNGS if chosen.rung == "both" else (chosen.rung,)
    return show_plants(rungs, run_folder(chosen.out, kind="plants"))


def _attack(chosen: argparse.Namespace) -> int:
    from testbed.attack.command import show_attacks
    from testbed.attack.run import ATTACKED

    folder = run_folder(chosen.out, kind="attack")
    return show_attacks(chosen.iommu or ATTACKED, chosen.rx_mode, folder, chosen.unmap_us)


def _steps(scenario: Scenario) -> int:
    curve = scenario.curve
    points = len(curve.latencies_us) * len(curve.strategies) if curve else 0
    return (len(scenario.cases) if scenario.cases else 0) + points


def _finish(result: RunResult, folder: Path) -> int:
    report = write_report(result, folder)
    point_latest(folder)
    print_report(result, report_console())
    print(f"\nreport: {report}")
    return 3 if any(case.verdict == "violated" for case in result.cases) else 0


if __name__ == "__main__":
    sys.exit(main())
