# SPDX-License-Identifier: MIT
"""Programs of the host in the guest: with their loader and every library, or a refusal."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from vm import guest_tools
from vm.cpio import CpioArchive
from vm.errors import SetupError
from vm.guest_tools import add_tools, provide_tools

LOADER = Path("/lib64/ld-linux-x86-64.so.2")

pytestmark = pytest.mark.skipif(not LOADER.exists(), reason="the host has another loader")


def build(folder: Path, name: str = "tool") -> Path:
    """A program that needs a library of its own, which lies in ``folder``/lib."""
    library, program = folder / "lib", folder / name
    library.mkdir(parents=True)
    (folder / "a.c").write_text("int answer(void) { return 42; }\n")
    (folder / "m.c").write_text("int answer(void);\nint main(void) { return answer(); }\n")
    shared = ["gcc", "-shared", "-fPIC", "-o", str(library / "libanswer.so"), str(folder / "a.c")]
    linked = ["gcc", "-o", str(program), str(folder / "m.c"), f"-L{library}", "-lanswer"]
    for command in (shared, linked):
        subprocess.run(command, check=True)
    return program


def host_is(monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    monkeypatch.setattr(guest_tools, "host_release", lambda: (distribution, ""))


def test_program_gets_its_loader_and_all_its_libraries_and_runs_with_them_alone(
    tmp_path: Path,
) -> None:
    program = build(tmp_path / "src")
    guest_tools._collect(program, [tmp_path / "src" / "lib"], tmp_path / "guest")
    guest = tmp_path / "guest"
    assert (guest / "usr/sbin/tool").is_file()
    loader = guest / "lib64/ld-linux-x86-64.so.2"
    assert loader.is_file() and not loader.is_symlink()
    assert {"libanswer.so", "libc.so.6"} <= {path.name for path in (guest / "lib").iterdir()}
    assert not any(path.is_symlink() for path in (guest / "lib").iterdir())
    shutil.rmtree(tmp_path / "src")
    command = [str(loader), "--inhibit-cache", "--library-path", str(guest / "lib")]
    done = subprocess.run([*command, str(guest / "usr/sbin/tool")], check=False)
    assert done.returncode == 42


def test_missing_library_is_refused_by_name(tmp_path: Path) -> None:
    program = build(tmp_path / "src")
    (tmp_path / "src" / "lib" / "libanswer.so").unlink()
    with pytest.raises(SetupError, match=r"libanswer\.so"):
        guest_tools._collect(program, [tmp_path / "src" / "lib"], tmp_path / "guest")
    assert not (tmp_path / "guest").exists()


def test_missing_loader_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(SetupError, match="dynamic loader"):
        guest_tools._loader([tmp_path])


def test_loader_of_the_packages_is_preferred_to_the_hosts(tmp_path: Path) -> None:
    own = tmp_path / "ld-linux-x86-64.so.2"
    own.touch()
    assert guest_tools._loader([tmp_path]) == own
    own.unlink()
    assert guest_tools._loader([tmp_path]) == LOADER


def test_program_is_looked_for_on_the_path_and_collected_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_is(monkeypatch, "fedora")
    folder = tmp_path / "bin"
    program = build(folder, "ethtool")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder / "lib"))
    said: list[str] = []
    environ = {"PATH": str(folder)}
    entry = provide_tools(tmp_path / "cache", said.append, environ)
    assert (entry / "usr/sbin/ethtool").read_bytes() == program.read_bytes()
    assert provide_tools(tmp_path / "cache", said.append, environ) == entry
    assert len(said) == 1


def test_host_without_the_program_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_is(monkeypatch, "fedora")
    monkeypatch.setattr("vm.guest_tools.shutil.which", lambda name, path: None)
    with pytest.raises(SetupError, match="install ethtool"):
        provide_tools(tmp_path / "cache", lambda text: None, {"PATH": ""})


def test_failed_collection_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_is(monkeypatch, "fedora")
    program = build(tmp_path / "bin", "ethtool")
    (tmp_path / "bin" / "lib" / "libanswer.so").unlink()
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    for _ in range(2):
        with pytest.raises(SetupError, match="ethtool"):
            provide_tools(tmp_path / "cache", lambda text: None, {"PATH": str(program.parent)})


def test_archive_has_every_file_at_its_place_and_executable(tmp_path: Path) -> None:
    for name in ("usr/sbin/ethtool", "lib/libmnl.so.0", "lib64/ld-linux-x86-64.so.2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    made = CpioArchive()
    add_tools(made, tmp_path)
    entries = re.findall(rb"070701.{8}(.{8}).{80}.{8}((?:usr|lib)[^\0]*)\0", made.finish(), re.S)
    modes = {name.decode(): int(mode, 16) for mode, name in entries}
    files = {name for name, mode in modes.items() if stat.S_ISREG(mode)}
    assert files == {"usr/sbin/ethtool", "lib/libmnl.so.0", "lib64/ld-linux-x86-64.so.2"}
    assert all(modes[name] & 0o777 == 0o755 for name in files)
    assert list(modes).index("usr/sbin") < list(modes).index("usr/sbin/ethtool")
