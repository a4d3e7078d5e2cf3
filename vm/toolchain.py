# SPDX-License-Identifier: MIT
"""Provides a C compiler: the host's, or one unpacked into the cache.

A fresh Debian has make but no compiler.  The unpacked one is the host release's own, so it runs
with the host's C library; where it looks for headers and start files is told by `--sysroot`.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.apt import PrivateApt, Progress, host_release
from vm.cache import provide
from vm.errors import SetupError

_CURE = "install a C compiler with the C library's headers (Debian: apt install gcc libc6-dev)"
_PACKAGES = ("gcc", "libc6-dev", "libelf1")
# libc6 itself stays the host's: the tools run with the host's loader.
_UNWANTED = frozenset({"libc6"})


@dataclass(frozen=True)
class Toolchain:
    """A compiler: its program, the flags it always needs, and its environment."""

    cc: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, command: Sequence[str], cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a build step; both of its output streams end up in `stdout`.

        A make that runs us would hand its job server on, which a make of ours cannot reach.
        """
        outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
        inherited = {name: value for name, value in os.environ.items() if name not in outer}
        return subprocess.run(
            command,
            cwd=cwd,
            env={**inherited, "LC_ALL": "C", **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            check=False,
        )


def provide_toolchain(cache: Path, progress: Progress) -> Toolchain:
    """Finds or fetches a compiler that links static programs.

    Raises:
        SetupError: there is none and none can be fetched; the text names what to install.
    """
    for name in ("gcc", "cc"):
        program = shutil.which(name)
        if program and _links_statically(Toolchain(program)):
            return Toolchain(program)
    distribution, codename = host_release()
    if distribution != "debian":
        raise SetupError(f"no C compiler that links static programs: {_CURE}")
    return _cached(cache, codename, progress)


def _cached(cache: Path, codename: str, progress: Progress) -> Toolchain:
    entry = cache / f"toolchain-{codename}"

    def fill(folder: Path) -> None:
        progress("setting up a C compiler")
        apt = PrivateApt(cache, codename, progress)
        apt.unpack(_PACKAGES, lambda name: name not in _UNWANTED, codename, folder)
        _merge_usr(folder)
        if not _links_statically(unpacked_toolchain(folder)):
            raise SetupError(f"the compiler unpacked into {folder} does not work: {_CURE}")

    provide(entry, fill)
    return unpacked_toolchain(entry)


def _merge_usr(root: Path) -> None:
    """Linker scripts name /lib and /lib64, which are links into /usr on every current system."""
    for name in ("lib", "lib64"):
        if not (root / name).exists():
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")


def unpacked_toolchain(root: Path) -> Toolchain:
    """The compiler whose packages were unpacked below `root`."""
    programs = root / "usr/bin"
    environment = {
        "PATH": f"{programs}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "LD_LIBRARY_PATH": str(root / "usr/lib/x86_64-linux-gnu"),
    }
    return Toolchain(str(programs / "gcc"), (f"--sysroot={root}",), environment)


def _links_statically(toolchain: Toolchain) -> bool:
    """True if the compiler answers and finds the C library's archive."""
    done = toolchain.run([toolchain.cc, *toolchain.flags, "-print-file-name=libc.a"])
    found = Path(done.stdout.strip())
    # Without such a file the compiler repeats the bare name.
    return done.returncode == 0 and found.is_absolute() and found.is_file()
