# SPDX-License-Identifier: MIT
"""Puts a report into its folder. Every file appears whole or not at all."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from testbed.errors import ReportError
from testbed.report.html import render_html
from testbed.report.plots import draw
from testbed.report.table import PIPE_WIDTH, print_report, report_console
from testbed.results import RunResult

#: Two runs in one second get different folders; more than this many is somebody's endless loop.
_MOST_COLLISIONS = 1000


def run_folder(out: Path, when: datetime | None = None, kind: str = "run") -> Path:
    """Makes and returns a new folder ``out/<time>-<kind>``, ``...-2`` and so on when it exists.

    ``when`` is now by default; the name is in UTC and sorts by time.

    Raises:
        ReportError: it cannot be made.
    """
    stamp = (when or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    for attempt in range(1, _MOST_COLLISIONS + 1):
        folder = out / (f"{stamp}-{kind}" + (f"-{attempt}" if attempt > 1 else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if out.exists() and not out.is_dir():
                raise ReportError(out, "is a file; move it away or name another folder") from None
            continue
        except OSError as error:
            raise ReportError(folder, error.strerror or "cannot be made") from error
        return folder
    raise ReportError(out / stamp, f"{_MOST_COLLISIONS} folders of this name exist; remove some")


def point_latest(folder: Path, name: str = "latest") -> Path:
    """Makes ``name`` next to ``folder`` a symbolic link to it; returns the link.

    Raises:
        ReportError: something other than a link is in its place, or it cannot be made.
    """
    link = folder.parent / name
    if link.exists() and not link.is_symlink():
        raise ReportError(link, "is not a symbolic link; move it away")
    temporary = folder.parent / f".latest-{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name, target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        raise ReportError(link, error.strerror or "cannot be made") from error
    return link


def write_report(
    run: RunResult,
    folder: Path,
    events: bytes | Path | None = None,
    console: Path | None = None,
) -> Path:
    """Writes everything about ``run`` into ``folder`` and returns the path of report.html.

    Files: results.json, table.txt, report.html, and amortisation, rates and exposure as .png and
    .svg where the run has data for them. ``events`` (the ledger's; bytes go to events.bin) and
    ``console`` are copied in under their own names unless they are there already. Files that
    ``run.log_files`` names and that exist in ``folder`` are linked too.

    Raises:
        ResultsError: the run does not fit its own schema; nothing is written then.
        ReportError: a file cannot be written; the error names it.
    """
    results = run.to_json()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "results.json", results.encode())
    write_atomically(folder / "table.txt", table_text(run).encode())
    names = ["results.json", "table.txt"]
    names += _take_in(folder, events, "events.bin") + _take_in(folder, console, "console.log")
    names += [name for name in run.log_files if (folder / name).is_file() and name not in names]
    plots = draw(run)
    for plot in plots:
        write_atomically(folder / f"{plot.name}.png", plot.png)
        write_atomically(folder / f"{plot.name}.svg", plot.svg)
        names += [f"{plot.name}.png", f"{plot.name}.svg"]
    report = folder / "report.html"
    write_atomically(report, render_html(run, plots, names).encode())
    return report


def table_text(run: RunResult) -> str:
    """Tables and verdict as plain text, without trailing blanks."""
    text = io.StringIO()
    print_report(run, report_console(text, PIPE_WIDTH))
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().strip("\n").split("\n"))


def write_atomically(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path``; a reader sees the old file or the new one, nothing between.

    Raises:
        ReportError: it cannot be written; the old file is untouched.
    """
    _replace(path, lambda temporary: temporary.write_bytes(data))


def _take_in(folder: Path, what: bytes | Path | None, name: str) -> list[str]:
    """Copies ``what`` into the folder; the name it has there, if anything."""
    if what is None:
        return []
    if isinstance(what, bytes):
        write_atomically(folder / name, what)
        return [name]
    source = what
    target = folder / source.name
    if not (target.exists() and target.samefile(source)):
        _replace(target, lambda temporary: shutil.copyfile(source, temporary))
    return [source.name]


def _replace(path: Path, fill: Callable[[Path], object]) -> None:
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        fill(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ReportError(path, error.strerror or "cannot be written") from error
