# SPDX-License-Identifier: MIT
"""A machine with one or two NICs, their driver and what is above it, for the tests here."""

import numpy as np

from driver.model.host import run_to_completion as go
from driver.model.inprocess import Machine
from driver.model.main import dmabed_change_mtu, dmabed_open, dmabed_probe, dmabed_remove
from driver.model.stack import Drop
from driver.model.structs import Config
from emulator.frames import FrameBatch
from emulator.nic.config import NicConfig
from emulator.nic.descriptors import COMPLETION
from emulator.nic.wire.generator import Fixed, Generator, GeneratorConfig
from emulator.nic.wire.testframes import Checker

MODES = ["page_pool", "map_per_packet"]
SMALL = Config(2, 64, 64)


def mac(number):
    return bytes([0x02, 0xDB, 0xED, 0, 0, number])


def generator(count, sizes=None, seed=1, flows=16, **more):
    sizes = sizes or Fixed(60)
    return Generator(GeneratorConfig(seed=seed, sizes=sizes, count=count, flows=flows, **more))


class Bed:
    """One more device of ``machine`` with its driver up."""

    def __init__(self, wire, mode="page_pool", stack=None, cfg=None, machine=None, **device):
        self.machine = machine or Machine()
        self.wire = wire
        self.checker = Checker()
        self.stack = stack or Drop(self.checker.take)
        number = len(self.machine.hosts)
        self.host = self.machine.add_device(NicConfig(mac=mac(number)), wire, **device)
        self.priv = go(dmabed_probe(self.host, self.stack, mode, cfg))
        go(dmabed_change_mtu(self.priv, 9000))
        go(dmabed_open(self.priv))

    @property
    def rx(self):
        return [qp.rx for qp in self.priv.set]

    def run(self, until_ns=None):
        self.machine.run([self.priv], until_ns)

    def remove(self):
        """Removes the driver; nothing may be left, and the ledger must be content."""
        go(dmabed_remove(self.priv))
        self.assert_nothing_left()

    def assert_nothing_left(self):
        assert list(self.host.space) == []
        assert self.priv.dying == []
        assert self.host.ledger.state.posted == {}
        assert self.host.ledger.state.rings == {}
        if len(self.machine.hosts) == 1:
            assert self.machine.pages.in_use == 0
        assert self.machine.ledger.verdict().summary[0] == "ledger: clean"


def assert_intact(checker, frames):
    """Every one of ``frames`` test frames came, in order and unharmed."""
    seen = (checker.frames, checker.corrupt, checker.misordered, checker.others)
    assert seen == (frames, 0, 0, 0)


class Lying:
    """A DMA port that lets ``lie`` change completions (a structured array) as they are written.

    The device writes each batch twice, first with the old phase; the lie is in the second.
    """

    def __init__(self, port, lie):
        self._port, self._lie, self._first = port, lie, None

    def write(self, iova, data):
        if self._first != (iova, len(data)):
            self._first = (iova, len(data))
            self._port.write(iova, data)
            return
        self._first = None
        entries = np.frombuffer(bytes(data), COMPLETION.dtype).copy()
        self._lie(entries)
        self._port.write(iova, entries.view(np.uint8))

    def __getattr__(self, name):
        return getattr(self._port, name)


class Capture:
    """A wire: sends what ``source`` sends, keeps what it is sent."""

    def __init__(self, source):
        self._source = source
        self.frames = []

    def receive(self, room, now_ns):
        return self._source.receive(room, now_ns)

    def transmit(self, frames, now_ns):
        self.frames += list(frames)

    def next_due_ns(self, now_ns):
        return self._source.next_due_ns(now_ns)


class Silent:
    """A wire on which nothing comes."""

    def receive(self, room, now_ns):
        return FrameBatch.empty()

    def transmit(self, frames, now_ns):
        pass

    def next_due_ns(self, now_ns):
        return None
