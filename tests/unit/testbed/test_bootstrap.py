# SPDX-License-Identifier: MIT
"""The first step on a bare host: what it finds missing and what it would run. It runs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed import bootstrap

EVERYTHING = {"gcc", "make", "ld", "g++", "iverilog", "perl"}


class Host:
    """A host with some programs; what would have been run is kept in ``commands``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = set(EVERYTHING)
        self.libc_archive = "/usr/lib/libc.a"
        self.venv = True
        self.root = True
        self.status = {"install": 0, "sudo": 0}
        self.commands: list[list[str]] = []
        monkeypatch.setattr("testbed.bootstrap.shutil.which", self.which)
        monkeypatch.setattr("testbed.bootstrap.subprocess.run", self.run)
        monkeypatch.setattr("testbed.bootstrap.os.geteuid", lambda: 0 if self.root else 1000)
        monkeypatch.setattr("testbed.bootstrap.sys.stdin", SimpleNamespace(isatty=lambda: False))
        monkeypatch.setattr(bootstrap, "_has_ensurepip", lambda: self.venv)

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name in self.programs else None

    def run(self, command: list[str], **options: Any) -> Any:
        if command[0] == "gcc":
            return subprocess.CompletedProcess(command, 0, self.libc_archive + "\n", "")
        self.commands.append(command)
        status = self.status["sudo" if "true" in command else "install"]
        return subprocess.CompletedProcess(command, status, b"", b"E: no such package\n")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def lose(*programs: str) -> Callable[[Host], None]:
    return lambda host: host.programs.difference_update(programs)


def lose_archive(host: Host) -> None:
    host.libc_archive = "libc.a"  # what gcc says of a file that it does not find


def lose_venv(host: Host) -> None:
    host.venv = False


def test_complete_host_lacks_nothing_and_nothing_is_run(host: Host) -> None:
    host.programs.add("apt-get")
    assert bootstrap.missing_packages("apt-get") == bootstrap.missing_packages("dnf") == []
    bootstrap.install_system_packages()
    assert host.commands == []


@pytest.mark.parametrize(
    ("loss", "debian", "fedora"),
    [
        (lose("make"), ["make"], ["make"]),
        (lose("ld"), ["binutils"], ["binutils"]),
        (lose("gcc"), ["gcc", "libc6-dev"], ["gcc", "glibc-static"]),
        (lose_archive, ["libc6-dev"], ["glibc-static"]),
        (lose_venv, ["python3-venv"], ["python3-pip"]),
    ],
)
def test_what_is_missing_is_named_in_the_words_of_the_package_manager(
    host: Host, loss: Callable[[Host], None], debian: list[str], fedora: list[str]
) -> None:
    loss(host)
    assert bootstrap.missing_packages("apt-get") == debian
    assert bootstrap.missing_packages("dnf") == fedora


def test_root_installs_only_what_is_missing(host: Host) -> None:
    host.programs |= {"apt-get"}
    lose("make")(host)
    bootstrap.install_system_packages()
    assert host.commands[-1] == ["apt-get", "install", "-y", "make"]
    assert [command[1:] for command in host.commands[:-1]] == [["-q", "update"]]


def test_user_installs_through_sudo_where_it_asks_nothing(host: Host) -> None:
    host.root = False
    host.programs |= {"dnf", "sudo"}
    lose("make")(host)
    bootstrap.install_system_packages()
    assert host.commands[-1] == ["sudo", "dnf", "install", "-y", "make"]


@pytest.mark.parametrize("sudo", [False, True])
def test_user_who_cannot_become_root_is_told_the_command(
    host: Host, sudo: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    host.root = False
    host.status["sudo"] = 1
    host.programs |= {"apt-get"} | ({"sudo"} if sudo else set())
    lose_archive(host)
    with pytest.raises(SystemExit) as end:
        bootstrap.install_system_packages()
    assert "as root, run: apt-get install -y libc6-dev" in str(end.value.code)
    assert all("install" not in command for command in host.commands)


def test_host_with_another_package_manager_is_told_what_is_missing(host: Host) -> None:
    lose("make", "ld")(host)
    with pytest.raises(SystemExit) as end:
        bootstrap.install_system_packages()
    assert "make binutils" in str(end.value.code)


def test_failed_installation_shows_why_and_the_command(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.programs |= {"apt-get"}
    host.status["install"] = 100
    lose("make")(host)
    with pytest.raises(SystemExit) as end:
        bootstrap.install_system_packages()
    assert "apt-get install -y make" in str(end.value.code)
    assert "no such package" in capsys.readouterr().err


def test_environment_that_is_ready_is_not_made_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    stamp = tmp_path / "stamp"
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    monkeypatch.setattr(
        "testbed.bootstrap.venv.EnvBuilder", lambda **options: pytest.fail("made again")
    )
    stamp.write_text(bootstrap._wanted())
    bootstrap.make_environment()
    assert host.commands == []


def test_changed_lock_makes_the_environment_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    made: list[bool] = []
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(bootstrap, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(
        "testbed.bootstrap.venv.EnvBuilder",
        lambda with_pip, clear: SimpleNamespace(create=lambda folder: made.append(clear)),
    )
    (tmp_path / "lock").write_text("numpy==2.0\n")
    bootstrap.make_environment()
    (tmp_path / "lock").write_text("numpy==2.1\n")
    bootstrap.make_environment()
    bootstrap.make_environment()
    assert made == [True, True], "without an interpreter in it, it is made from nothing"
    assert sum("-r" in command for command in host.commands) == 2


def test_environment_of_another_python_or_without_pip_is_taken_for_a_good_one(
    tmp_path: Path,
) -> None:
    python = tmp_path / "bin" / "python"
    assert not bootstrap._works(tmp_path)
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 2.7.18\n")
    python.chmod(0o755)
    assert not bootstrap._works(tmp_path)
    python.write_text("#!/bin/sh\nexit 1\n")
    assert not bootstrap._works(tmp_path)
    assert bootstrap._works(Path(sys.prefix))


def test_pip_that_fails_leaves_no_stamp(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    host.status["install"] = 1
    monkeypatch.setattr(bootstrap, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(
        "testbed.bootstrap.venv.EnvBuilder",
        lambda **options: SimpleNamespace(create=lambda folder: None),
    )
    monkeypatch.setattr("testbed.bootstrap.sys.stderr", SimpleNamespace(write=lambda text: None))
    with pytest.raises(SystemExit, match="locked packages"):
        bootstrap.make_environment()
    assert not (tmp_path / "stamp").exists()


def test_old_python_is_refused_before_anything_else(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose("make")(host)
    monkeypatch.setattr("testbed.bootstrap.sys.version_info", (3, 10, 1))
    with pytest.raises(SystemExit, match=r"3\.11"):
        bootstrap.main([])
    assert host.commands == []


def test_bootstrap_needs_nothing_but_the_standard_library() -> None:
    import ast
    import sys
    from pathlib import Path

    tree = ast.parse(Path(bootstrap.__file__).read_text())
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        str(node.module).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert names <= set(sys.stdlib_module_names)
