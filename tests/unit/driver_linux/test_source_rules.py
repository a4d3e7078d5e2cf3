# SPDX-License-Identifier: MIT
"""Rules for the kernel modules' sources that need neither a kernel nor a compiler."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "driver" / "linux"
SOURCES = sorted(path for path in DRIVER.rglob("*.[ch]") if not path.name.endswith(".mod.c"))
HOT_PATH = [
    DRIVER / f"dmabed_{name}.c"
    for name in (
        "rx",
        "rx_page",
        "rx_pool",
        "rx_map",
        "rx_array",
        "rx_flip",
        "rx_order",
        "rx_recycle",
        "rx_shadow",
        "rx_bulk",
        "tx",
    )
]
COMPLETION_FIELDS = ("hash", "len", "id", "frame_len", "status")
MAX_LINES = 400
MAX_FUNCTION_LINES = 45


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(DRIVER)) for path in paths]


def code(text: str) -> str:
    """The text with comments blanked, line numbers kept."""
    return re.sub(
        r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL
    )


def functions(text: str) -> dict[str, str]:
    """Name and body of each function: from brace to brace in column 0."""
    found = re.findall(
        r"^(?!struct|enum|union)(\w[^;{}=]*?)\n\{\n(.*?)^\}", code(text), re.M | re.S
    )
    return {m[1]: body for head, body in found if (m := re.search(r"(\w+)\s*\(", head))}


def unguarded_reads(body: str) -> list[str]:
    """Fields of a completion ``c`` that are read without READ_ONCE, or more than once."""
    bad = []
    for field in COMPLETION_FIELDS:
        all_reads = len(re.findall(rf"\bc->{field}\b", body))
        once = len(re.findall(rf"READ_ONCE\(c->{field}\)", body))
        if all_reads != once or once > 1:
            bad.append(field)
    return bad


def find_checkpatch() -> Path | None:
    """``CHECKPATCH=``, or the script in the tree named by ``KDIR=`` or in a kernel of the cache.

    Debian ships it in linux-source-<version> only, not with the headers.
    """
    if named := os.environ.get("CHECKPATCH"):
        return Path(named)
    cache = Path(os.environ.get("DMABED_CACHE", Path.home() / ".cache" / "dmabed"))
    candidates = [
        Path(tree) / "scripts" / "checkpatch.pl" for tree in [os.environ.get("KDIR")] if tree
    ]
    candidates += sorted(cache.glob("kernel-*/usr/*/*/scripts/checkpatch.pl"))
    return next((path for path in candidates if path.is_file()), None)


CHECKPATCH = find_checkpatch()


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_file_without_gpl_spdx_line_or_purpose(path: Path) -> None:
    first, second = path.read_text().splitlines()[:2]
    style = "// %s" if path.suffix == ".c" else "/* %s */"
    allowed = {
        style % f"SPDX-License-Identifier: {word}" for word in ("GPL-2.0", "(GPL-2.0 OR MIT)")
    }
    assert first in allowed
    assert second == "/*", "the second line opens the comment that says what the file is for"


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_line_breaks_kernel_style(path: Path) -> None:
    problems = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        wide = len(line.expandtabs(8)) > 100
        if wide or line != line.rstrip() or re.match(r" {8}|\t+ {8}", line):
            problems.append((number, line))
    assert problems == []


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_file_or_function_grew_too_long(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES
    long = {name: body.count("\n") for name, body in functions(text).items()}
    assert {name: n for name, n in long.items() if n > MAX_FUNCTION_LINES} == {}


def test_source_file_is_not_built() -> None:
    for folder, module in ((DRIVER, "dmabed_nic"), (DRIVER / "sink", "dmabed_sink")):
        built = set(re.findall(r"(\w+)\.o\b", (folder / "Kbuild").read_text()))
        present = {path.stem for path in folder.glob("*.c") if not path.name.endswith(".mod.c")}
        assert present - {module} == built - {"dmabed_nic", "dmabed_sink"}


def test_kernel_version_number_decides_what_is_compiled() -> None:
    offenders = [path.name for path in SOURCES if "LINUX_VERSION_CODE" in path.read_text()]
    assert offenders == []


def test_device_can_stop_the_kernel_by_an_assertion() -> None:
    for path in SOURCES:
        assert not re.search(r"\b(BUG|BUG_ON|panic)\s*\(", code(path.read_text())), path.name


@pytest.mark.parametrize("path", HOT_PATH, ids=names(HOT_PATH))
def test_hot_path_reads_a_register(path: Path) -> None:
    assert not re.search(
        r"\b(readl|readq|ioread32|dmabed_read|dmabed_read64)\(", code(path.read_text())
    )


@pytest.mark.parametrize("path", HOT_PATH, ids=names(HOT_PATH))
def test_completion_field_is_fetched_twice_or_without_read_once(path: Path) -> None:
    reads = {name: unguarded_reads(body) for name, body in functions(path.read_text()).items()}
    assert {name: bad for name, bad in reads.items() if bad} == {}


@pytest.mark.parametrize("path", HOT_PATH, ids=names(HOT_PATH))
def test_descriptor_is_read_back(path: Path) -> None:
    """The device can write the rings: what was put there is not what is there."""
    for use in re.findall(r"(?:ring\.[rt]x\[[^]]*\]\.|desc->)\w+\s*(\S+)", code(path.read_text())):
        assert use == "="


@pytest.mark.parametrize("path", HOT_PATH, ids=names(HOT_PATH))
def test_slot_taken_from_a_completion_indexes_an_array(path: Path) -> None:
    """The id of a completion is only compared with the slot it must name."""
    text = code(path.read_text())
    for context in re.findall(r"(\S+)\(READ_ONCE\(c->id\)\)\s*(\S+)", text):
        assert context[1] == "!=", context
    assert not re.search(r"\[[^]]*c->", text)


def test_double_fetch_check_sees_a_double_fetch() -> None:
    assert unguarded_reads("x = READ_ONCE(c->len); y = READ_ONCE(c->len);") == ["len"]
    assert unguarded_reads("x = c->id;") == ["id"]
    assert unguarded_reads("x = READ_ONCE(c->id) + READ_ONCE(c->len);") == []


def test_function_finder_sees_the_receive_path() -> None:
    found = functions((DRIVER / "dmabed_rx.c").read_text())
    assert {"dmabed_rx_one", "dmabed_rx_poll", "dmabed_rx_piece"} <= set(found)
    assert "READ_ONCE(c->id)" in found["dmabed_rx_one"]


if CHECKPATCH is not None:

    def test_checkpatch_complains() -> None:
        files = [str(path) for path in SOURCES]
        command = [
            "perl",
            str(CHECKPATCH),
            "--no-tree",
            "--strict",
            "--terse",
            "--no-summary",
            "-f",
        ]
        done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
        said = [
            line
            for line in done.stdout.splitlines()
            if re.search(r": (ERROR|WARNING|CHECK): ", line)
        ]
        assert said == []
        assert done.returncode == 0, done.stderr
