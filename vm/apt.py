# SPDX-License-Identifier: MIT
"""Unpacks Debian packages into a folder, unprivileged, through an apt configuration of our own.

The private configuration has its own lists, cache and (empty) package state, so the host's package
system is neither changed nor asked for rights.  The mirror, its key and the proxy settings are the
host's own.
"""

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vm.apt_sources import AptSource, main_archive, read_host_sources
from vm.cache import locked
from vm.errors import SetupError

Progress = Callable[[str], None]

CURE = "name what is to be used instead: QEMU=<program> KERNEL=<image> KDIR=<kernel build tree>"
_WITH_BACKPORTS = ("bookworm", "trixie")
_LISTS_FRESH_S = 24 * 3600
_KEYRINGS = tuple(
    Path("/usr/share/keyrings") / f"debian-archive-keyring.{suffix}" for suffix in ("gpg", "pgp")
)
# Host settings worth keeping: how to reach the mirror and how strict to be about a mirror's age.
_KEPT_SETTINGS = re.compile(
    r"^Acquire::(?:https?::|Retries|ForceIPv|Check-|Max-ValidTime|Min-ValidTime)"
)
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)")


@dataclass(frozen=True)
class Package:
    """One package apt resolved: what `apt-get download` takes, and its size in bytes."""

    name: str
    version: str
    size: int


def parse_print_uris(text: str) -> list[Package]:
    """Packages in the output of `apt-get --print-uris install`."""
    packages = []
    for line in text.splitlines():
        if match := _URI_LINE.match(line):
            name, version, _arch = unquote(match["file"]).split("_", 2)
            packages.append(Package(name, version, int(match["size"])))
    return packages


