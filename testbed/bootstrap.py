#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a bare checkout ready: system packages, the virtual environment, QEMU and a kernel.

Runs on the system's Python before anything is installed, so it uses the standard library only.
``make`` calls it; called again it finds everything in place and ends at once. It asks for root only
where a system package is missing, and then for that package alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".dmabed-ready"
LOCK = ROOT / "requirements.lock"
PYTHON_MIN = (3, 11)

#: What must be on the host: how to tell, and the package that has it, per package manager.
TOOLS: dict[str, dict[str, str]] = {
    "gcc": {"apt-get": "gcc", "dnf": "gcc"},
    "make": {"apt-get": "make", "dnf": "make"},
    "ld": {"apt-get": "binutils", "dnf": "binutils"},
    "g++": {"apt-get": "g++", "dnf": "gcc-c++"},
    "iverilog": {"apt-get": "iverilog", "dnf": "iverilog"},
    "perl": {"apt-get": "perl", "dnf": "perl"},
}
FILES: dict[str, dict[str, str]] = {
    "libc.a": {"apt-get": "libc6-dev", "dnf": "glibc-static"},
}


def say(text: str) -> None:
    """One line of progress."""
    print(f"setup: {text}", flush=True)


def fail(text: str) -> None:
    """Ends with a message that names the cure."""
    sys.exit(f"setup: {text}")


def _has_libc_archive() -> bool:
    if not shutil.which("gcc"):
        return False
    asked = subprocess.run(
        ["gcc", "-print-file-name=libc.a"], capture_output=True, text=True, check=False
    )
    return Path(asked.stdout.strip()).is_absolute()


def _has_ensurepip() -> bool:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return False
    return True


def missing_packages(manager: str) -> list[str]:
    """Names of the system packages, in the words of ``manager``, that this host lacks."""
    missing = [names[manager] for tool, names in TOOLS.items() if not shutil.which(tool)]
    if not _has_libc_archive():
        missing += [FILES["libc.a"][manager]]
    if not _has_ensurepip():
        missing += [{"apt-get": "python3-venv", "dnf": "python3-pip"}[manager]]
    return list(dict.fromkeys(missing))


def _as_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        quiet = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
        if quiet.returncode == 0 or sys.stdin.isatty():
            return ["sudo"]
    return None


def install_system_packages() -> None:
    """Installs what is missing, or ends by naming the command that would."""
    manager = next((m for m in ("apt-get", "dnf") if shutil.which(m)), None)
    missing = missing_packages(manager or "apt-get")
    if not missing:
        return
    if manager is None:
        fail(f"these are missing, install them with your package manager: {' '.join(missing)}")
        return
    command = [manager, "install", "-y", *missing]
    root = _as_root()
    if root is None:
        fail(f"system packages are missing; as root, run: {' '.join(command)}")
        return
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if manager == "apt-get":
        subprocess.run([*root, manager, "-q", "update"], check=False, stdout=subprocess.DEVNULL)
    done = subprocess.run([*root, *command], check=False, env=environment, capture_output=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        fail(f"could not install; as root, run: {' '.join(command)}")


def _wanted() -> str:
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _works(environment: Path) -> bool:
    """Whether there is an environment of this very Python; another one is made anew."""
    python = environment / "bin" / "python"
    if not python.exists():
        return False
    said = subprocess.run(
        [str(python), "-c", "import pip, sys; print(sys.version)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() == sys.version.strip()


def make_environment() -> None:
    """Creates ``.venv`` with the locked packages and the project itself in it."""
    wanted = _wanted()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    say("creating .venv and installing the locked Python packages")
    try:
        if not _works(VENV):  # it may be the one that runs this
            venv.EnvBuilder(with_pip=True, clear=True).create(VENV)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(f"python3 -m venv failed ({error}); install python3-venv")
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    for arguments in (
        ["install", "-r", str(LOCK)],
        ["install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ):
        done = subprocess.run([*pip, *arguments], check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            fail("pip could not install the locked packages; see the lines above")
    compile_kernels()
    STAMP.write_text(wanted)


def compile_kernels() -> None:
    """Compiles the loops of the packet path now; without it the first device process would."""
    say("compiling the packet path")
    subprocess.run([str(VENV / "bin" / "python"), "-m", "emulator.warm"], cwd=ROOT, check=False)


def fetch_virtual_machine() -> None:
    """QEMU, kernel, headers and busybox, into the cache folder."""
    done = subprocess.run(
        [str(VENV / "bin" / "python"), "-m", "vm", "setup"], cwd=ROOT, check=False
    )
    if done.returncode != 0:
        sys.exit(done.returncode)


def main(arguments: list[str]) -> None:
    """``bootstrap.py [--python-only]``."""
    if sys.version_info < PYTHON_MIN:
        fail(f"Python {'.'.join(map(str, PYTHON_MIN))} or newer is needed; this is {sys.version}")
    install_system_packages()
    make_environment()
    if "--python-only" not in arguments:
        fetch_virtual_machine()


if __name__ == "__main__":
    main(sys.argv[1:])
