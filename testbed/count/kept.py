# SPDX-License-Identifier: MIT
"""The count that comes with the project: docs/counted.json.

``python -m testbed.count.kept COUNT.json`` keeps the count of a report instead, and writes the
re-priced presets of the twin. The tables of docs/counting.md and the counted column of
docs/thread.md come from it as well: run ``make thread`` afterwards.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emulator.errors import DmabedError
from testbed import strict_json
from testbed.count.reprice import preset_name, write_presets
from testbed.count.results import CountResult
from testbed.errors import ResultsError
from testbed.report.writer import write_atomically

KEPT = Path(__file__).resolve().parents[2] / "docs" / "counted.json"
_DECIMALS = 4


def load_count(path: Path = KEPT) -> CountResult:
    """A count that was written down: count.json of a report, or the one that is kept.

    Raises:
        ResultsError: it cannot be read, or is not a count.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultsError("", f"{path}: {error.strerror}; make one with: dmabed count") from error
    found: CountResult = strict_json.decode(CountResult, strict_json.parse_json(text), path.name)
    return found


def kept_json(result: CountResult) -> str:
    """What is kept of a count: all of it but when and by which command; a row is a line."""
    plain = _rounded(asdict(replace(result, created="", command="dmabed count")))
    lines = []
    for key, value in plain.items():
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(row, separators=(",", ":")) for row in value)
            lines.append(f'"{key}": [\n  {rows}\n ]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _rounded(value: Any) -> Any:  # noqa: ANN401 - of the kinds of JSON
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def keep(result: CountResult) -> list[Path]:
    """Keeps ``result``, and writes the presets made of it; the files.

    Raises:
        ReportError: one of them cannot be written.
        TestbedError: a cell that is needed was not counted.
    """
    write_atomically(KEPT, kept_json(result).encode())
    kept = load_count()  # as rounded
    return [KEPT, *write_presets(kept, preset_name(kept))]


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when all was written, 1 with the error on standard error."""
    parser = argparse.ArgumentParser(prog="python -m testbed.count.kept", description=__doc__)
    parser.add_argument("count", type=Path, help="count.json of a report with every cell")
    options = parser.parse_args(arguments)
    try:
        written = keep(load_count(options.count))
    except DmabedError as error:
        print(f"kept: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, written)) + "\nnow run: make thread")
    return 0


if __name__ == "__main__":
    sys.exit(main())
