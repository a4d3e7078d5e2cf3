# SPDX-License-Identifier: MIT
"""The host's end of the agent's port: requests out, answers matched to them by id."""

import asyncio
import errno
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from vm.errors import CommandFailed, CommandTimeout, ProtocolError, TransferError, VmError
from vm.protocol import Decoder, Frame, FrameType, chunks, encode, encode_path

OnOutput = Callable[[FrameType, bytes], None]
_KILL_GRACE_S = 5.0


@dataclass(frozen=True)
class Result:
    """What a command did; a negative `status` is the signal that ended it."""

    stdout: str
    stderr: str
    status: int


@dataclass
class _Request:
    """An unanswered request: its output so far and, when it is over, its last frame."""

    end: "asyncio.Future[Frame]"
    on_output: OnOutput | None = None
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def take(self, frame: Frame) -> None:
        """Stores or forwards a frame of this request."""
        if frame.type in (FrameType.EXIT, FrameType.DONE, FrameType.PONG):
            if not self.end.done():
                self.end.set_result(frame)
            return
        (self.stderr if frame.type is FrameType.STDERR else self.stdout).extend(frame.payload)
        if self.on_output is not None:
            self.on_output(frame.type, frame.payload)


class AgentClient:
    """Requests to a guest's agent over one byte stream; any number may be under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._requests: dict[int, _Request] = {}
        self._ids = itertools.count(1)
        self._failure: Exception | None = None
        self._task = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        decoder = Decoder()
        try:
            while data := await self._reader.read(1 << 18):
                for frame in decoder.feed(data):
                    if request := self._requests.get(frame.id):
                        request.take(frame)
        except ProtocolError as error:
            self.fail(error)
        except OSError:
            # QEMU is gone.  Whoever watches it knows why, and fails the requests with that.
            return

    def fail(self, error: Exception) -> None:
        """Ends all requests under way, and all later ones, with `error`; the first error counts."""
        if self._failure is None:
            self._failure = error
        for request in self._requests.values():
            if not request.end.done():
                request.end.set_exception(self._failure)

    async def close(self) -> None:
        """Closes the stream; unfinished requests are cancelled by the caller's own failure."""
        self._task.cancel()
        self._writer.close()
        await asyncio.gather(self._task, return_exceptions=True)

    def _open(self, on_output: OnOutput | None = None) -> tuple[int, _Request]:
        if self._failure is not None:
            raise self._failure
        request = _Request(asyncio.get_running_loop().create_future(), on_output)
        number = next(self._ids) & 0xFFFFFFFF
        self._requests[number] = request
        return number, request

    async def _send(self, kind: FrameType, number: int, payload: bytes = b"") -> None:
        self._writer.write(encode(Frame(kind, number, payload)))
        try:
            await self._writer.drain()
        except OSError as error:
            # Whoever watches the guest knows better why the port is gone; it fails the request.
            if self._failure is not None:
                raise self._failure from error

    async def _finish(self, number: int, request: _Request) -> Frame:
        try:
            return await request.end
        finally:
            self._requests.pop(number, None)

    async def ping(self) -> None:
        """Returns when the agent has answered."""
        number, request = self._open()
        await self._send(FrameType.PING, number)
        await self._finish(number, request)

    async def run(
        self,
        command: str,
        timeout_s: float | None,
        check: bool,
        on_output: OnOutput | None,
    ) -> Result:
        """Runs a shell command; see `Guest.run`."""
        number, request = self._open(on_output)
        await self._send(FrameType.RUN, number, command.encode())
        end = asyncio.ensure_future(self._finish(number, request))
        try:
            done, _ = await asyncio.wait([end], timeout=timeout_s)
            if not done:
                await self._give_up(number, command, timeout_s, end, request)
            return _judge(command, end.result(), request, check)
        except asyncio.CancelledError:
            await self._send(FrameType.KILL, number, bytes([signal.SIGKILL]))
            raise
        finally:
            end.cancel()

    async def _give_up(
        self,
        number: int,
        command: str,
        timeout_s: float | None,
        end: "asyncio.Future[Frame]",
        request: _Request,
    ) -> None:
        await self._send(FrameType.KILL, number, bytes([signal.SIGKILL]))
        await asyncio.wait([end], timeout=_KILL_GRACE_S)
        shown = _tail(bytes(request.stdout + request.stderr))
        raise CommandTimeout(f"`{command}` did not finish within {timeout_s} s{shown}")

    async def push(self, path: str, data: bytes, mode: int) -> None:
        """Writes a file in the guest; see `Guest.push`."""
        number, request = self._open()
        await self._send(FrameType.PUSH, number, encode_path(path, mode))
        for chunk in chunks(data):
            if request.end.done():
                break
            await self._send(FrameType.DATA, number, chunk)
        await self._send(FrameType.END, number)
        _check_transfer("write", path, await self._finish(number, request))

    async def pull(self, path: str) -> bytes:
        """Reads a file in the guest; see `Guest.pull`."""
        number, request = self._open()
        await self._send(FrameType.PULL, number, encode_path(path))
        _check_transfer("read", path, await self._finish(number, request))
        return bytes(request.stdout)


def _judge(command: str, end: Frame, request: _Request, check: bool) -> Result:
    if end.type is FrameType.DONE:
        raise VmError(f"the guest could not start `{command}`: {_error_name(end.number())}")
    result = Result(
        request.stdout.decode(errors="replace"),
        request.stderr.decode(errors="replace"),
        end.number(),
    )
    if check and result.status != 0:
        shown = _tail(bytes(request.stdout + request.stderr))
        raise CommandFailed(f"`{command}` ended with status {result.status}{shown}")
    return result


def _tail(output: bytes, lines: int = 15) -> str:
    text = output.decode(errors="replace").strip()
    return "; its output:\n" + "\n".join(text.splitlines()[-lines:]) if text else ""


def _error_name(number: int) -> str:
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"


def _check_transfer(verb: str, path: str, end: Frame) -> None:
    if number := end.number():
        raise TransferError(f"the guest cannot {verb} {path}: {_error_name(number)}")
