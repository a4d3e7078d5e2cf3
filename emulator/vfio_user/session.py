# SPDX-License-Identifier: MIT
"""One client's conversation, without I/O: bytes, descriptors and time in, actions out.

Source: QEMU's docs/interop/vfio-user.rst; what QEMU's client does beyond it is said where it
matters. A command that is refused gets an error reply and changes nothing; a stream that cannot be
trusted any more is closed. Every descriptor received is handed to the device or closed, once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from errno import EINVAL, ENOSYS
from typing import NoReturn, TypeAlias

from emulator.errors import DmabedError
from emulator.vfio_user.capabilities import Capabilities
from emulator.vfio_user.catalogue import Catalogue
from emulator.vfio_user.commands import COMMANDS, Answer, Reply, State
from emulator.vfio_user.device import Device
from emulator.vfio_user.dma import DmaCommands
from emulator.vfio_user.errors import (
    HandshakeError,
    ProtocolViolationError,
    VfioUserError,
    errno_of,
)
from emulator.vfio_user.framing import Framer, Message, close_fds
from emulator.vfio_user.messages import (
    HEADER,
    HEADER_SIZE,
    NO_REPLY,
    TYPE_MASK,
    TYPE_REPLY,
    error_reply,
)
from emulator.vfio_user.outgoing import DmaLayout, DmaMessages

__all__ = ["Action", "Close", "DmaLayout", "Reply", "Session", "State"]

_OVERHEAD = 8192  # of a message beyond its data: header, structures, version data, 200 small writes
_unpack_header = HEADER.unpack_from


@dataclass(slots=True)
class Close:
    """Close the connection, after the replies before this. The device has been told."""

    reason: str


Action: TypeAlias = Reply | Close


class Session:
    """The protocol with one client, for one device.

    offer: what we take. dma_layout: how the client lays out DMA_READ and DMA_WRITE. ``agreed``
    holds what both sides take once ``state`` is RUNNING.
    """

    def __init__(
        self,
        device: Device,
        offer: Capabilities | None = None,
        dma_layout: DmaLayout = DmaLayout.SPECIFICATION,
    ) -> None:
        self.device = device
        self.offer = self.agreed = offer or Capabilities()
        self.catalogue = Catalogue(device)
        self.dma = DmaCommands(device)
        self.outgoing = DmaMessages(dma_layout)
        self.state = State.AWAITING_VERSION
        self.dispatching = False
        self._handlers = COMMANDS[self.state]
        self._framer = Framer(self.offer.max_data_xfer_size + _OVERHEAD)
        self._actions: list[Action] = []
        self.holding = False
        self._inbox: deque[Message] = deque()  # commands that wait, in their order

    def feed(self, data: bytes | memoryview, fds: list[int], now_ns: int) -> list[Action]:
        """Takes a chunk of the stream and the descriptors received with it.

        Returns what to do, in order. ``data`` may be reused after the call; ``fds`` are taken over.
        """
        if self.state is State.CLOSED:
            close_fds(fds)
            return []
        size = len(data)
        if size >= HEADER_SIZE and self._framer.idle and not self.holding:
            msg_id, command, length, flags, error = _unpack_header(data)
            if length == size <= self._framer.limit and not flags & TYPE_MASK:
                # The common case: one whole command, and nothing before it.
                body = memoryview(data)[HEADER_SIZE:]
                answer = self._dispatch(Message(msg_id, command, flags, error, body, fds), now_ns)
                if self._actions:
                    return self._drain()
                if answer is None or flags & NO_REPLY:
                    return []
                return [Reply(answer) if isinstance(answer, bytes) else answer]
        messages, violation = self._framer.push(data, fds)
        self._take_all(messages, now_ns)
        if violation:
            self._violation(violation, now_ns)
        return self._drain()

    def poll(self, now_ns: int) -> list[Action]:
        """Releases the replies to DMA_MAP and DMA_UNMAP that have become due."""
        return [Reply(data) for data in self.dma.queue.poll(now_ns)]

    def next_due_ns(self) -> int | None:
        """When :meth:`poll` will have something to release; None if nothing is delayed."""
        return self.dma.queue.due_ns

    def close(self, reason: str, now_ns: int) -> None:
        """The connection is gone, whoever closed it: tells the device, once."""
        if self.state is State.CLOSED:
            return
        self._enter(State.CLOSED)
        self._framer.discard()
        self.dma.queue.discard()
        for message in self._inbox:
            close_fds(message.fds)
        self._inbox.clear()
        self.holding = False
        self.device.closed(reason, now_ns)

    def begin(self, agreed: Capabilities) -> None:
        """VERSION went well."""
        self.agreed = agreed
        self._enter(State.RUNNING)

    # -- commands of ours to the client ------------------------------------------------------------

    def dma_read_request(self, iova: int, count: int) -> tuple[int, bytes]:
        """A DMA_READ of at most ``agreed.max_data_xfer_size`` bytes: its ID, and what to send.

        The answer is in ``outgoing`` under that ID once the client has replied.
        """
        self.check_transfer(count)
        return self.outgoing.read(iova, count)

    def dma_write_request(self, iova: int, data: bytes | memoryview) -> tuple[int, bytes]:
        """A DMA_WRITE of at most ``agreed.max_data_xfer_size`` bytes: its ID, and what to send."""
        self.check_transfer(len(data))
        return self.outgoing.write(iova, data)

    def check_transfer(self, count: int) -> None:
        """Refuses with EINVAL more bytes than one message may move.

        Raises:
            VfioUserError: as said.
        """
        if count > self.agreed.max_data_xfer_size:
            raise VfioUserError(
                EINVAL, f"{count} bytes in one message, {self.agreed.max_data_xfer_size} are agreed"
            )

    def hold(self) -> None:
        """From now on commands of the client wait; its replies are taken."""
        self.holding = True

    def resume(self, now_ns: int) -> list[Action]:
        """Handles the commands that had to wait, in their order; returns what to do."""
        self.holding = False
        self._work(now_ns)
        return self._drain()

    # -- inside ------------------------------------------------------------------------------------

    def _take_all(self, messages: list[Message], now_ns: int) -> None:
        for message in messages:
            if self.state is State.CLOSED:
                close_fds(message.fds)
            elif message.flags & TYPE_MASK:
                self._take_reply(message, now_ns)
            else:
                self._inbox.append(message)
        self._work(now_ns)

    def _work(self, now_ns: int) -> None:
        """Handles commands that wait, until a handler wants the others to wait for it."""
        while self._inbox and not self.holding:
            self._take(self._inbox.popleft(), now_ns)

    def _take(self, message: Message, now_ns: int) -> None:
        """Handles one command."""
        answer = self._dispatch(message, now_ns)
        if answer is not None and not message.flags & NO_REPLY:
            self._actions.append(Reply(answer) if isinstance(answer, bytes) else answer)

    def _dispatch(self, message: Message, now_ns: int) -> Answer:
        self.dispatching = True
        try:
            handler = self._handlers.get(message.command)
            if handler is None:
                self._unknown(message.command)
            return handler(self, message, now_ns)
        except HandshakeError as error:
            self._refuse_handshake(message, error, now_ns)
            return None
        except DmabedError as error:
            return error_reply(message.msg_id, message.command, errno_of(error))
        finally:
            self.dispatching = False
            if message.fds:
                close_fds(message.fds)

    def _unknown(self, command: int) -> NoReturn:
        """Refuses a command that the present state does not know."""
        if self.state is State.AWAITING_VERSION:
            raise HandshakeError(EINVAL, f"command {command} before VERSION")
        raise VfioUserError(ENOSYS, f"there is no command {command}")

    def _refuse_handshake(self, message: Message, error: HandshakeError, now_ns: int) -> None:
        if not message.flags & NO_REPLY:
            self._actions.append(Reply(error_reply(message.msg_id, message.command, error.errno)))
        self._violation(str(error), now_ns)

    def _take_reply(self, message: Message, now_ns: int) -> None:
        msg_id, command, flags, error, body, fds = message
        close_fds(fds)
        try:
            if fds or flags & TYPE_MASK != TYPE_REPLY:
                raise ProtocolViolationError(f"flags {flags:#x} with {len(fds)} descriptors")
            self.outgoing.on_reply(msg_id, command, flags, error, body)
        except ProtocolViolationError as violation:
            self._violation(str(violation), now_ns)

    def _violation(self, reason: str, now_ns: int) -> None:
        if self.state is not State.CLOSED:
            self._actions.append(Close(reason))
            self.close(reason, now_ns)

    def _enter(self, state: State) -> None:
        self.state = state
        self._handlers = COMMANDS[state]

    def _drain(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions
