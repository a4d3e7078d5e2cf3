# SPDX-License-Identifier: MIT
"""Keys and list elements are found on the line where they stand."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.toml_lines import error_line, key_lines

#: A busy machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = '''\
# a comment
title = "x"

a.b = 1
"quoted.key" = 2
list = [ 1, # one
  2,
  # [not] = "an element"
  3, 4,
]
text = """
[fake]
list = 1
"""
inline = { c = [5, 6], d = { e = 7 } }
[table]
key = 1
[table.sub] # comment
key = [
]
[[many]]
key = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("a", "b"), 4),
        (("quoted.key",), 5),
        (("list",), 6),
        (("list", 0), 6),
        (("list", 1), 7),
        (("list", 2), 9),
        (("list", 3), 9),
        (("text",), 11),
        (("inline", "c", 1), 15),
        (("inline", "d", "e"), 15),
        (("table",), 16),
        (("table", "key"), 17),
        (("table", "sub"), 18),
        (("table", "sub", "key"), 19),
        (("many",), 21),
    ],
)
def test_key_is_found_on_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert key_lines(TEXT)[path] == line


def test_what_only_looks_like_a_key_is_not_found() -> None:
    assert ("fake",) not in key_lines(TEXT)


@pytest.mark.parametrize(("text", "line"), [("a = 1\nb = =\n", 2), ("a = [\n1,\n", 2), ("=", 1)])
def test_syntax_error_is_on_its_line(text: str, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    assert error_line(caught.value, text) == line


@PATIENT
@given(st.lists(st.integers(0, 9), max_size=12), st.data())
def test_every_element_of_a_broken_up_list_is_found(values: list[int], data: st.DataObject) -> None:
    text, line, expected = "a = [", 1, []
    for value in values:
        breaks = data.draw(st.integers(0, 2))
        text += "\n" * breaks + f"{value}, "
        line += breaks
        expected.append(line)
    found = key_lines(text + "\n]\n")
    assert [found["a", index] for index in range(len(values))] == expected
