# SPDX-License-Identifier: MIT
"""Writes everything that is derived from ``registers.rdl`` and ``descriptors.py``.

``python -m emulator.nic.generate`` writes the files of :data:`OUTPUTS`; with ``--check`` it
writes nothing and exits 1 if one of them is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jinja2

from emulator.nic import identity, rdl
from emulator.nic.descriptors import LAYOUTS
from emulator.nic.regmap import Access, Field, Register

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).with_name("templates")
COMMAND = "python -m emulator.nic.generate"

OUTPUTS: Mapping[str, str] = MappingProxyType(
    {
        "driver/linux/dmabed_hw.h": "dmabed_hw.h.j2",
        "emulator/nic/registers.py": "registers.py.j2",
        "emulator/rtl/dmabed_pkg.sv": "dmabed_pkg.sv.j2",
        "docs/registers.md": "registers.md.j2",
    }
)
"""Path of each generated file from the project's root, and its template."""

TAB = 8
VALUE_COLUMN = 48
PY_WIDTH = 100 - 8
"""Columns left for an expression within the two brackets around it."""


def _define(name: str, value: str) -> str:
    """A C #define whose value starts at :data:`VALUE_COLUMN`, aligned with tabs."""
    text = f"#define {name}"
    tabs = max(1, -(-(VALUE_COLUMN - len(text)) // TAB))
    return text + "\t" * tabs + value


def _c_mask(high: int, low: int) -> str:
    """The kernel's macro for the bits ``high`` to ``low``."""
    if high == low:
        return f"BIT({low})"
    macro = "GENMASK" if high < 32 else "GENMASK_ULL"
    return f"{macro}({high}, {low})"


def _packed(fields: Sequence[tuple[str, int, int]], width: int) -> Iterator[tuple[str, int]]:
    """Members (name, bits) of a packed struct, highest first, gaps filled.

    ``fields`` are (name, low, width) in ascending order.
    """
    top, gap = width, 0
    for name, low, bits in reversed(fields):
        if low + bits < top:
            yield f"reserved{gap}", top - low - bits
            gap += 1
        yield name, bits
        top = low
    if top:
        yield f"reserved{gap}", top


def _fields(register: Register) -> list[tuple[str, int, int]]:
    """What :func:`_packed` takes, of ``register``."""
    return [(f.name.lower(), f.low, f.width) for f in register.fields]


def _py_field(field: Field) -> str:
    text = f'Field("{field.name}", {field.low}, {field.width}, {field.access}'
    if field.reset is not None:
        text += f", reset=0x{field.reset:X}"
    return text + (", fixed=True)" if field.fixed else ")")


def _py_register(register: Register) -> str:
    """The expression that declares ``register``, laid out as ``ruff format`` would."""
    head = f'"{register.name}", 0x{register.offset:04X}, {register.width}'
    fields = [_py_field(field) for field in register.fields]
    line = f"Register({head}, ({', '.join(fields)}{',' if len(fields) == 1 else ''})),"
    if len(line) <= PY_WIDTH:
        return line
    listed = "".join(f"\n                {field}," for field in fields) + "\n            "
    inner = f"({listed})" if len(fields) > 1 else f"({fields[0]},)"
    rest = "".join(f"\n            {part}," for part in (*head.split(", "), inner))
    return f"Register({rest}\n        ),"


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.globals.update(
        define=_define, c_mask=_c_mask, packed=_packed, fields=_fields, py_register=_py_register
    )
    return env


def render() -> dict[str, str]:
    """Every generated file: path from the project's root -> text."""
    env = _environment()
    context = {
        "map": rdl.load(),
        "layouts": tuple(LAYOUTS.values()),
        "identity": identity,
        "Access": Access,
        "command": COMMAND,
    }
    return {path: env.get_template(name).render(context) for path, name in OUTPUTS.items()}


def drifted(root: Path = ROOT) -> list[str]:
    """The generated files under ``root`` that are missing or differ from what would be written."""

    def current(path: str) -> str | None:
        file = root / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    return [path for path, text in render().items() if current(path) != text]


def write(root: Path = ROOT) -> None:
    """Writes every generated file under ``root``."""
    for path, text in render().items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on drift")
    if not parser.parse_args(argv).check:
        write()
        return 0
    stale = drifted()
    for path in stale:
        print(f"{path} differs from its source; mend it with: {COMMAND}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
