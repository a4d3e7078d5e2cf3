# SPDX-License-Identifier: MIT
"""Any sequence of messages, good or bad, whole or cut: an errno, or a clean close, and no leak.

Hypothesis plays a client against a session: valid commands in any order, mutilated ones, garbage,
descriptors where they do not belong, replies nobody asked for, delays, and the client's death. A
model beside it knows which mappings have to be alive.
"""

import os
from errno import errorcode

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from emulator.vfio_user.session import Close, Reply, Session, State
from tests.support.vfio_user_client import map_payload, sealed_memfd, unmap_payload
from tests.support.vfio_user_device import ExampleDevice

PAGE = 4096
FIXED = {
    Command.VERSION: bytes(4),
    Command.DMA_MAP: map_payload(0, PAGE),
    Command.DMA_UNMAP: unmap_payload(0, PAGE),
    Command.DEVICE_GET_INFO: wire.DEVICE_INFO.pack(16, 0, 0, 0),
    Command.DEVICE_GET_REGION_INFO: wire.REGION_INFO.pack(256, 0, 2, 0, 0, 0),
    Command.DEVICE_GET_REGION_IO_FDS: wire.REGION_IO_FDS.pack(16, 0, 0, 0),
    Command.DEVICE_GET_IRQ_INFO: wire.IRQ_INFO.pack(16, 0, 2, 0),
    Command.DEVICE_SET_IRQS: wire.IRQ_SET.pack(20, 0x24, 2, 0, 2),
    Command.REGION_READ: wire.REGION_ACCESS.pack(0, 0, 4),
    Command.REGION_WRITE: wire.REGION_ACCESS.pack(0, 0, 4) + b"abcd",
    Command.REGION_WRITE_MULTI: wire.WRITE_MULTI_COUNT.pack(0),
    Command.DEVICE_RESET: b"",
    Command.DEVICE_FEATURE: bytes(8),
    Command.MIG_DATA_READ: bytes(8),
    Command.DMA_READ: bytes(16),
}
COMMANDS = st.sampled_from(sorted(FIXED))
FDS = st.integers(0, 3)


