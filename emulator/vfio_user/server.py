# SPDX-License-Identifier: MIT
"""The UNIX socket a client connects to: one client at a time, the next one when it is gone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from emulator.errors import DmabedError
from emulator.vfio_user.capabilities import Capabilities
from emulator.vfio_user.connection import Connection
from emulator.vfio_user.device import Device
from emulator.vfio_user.errors import ClientGoneError
from emulator.vfio_user.session import DmaLayout, Session

_LONGEST_PATH = 107  # sun_path without its NUL


class SocketPathError(DmabedError):
    """The server cannot listen at the path it was given."""


class Server:
    """Listens at ``path`` and serves ``device``; steps when :meth:`service` is called.

    offer, dma_layout: see :class:`Session`; reentrant, clock: see :class:`Connection`. The socket
    is readable and writable by its owner only, and is removed by :meth:`close`.

    Raises:
        SocketPathError: the path is too long, is no socket, or somebody else listens there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: Device,
        *,
        offer: Capabilities | None = None,
        dma_layout: DmaLayout = DmaLayout.SPECIFICATION,
        reentrant: bool = False,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.device = device
        self.last_reason = ""
        self._offer, self._dma_layout, self._reentrant = offer, dma_layout, reentrant
        self._clock = clock
        self._connection: Connection | None = None
        self._listener: socket.socket | None = _listen(self.path)

    @property
    def connection(self) -> Connection | None:
        """The client that is connected, if any."""
        return self._connection

    @property
    def session(self) -> Session | None:
        """The session with the client that is connected, if any."""
        return None if self._connection is None else self._connection.session

    def service(self, now_ns: int) -> bool:
        """Accepts, or receives and answers; never blocks. True if anything was done."""
        connection = self._connection
        if connection is None:
            return self._accept()
        did = connection.service(now_ns)
        if not connection.open:
            self._connection = None
            return True
        return did

    def next_due_ns(self) -> int | None:
        """When a delayed reply has to go; None if none is delayed."""
        return None if self._connection is None else self._connection.session.next_due_ns()

    def filenos(self) -> tuple[list[int], list[int]]:
        """What to select for reading and for writing before the next :meth:`service`."""
        if self._connection is not None and self._connection.open:
            mine = [self._connection.fileno()]
            return mine, mine if self._connection.wants_write else []
        return ([] if self._listener is None else [self._listener.fileno()]), []

    def dma_read(self, iova: int, count: int, timeout_s: float = 1.0) -> bytes:
        """Reads memory of the client by messages: see :meth:`Connection.dma_read`."""
        return self._connected().dma_read(iova, count, timeout_s)

    def dma_write(self, iova: int, data: bytes | memoryview, timeout_s: float = 1.0) -> None:
        """Writes memory of the client by messages: see :meth:`Connection.dma_write`."""
        self._connected().dma_write(iova, data, timeout_s)

    def disconnect(self, reason: str, now_ns: int) -> None:
        """Closes the connection to the client, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(reason, now_ns)

    def close(self, now_ns: int = 0) -> None:
        """Closes everything and removes the socket."""
        self.disconnect("the server was closed", now_ns)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self) -> Connection:
        if self._connection is None or not self._connection.open:
            raise ClientGoneError("no client is connected")
        return self._connection

    def _accept(self) -> bool:
        if self._listener is None:
            return False
        try:
            sock, _ = self._listener.accept()
        except OSError:  # nobody waits, or it went again, or there are no descriptors left
            return False
        session = Session(self.device, self._offer, self._dma_layout)
        self._connection = Connection(sock, session, self._reentrant, self._clock)
        return True


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise SocketPathError(f"{path} is longer than {_LONGEST_PATH} bytes: use a shorter folder")
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(path))
        path.chmod(0o600)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise SocketPathError(f"cannot listen at {path}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _remove_stale(path: Path) -> None:
    """Removes the socket of a server that died; anything else at ``path`` is not ours to remove."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketPathError(f"{path} exists and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        answer = probe.connect_ex(os.fspath(path))
    if answer not in (errno.ECONNREFUSED, errno.ENOENT):
        raise SocketPathError(f"somebody listens at {path} already: stop it or choose another path")
    path.unlink(missing_ok=True)
