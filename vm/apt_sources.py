# SPDX-License-Identifier: MIT
"""Reads the host's apt sources, in both formats, and picks its main Debian archive.

Formats: sources.list(5), one line per entry (`.list`) and deb822 stanzas (`.sources`).  Only text
comes in and values go out; `read_host_sources` is the one function that opens files.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.errors import SetupError

HOST_APT = Path("/etc/apt")
_ONE_LINE = re.compile(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<rest>\S.*)$")


@dataclass(frozen=True)
class AptSource:
    """One enabled entry for binary packages.

    `signed_by` is a path list, a whole key block, or empty.
    """

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False


def parse_one_line(text: str) -> list[AptSource]:
    """Entries of a `.list` file, without deb-src lines and those apt would refuse."""
    sources = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match is None:
            continue
        options = dict(
            option.split("=", 1) for option in (match["options"] or "").split() if "=" in option
        )
        suite, *components = match["rest"].split()
        sources.append(
            AptSource(
                match["uri"],
                (suite,),
                tuple(components),
                options.get("signed-by", ""),
                options.get("trusted") == "yes",
            )
        )
    return sources


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Deb822 stanzas as lower-case names and values, continuations with their line breaks."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t" and name:
            fields[name] += "\n" + ("" if line.strip() == "." else line.strip())
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()


def parse_deb822(text: str) -> list[AptSource]:
    """Entries of a `.sources` file, one per URI; disabled and source-only stanzas are left out."""
    sources: list[AptSource] = []
    for fields in _stanzas(text):
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        sources.extend(
            AptSource(
                uri,
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                fields.get("signed-by", "").strip(),
                fields.get("trusted", "").lower() == "yes",
            )
            for uri in fields.get("uris", "").split()
        )
    return sources


def main_archive(sources: Sequence[AptSource], codename: str) -> AptSource:
    """The entry of the distribution itself: component main of the host's own release.

    Third parties name suites and components of their own, or use the same names with a key of
    their own; an entry with the archive's key therefore wins over one without, and the first of
    equals wins.

    Raises:
        SetupError: no entry serves `codename` with component main.
    """
    names = {codename, "stable", "oldstable", "testing", "unstable"}
    fitting = [s for s in sources if names & set(s.suites) and "main" in s.components]
    if not fitting:
        raise SetupError(
            f"no apt source for Debian {codename} main in {HOST_APT}; add one, or name what is"
            " to be used: QEMU=<program> KERNEL=<image> KDIR=<kernel build tree>"
        )

    def distance(source: AptSource) -> tuple[bool, bool]:
        return "debian-archive" not in source.signed_by, source.signed_by != ""

    return min(fitting, key=distance)


def read_host_sources(folder: Path = HOST_APT) -> list[AptSource]:
    """All enabled entries of the host, in the order apt reads them."""
    sources: list[AptSource] = []
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for path in files:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        sources += parse_deb822(text) if path.suffix == ".sources" else parse_one_line(text)
    return sources
