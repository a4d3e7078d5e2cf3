# SPDX-License-Identifier: MIT
"""The cache folder: whole entries or none, made once however many ask."""

import multiprocessing
from pathlib import Path

import pytest

from vm.cache import cache_dir, provide


def test_folder_follows_the_environment(tmp_path: Path) -> None:
    assert cache_dir({"DMABED_CACHE": str(tmp_path / "own")}) == tmp_path / "own"
    assert cache_dir({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "dmabed"
    assert (tmp_path / "dmabed").is_dir()


def test_folder_in_home_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir({}) == tmp_path / ".cache" / "dmabed"


def test_failed_fill_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    entry = tmp_path / "entry"

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        provide(entry, fail)
    assert [path.name for path in tmp_path.iterdir()] == [".entry.lock"]
    provide(entry, lambda folder: (folder / "whole").touch())
    assert [path.name for path in entry.iterdir()] == ["whole"]


def test_remains_of_a_killed_fill_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".entry.tmp-dead").mkdir()
    provide(tmp_path / "entry", lambda folder: None)
    assert not (tmp_path / ".entry.tmp-dead").exists()


def test_present_entry_is_not_filled_again(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    provide(tmp_path / "entry", lambda folder: pytest.fail("filled again"))


def _fill_slowly(entry: Path, log: Path, barrier: "multiprocessing.synchronize.Barrier") -> None:
    def fill(folder: Path) -> None:
        with log.open("a") as lines:
            lines.write("filled\n")
        for number in range(200):
            (folder / str(number)).touch()

    barrier.wait()
    provide(entry, fill)
    assert len(list(entry.iterdir())) == 200


def test_two_processes_fill_an_entry_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    log = tmp_path / "log"
    workers = [
        context.Process(target=_fill_slowly, args=(tmp_path / "entry", log, barrier))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert log.read_text() == "filled\n"
