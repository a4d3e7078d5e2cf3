# SPDX-License-Identifier: MIT
"""Starts QEMU as a child that cannot outlive us, and keeps what it prints."""

import asyncio
import ctypes
import os
import signal
from collections import deque
from collections.abc import Sequence

from vm.qemu import Qemu

_PR_SET_PDEATHSIG = 1
_KEPT_LINES = 40
_libc = ctypes.CDLL(None, use_errno=True)


class QemuProcess:
    """A running QEMU.  Its death is awaited with `ended`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls, qemu: Qemu, arguments: Sequence[str], descriptors: Sequence[int]
    ) -> "QemuProcess":
        """Starts QEMU with `descriptors` inherited.

        The kernel kills it when the thread that calls this ends, so call it from the main thread.
        It gets a session of its own: an interrupt typed at the terminal reaches us, who then end
        it in order.
        """
        parent = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        process = await asyncio.create_subprocess_exec(
            *qemu.command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **qemu.environment},
            pass_fds=tuple(descriptors),
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    async def _read(self) -> None:
        assert self._process.stderr is not None
        while line := await self._process.stderr.readline():
            self._said.append(line.decode(errors="replace").rstrip())

    async def ended(self) -> int:
        """Waits for QEMU's end and output; returns its exit status (negative: a signal)."""
        status = await self._process.wait()
        await self._reader
        return status

    def kill(self) -> None:
        """Ends QEMU at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()

    @property
    def said(self) -> list[str]:
        """The last lines that QEMU printed."""
        return list(self._said)

    def obituary(self) -> str:
        """How QEMU ended and what it printed."""
        status = self._process.returncode
        if status is not None and status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        said = "".join(f"\n  {line}" for line in self._said)
        return f"QEMU {how}{'; it said:' + said if said else ''}"
