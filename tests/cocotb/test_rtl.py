# SPDX-License-Identifier: MIT
"""The RTL in two simulators: checks K1 to K15, the planted bugs, and what was covered."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.rtl.simulators import (
    FAST,
    ROOT,
    SIMULATORS,
    Design,
    MissingSimulatorError,
    Outcome,
    find,
    run,
    sources,
    waves_wanted,
)
from tests.cocotb import coverage

SEED = int(os.environ.get("SEED") or 1)
WAVES = waves_wanted()
BUILDING: list[subprocess.Popen[bytes]] = []

#: Planted bug -> the test that shows it, and the checks of which one at least must find it.
MUTANTS = {
    1: ("k3_a_stale_write_follows_the_completion_or_is_not_pushed", {"K1", "K3"}),
    2: ("k2_an_invalidate_is_completed_while_a_stale_read_is_unanswered", {"K2"}),
    3: ("k5_an_invalidate_of_the_second_page_of_a_request_is_missed", {"K4", "K5"}),
    4: ("k7_the_payload_of_an_invalidate_is_read_in_the_wrong_byte_order", {"K7"}),
    5: ("k6_a_range_is_decoded_too_small", {"K6"}),
    6: ("k14_entries_of_one_set_are_all_invalidated", {"K1"}),
    7: ("k3_a_stale_write_follows_the_completion_or_is_not_pushed", {"K3"}),
    8: ("k10_something_survives_a_function_level_reset", {"K10"}),
}


def simulate(
    simulator: str,
    module: str,
    folder: Path,
    testcase: str | None = None,
    **parameters: int,
) -> Outcome:
    try:
        find(simulator)
    except MissingSimulatorError as missing:
        pytest.skip(str(missing))
    if simulator == "verilator":
        for job in BUILDING:
            assert job.wait() == 0, "Verilator did not build the NIC"
    design = Design(parameters={**FAST, **parameters}, waves=WAVES)
    return run(
        simulator,
        design,
        f"tests.cocotb.{module}",
        folder=folder,
        testcase=testcase,
        seed=SEED,
        env={"RTL_SEED": str(SEED), "RTL_OUT": str(folder)},
    )


@pytest.fixture(scope="module", autouse=True)
def verilated() -> Iterator[subprocess.Popen[bytes] | None]:
    """Verilator compiles on one processor while the tests on Icarus run on another."""
    try:
        find("verilator")
    except MissingSimulatorError:
        yield None
        return
    code = "from emulator.rtl.simulators import FAST, Design, build;"
    code += f"build('verilator', Design(parameters=FAST, waves={WAVES}))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL) as job:
        BUILDING.append(job)
        yield job
        BUILDING.clear()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's runs leave logs, coverage and waves."""
    if WAVES:
        (ROOT / "out" / "rtl").mkdir(parents=True, exist_ok=True)
        return ROOT / "out" / "rtl"
    return tmp_path_factory.mktemp("rtl")


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_device_breaks_an_ats_rule(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_checks", folders / f"checks-{simulator}").require()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_device_breaks_an_ats_rule_under_stress(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_stress", folders / f"stress-{simulator}").require()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_device_breaks_its_register_or_dma_contract(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_device", folders / f"device-{simulator}").require()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_device_fails_in_a_topology_of_the_library(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_pcie", folders / f"pcie-{simulator}").require()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator"])
def test_the_python_driver_loses_or_leaks_on_the_rtl(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_driver", folders / "driver").require()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_rtl_and_python_nic_differ_on_the_same_traffic(simulator: str, folders: Path) -> None:
    simulate(simulator, "tb_lockstep", folders / f"lockstep-{simulator}").require()


@pytest.mark.slow
def test_queue_pairs_disturb_each_other(folders: Path) -> None:
    simulate("icarus", "tb_queues", folders / "queues", QUEUES=2).require()


def test_a_design_of_ones_own_does_not_reach_memory_or_interrupt(folders: Path) -> None:
    from examples.rtl.stamp_device import FILES

    design = Design(top="stamp", files=FILES, waves=WAVES)
    run("icarus", design, "tests.cocotb.tb_stamp", folder=folders / "stamp").require()


def test_waves_are_not_recorded_or_lack_the_design(tmp_path: Path) -> None:
    from examples.rtl.stamp_device import FILES

    design = Design(top="stamp", files=FILES, waves=True)
    waves = run("icarus", design, "tests.cocotb.tb_stamp", folder=tmp_path).waves
    assert waves is not None and waves.parent == tmp_path
    assert b"stamping" in fst_hierarchy(waves.read_bytes())


def fst_hierarchy(data: bytes) -> bytes:
    """The block of an FST file that names scopes and signals: type 4, two lengths, gzip."""
    at = 0
    while data[at] != 4:
        at += 1 + int.from_bytes(data[at + 1 : at + 9], "big")
    end = at + 1 + int.from_bytes(data[at + 1 : at + 9], "big")
    return gzip.decompress(data[at + 17 : end])


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_planted_bug_is_not_found_by_the_check_named_for_it(mutant: int, folders: Path) -> None:
    testcase, names = MUTANTS[mutant]
    module = "tb_stress" if testcase.startswith("k10") else "tb_checks"
    outcome = simulate("icarus", module, folders / f"mutant-{mutant}", testcase, MUTANT=mutant)
    why = outcome.results[testcase]
    assert why is not None, f"mutant {mutant} survives {testcase}; log {outcome.log}"
    found = (
        set(why.split(".")[0].split(": ")[-1].split())
        if "checks that found" in why
        else {why.split(":")[0]}
    )
    assert found & names, f"mutant {mutant} was found by {why}, not by one of {sorted(names)}"


def test_a_state_of_the_atc_or_a_cut_around_4_kib_is_never_reached(folders: Path) -> None:
    files = sorted(folders.glob("*-icarus/coverage-*.json"))
    if not files:
        pytest.skip("run this file as a whole: coverage is that of its other tests")
    counts = coverage.merged(files)
    print("\n" + coverage.table(counts))
    assert not coverage.holes(counts)


def test_the_rtl_does_not_lint() -> None:
    program = find("verilator")
    done = subprocess.run(
        [
            str(program),
            "--lint-only",
            "-Wall",
            "--top-module",
            "dmabed_nic",
            str(ROOT / "emulator/rtl/lint.vlt"),
            *map(str, sources()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
