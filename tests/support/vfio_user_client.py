# SPDX-License-Identifier: MIT
"""A minimal vfio-user client: what QEMU's does, one message at a time, for tests and benches.

It blocks until its answer is there. A test that has the server in the same thread passes ``pump``,
which is called again and again while it waits. Requests of the server for memory are answered from
``memory``. Everything is built from the declarations in `emulator.vfio_user.messages`.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from errno import EFAULT
from typing import Any

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command, IrqSetFlag
from emulator.vfio_user.outgoing import DmaLayout

QEMU_CAPABILITIES: dict[str, Any] = {
    "migration": {"pgsize": 4096, "max_bitmap_size": 268435456},
    "max_msg_fds": 16,
    "max_data_xfer_size": 1048576,
    "pgsizes": 4096,
    "max_dma_maps": 65535,
    "write_multiple": True,
}


class RefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


class HungUpError(Exception):
    """The server closed the connection."""


class SilentError(Exception):
    """The server does not answer."""


@dataclass
class Incoming:
    """A message from the server."""

    msg_id: int
    command: int
    flags: int
    error: int
    payload: bytes
    fds: list[int] = field(default_factory=list)


class VfioUserClient:
    """A client on a connected socket. ``memory``: IOVA -> what lies there, for DMA messages."""

    def __init__(
        self,
        sock: socket.socket,
        pump: Callable[[], object] | None = None,
        timeout_s: float = 10.0,
        layout: DmaLayout = DmaLayout.SPECIFICATION,
    ) -> None:
        self.sock = sock
        self.pump = pump
        self.timeout_s = timeout_s
        self.layout = layout
        self.memory: dict[int, bytearray] = {}
        self.dma_requests: list[tuple[int, int, int]] = []
        self._received = bytearray()
        self._fds: list[int] = []
        self._replies: list[Incoming] = []
        self._next_id = 0

    @classmethod
    def connect(cls, path: str | os.PathLike[str], **options: Any) -> VfioUserClient:
        """Connects to a server's socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(os.fspath(path))
        except OSError:
            sock.close()
            raise
        return cls(sock, **options)

    def close(self) -> None:
        """Hangs up."""
        self.sock.close()
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def __enter__(self) -> VfioUserClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- raw ---------------------------------------------------------------------------------------

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends bytes as they are, in one piece with the descriptors."""
        view = memoryview(data)
        flags = socket.MSG_DONTWAIT if self.pump else 0
        while view:
            try:
                if fds:
                    sent = socket.send_fds(self.sock, [view], list(fds), flags)
                else:
                    sent = self.sock.send(view, flags)
            except BlockingIOError:
                assert self.pump is not None
                self.pump()
                continue
            except (BrokenPipeError, ConnectionResetError) as error:
                raise HungUpError from error
            view, fds = view[sent:], ()

    def send(
        self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0
    ) -> int:
        """Sends a command without waiting; returns its ID."""
        msg_id, self._next_id = self._next_id, (self._next_id + 1) & 0xFFFF
        self.send_raw(wire.encode(msg_id, command, payload, flags), fds)
        return msg_id

    def receive(self) -> Incoming:
        """The next reply, whatever it answers; serves DMA requests until it comes."""
        while not self._replies:
            self._receive_some()
        return self._replies.pop(0)

    def wait_reply(self, msg_id: int) -> Incoming:
        """The reply to the command ``msg_id``; raises :class:`RefusedError` if it was refused."""
        while True:
            for position, reply in enumerate(self._replies):
                if reply.msg_id == msg_id:
                    del self._replies[position]
                    if reply.flags & wire.ERROR:
                        raise RefusedError(reply.error)
                    return reply
            self._receive_some()

    def request(
        self, command: int, payload: bytes = b"", fds: Sequence[int] = (), flags: int = 0
    ) -> Incoming:
        """Sends a command and waits for its reply."""
        return self.wait_reply(self.send(command, payload, fds, flags))

    def wait_hangup(self) -> None:
        """Returns when the server has closed the connection; replies before it stay readable."""
        try:
            while True:
                self._receive_some()
        except HungUpError:
            return

    def _receive_some(self) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not select.select([self.sock], [], [], 0 if self.pump else self.timeout_s)[0]:
            if self.pump is None or time.monotonic() > deadline:
                raise SilentError(f"no message within {self.timeout_s} s")
            self.pump()
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 16)
        except ConnectionResetError:
            data, fds = b"", []
        if not data:
            raise HungUpError
        self._received += data
        self._fds += fds
        self._cut()

    def _cut(self) -> None:
        while len(self._received) >= wire.HEADER_SIZE:
            msg_id, command, size, flags, error = wire.HEADER.unpack_from(self._received)
            if len(self._received) < size:
                return
            payload = bytes(self._received[wire.HEADER_SIZE : size])
            del self._received[:size]
            fds, self._fds = self._fds, []
            message = Incoming(msg_id, command, flags, error, payload, fds)
            if flags & wire.TYPE_MASK == wire.TYPE_REPLY:
                self._replies.append(message)
            else:
                self._serve(message)

    # -- requests of the server --------------------------------------------------------------------

    def _serve(self, request: Incoming) -> None:
        short = self.layout is DmaLayout.COUNT_32
        access = (wire.DMA_ACCESS_32 if short else wire.DMA_ACCESS).unpack_from(request.payload)
        address, count = access
        self.dma_requests.append((request.command, address, count))
        found = self._find(address, count)
        if found is None:
            self.send_raw(wire.error_reply(request.msg_id, request.command, EFAULT))
            return
        block, start = found
        fixed = request.payload[: 12 if short else 16]
        answer = b""
        if request.command == Command.DMA_READ:
            answer = fixed + bytes(block[start : start + count]) + bytes(4 if short else 0)
        else:
            block[start : start + count] = request.payload[len(fixed) :][:count]
            answer = b"" if short else request.payload[:12]
        self.send_raw(wire.reply(request.msg_id, request.command, answer))

    def _find(self, address: int, count: int) -> tuple[bytearray, int] | None:
        for base, block in self.memory.items():
            if base <= address and address + count <= base + len(block):
                return block, address - base
        return None

    # -- commands ----------------------------------------------------------------------------------

    def version(
        self, capabilities: dict[str, Any] | None = None, major: int = 0, minor: int = 0
    ) -> dict[str, Any]:
        """Negotiates; returns the capabilities agreed on. Proposes what QEMU does by default."""
        proposal = QEMU_CAPABILITIES if capabilities is None else capabilities
        data = json.dumps({"capabilities": proposal}).encode() + b"\0"
        payload = wire.VERSION_DECL.build({"major": major, "minor": minor, "data": data})
        reply = wire.VERSION_DECL.parse(self.request(Command.VERSION, payload).payload)
        return dict(json.loads(reply.data[:-1])["capabilities"]) if reply.data else {}

    def dma_map(
        self,
        iova: int,
        size: int,
        fd: int | None = None,
        offset: int = 0,
        flags: int = wire.DmaMapFlag.READ | wire.DmaMapFlag.WRITE,
    ) -> None:
        """Makes a range reachable for the device."""
        payload = map_payload(iova, size, offset, flags)
        self.request(Command.DMA_MAP, payload, () if fd is None else (fd,))

    def dma_unmap(self, iova: int, size: int, flags: int = 0) -> bytes:
        """Takes a range away; returns the reply's payload."""
        return self.request(Command.DMA_UNMAP, unmap_payload(iova, size, flags)).payload

    def get_info(self) -> Any:
        """DEVICE_GET_INFO."""
        query = wire.DEVICE_INFO.pack(wire.DEVICE_INFO.size, 0, 0, 0)
        return wire.DEVICE_INFO_DECL.parse(self.request(Command.DEVICE_GET_INFO, query).payload)

    def get_region_info(self, index: int, argsz: int = 4096) -> tuple[Any, list[int]]:
        """DEVICE_GET_REGION_INFO: the parsed reply, and the descriptors, which are the caller's."""
        query = wire.REGION_INFO.pack(argsz, 0, index, 0, 0, 0)
        reply = self.request(Command.DEVICE_GET_REGION_INFO, query)
        return wire.REGION_INFO_REPLY_DECL.parse(reply.payload), reply.fds

    def get_irq_info(self, index: int) -> Any:
        """DEVICE_GET_IRQ_INFO."""
        query = wire.IRQ_INFO.pack(wire.IRQ_INFO.size, 0, index, 0)
        return wire.IRQ_INFO_DECL.parse(self.request(Command.DEVICE_GET_IRQ_INFO, query).payload)

    def set_irqs(
        self,
        index: int,
        flags: int,
        start: int,
        count: int,
        fds: Sequence[int] = (),
        bools: Sequence[bool] = (),
    ) -> None:
        """DEVICE_SET_IRQS."""
        argsz = wire.IRQ_SET.size + len(bools)
        payload = wire.IRQ_SET.pack(argsz, flags, index, start, count) + bytes(bools)
        self.request(Command.DEVICE_SET_IRQS, payload, fds)

    def set_eventfds(self, index: int, start: int, fds: Sequence[int]) -> None:
        """Sets the event descriptors that the server signals."""
        flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER
        self.set_irqs(index, flags, start, len(fds), fds)

    def region_read(self, region: int, offset: int, count: int) -> bytes:
        """REGION_READ: the data."""
        payload = wire.REGION_ACCESS.pack(offset, region, count)
        return self.request(Command.REGION_READ, payload).payload[wire.REGION_ACCESS.size :]

    def region_write(self, region: int, offset: int, data: bytes, posted: bool = False) -> None:
        """REGION_WRITE; a posted one has no reply and cannot fail."""
        payload = wire.REGION_ACCESS.pack(offset, region, len(data)) + data
        if posted:
            self.send(Command.REGION_WRITE, payload, flags=wire.NO_REPLY)
        else:
            self.request(Command.REGION_WRITE, payload)

    def reset(self) -> None:
        """DEVICE_RESET."""
        self.request(Command.DEVICE_RESET)


def map_payload(iova: int, size: int, offset: int = 0, flags: int = 3) -> bytes:
    """The payload of a DMA_MAP."""
    return wire.DMA_MAP.pack(wire.DMA_MAP.size, flags, offset, iova, size)


def unmap_payload(iova: int, size: int, flags: int = 0) -> bytes:
    """The payload of a DMA_UNMAP."""
    return wire.DMA_UNMAP.pack(wire.DMA_UNMAP.size, flags, iova, size)


def sealed_memfd(size: int) -> int:
    """A file of guest memory as QEMU's memory-backend-memfd makes it; the caller closes it."""
    import fcntl

    fd = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def write_file(fd: int, offset: int, data: bytes) -> None:
    """Writes guest memory through the file, as the guest would."""
    with mmap.mmap(fd, 0) as view:
        view[offset : offset + len(data)] = data
