# SPDX-License-Identifier: MIT
"""Finished points in a file, one JSON object a line, safe at any moment.

A line is written at once and synced before the point counts as finished. A process that was killed
leaves at most one torn line, the last; it is cut off when the file is opened again. A lock keeps
two sweeps from writing to one file.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.sweep.errors import StoreError
from testbed.sweep.point import Point, key_of


class PointStore:
    """The file at ``path``, made if it is not there; use it as a context manager.

    points: what it holds, by key (see :func:`testbed.sweep.point.key_of`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: dict[str, Point] = {}
        self._fd = -1

    def __enter__(self) -> Self:
        """Opens, locks and reads it.

        Raises:
            StoreError: it cannot be opened, another sweep has it, or a line is no point.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close()
            raise StoreError(f"{self.path}: another sweep is writing to it") from None
        except OSError as error:
            self._close()
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        try:
            self._read()
        except StoreError:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes and unlocks it."""
        self._close()

    def add(self, point: Point) -> None:
        """Keeps a finished point; one with the same key is there already: nothing happens.

        Raises:
            StoreError: it cannot be written.
        """
        key = key_of(point.scenario)
        if key in self.points:
            return
        line = json.dumps({"key": key, **point.to_json()}, allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._fd, line) :]
            os.fsync(self._fd)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}") from error
        self.points[key] = point

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._fd, whole)  # what a killed writer left of its last line
        for number, line in enumerate(data[:whole].splitlines(), 1):
            key, point = self._point(number, line)
            self.points.setdefault(key, point)

    def _point(self, number: int, line: bytes) -> tuple[str, Point]:
        try:
            tree: dict[str, Any] = json.loads(line)
            key = tree.pop("key")
            return str(key), Point.from_json(tree)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            text = f"{self.path}:{number}: not a point of this version ({error}); move it away"
            raise StoreError(text) from error

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
