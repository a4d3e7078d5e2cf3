# SPDX-License-Identifier: MIT
"""``dmabed fault`` and ``faults``: what cannot be played is refused, what was found is not lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from emulator.faults.fault import Outcome
from emulator.faults.registry import fault_class
from testbed.cli import main
from testbed.errors import RigError
from testbed.faults import command
from testbed.faults.results import FaultResult
from vm.errors import GuestHung


def survived(name: str) -> FaultResult:
    return FaultResult(fault_class(name).number, name, "vm", Outcome.SURVIVED, frozenset(Outcome))


class FakeGuest:
    """Survives every fault but those of ``ends``, by which it ends; ``leaves``: when it is over."""

    def __init__(self, ends: dict[str, Exception], leaves: Exception | None = None) -> None:
        self.ends, self.leaves = ends, leaves
        self.played: list[str] = []

    async def play(self, name: str, *_: object) -> FaultResult:
        self.played.append(name)
        if name in self.ends:
            raise self.ends[name]
        return survived(name)

    async def stop(self) -> None:
        if self.leaves is not None:
            raise self.leaves


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> list[FakeGuest | Exception]:
    """The guests that are going to be booted, in order; one of them may not boot."""
    waiting: list[FakeGuest | Exception] = []

    @contextlib.asynccontextmanager
    async def fault_guest(_: object, folder: Path, *__: object) -> AsyncIterator[FakeGuest]:
        assert folder.parent.is_dir()
        guest = waiting.pop(0)
        if isinstance(guest, Exception):
            raise guest
        yield guest

    monkeypatch.setattr(command, "fault_guest", fault_guest)
    monkeypatch.setattr(command, "setup", lambda *_, **__: SimpleNamespace())
    return waiting


FEW = ["wild-address", "gone", "bit-flip"]


def faults(monkeypatch: pytest.MonkeyPatch, out: Path) -> int:
    monkeypatch.setattr(command, "played_behind", lambda _: FEW)
    return main(["faults", "--rung", "vm", "--out", str(out)])


def test_guest_that_a_fault_ruined_ends_the_matrix(guests, monkeypatch, tmp_path, capsys) -> None:
    first, second = FakeGuest({"gone": GuestHung("it hangs")}), FakeGuest({})
    guests += [first, second]
    assert faults(monkeypatch, tmp_path) == 3
    assert (first.played, second.played) == (["wild-address", "gone"], ["bit-flip"])
    said = capsys.readouterr().out
    assert "2 of 3 as expected" in said and "GuestHung: it hangs" in said


@pytest.mark.parametrize("error", [RigError("no answer"), GuestHung("it hangs")])
def test_what_a_driver_left_at_the_end_loses_the_matrix(
    guests, monkeypatch, tmp_path, capsys, error: Exception
) -> None:
    guests.append(FakeGuest({}, leaves=error))
    assert faults(monkeypatch, tmp_path) == 3
    said = capsys.readouterr().out
    assert "3 of 4 as expected" in said and f"{type(error).__name__}: {error}" in said


def test_guest_that_does_not_boot_loses_what_was_found_before(
    guests, monkeypatch, tmp_path, capsys
) -> None:
    guests += [FakeGuest({"gone": GuestHung("it hangs")}), RigError("no carrier")]
    assert faults(monkeypatch, tmp_path) == 1
    said = capsys.readouterr()
    assert "1 of 2 as expected" in said.out and "no carrier" in said.err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("aer-fatal --rung in-process", "on the rung vm only"),
        ("no-memory --rung vm", "in-process only"),
        ("other-device --rung vm", "the guest has one NIC"),
        ("wild-address --rung vm --iommu none", "not played behind the IOMMU none"),
        ("aer-fatal --plan {plan}", "--plan has no say"),
        ("gone --plan {plan}", "cannot be read"),
    ],
)
def test_what_cannot_be_played_is_played(guests, tmp_path, capsys, line: str, why: str) -> None:
    plan = tmp_path / "none.toml"
    assert main(["fault", *line.format(plan=plan).split(), "--out", str(tmp_path)]) == 1
    assert why in capsys.readouterr().err


def test_fault_of_one_rung_is_played_on_both(guests, tmp_path, capsys) -> None:
    assert main(["fault", "other-device", "--out", str(tmp_path)]) == 0
    assert "1 of 1 as expected" in capsys.readouterr().out  # there is no guest to be had


def test_name_of_a_fault_after_an_option_is_taken_for_an_iommu(guests, tmp_path) -> None:
    guest = FakeGuest({})
    guests.append(guest)
    line = ["fault", "--out", str(tmp_path), "--rung", "vm", "--iommu", "amd-lazy", "gone"]
    assert main(line) == 0
    assert guest.played == ["gone"]
