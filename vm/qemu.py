# SPDX-License-Identifier: MIT
"""Finds a QEMU that can be a vfio-user client, or unpacks one that runs on this host.

Order: $QEMU, the host's own, the cache.  The cached one comes from Debian's backports with all its
libraries and is started through its own dynamic loader, so the host's C library does not matter.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vm.apt import PrivateApt, Progress
from vm.cache import provide
from vm.errors import SetupError

MINIMUM = (10, 1, 1)
PROGRAM = "qemu-system-x86_64"
RELEASE = "trixie"
_CURE = f"name a {PROGRAM} of version 10.1.1 or newer, or leave QEMU= out"
# Needed by maintainer scripts only, never loaded by QEMU.
_UNWANTED = frozenset(
    (
        "adduser",
        "base-passwd",
        "debconf",
        "gcc-14-base",
        "libpam-modules",
        "libpam-modules-bin",
        "login.defs",
        "openssl-provider-legacy",
        "passwd",
    )
)


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU: the first words of its command line, its version, its environment."""

    command: tuple[str, ...]
    version: tuple[int, ...]
    environment: Mapping[str, str]

    def describe(self) -> str:
        """One line for people: version and program."""
        return f"QEMU {'.'.join(map(str, self.version))} ({self.program})"

    @property
    def program(self) -> str:
        """The path of the QEMU program itself (not of its loader)."""
        return next(word for word in self.command if word.rpartition("/")[2].startswith("qemu"))


def parse_version(text: str) -> tuple[int, ...]:
    """The version in the output of `--version`; empty if it is no QEMU's."""
    match = re.search(r"QEMU emulator version (\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else ()


def _ask(command: tuple[str, ...], argument: str, environment: Mapping[str, str]) -> str:
    try:
        done = subprocess.run(
            [*command, *argument.split()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, **environment},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def probe(command: tuple[str, ...], environment: Mapping[str, str] | None = None) -> Qemu:
    """Starts a QEMU to see that it is new enough and has `vfio-user-pci`.

    Raises:
        SetupError: it is too old, was built without vfio-user, or does not start.
    """
    extra = environment or {}
    text = _ask(command, "--version", extra)
    version = parse_version(text)
    if not version:
        said = text.strip().partition("\n")[0][:200] or "it says nothing"
        raise SetupError(f"{command[0]} is no working QEMU: {said}")
    if version < MINIMUM:
        raise SetupError(
            f"{command[0]} is version {'.'.join(map(str, version))}, older than 10.1.1"
        )
    if '"vfio-user-pci"' not in _ask(command, "-device help", extra):
        raise SetupError(f"{command[0]} was built without vfio-user-pci")
    return Qemu(command, version, extra)


def provide_qemu(cache: Path, progress: Progress, environ: Mapping[str, str] = os.environ) -> Qemu:
    """Finds or fetches a QEMU.

    Raises:
        SetupError: $QEMU does not serve, or nothing is found and nothing can be fetched.
    """
    if chosen := environ.get("QEMU"):
        found = shutil.which(chosen)
        if found is None:
            raise SetupError(f"QEMU={chosen} is not a program: {_CURE}")
        try:
            return probe((found,))
        except SetupError as error:
            raise SetupError(f"QEMU={chosen}: {error}: {_CURE}") from error
    if installed := shutil.which(PROGRAM):
        try:
            return probe((installed,))
        except SetupError as error:
            progress(f"{error}; using one from the cache")
    return cached_qemu(cache, progress)


def cached_qemu(cache: Path, progress: Progress) -> Qemu:
    """The QEMU in the cache, fetched first if needed.  It was probed when it was unpacked."""
    entry = cache / "qemu"

    def fill(folder: Path) -> None:
        progress("setting up a QEMU with vfio-user")
        apt = PrivateApt(cache, RELEASE, progress)
        suite = f"{RELEASE}-backports"
        apt.unpack(["qemu-system-x86"], lambda name: name not in _UNWANTED, suite, folder)
        version = probe(*unpacked_command(folder)).version
        (folder / "version").write_text(".".join(map(str, version)))

    provide(entry, fill)
    command, environment = unpacked_command(entry)
    version = tuple(int(part) for part in (entry / "version").read_text().split("."))
    return Qemu(command, version, environment)


def unpacked_command(root: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Command and environment of the QEMU unpacked below `root`, with its own loader."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    command = (
        str(libraries / "ld-linux-x86-64.so.2"),
        "--inhibit-cache",
        "--library-path",
        str(libraries),
        str(root / "usr/bin" / PROGRAM),
        "-L",
        str(root / "usr/share/qemu"),
        "-L",
        str(root / "usr/share/seabios"),
    )
    return command, {"QEMU_MODULE_DIR": str(libraries / "qemu")}
