# SPDX-License-Identifier: MIT
"""The documents against the tree: links, targets, commands, listings; what no file may say."""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

from emulator.ledger.rules.catalogue import RULES
from testbed import cli
from testbed.report.readme_text import DEBATE, OUTPUT, TESTS, replace_block

ROOT = Path(__file__).parents[3]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "own-device.md"
EXAMPLE = ROOT / "examples" / "scratch_device.py"
DOCUMENTS = sorted([README, *(ROOT / "docs").glob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text()
#: Targets that others call, and that the list of targets therefore leaves out.
INNER_TARGETS = {"lint", "setup-python", "test-host"}
#: Folders that a path in backquotes may begin with.
FOLDERS = ("docs/", "driver/", "emulator/", "examples/", "pool/", "testbed/", "tests/", "vm/")
#: Written in two halves, so that this file does not hold what it looks for.
FOREIGN = (
    ("/wo" + "rk", r"(?<![\w.:-])/wo" + r"rk(?=[/\s'\"`)]|$)"),
    ("a home folder", r"(?<![\w.])/(?:root|home/\w+)/\.(?:cache|pyenv|cargo)"),
    ("a registry", r"\b(?:py" + r"pi\.org|pythonhosted\.org|proxy\.golang\.org)\b"),
    ("a registry", r"\b(?:registry|artifact\w*|nexus)\.[\w-]+\.(?:com|org|net|io|dev)\b"),
)


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


def tracked_texts() -> list[Path]:
    """Files git knows or would take in; all files but the ignored ones where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file() and path.suffix != ".png"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_link_leads_nowhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    local = [link.partition("#") for link in links if not re.match(r"[a-z]+:", link)]
    broken = [path for path, _, _ in local if path and not (document.parent / path).exists()]
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_anchor_leads_nowhere(document: Path) -> None:
    text = document.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}
    anchors |= set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_named_file_does_not_exist(document: Path) -> None:
    named = re.findall(r"`([\w./-]+)`", document.read_text())
    missing = [n for n in named if n.startswith(FOLDERS) and not (ROOT / n).exists()]
    assert missing == []


def test_file_named_by_its_rule_does_not_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    told = dict(re.findall(r"^\| (O-\d+) \| `(\w+\.py)` \|", text, re.M))
    assert set(told) == {rule.number for rule in RULES}
    assert all((ROOT / "emulator/ledger/rules" / name).is_file() for name in told.values())


def targets() -> dict[str, str]:
    """Every target of the Makefile with its help line, or with "" if it has none."""
    found = re.findall(r"^([a-z][a-z-]*):[^=\n#]*(?:## (.*))?$", MAKEFILE, re.M)
    return dict(found)


def test_make_target_named_in_a_document_does_not_exist() -> None:
    for document in DOCUMENTS:
        text = document.read_text()
        named = re.findall(r"`make ([a-z-]+)`", text)
        named += re.findall(r"^ {4}(?:\$ )?make ([a-z-]+)", text, re.M)
        assert set(named) <= set(targets()), document


def test_make_target_is_neither_in_a_document_nor_in_the_help() -> None:
    told = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"`make ([a-z-]+)`", document.read_text())
    }
    assert set(targets()) - {"help"} <= told
    assert {name for name, line in targets().items() if not line} <= INNER_TARGETS


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The command line's actions."""
    (actions,) = (
        action
        for action in cli._parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(actions.choices)


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_documented_command_is_not_understood(document: Path) -> None:
    for line in re.findall(
        r"(?:^ {4}|`)(?:\.venv/bin/)?dmabed ([a-z][^`\n]*)", document.read_text(), re.M
    ):
        action, *arguments = line.split()
        assert action in parsers(), line
        assert parsers()[action].parse_args(arguments), line


def test_variable_in_the_readme_is_not_read_anywhere() -> None:
    rows = re.findall(r"^\| ((?:`[A-Z_]+=`(?:, )?)+) \|", README.read_text(), re.M)
    variables = {name for row in rows for name in re.findall(r"`([A-Z_]+)=`", row)}
    assert {"QEMU", "KERNEL", "KDIR", "DMABED_CACHE"} <= variables
    sources = "".join(path.read_text() for part in ("vm", "testbed") for path in _python(part))
    assert {name for name in variables if f'"{name}"' not in sources} == set()


def _python(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


@pytest.mark.parametrize("block", [OUTPUT, DEBATE, TESTS])
def test_readme_has_no_place_for_a_measured_block(block: str) -> None:
    renewed = replace_block(README.read_text(), block, "here\n", README)
    assert f"<!-- {block} -->\nhere\n<!-- /{block} -->" in renewed


def test_readme_is_longer_than_one_reads() -> None:
    assert len(README.read_text().splitlines()) <= 220


def test_guides_listing_differs_from_the_example() -> None:
    (listing,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert EXAMPLE.read_text().partition("\n")[2] == listing


def test_example_is_longer_than_the_guide_says() -> None:
    (said,) = re.findall(r"in (\d+) lines", GUIDE.read_text().splitlines()[0])
    assert code_lines(EXAMPLE.read_text()) <= int(said)


def code_lines(source: str) -> int:
    """Lines with code on them: no blank lines, comments or strings that stand alone."""
    idle = {tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}
    lines: dict[int, list[int]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in idle and token.string:
            for line in range(token.start[0], token.end[0] + 1):
                lines.setdefault(line, []).append(token.type)
    return sum(kinds != [tokenize.STRING] for kinds in lines.values())


def test_file_names_this_machine_or_a_registry() -> None:
    found = []
    for path in tracked_texts():
        text = path.read_text(errors="replace")
        for what, pattern in FOREIGN:
            for match in re.finditer(pattern, text, re.M):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(ROOT)}:{line}: {what}: {match[0]}")
    assert found == []
