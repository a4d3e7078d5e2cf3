# SPDX-License-Identifier: MIT
"""A rule that was not judged does not pass for one that was kept: table, sentence, page."""

from __future__ import annotations

import dataclasses

from testbed.report.html import render_html
from testbed.report.rules import rule_rows, rules_sentence
from testbed.results import RunResult


def test_silent_rule_is_counted_as_kept(run: RunResult) -> None:
    rows = {row[0]: row for row in rule_rows(run)}
    assert rows["O-1"][1:] == ("no access outside live mappings", "all", "-")
    assert rows["O-5"][2:] == ("-", "all: buffers the stack reads (needs the stack)")
    assert rows["O-8"][2] == "intel-strict, virtio-lazy, virtio-strict, curve"
    assert rows["O-8"][3] == "none: needs page_pool counts"


def test_sentence_says_how_many_rules_and_names_the_rest(run: RunResult) -> None:
    assert rules_sentence(run) == (
        "1 of 3 rules were judged in full in each of 5 boots; O-5 and O-8 not, or in part, or not "
        "everywhere: see the rules' table."
    )
    alone = dataclasses.replace(run, judged=run.judged[1:2])
    assert rules_sentence(alone).startswith("2 of 3 rules were judged in full in 1 boot; O-5 not")
    assert rules_sentence(dataclasses.replace(run, judged=())) == ""


def test_page_has_no_table_of_rules_or_leaves_out_why(run: RunResult) -> None:
    page = render_html(run, ())
    assert "<h2>Rules</h2>" in page and "none: needs page_pool counts" in page
    assert "1 of 3 rules were judged in full" in page
    bare = render_html(dataclasses.replace(run, judged=()), ())
    assert "<h2>Rules</h2>" not in bare and "rules were judged" not in bare