def host_release(path: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """The host's distribution id and codename, as ("debian", "bookworm"); empty if unknown."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "", ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("ID", "").strip('"'), fields.get("VERSION_CODENAME", "").strip('"')


def _require_host(codename: str) -> None:
    if platform.machine() != "x86_64":
        raise SetupError(
            f"packages are set up on x86_64 hosts only, not {platform.machine()}; {CURE}"
        )
    for tool in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SetupError(f"no {tool} on this host, so packages cannot be fetched; {CURE}")
    if host_release()[0] != "debian" or not codename:
        raise SetupError(f"this host is not Debian, so its apt sources do not serve; {CURE}")


class PrivateApt:
    """An apt of our own in the cache, for one Debian release out of the host's main Debian archive.

    Raises (constructor):
        SetupError: the host is no Debian on x86_64 with apt, or has no Debian source.
    """

    def __init__(self, cache: Path, release: str, progress: Progress) -> None:
        codename = host_release()[1]
        _require_host(codename)
        self._root = cache / f"apt-{release}"
        backports = [f"{release}-backports"] if release in _WITH_BACKPORTS else []
        self._suites = (release, *backports)
        self._progress = progress
        self._archive = main_archive(read_host_sources(), codename)
        self._updated = False

    def unpack(
        self, names: Sequence[str], wanted: Callable[[str], bool], target: str, folder: Path
    ) -> list[Package]:
        """Resolves `names` with dependencies, downloads those `wanted`, unpacks them.

        Args:
            names: package names.
            wanted: says for a package name whether its files are needed.
            target: the suite preferred over the others, as in `apt-get -t`.
            folder: where the packages' trees are merged.

        Raises:
            SetupError: a package is not in the archive, or the network or the mirror fails.
        """
        with locked(self._root):
            self._update()
            packages = [p for p in self._resolve(names, target) if wanted(p.name)]
            debs = self._root / "debs"
            shutil.rmtree(debs, ignore_errors=True)
            debs.mkdir()
            self._download(packages, debs)
            for deb in sorted(debs.glob("*.deb")):
                _run(["dpkg-deb", "--extract", str(deb), str(folder)])
            shutil.rmtree(debs)
        return packages

    def _update(self) -> None:
        stamp = self._root / "updated"
        if self._updated or (
            stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < _LISTS_FRESH_S
        ):
            return
        self._configure()
        self._progress(f"reading package lists of {', '.join(self._suites)}")
        self._apt(["update", "--error-on=any"])
        stamp.touch()
        self._updated = True

    def _resolve(self, names: Sequence[str], target: str) -> list[Package]:
        output = self._apt(["install", "--yes", "--print-uris", f"-t={target}", *names])
        return parse_print_uris(output)

    def _download(self, packages: Sequence[Package], folder: Path) -> None:
        total = sum(package.size for package in packages)
        self._progress(f"downloading {len(packages)} packages, {total / 1e6:.1f} MB")
        done = 0
        for start in range(0, len(packages), 10):
            batch = packages[start : start + 10]
            self._apt(["download", *(f"{p.name}={p.version}" for p in batch)], cwd=folder)
            done += sum(package.size for package in batch)
            self._progress(f"downloaded {done / 1e6:.1f} of {total / 1e6:.1f} MB")

    def _apt(self, arguments: list[str], cwd: Path | None = None) -> str:
        return _run(["apt-get", "-q", *arguments], self._root / "apt.conf", cwd)

    def _configure(self) -> None:
        for folder in ("lists/partial", "cache/archives/partial", "empty"):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._root / "status").touch()
        (self._root / "apt.conf").write_text(private_configuration(self._root, _host_settings()))
        options = _trust_options(self._archive, self._root)
        lines = [f"deb {options} {self._archive.uri} {suite} main\n" for suite in self._suites]
        (self._root / "sources.list").write_text("".join(lines))


def private_configuration(root: Path, kept: Sequence[str]) -> str:
    """The text of the private apt.conf; `kept` are settings taken over from the host."""
    own = {
        "Dir": "/",
        "Dir::Etc": root,
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": root / "empty",
        "Dir::Etc::sourcelist": root / "sources.list",
        "Dir::Etc::sourceparts": root / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": root / "empty",
        "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
        "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
        "Dir::Etc::netrc": "/etc/apt/auth.conf",
        "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d",
        "Dir::State": root,
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Log": root,
        # The root of a container may not become user _apt, and our folders are not that user's
        # anyway.
        "APT::Sandbox::User": "",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Default-Release": "",
        "Acquire::Languages": "none",
        # Without these, an empty package state would drag in every essential package.
        "pkgCacheGen::Essential": "none",
        "pkgCacheGen::ForceEssential": ",",
    }
    return "".join([f'{key} "{value}";\n' for key, value in own.items()] + [f"{k}\n" for k in kept])


def _host_settings() -> list[str]:
    lines = _run(["apt-config", "dump"]).splitlines()
    return [line for line in lines if _KEPT_SETTINGS.match(line) and not line.endswith('"";')]


def _trust_options(archive: AptSource, root: Path) -> str:
    """The bracketed sources.list options that make apt check signatures with the host's own key."""
    options = ["arch=amd64"]
    if archive.trusted:
        options.append("trusted=yes")
    if "BEGIN PGP" in archive.signed_by:
        key = root / "key.asc"
        key.write_text(archive.signed_by.strip() + "\n")
        options.append(f"signed-by={key}")
    elif archive.signed_by:
        options.append(f"signed-by={','.join(archive.signed_by.replace(',', ' ').split())}")
    elif installed := [keyring for keyring in _KEYRINGS if keyring.exists()]:
        options.append(f"signed-by={installed[0]}")
    return f"[{' '.join(options)}]"


def _run(command: list[str], config: Path | None = None, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    if config is not None:
        environment["APT_CONFIG"] = str(config)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        reason = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        shown = " ".join(command[:4])
        raise SetupError(
            f"{shown} failed:\n{reason}\nCheck the network and the apt mirror, or {CURE}"
        )
    return done.stdout
