# SPDX-License-Identifier: MIT
"""Programs of the distribution for the guest, with the libraries they need: ethtool."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from vm.apt import PrivateApt, Progress, host_release
from vm.cache import provide
from vm.cpio import CpioArchive
from vm.errors import SetupError

TOOLS = ("ethtool",)
_NEEDS = re.compile(r"^\s*(\S+) (?:=> (\S+) )?\(0x", re.M)
_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")


def provide_tools(cache: Path, progress: Progress, environ: Mapping[str, str] = os.environ) -> Path:
    """A folder with `ethtool` and its libraries, laid out as in the guest; made once.

    On Debian the packages come from the archive, elsewhere the host's own program is taken.

    Raises:
        SetupError: there is none and none can be fetched.
    """
    distribution, codename = host_release()
    found = shutil.which("ethtool", path=f"{environ.get('PATH', '')}:/usr/sbin:/sbin")
    if distribution != "debian" and found is None:
        raise SetupError("no ethtool on this host, which guests get a copy of: install ethtool")
    entry = cache / f"guest-tools-{codename or distribution}"

    def fill(folder: Path) -> None:
        progress("setting up ethtool for the guest")
        if distribution != "debian":
            _collect(Path(str(found)), (), folder)
            return
        root = folder / "unpacked"
        apt = PrivateApt(cache, codename, progress)
        apt.unpack(["ethtool"], lambda name: True, codename, root)
        program = next(p for p in (root / "usr/sbin/ethtool", root / "sbin/ethtool") if p.exists())
        _collect(program, [root / name for name in _LIBRARY_FOLDERS], folder)
        shutil.rmtree(root)

    provide(entry, fill)
    return entry


def _collect(program: Path, libraries: tuple[()] | list[Path], folder: Path) -> None:
    """Copies a program to usr/sbin, its loader to lib64 and its libraries to lib."""
    search = [path for path in libraries if path.is_dir()]
    loader = _loader(search)
    command = [str(loader), "--list", str(program)]
    if search:
        command[1:1] = ["--library-path", ":".join(map(str, search))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise SetupError(f"cannot tell the libraries of {program}: {done.stderr.strip()}")
    for name in ("usr/sbin", "lib64", "lib"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, folder / "usr/sbin" / program.name)
    shutil.copy2(loader.resolve(), folder / "lib64/ld-linux-x86-64.so.2")
    for library, path in _NEEDS.findall(done.stdout):
        if path and "ld-linux" not in library:
            shutil.copy2(Path(path).resolve(), folder / "lib" / library)


def _loader(search: list[Path]) -> Path:
    own = [path / "ld-linux-x86-64.so.2" for path in search]
    found = next((p for p in [*own, Path("/lib64/ld-linux-x86-64.so.2")] if p.exists()), None)
    if found is None:
        raise SetupError("no dynamic loader of the C library was found for the guest's programs")
    return found


def add_tools(archive: CpioArchive, folder: Path) -> None:
    """Adds what `provide_tools` made to an initramfs."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            archive.folder(name)
        else:
            archive.file(name, path.read_bytes(), 0o755)