class Client(RuleBasedStateMachine):
    """The client's moves."""

    @initialize(handshake=st.booleans())
    def begin(self, handshake: bool) -> None:
        self.before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        self.device = ExampleDevice()
        self.session = Session(self.device)
        self.guest = sealed_memfd(16 * PAGE)
        self.now_ns = 0
        self.open_ids: list[int] = []
        self.next_id = 0
        self.mapped: set[int] = set()
        self.in_message = False
        if handshake:
            self.command(Command.VERSION, 0, 0)

    def feed(self, data: bytes, fds: int = 0) -> list[Reply]:
        """Sends, checks every action, returns the replies."""
        if not data:
            return []
        received = [os.dup(self.guest) for _ in range(fds)]
        was_closed = self.session.state is State.CLOSED
        actions = self.session.feed(data, received, self.now_ns)
        assert not (was_closed and actions)
        return self.check(actions)

    def check(self, actions: list[Reply | Close]) -> list[Reply]:
        replies = [action for action in actions if isinstance(action, Reply)]
        assert all(isinstance(action, Reply) for action in actions[:-1])
        if len(replies) < len(actions):
            assert self.session.state is State.CLOSED
        for reply in replies:
            _, _, size, flags, errno = wire.HEADER.unpack_from(reply.data)
            assert size == len(reply.data)
            assert flags & wire.TYPE_MASK == wire.TYPE_REPLY
            if flags & wire.ERROR:
                assert size == 16
                assert errno in errorcode
        return replies

    def command(self, command: int, fds: int, flags: int, payload: bytes | None = None) -> None:
        body = FIXED[Command(command)] if payload is None else payload
        self.next_id = (self.next_id + 1) & 0xFFFF
        sent = wire.encode(self.next_id, command, body, flags)
        running = self.session.state is State.RUNNING and not self.in_message
        replies = self.feed(sent, fds)
        delayed = command in (Command.DMA_MAP, Command.DMA_UNMAP) and self.device.map_ns
        if running and not delayed:
            answered = [wire.HEADER.unpack_from(reply.data)[0] for reply in replies]
            silent = flags & wire.NO_REPLY
            waiting = self.session.next_due_ns() is not None
            assert answered == ([] if silent else [self.next_id]) or waiting

    @rule(command=COMMANDS, fds=FDS, flags=st.sampled_from([0, wire.NO_REPLY]))
    def say(self, command: int, fds: int, flags: int) -> None:
        """A valid payload, perhaps with descriptors that do not belong there."""
        self.command(command, fds, flags)

    @rule(page=st.integers(0, 15), pages=st.integers(1, 3), with_file=st.booleans())
    def map(self, page: int, pages: int, with_file: bool) -> None:
        """A map that may overlap others and may lie beyond the end of its file."""
        payload = map_payload(page * PAGE, pages * PAGE, page * PAGE)
        self.command(Command.DMA_MAP, int(with_file), 0, payload)

    @rule(page=st.integers(0, 15), pages=st.integers(0, 16), everything=st.booleans())
    def unmap(self, page: int, pages: int, everything: bool) -> None:
        """An unmap that may hit nothing, several, or half a mapping."""
        payload = unmap_payload(page * PAGE, pages * PAGE, 2 if everything else 0)
        self.command(Command.DMA_UNMAP, 0, 0, payload)

    @rule(command=COMMANDS, cut=st.integers(1, 40), grow=st.binary(max_size=24), fds=FDS)
    def mutilate(self, command: int, cut: int, grow: bytes, fds: int) -> None:
        """Too short, too long, or with other bytes at the end."""
        self.command(command, fds, 0, FIXED[Command(command)][:-cut] + grow)

    @rule(command=st.integers(0, 0xFFFF), payload=st.binary(max_size=64), fds=FDS)
    def invent(self, command: int, payload: bytes, fds: int) -> None:
        """A command with a random number and payload."""
        self.command(command, fds, 0, payload)

    @rule(data=st.binary(min_size=1, max_size=80), fds=FDS)
    def babble(self, data: bytes, fds: int) -> None:
        """Bytes that are no message; what follows is read as their continuation."""
        self.in_message = True
        self.feed(data, fds)

    @rule(command=COMMANDS, at=st.integers(1, 47), fds=FDS)
    def cut(self, command: int, at: int, fds: int) -> None:
        """A message in two chunks."""
        message = wire.encode(1, command, FIXED[Command(command)])
        self.feed(message[:at], fds)
        self.feed(message[at:], fds)

    @rule(commands=st.lists(COMMANDS, min_size=2, max_size=5), fds=FDS)
    def glue(self, commands: list[int], fds: int) -> None:
        """Several messages in one chunk."""
        self.feed(b"".join(wire.encode(1, c, FIXED[Command(c)]) for c in commands), fds)

    @rule(msg_id=st.integers(0, 3), command=COMMANDS, kind=st.integers(1, 15))
    def answer(self, msg_id: int, command: int, kind: int) -> None:
        """A reply, or something that is neither command nor reply, that nobody asked for."""
        self.feed(wire.encode(msg_id, command, b"", kind))
        if not self.in_message:
            assert self.session.state is State.CLOSED

    @rule(map_ns=st.sampled_from([0, 0, 100]), unmap_ns=st.sampled_from([0, 0, 1000]))
    def set_delays(self, map_ns: int, unmap_ns: int) -> None:
        self.device.map_ns, self.device.unmap_ns = map_ns, unmap_ns

    @rule(step_ns=st.integers(0, 5000))
    def wait(self, step_ns: int) -> None:
        self.now_ns += step_ns
        self.check(self.session.poll(self.now_ns))
        due_ns = self.session.next_due_ns()
        assert due_ns is None or due_ns > self.now_ns

    @rule(wait=st.booleans())
    def hold(self, wait: bool) -> None:
        """The edge waits for an answer of ours, or does no more."""
        if wait and self.session.state is State.RUNNING:
            self.session.hold()
            self.in_message = True  # replies come later from now on
        elif not wait:
            self.check(self.session.resume(self.now_ns))

    @rule()
    def hang_up(self) -> None:
        self.session.close("the client hung up", self.now_ns)

    @invariant()
    def a_closed_session_leaves_nothing_reachable(self) -> None:
        if hasattr(self, "session") and self.session.state is State.CLOSED:
            assert self.device.mappings == {}
            assert self.session.next_due_ns() is None
            assert len(self.device.closed_reasons) == 1

    def teardown(self) -> None:
        if not hasattr(self, "session"):
            return
        self.session.close("the test is over", self.now_ns)
        self.device.free()
        os.close(self.guest)
        assert len(os.listdir("/proc/self/fd")) == self.before  # noqa: PTH208


Client.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSequences = Client.TestCase
