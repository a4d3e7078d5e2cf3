# SPDX-License-Identifier: MIT
"""On which line of a TOML document a key or a list element stands.

``tomllib`` yields values without positions. This module cuts a document that ``tomllib`` accepts
into statements (the shortest runs of lines that parse on their own) and asks ``tomllib`` what each
of them declares, so quoted keys, dotted keys, inline tables and lists over several lines need no
grammar of ours. Tables within an element of an array of tables are not told apart.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

#: A key, or a list index, at each level from the top of the document.
KeyPath = tuple[str | int, ...]

_AT_LINE = re.compile(r"\(at line (\d+), column \d+\)$")


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every key and list element of ``text``, a valid TOML document."""
    lines = text.splitlines()
    found: dict[KeyPath, int] = {}
    table: KeyPath = ()
    elements: Counter[KeyPath] = Counter()
    for start, end, declared in _statements(lines):
        if lines[start].lstrip().startswith("[["):
            above = _deepest_table(declared)
            table = (*above, elements[above])
            elements[above] += 1
            found.setdefault(above, start + 1)
            found[table] = start + 1
        elif lines[start].lstrip().startswith("["):
            table = _deepest_table(declared)
            _record(found, (), declared, start + 1)
        else:
            _record(found, table, declared, start + 1)
            _record_elements(found, table, declared, lines[start:end], start)
    return found


def error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line (from 1) a syntax error is on; the last line when it is the document's end."""
    match = _AT_LINE.search(str(error))
    return int(match[1]) if match else max(1, len(text.splitlines()))


def _statements(lines: list[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(first line, line after the last, what it declares), from 0, for every statement."""
    start = 0
    while start < len(lines):
        end, declared = _shortest_document(lines, start)
        if declared:
            yield start, end, declared
        start = end


def _shortest_document(lines: list[str], start: int) -> tuple[int, dict[str, Any]]:
    for end in range(start + 1, len(lines) + 1):
        declared = _parse("\n".join(lines[start:end]))
        if declared is not None:
            return end, declared
    return len(lines), {}


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text + "\n")
    except tomllib.TOMLDecodeError:
        return None


def _deepest_table(declared: dict[str, Any]) -> KeyPath:
    """The path that a header statement such as ``[a.b]`` opens."""
    path: KeyPath = ()
    node: Any = declared
    while isinstance(node, dict) and node:
        key = next(iter(node))
        path, node = (*path, key), node[key]
    return path


def _record(found: dict[KeyPath, int], above: KeyPath, value: object, line: int) -> None:
    children: Iterator[tuple[str | int, Any]]
    if isinstance(value, dict):
        children = iter(value.items())
    elif isinstance(value, list):
        children = iter(enumerate(value))
    else:
        return
    for key, child in children:
        found.setdefault((*above, key), line)
        _record(found, (*above, key), child, line)


def _record_elements(
    found: dict[KeyPath, int],
    table: KeyPath,
    declared: dict[str, Any],
    lines: list[str],
    start: int,
) -> None:
    """Refines the lines of the elements of a list that is spread over several lines.

    Closing the list after each of its lines and parsing tells how many elements have begun by then.
    """
    if len(lines) == 1:
        return
    path: KeyPath = ()
    value: Any = declared
    while isinstance(value, dict):
        key = next(iter(value))
        path, value = (*path, key), value[key]
    if not isinstance(value, list):
        return
    seen = 0
    for count in range(1, len(lines) + 1):
        partial: Any = declared if count == len(lines) else _parse("\n".join(lines[:count]) + "\n]")
        for key in path:
            partial = partial[key] if partial else None
        for index in range(seen, len(partial or ())):
            found[(*table, *path, index)] = start + count
        seen = max(seen, len(partial or ()))
