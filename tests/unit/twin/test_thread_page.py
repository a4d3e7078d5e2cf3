# SPDX-License-Identifier: MIT
"""docs/thread.md says what the experiments say, row by row."""

import re

import pytest

from testbed.twin.thread import page

NUMBERS = range(1, 23)
TEXT = page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", NUMBERS)
def test_section_that_is_not_what_the_experiment_found(number):
    """Run `make thread` if this fails; docs/thread.md is written by it."""
    found = page.row(number)
    assert found.number == number
    assert page.section(found) in TEXT


def test_row_without_section_summary_or_order():
    headings = re.findall(r"^## T(\d+): ", TEXT, re.M)
    assert [int(number) for number in headings] == list(NUMBERS)
    summary = re.findall(r"^\| \[T(\d+)\]\(#([^)]*)\)", TEXT, re.M)
    assert [int(number) for number, _ in summary] == list(NUMBERS)
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.*)$", TEXT, re.M)
    }
    assert {anchor for _, anchor in summary} <= anchors
    assert page.summary([page.row(number) for number in NUMBERS]) in TEXT


def test_claim_that_was_counted_in_the_kernel_is_not_on_the_page():
    assert set(page.counted()) == {1, 2, 3, 4, 5, 10, 20}
    for number, claim in page.counted().items():
        assert claim.counted in page.section(page.row(number))
        assert re.search(rf"^\| \[T{number}\].*\| {claim.judgement}: \S", TEXT, re.M)


def test_page_that_was_edited_by_hand():
    assert TEXT.startswith(page.intro())
    assert len(TEXT) == len(page.page())
