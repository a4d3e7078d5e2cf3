# SPDX-License-Identifier: MIT
"""The measured parts of the README: what they say, and that nothing else of it is touched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from testbed.errors import ReportError
from testbed.report.readme_text import (
    PAGE_WIDTH,
    debate_table,
    replace_block,
    run_output,
    suite_output,
)
from testbed.results import RunResult

README = Path("README.md")


def test_text_around_a_block_changes() -> None:
    text = "above\n<!-- b -->\nold\n<!-- /b -->\nbelow\n"
    assert (
        replace_block(text, "b", "new\n", README) == "above\n<!-- b -->\nnew\n<!-- /b -->\nbelow\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- b -->\n",
        "<!-- /b -->\n<!-- b -->\n",
        "<!-- b -->\n<!-- b -->\n<!-- /b -->",
    ],
)
def test_readme_without_its_markers_is_written_to(text: str) -> None:
    with pytest.raises(ReportError, match=r"README.md.*<!-- b -->"):
        replace_block(text, "b", "", README)


def test_output_is_wider_than_the_page_or_lacks_a_table(run: RunResult) -> None:
    lines = run_output(run).splitlines()
    assert max(map(len, lines)) <= PAGE_WIDTH
    assert lines[0] == "```text"
    assert lines[-1] == "```"
    assert sum(line.startswith("page_pool ") for line in lines) == len(run.cases) // 2
    assert any("added to each" in line for line in lines)


def test_debate_has_a_row_without_a_number_behind_it(run: RunResult) -> None:
    assert debate_table(run).count("\n") == 7
    only_none = [case for case in run.cases if case.iommu == "none"]
    bare = dataclasses.replace(run, cases=tuple(only_none), curve=())
    assert debate_table(bare) == "| claim of 2016 | here |\n|---|---|\n"


def test_end_of_a_test_log_is_lost() -> None:
    log = "All checks passed!\nnoise\n9 files already formatted\n=== test session starts ===\n"
    log += "tests/a.py ...\n===== 12 passed in 3.45s =====\n"
    assert suite_output(log).splitlines()[1:-1] == [
        "$ make test",
        "All checks passed!",
        "9 files already formatted",
        "===== 12 passed in 3.45s =====",
    ]
