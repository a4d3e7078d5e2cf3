# SPDX-License-Identifier: MIT
"""A running guest: run commands in it, speak QMP, and learn by name what went wrong with it.

Three tasks watch a guest: its console (a panic), its QEMU (a death) and its heartbeat (a hang).
What they find ends every operation under way with `GuestPanicked`, `QemuDied` or `GuestHung`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError

from vm.agent_client import AgentClient, OnOutput, Result
from vm.artifacts import Artifacts
from vm.console import ConsoleLog
from vm.errors import GuestError, GuestHung, GuestPanicked, QemuDied, VmError
from vm.machine import Channels, GuestConfig, VfioUserDevice, qemu_arguments
from vm.process import QemuProcess
from vm.waiting import Looks

HEARTBEAT_S = 1.0
_PANIC_GRACE_S = 3.0
_EXPLAIN_S = 5.0
_QMP_WAIT_S = 20.0


class Guest:
    """One guest.  Use it as `async with Guest(artifacts, config) as guest:`, from the main thread.

    Args:
        artifacts: what `vm.artifacts.setup` returned.
        config: what to boot.
        log: where the console's output is written, or None.
        hang_after_s: seconds without an answer to a heartbeat after which the guest counts as hung.
        boot_timeout_s: seconds from QEMU's start to the agent's first answer.

    These two, and the time a command is given, are for a stock kernel: a kernel with checkers is
    waited for `patience` times as long (`vm.checkers.patience_of`).
    """

    def __init__(
        self,
        artifacts: Artifacts,
        config: GuestConfig,
        *,
        log: Path | None = None,
        hang_after_s: float = 30.0,
        boot_timeout_s: float = 60.0,
    ) -> None:
        self.artifacts = artifacts
        self.config = config
        self.console = ConsoleLog()
        self.on_console: Callable[[bytes], None] | None = None
        #: Seconds from the start of QEMU to the agent's first answer, once it has come.
        self.boot_s = 0.0
        self.patience = artifacts.patience
        #: Held while a heartbeat is under way. A guest that suspends its console port drops what it
        #: has not read yet, so whoever sends it to sleep takes it first.
        self.beat = asyncio.Lock()
        self._log_path = log
        self._hang_after_s = hang_after_s * self.patience
        self._boot_timeout_s = boot_timeout_s * self.patience
        self._qmp = QMPClient("guest")
        self._shutdown_reason = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[GuestError] | None = None
        self._stopping = False
        self._process: QemuProcess | None = None
        self._agent: AgentClient | None = None
        self._console_writer: asyncio.StreamWriter | None = None
        self._trace: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._log: BinaryIO | None = None

    async def __aenter__(self) -> "Guest":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # Life

    async def start(self, incoming: Path | None = None) -> None:
        """Boots the guest, or restores a saved one; returns when the agent answers.

        Raises:
            QemuDied, GuestPanicked, GuestHung: it did not get that far.
        """
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        started = loop.time()
        try:
            await self._launch(incoming)
            await self._first_answer()
            self.boot_s = loop.time() - started
        except BaseException:
            await self.stop()
            raise
        self._watch(self._watch_heartbeat())

    async def _launch(self, incoming: Path | None) -> None:
        boot = await asyncio.to_thread(self.artifacts.boot_files, self.config)
        pairs = [socket.socketpair() for _ in range(4)]
        theirs = [pair[1] for pair in pairs]
        channels = Channels(*(end.fileno() for end in theirs))
        qemu = self.artifacts.qemu
        arguments = qemu_arguments(self.config, boot, channels, self.artifacts.platform)
        if incoming is not None:
            arguments += ["-incoming", "defer"]
        self._process = await QemuProcess.start(qemu, arguments, [end.fileno() for end in theirs])
        for end in theirs:
            end.close()
        agent, qmp, console, trace = (pair[0] for pair in pairs)
        self._agent = AgentClient(*await asyncio.open_connection(sock=agent))
        self._trace = await asyncio.open_connection(sock=trace)
        console_streams = await asyncio.open_connection(sock=console)
        self._console_writer = console_streams[1]
        console_task = self._watch(self._watch_console(console_streams[0]))
        self._watch(self._watch_process(self._process, console_task))
        await self._connect_qmp(qmp)
        if incoming is not None:
            await self._restore(incoming)

    async def _connect_qmp(self, end: socket.socket) -> None:
        listener = EventListener(names={"SHUTDOWN"})
        self._qmp.register_listener(listener)
        self._watch(self._watch_events(listener))
        await self._or_failure(self._qmp.connect(end), _QMP_WAIT_S, "QEMU's QMP greeting")

    async def _restore(self, saved: Path) -> None:
        capabilities = [{"capability": "mapped-ram", "state": True}]
        await self.qmp("migrate-set-capabilities", {"capabilities": capabilities})
        await self.qmp("migrate-incoming", {"uri": f"file:{saved}"})
        await self.qmp_until(
            "query-status", lambda status: status["status"] in ("running", "paused")
        )
        await self.qmp("cont")

    async def _first_answer(self) -> None:
        await self._or_failure(
            self._client.ping(), self._boot_timeout_s, "the agent's first answer"
        )

    async def stop(self) -> None:
        """Ends the guest and frees all it held.  May be called in any state, more than once."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()
            await self._process.ended()
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._qmp.disconnect()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._agent is not None:
            self._agent.fail(VmError("the guest was stopped"))
            await self._agent.close()
        if self._trace is not None:
            self._trace[1].close()
        if self._console_writer is not None:
            self._console_writer.close()
        if self._log is not None:
            self._log.close()

    # In the guest

    async def run(
        self,
        command: str,
        *,
        timeout_s: float | None = 60.0,
        check: bool = True,
        on_output: OnOutput | None = None,
    ) -> Result:
        """Runs a shell command as root; several may run at once.

        Args:
            command: given to `/bin/sh -c`; it is over when the shell is, whatever it left in the
                background.
            timeout_s: after so many seconds (times `patience`) the command's process group is
                killed; None waits for ever.
            check: raise if the exit status is not 0.
            on_output: called with `FrameType.STDOUT` or `STDERR` and bytes, as they arrive.

        Raises:
            CommandFailed, CommandTimeout: as named.
            GuestPanicked, GuestHung, QemuDied: the guest was lost meanwhile.
        """
        if timeout_s is not None:
            timeout_s *= self.patience
        return await self._client.run(command, timeout_s, check, on_output)

    async def push(self, data: bytes | Path, path: str, mode: int = 0o644) -> None:
        """Writes bytes, or a host file, to `path` in the guest (TransferError if it cannot)."""
        contents = data.read_bytes() if isinstance(data, Path) else data
        await self._client.push(path, contents, mode)

    async def pull(self, path: str) -> bytes:
        """The contents of a file in the guest (TransferError if it cannot be read)."""
        return await self._client.pull(path)

    async def insmod(self, module: Path, parameters: str = "") -> None:
        """Loads a module file of the host (CommandFailed if the kernel refuses it)."""
        target = f"/tmp/{module.name}"
        await self.push(module, target)
        await self.run(f"insmod {target} {parameters}")

    async def rmmod(self, name: str) -> None:
        """Unloads a module (CommandFailed if it is in use or was not loaded)."""
        await self.run(f"rmmod {name}")

    def kernel_warnings(self) -> list[str]:
        """First lines of the kernel splats, and leak reports, seen on the console so far."""
        return list(self.console.warnings)

    def write_console(self, data: bytes) -> None:
        """Types `data` on the guest's serial console."""
        if self._console_writer is not None:
            self._console_writer.write(data)

    # Outside the guest

    def qemu_said(self) -> list[str]:
        """The last lines that QEMU printed."""
        return [] if self._process is None else self._process.said

    @property
    def trace_port(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The host's end of the port that a trace is streamed through, see `vm.trace`."""
        if self._trace is None:
            raise VmError("the guest was not started")
        return self._trace

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        if self._process is None:
            raise VmError("the guest was not started")
        return self._process.pid

    async def qmp(self, command: str, arguments: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Executes a QMP command and returns its answer.

        Raises:
            VmError: QEMU refused the command; the text holds its reason.
            QemuDied, GuestPanicked: QEMU is gone.
        """
        try:
            return await self._qmp.execute(command, arguments)
        except ExecuteError as error:
            raise VmError(f"QMP {command}: {error}") from error
        except QMPError as error:
            raise await self._explain(f"QMP {command}: {error}") from error

    async def qmp_until(
        self, command: str, condition: Callable[[Any], bool], timeout_s: float = 20.0
    ) -> Any:  # noqa: ANN401 - JSON
        """Repeats a query until its answer satisfies `condition` (VmError after `timeout_s`)."""
        async for _ in Looks(timeout_s, 0.01):
            if condition(answer := await self.qmp(command)):
                return answer
        raise VmError(f"QMP {command}: still {answer} after {timeout_s} s")

    async def plug(
        self, device: VfioUserDevice, device_id: str = "nic", port: str = "free0"
    ) -> None:
        """Hot-plugs a device into a root port left free by `GuestConfig.free_ports`."""
        await self.qmp("device_add", device.properties(port, device_id))

    async def unplug(self, device_id: str = "nic") -> None:
        """Asks the guest to let a device go; the QMP event DEVICE_DELETED tells when it has."""
        await self.qmp("device_del", {"id": device_id})

    # Watching

    @property
    def _client(self) -> AgentClient:
        if self._agent is None:
            raise VmError("the guest was not started")
        return self._agent

    def _watch(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def _fail(self, error: GuestError) -> None:
        if self._stopping or self._failure is None or self._failure.done():
            return
        self._failure.set_result(error)
        if self._agent is not None:
            self._agent.fail(error)

    async def _or_failure(
        self, work: Coroutine[Any, Any, object], timeout_s: float, what: str
    ) -> None:
        """Awaits `work`, unless a watcher or the timeout (GuestHung) comes first."""
        assert self._failure is not None
        task = asyncio.ensure_future(work)
        waited: list[asyncio.Future[Any]] = [task, self._failure]
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            await _discard(task)
            raise self._failure.result()
        if task.done() and task.exception() is None:
            return
        said = f" ({task.exception()})" if task.done() else ""
        await _discard(task)
        if said:
            raise await self._explain(f"waiting for {what}{said}")
        raise GuestHung(f"no {what} within {timeout_s} s", self.console.excerpt())

    async def _explain(self, symptom: str) -> Exception:
        """The watchers' verdict, waiting a moment for it; else an error that tells the symptom."""
        if self._failure is not None and not self._stopping:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(self._failure), _EXPLAIN_S)
        return VmError(symptom)

    async def _watch_console(self, reader: asyncio.StreamReader) -> None:
        if self._log_path is not None:
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log = self._log_path.open("wb", buffering=0)
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self._take_console(data)

    def _take_console(self, data: bytes) -> None:
        if self._log is not None:
            self._log.write(data)
        if self.on_console is not None:
            self.on_console(data)
        before = self.console.panic
        self.console.feed(data)
        if self.console.panic is not None and before is None:
            self._watch(self._bury_panicked())

    async def _bury_panicked(self) -> None:
        """A panicked guest resets itself, which ends QEMU; one that cannot is ended here."""
        await asyncio.sleep(_PANIC_GRACE_S)
        self._fail(
            GuestPanicked(f"the guest panicked: {self.console.panic}", self.console.excerpt())
        )

    async def _watch_events(self, listener: EventListener) -> None:
        async for event in listener:
            data = cast("dict[str, object]", event["data"])
            self._shutdown_reason = str(data.get("reason", ""))

    async def _watch_process(self, process: QemuProcess, console: "asyncio.Task[None]") -> None:
        await process.ended()
        # QEMU's end closes the console: its last lines are read before anything is said.
        await asyncio.wait([console], timeout=_PANIC_GRACE_S)
        self._fail(self._cause_of_death(process))

    def _cause_of_death(self, process: QemuProcess) -> GuestError:
        lines = self.console.excerpt()
        if self.console.panic is not None:
            return GuestPanicked(f"the guest panicked: {self.console.panic}", lines)
        if self._shutdown_reason in ("guest-reset", "guest-panic"):
            return GuestPanicked("the guest reset itself without a word", lines)
        reason = f" (shutdown: {self._shutdown_reason})" if self._shutdown_reason else ""
        return QemuDied(process.obituary() + reason, lines)

    async def _watch_heartbeat(self) -> None:
        while True:
            await asyncio.sleep(min(HEARTBEAT_S, self._hang_after_s))
            try:
                async with self.beat:
                    await asyncio.wait_for(self._client.ping(), self._hang_after_s)
            except TimeoutError:
                what = f"no answer to a heartbeat within {self._hang_after_s} s"
                self._fail(GuestHung(what, self.console.excerpt()))
                return
            except GuestError:
                return


async def _discard(task: "asyncio.Future[object]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
