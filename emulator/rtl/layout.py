# SPDX-License-Identifier: MIT
"""The packed structs of ``dmabed_tlp_pkg.sv``, read from there: they are declared nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from emulator.errors import DmabedError

FOLDER = Path(__file__).parent
PACKAGE = FOLDER / "dmabed_tlp_pkg.sv"

_STRUCT = re.compile(r"typedef struct packed \{(?P<body>[^}]*)\} (?P<name>\w+);")
_MEMBER = re.compile(r"logic(?: \[(?P<high>\d+):0\])? (?P<name>\w+);")
_CONSTANT = re.compile(r"localparam logic(?: \[\d+:0\])? (\w+) = \d+'[bd](\d+);")
_BINARY = re.compile(r"localparam logic(?: \[\d+:0\])? (\w+) = \d+'b([01]+);")


class LayoutError(DmabedError):
    """The package does not declare what was asked for."""


@dataclass(frozen=True)
class Layout:
    """A packed struct of ``width`` bits; fields: name -> (lowest bit, bits)."""

    width: int
    fields: Mapping[str, tuple[int, int]]

    def pack(self, **values: int) -> int:
        """The vector with these fields; the others are 0.

        Raises:
            LayoutError: no such field, or the value does not fit.
        """
        vector = 0
        for name, value in values.items():
            if name not in self.fields:
                raise LayoutError(f"no field {name!r}; there are {', '.join(self.fields)}")
            low, bits = self.fields[name]
            if not 0 <= value < 1 << bits:
                raise LayoutError(f"{name} = {value:#x} does not fit in {bits} bits")
            vector |= value << low
        return vector

    def unpack(self, vector: int) -> dict[str, int]:
        """Field -> value."""
        return {
            name: vector >> low & ((1 << bits) - 1) for name, (low, bits) in self.fields.items()
        }


@cache
def struct(name: str) -> Layout:
    """The layout of ``name``.

    Raises:
        LayoutError: the package has no struct of plain bits of that name.
    """
    for found in _STRUCT.finditer(PACKAGE.read_text()):
        if found["name"] == name:
            return _layout(found["body"])
    raise LayoutError(f"{PACKAGE.name} declares no packed struct {name}")


def _layout(body: str) -> Layout:
    members = [(m["name"], int(m["high"] or 0) + 1) for m in _MEMBER.finditer(body)]
    fields, at = {}, 0
    for name, bits in reversed(members):
        fields[name] = (at, bits)
        at += bits
    return Layout(at, fields)


@cache
def constants() -> Mapping[str, int]:
    """Name -> value of the constants for kinds and address types."""
    text = PACKAGE.read_text()
    decimal = {name: int(value) for name, value in _CONSTANT.findall(text)}
    return decimal | {name: int(value, 2) for name, value in _BINARY.findall(text)}
