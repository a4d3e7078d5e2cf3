# SPDX-License-Identifier: MIT
"""report.html: well-formed, alone in the world, and not to be talked into running anything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from testbed.report.html import render_html
from testbed.report.plots import Plot
from testbed.results import RunResult

VOID = {"meta", "link", "br", "img", "input", "hr", "col"}
ATTACK = "<script>alert('x')</script>\" onload=\"x"


class Checker(HTMLParser):
    """Collects tags and attributes; ``problems`` holds what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        self.problems += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture(scope="module")
def page(run: RunResult, plots: tuple[Plot, ...]) -> str:
    return render_html(run, plots, ["results.json", "console.log"])


def test_every_tag_is_closed_in_order(page: str) -> None:
    assert Checker(page).problems == []
    assert page.startswith("<!DOCTYPE html>")


def test_nothing_is_loaded_from_outside(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|xmlns", page.replace("<!DOCTYPE", ""))
    siblings = {"results.json", "console.log"} | {
        f"{name}.{kind}"
        for name in ("amortisation", "rates", "exposure")
        for kind in ("svg", "png")
    }
    for tag, attributes in Checker(page).tags:
        assert tag not in {"script", "iframe", "object", "embed", "img"}
        assert "src" not in attributes
        target = attributes.get("href")
        assert target is None or target in siblings or target.startswith(("#", "data:,"))


def test_ids_of_all_figures_are_unique_and_found(page: str) -> None:
    tags = Checker(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [a["href"] for tag, a in tags if tag == "use" and a.get("href")]
    wanted += [f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", page)]
    assert wanted
    assert {str(name)[1:] for name in wanted} <= set(ids)


def test_figures_say_their_finding_to_those_who_cannot_see(page: str) -> None:
    labels = [a.get("aria-label") for tag, a in Checker(page).tags if tag == "svg"]
    assert len(labels) == 3
    assert all(labels)


def test_figures_follow_light_and_dark(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    svg = page[page.index("<svg") : page.rindex("</svg>")]
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "var(--ink)" in svg


def test_page_holds_what_the_run_said(page: str, run: RunResult) -> None:
    text = Checker(page).text
    for wanted in (run.title, "make run", "6.12.9-cloud-amd64", "11.1.3", "1.0000", "218×",
                   "open > 2.46 s", "The ledger reported none."):  # fmt: skip
        assert wanted in text


def test_hostile_text_is_shown_and_not_obeyed(
    with_case: Callable[..., RunResult], plots: tuple[Plot, ...]
) -> None:
    run = with_case(0, violations=(ATTACK,), verdict="violated", notes=(ATTACK,))
    fields = ("title", "command", "scenario", "created", "qemu_version", "kernel_release")
    run = dataclasses.replace(run, **dict.fromkeys(fields, ATTACK), notes=(ATTACK,))
    named = tuple(dataclasses.replace(plot, alt=ATTACK) for plot in plots)
    page = render_html(run, named, [ATTACK])
    checker = Checker(page)
    assert checker.problems == []
    assert not any(tag == "script" or "onload" in a for tag, a in checker.tags)
    assert checker.text.count(ATTACK) >= 9


def test_violations_are_listed(with_case: Callable[..., RunResult]) -> None:
    run = with_case(5, violations=("O-3 first", "O-7 second"), verdict="violated")
    text = Checker(render_html(run, ())).text
    assert "O-3 first" in text
    assert "O-7 second" in text
    assert "The ledger reported none." not in text


def test_bench_alone_makes_a_page(bench: RunResult) -> None:
    checker = Checker(render_html(bench, ()))
    assert checker.problems == []
    assert "virtio-lazy, 64 B" in checker.text
    assert "ours / best of QEMU's" in checker.text
    assert "Violations" not in checker.text
