# SPDX-License-Identifier: MIT
"""The command line: what is refused, the seed, the exit status. No guest is booted here."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emulator.errors import DmabedError
from testbed import cli
from testbed.results import CaseResult, HostFacts, RunResult
from testbed.scenario import RX_MODES, Scenario

CASE = CaseResult("page_pool", "none", 64, 10, 0, 0, 0.0, 0.0, 5.0, 0, "clean")
RESULT = RunResult(
    created="2025-11-23T04:41:07+00:00",
    scenario="run",
    title="t",
    seed=1,
    command="dmabed run",
    host=HostFacts(cpu_count=2, accel="tcg"),
    qemu_version="11.0.0",
    kernel_release="6.12",
    cases=(CASE,),
)


class FakeRun:
    """Stands for ScenarioRun: keeps what it was made with and gives ``result``."""

    made: Scenario
    result: RunResult = RESULT

    def __init__(self, scenario: Scenario, *others: object) -> None:
        type(self).made = scenario

    async def run(self) -> RunResult:
        return self.result


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def setup(progress: object, flavour: str = "cloud") -> Any:
        return SimpleNamespace(acceleration=SimpleNamespace(describe=lambda: "no acceleration"))

    monkeypatch.delenv("SEED", raising=False)
    monkeypatch.setattr(cli, "setup", setup)
    monkeypatch.setattr(cli, "ScenarioRun", FakeRun)
    monkeypatch.setattr(cli, "write_report", lambda result, folder: folder / "report.html")
    monkeypatch.setattr(FakeRun, "result", RESULT)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "--seed", "many"],
        ["run", "one", "two"],
        ["vm", "--iommu", "amd"],
        ["vm", "--rx-mode", "zero_copy"],
        ["serve", "x.py:X"],
    ],
)
def test_wrong_arguments_end_with_status_2_before_anything_is_set_up(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "setup", lambda progress, **_: pytest.fail("was set up"))
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert "usage: dmabed" in capsys.readouterr().err


def test_clean_run_ends_with_status_0_and_names_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    (folder,) = [path for path in tmp_path.iterdir() if not path.is_symlink()]
    assert f"report: {folder / 'report.html'}" in said
    assert (tmp_path / "latest").resolve() == folder


def test_violated_case_ends_with_status_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = dataclasses.replace(CASE, verdict="violated", violations=("O-3 nic: ...",))
    monkeypatch.setattr(FakeRun, "result", dataclasses.replace(RESULT, cases=(CASE, bad, CASE)))
    assert cli.main(["run", "--out", str(tmp_path)]) == 3


def test_exposed_case_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = dataclasses.replace(CASE, verdict="exposed", stale_window_ns=5)
    monkeypatch.setattr(FakeRun, "result", dataclasses.replace(RESULT, cases=(case,)))
    assert cli.main(["run", "--out", str(tmp_path)]) == 0


def test_named_error_ends_with_status_1_and_its_words_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(progress: object, flavour: str) -> Any:
        raise DmabedError("no QEMU here: install one")

    monkeypatch.setattr(cli, "setup", refuse)
    assert cli.main(["run", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "dmabed: no QEMU here: install one\n"


def test_interrupt_ends_with_status_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(progress: object, flavour: str) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "setup", interrupt)
    assert cli.main(["run", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("action", "typo", "meant"), [("run", "quik", "quick"), ("bench", "bnch", "bench")]
)
def test_mistyped_scenario_is_refused_with_the_name_that_was_meant(
    action: str, typo: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([action, typo, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f'"{typo}"' in said and f'did you mean "{meant}"' in said
    assert list(tmp_path.iterdir()) == []


def test_scenario_for_the_bench_alone_is_not_run_as_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "bench", "--out", str(tmp_path)]) == 1
    assert "dmabed bench" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "variable", "seed"),
    [
        ([], None, 1),
        ([], "", 1),
        ([], "77", 77),
        (["--seed", "0"], None, 0),
        (["--seed", "5"], "77", 5),
        (["--seed", "9223372036854775807"], None, 2**63 - 1),
    ],
)
def test_seed_of_the_option_beats_that_of_the_environment_beats_the_scenarios(
    option: list[str],
    variable: str | None,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if variable is not None:
        monkeypatch.setenv("SEED", variable)
    assert cli.main(["run", "quick", "--out", str(tmp_path), *option]) == 0
    assert FakeRun.made.seed == seed
    assert f"seed {seed};" in capsys.readouterr().out


@pytest.mark.parametrize("seed", ["x", "1.5", "-1", "9223372036854775808"])
def test_impossible_seed_is_refused_before_anything_is_set_up(
    seed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "setup", lambda progress, **_: pytest.fail("was set up"))
    monkeypatch.setenv("SEED", seed)
    assert cli.main(["run", "quick"]) == 1
    said = capsys.readouterr().err
    assert seed in said and "must be" in said


def test_progress_counts_every_case_and_every_point_of_the_curve() -> None:
    from testbed.scenario import load_scenario

    scenario = load_scenario("run")
    assert scenario.cases is not None and scenario.curve is not None
    points = len(scenario.curve.latencies_us) * len(scenario.curve.strategies)
    assert cli._steps(scenario) == len(list(scenario.cases)) + points
    assert cli._steps(load_scenario("bench")) == 0


def test_serve_and_vm_get_what_was_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[object] = []

    async def shell(*chosen: object) -> int:
        seen.append(chosen)
        return 3

    def serve(*chosen: object) -> int:
        seen.append(chosen)
        return 0

    monkeypatch.setattr(cli, "serve", serve)
    monkeypatch.setattr(cli, "guest_shell", shell)
    assert cli.main(["serve", "d.py:D", "--socket", str(tmp_path / "s")]) == 0
    for mode in RX_MODES:
        assert cli.main(["vm", "--iommu", "virtio-lazy", "--rx-mode", mode]) == 3
    assert seen == [("d.py:D", tmp_path / "s"), *(("virtio-lazy", mode) for mode in RX_MODES)]


def test_attack_is_refused_on_a_strategy_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = cli._parser()
    for mode in RX_MODES:
        assert parser.parse_args(["attack", "--rx-mode", mode]).rx_mode == mode


def test_every_action_is_named_in_the_help() -> None:
    said = cli._parser().format_help()
    parser = next(
        action for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )  # fmt: skip
    known = {"run", "bench", "plants", "attack", "fault", "faults", "vm", "serve"}
    known |= {"twin", "compare", "sweep", "predict", "count", "reprice", "soak"}
    assert set(parser.choices) == known
    assert all(f"    {name}" in said for name in parser.choices)
    assert cli.__doc__ is not None and all(name in cli.__doc__ for name in parser.choices)
