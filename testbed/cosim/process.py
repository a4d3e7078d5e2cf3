# SPDX-License-Identifier: MIT
"""The simulator as a process that serves devices: the RTL's counterpart of ``DeviceProcess``."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from testbed.errors import LaboratoryError

_START_S = 900.0  # building it may take minutes on a busy machine
_CALL_S = 120.0


class SimulatorProcess:
    """A simulator that runs ``module`` on the design; ``call`` reaches its laboratory.

    arguments: for ``python -m testbed.cosim.simulate``. environment: for the simulation.

    Raises:
        LaboratoryError: it did not come up, died or did not answer.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        control = folder / "control.sock"
        self._listener = Listener(str(control), family="AF_UNIX")
        settings = [f"{k}={v}" for k, v in {**environment, "COSIM_CONTROL": str(control)}.items()]
        log = (folder / "simulator.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "testbed.cosim.simulate", str(folder), *settings],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self._pipe: Connection | None = None
        try:
            self._pipe = self._accept()
            self._answer("start")
        except BaseException:
            self.close()
            raise

    def _accept(self) -> Any:  # noqa: ANN401
        """The simulation's connection, once it has one."""
        socket = self._listener._listener._socket  # type: ignore[attr-defined]
        socket.settimeout(0.5)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(TimeoutError):
                return self._listener.accept()
        raise LaboratoryError(f"the simulator did not start; see {self._folder}/simulator.log")

    @property
    def pid(self) -> int:
        """Of the process that runs the simulator."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the simulator runs."""
        return self.process.poll() is None

    def call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        """Calls a method of the laboratory over there and returns what it returns."""
        assert self._pipe is not None
        try:
            self._pipe.send((method, arguments))
        except OSError as error:
            raise LaboratoryError(f"the simulator is gone at {method}") from error
        return self._answer(method)

    def _answer(self, method: str) -> Any:  # noqa: ANN401
        assert self._pipe is not None
        try:
            if not self._pipe.poll(_CALL_S):
                raise LaboratoryError(f"the simulator did not answer {method} in {_CALL_S} s")
            outcome, value = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise LaboratoryError(
                f"the simulator is gone at {method}; see {self._folder}/simulation.log"
            ) from error
        if outcome == "error":
            raise value
        return value

    def close(self) -> None:
        """Ends the simulation."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                self._pipe.send(None)
            self._pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.close()

    def __enter__(self) -> SimulatorProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
