# SPDX-License-Identifier: MIT
"""The process the devices live in, and the handle on it.

A call is a method name and its arguments over a pipe, answered between two rounds of the device
loop. The process dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from emulator.errors import DmabedError
from emulator.ledger import Policy
from emulator.warm import warm_up
from testbed.benches import NicSpec
from testbed.errors import LaboratoryError
from testbed.laboratory import Laboratory

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_START_S = 60.0  # kernels are compiled if they are not on disk
_CALL_S = 60.0


class DeviceProcess:
    """The devices ``specs`` in a process of their own; ``call`` reaches :class:`Laboratory`.

    log: file for what the device process has to say.

    Raises:
        LaboratoryError: the process did not come up, died or did not answer.
    """

    def __init__(self, specs: list[NicSpec], policy: Policy, log: Path | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(specs, policy, theirs, log, os.getpid()), name="dmabed-devices"
        )
        self.process.start()
        theirs.close()
        try:
            self._answer("start", _START_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the device process."""
        pid = self.process.pid
        assert pid is not None
        return pid

    @property
    def alive(self) -> bool:
        """Whether the process is there; a stopped one is."""
        return self.process.is_alive()

    def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Calls ``Laboratory.method(*arguments)`` over there and returns what it returns."""
        try:
            self._pipe.send((method, arguments))
        except OSError as error:
            raise LaboratoryError(self._obituary(method)) from error
        return self._answer(method, _CALL_S)

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self._pipe.close()

    def __enter__(self) -> DeviceProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, method: str, timeout_s: float) -> Any:  # noqa: ANN401
        try:
            if not self._pipe.poll(timeout_s):
                self.process.kill()  # a late answer would pass for that of the next call
                raise LaboratoryError(
                    f"the device process did not answer {method} in {timeout_s} s; it was ended"
                )
            outcome, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise LaboratoryError(self._obituary(method)) from error
        if outcome == "error":
            raise value
        return value

    def _obituary(self, method: str) -> str:
        self.process.join(1)
        return f"the device process is gone (exit code {self.process.exitcode}) at {method}"


def _serve(
    specs: list[NicSpec], policy: Policy, pipe: Connection, log: Path | None, parent: int
) -> None:
    die_with_parent()
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(filename=log, level=logging.WARNING)
    warm_up()
    try:
        laboratory = Laboratory(specs, policy)
    except DmabedError as error:
        pipe.send(("error", _portable("start", error)))
        return
    gc.freeze()  # what is there now stays; a collection would only delay somebody's reply
    with contextlib.closing(laboratory):
        pipe.send(("ok", None))
        laboratory.loop.control(lambda: take_calls(laboratory, pipe), pipe.fileno())
        laboratory.loop.run()


def die_with_parent() -> None:
    """Has this process killed when the one that started it ends, however that happens."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def take_calls(laboratory: Laboratory, pipe: Connection) -> None:
    """Answers the calls that wait in ``pipe``; None in it stops the loop."""
    for request in _requests(pipe):
        if request is None:
            laboratory.loop.stop()
            return
        method, arguments = request
        try:
            pipe.send(("ok", getattr(laboratory, method)(*arguments)))
        except Exception as error:  # everything goes back to the caller
            pipe.send(("error", _portable(method, error)))


def _requests(pipe: Connection) -> Iterator[Any]:
    with contextlib.suppress(EOFError):
        while pipe.poll():
            yield pipe.recv()
        return
    yield None


def _portable(method: str, error: Exception) -> LaboratoryError:
    """The words of an error: not every error survives the pipe. A foreign one is named."""
    name = "" if isinstance(error, DmabedError) else f"{type(error).__name__}: "
    return LaboratoryError(f"{method}: {name}{error}")
