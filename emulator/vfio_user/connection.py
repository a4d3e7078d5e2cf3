# SPDX-License-Identifier: MIT
"""One connected UNIX stream socket and its session: receives, sends, and waits for DMA answers.

Nothing here loops on its own: the owner calls :meth:`Connection.service` as often as it likes,
which makes one non-blocking receive. A scheduler's wake-up costs more than a whole message, so an
owner that has nothing better to do does best to call it again and again.
"""

from __future__ import annotations

import array
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from emulator.vfio_user.errors import ClientGoneError, DmaTimeoutError
from emulator.vfio_user.framing import close_fds
from emulator.vfio_user.session import Action, Close, Reply, Session

_CHUNK = 1 << 16
# Small messages are sent together up to this size: the kernel takes that much as one piece or not
# at all, so no header is ever split. QEMU gives up on a header that it cannot read in one go.
_TOGETHER = 1 << 14
_ANCILLARY = socket.CMSG_SPACE(253 * array.array("i").itemsize)
# Plain integers: the enum's operators cost more than the call they are for.
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)


class Connection:
    """A client that is connected through ``sock``, which this takes over.

    reentrant: while a DMA_READ or DMA_WRITE waits, other commands of the client reach the device at
    once instead of after it. QEMU answers DMA messages in its main thread under a lock that a
    virtual CPU holds while it waits for us, so a device that cannot take its command in between
    delays both until the timeout. Inside a handler commands always wait.

    clock: asked for the time of what was received; without one it is the caller's.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: Session,
        reentrant: bool = False,
        clock: Callable[[], int] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._sock: socket.socket | None = sock
        self.session = session
        self._reentrant, self._clock = reentrant, clock
        self._buffer = bytearray(_CHUNK)
        self._view = memoryview(self._buffer)
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()

    @property
    def open(self) -> bool:
        """The client is still there."""
        return self._sock is not None

    def fileno(self) -> int:
        """For a selector; -1 once closed."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Replies wait for room in the socket: select for writing, too."""
        return bool(self._unsent)

    def service(self, now_ns: int) -> bool:
        """Sends what is due, receives once, answers. True if anything was done."""
        did = False
        if self._unsent and not self._flush(now_ns):
            return False  # a client that does not take replies gets no more work done
        due_ns = self.session.next_due_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._perform(self.session.poll(now_ns), now_ns)
            did = True
        if self.session.holding:
            self._perform(self.session.resume(now_ns), now_ns)
            did = True
        return self._receive(self._view, now_ns) or did

    def close(self, reason: str, now_ns: int) -> None:
        """Closes the socket and tells the device."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()
            self._unsent.clear()
            self.session.close(reason, now_ns)

    # -- memory of the client without a descriptor -------------------------------------------------

    def dma_read(self, iova: int, count: int, timeout_s: float = 1.0) -> bytes:
        """``count`` bytes of the client's memory, by as many messages as it takes.

        Raises:
            VfioUserError: the client refused. DmaTimeoutError, ClientGoneError: as they say.
        """
        deadline = time.monotonic() + timeout_s
        most = self.session.agreed.max_data_xfer_size
        parts = []
        for start in range(0, count, most):
            request = self.session.dma_read_request(iova + start, min(most, count - start))
            parts.append(self._ask(*request, deadline))
        return b"".join(parts)

    def dma_write(self, iova: int, data: bytes | memoryview, timeout_s: float = 1.0) -> None:
        """Writes to the client's memory and waits until it has done so.

        Raises:
            VfioUserError: the client refused; what comes before the refused part is written.
            DmaTimeoutError, ClientGoneError: as they say.
        """
        deadline = time.monotonic() + timeout_s
        most = self.session.agreed.max_data_xfer_size
        for start in range(0, len(data), most):
            request = self.session.dma_write_request(iova + start, data[start : start + most])
            self._ask(*request, deadline)

    def _ask(self, msg_id: int, message: bytes, deadline: float) -> bytes:
        """Sends a command and takes the stream until its reply is there."""
        session = self.session
        if session.dispatching or not self._reentrant:
            session.hold()
        elif session.holding:
            self._perform(session.resume(time.monotonic_ns()), time.monotonic_ns())
        self._send([Reply(message)], time.monotonic_ns())
        view = memoryview(bytearray(_CHUNK))  # a handler up the stack may still read from ours
        while not session.outgoing.answered(msg_id):
            if not self.open:
                raise ClientGoneError("the client went while a DMA message waited for its answer")
            left = deadline - time.monotonic()
            if left <= 0:
                session.outgoing.abandon(msg_id)
                raise DmaTimeoutError("the client did not answer a DMA message in time")
            self._wait(left)
            now_ns = time.monotonic_ns()
            self._flush(now_ns)
            self._receive(view, now_ns)
        return session.outgoing.take(msg_id)

    def _wait(self, seconds: float) -> None:
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN | (select.POLLOUT if self._unsent else 0))
        poller.poll(seconds * 1000)

    # -- inside ------------------------------------------------------------------------------------

    def _receive(self, view: memoryview, now_ns: int) -> bool:
        """One receive, and what follows from it. False if there was nothing."""
        if self._sock is None:
            return False
        try:
            size, ancillary, flags, _ = self._sock.recvmsg_into((view,), _ANCILLARY, _CLOEXEC)
        except BlockingIOError:
            return False
        except OSError as error:
            self.close(f"receive failed: {error}", now_ns)
            return True
        if self._clock is not None:
            # The processor may have been gone since our caller looked at the clock.
            now_ns = self._clock()
        fds = _descriptors(ancillary) if ancillary else []
        if size and not flags & _TRUNCATED:
            actions = self.session.feed(view[:size], fds, now_ns)
            if actions:
                self._perform(actions, now_ns)
            return True
        close_fds(fds)
        how = "sent more descriptors than could be passed" if size else "closed the connection"
        self.close(f"the client {how}", now_ns)
        return True

    def _perform(self, actions: list[Action], now_ns: int) -> None:
        if len(actions) == 1 and type(actions[0]) is Reply and not self._unsent:
            reply = actions[0]
            if not reply.fds and self._sock is not None:  # the common case
                try:
                    sent = self._sock.send(reply.data)
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    self.close(f"send failed: {error}", now_ns)
                    return
                if sent < len(reply.data):
                    self._unsent.append((memoryview(reply.data)[sent:], ()))
                return
        self._send([action for action in actions if isinstance(action, Reply)], now_ns)
        for action in actions:
            if isinstance(action, Close):
                self.close(action.reason, now_ns)

    def _send(self, replies: list[Reply], now_ns: int) -> None:
        together = bytearray()
        for reply in replies:
            if together and (reply.fds or len(together) + len(reply.data) > _TOGETHER):
                self._unsent.append((memoryview(bytes(together)), ()))
                together.clear()
            if reply.fds:
                self._unsent.append((memoryview(reply.data), reply.fds))
            else:
                together += reply.data
        if together:
            self._unsent.append((memoryview(bytes(together)), ()))
        self._flush(now_ns)

    def _flush(self, now_ns: int) -> bool:
        """Sends what waits. True if nothing is left."""
        while self._unsent and self._sock is not None:
            data, fds = self._unsent[0]
            try:
                sent = (
                    socket.send_fds(self._sock, [data], list(fds)) if fds else self._sock.send(data)
                )
            except BlockingIOError:
                return False
            except OSError as error:
                self.close(f"send failed: {error}", now_ns)
                return False
            if sent == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = (data[sent:], ())  # descriptors go with the first byte
        return not self._unsent


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in received ancillary data."""
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()
