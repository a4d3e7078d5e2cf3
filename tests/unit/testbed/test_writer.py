# SPDX-License-Identifier: MIT
"""The folder of a run: complete, never half-written, never somebody else's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from testbed.errors import ReportError, ResultsError
from testbed.report.writer import point_latest, run_folder, write_atomically, write_report
from testbed.results import RunResult

WHEN = datetime(2025, 11, 23, 4, 41, 7, tzinfo=UTC)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_report_holds_every_file_and_reads_back(run: RunResult, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("[    0.000000] Linux\n")
    folder = tmp_path / "report"
    page = write_report(run, folder, b"\x01\x02", log)
    pictures = [f"{n}.{k}" for n in ("amortisation", "rates", "exposure") for k in ("png", "svg")]
    plain = ["console.log", "events.bin", "report.html", "results.json", "table.txt"]
    assert names(folder) == sorted(plain + pictures)
    assert RunResult.load(folder / "results.json") == run
    assert (folder / "events.bin").read_bytes() == b"\x01\x02"
    assert (folder / "console.log").read_text() == log.read_text()
    for name in set(names(folder)) - {"report.html"}:
        assert f'href="{name}"' in page.read_text()


def test_files_already_in_the_folder_are_linked_not_copied(run: RunResult, tmp_path: Path) -> None:
    run = dataclasses.replace(run, cases=(), curve=())
    for name in run.log_files:
        (tmp_path / name).write_text("here")
    page = write_report(run, tmp_path, tmp_path / "events.bin", tmp_path / "console.log")
    assert (tmp_path / "events.bin").read_text() == "here"
    assert page.read_text().count('href="events.bin"') == 1


def test_run_that_cannot_be_read_back_writes_nothing(
    with_case: Callable[..., RunResult], tmp_path: Path
) -> None:
    with pytest.raises(ResultsError):
        write_report(with_case(0, map_ns=float("nan")), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_missing_log_is_named(run: RunResult, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"console\.log: No such file"):
        write_report(run, tmp_path / "report", None, tmp_path / "console.log")


def test_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    write_atomically(target, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ReportError, match=r"a\.txt: No space left on device"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_folders_of_one_second_do_not_collide(tmp_path: Path) -> None:
    made = [run_folder(tmp_path / "out", WHEN).name for _ in range(3)]
    stamp = "2025-11-23T04-41-07Z-run"
    assert made == [stamp, f"{stamp}-2", f"{stamp}-3"]


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ReportError, match="out"):
        run_folder(tmp_path / "out", WHEN)


def test_latest_follows_the_newest_run(tmp_path: Path) -> None:
    for _ in range(2):
        folder = run_folder(tmp_path, WHEN)
        link = point_latest(folder)
        assert link == tmp_path / "latest"
        assert link.resolve() == folder.resolve()
        assert not link.readlink().is_absolute()


def test_dangling_latest_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    folder = run_folder(tmp_path, WHEN)
    assert point_latest(folder).resolve() == folder.resolve()


def test_folder_called_latest_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ReportError, match="is not a symbolic link"):
        point_latest(run_folder(tmp_path, WHEN))
    assert (tmp_path / "latest").is_dir()
