# SPDX-License-Identifier: MIT
"""A device on its socket: what :class:`emulator.loop.DeviceLoop` serves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from emulator.endpoint import ClientMemory, Endpoint
from emulator.vfio_user.device import Device
from emulator.vfio_user.server import Server


class DeviceSeat:
    """``endpoint`` behind a vfio-user server at ``path``; see :class:`~emulator.loop.Seat`.

    served: stands between the server and the endpoint. clock: ns now, the clock of
    :meth:`service`; asked when a message has arrived.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str | os.PathLike[str],
        served: Device | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.endpoint = endpoint
        self.server = Server(path, served or endpoint, clock=clock)
        endpoint.reach_by_messages(ClientMemory(self.server.dma_read, self.server.dma_write))
        self._due_ns: int | None = 0

    def wake(self) -> None:
        """The device has to look again: something outside its registers changed."""
        self._due_ns = 0

    def service(self, now_ns: int) -> bool:
        """Answers the client, then lets the device work if it was touched or its time has come."""
        served, due = self.server.service(now_ns), self._due_ns
        if self.endpoint.touched or (due is not None and due <= now_ns):
            due = self._due_ns = self.endpoint.step(now_ns)
            return served or (due is not None and due <= now_ns)
        return served

    def next_due_ns(self) -> int | None:
        """The earlier of the device's timer and the next delayed reply."""
        times = [t for t in (self._due_ns, self.server.next_due_ns()) if t is not None]
        return min(times, default=None)

    def filenos(self) -> tuple[list[int], list[int]]:
        """The server's files."""
        return self.server.filenos()

    def close(self) -> None:
        """Ends the session now, on the clock of the loop, and removes the socket."""
        self.server.close(time.monotonic_ns())
