# SPDX-License-Identifier: MIT
"""Time that the host took away is told from time that a driver took."""

from pathlib import Path

from testbed.host_wait import HostWait


def task(proc: Path, pid: int, tid: int, text: str) -> None:
    folder = proc / str(pid) / "task" / str(tid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedstat").write_text(text)


def test_wait_of_another_process_or_from_before_is_counted(tmp_path: Path) -> None:
    task(tmp_path, 7, 7, "100 1000 5\n")
    task(tmp_path, 7, 8, "100 2000 5\n")
    task(tmp_path, 9, 9, "100 7000 5\n")
    wait = HostWait((7, 9), tmp_path)
    assert wait.ns == 0
    task(tmp_path, 7, 8, "900 2300 5\n")
    task(tmp_path, 9, 9, "100 7010 5\n")
    task(tmp_path, 11, 11, "100 99999 5\n")
    task(tmp_path, 7, 12, "1 4 1\n")  # a thread that began since
    assert wait.ns == 314


def test_host_that_counts_nothing_is_an_error(tmp_path: Path) -> None:
    task(tmp_path, 7, 7, "")
    wait = HostWait((7, 8), tmp_path)
    task(tmp_path, 7, 7, "1 x 2")
    assert wait.ns == 0
