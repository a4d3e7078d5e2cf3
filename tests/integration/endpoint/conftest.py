# SPDX-License-Identifier: MIT
"""An endpoint on a real socket, its client in the same thread, and a clock that the test turns."""

import os

import pytest

from emulator.endpoint import Endpoint
from emulator.iommu.latency import Delay, LatencyModel
from emulator.ledger import Ledger
from emulator.vfio_user.messages import PciIrq, PciRegion
from emulator.vfio_user.server import Server
from tests.support.vfio_user_client import VfioUserClient, sealed_memfd

COMMAND, MEM, BME = 4, 2, 4
GUEST_BYTES = 1 << 20


class Bench:
    """A served device and its client, with what a test wants to do to them."""

    def __init__(self, device, path):
        self.now_ns = 1_000
        self.ledger = Ledger(self.clock)
        self.device = device
        self.endpoint = Endpoint(device, "dut", self.ledger, LatencyModel(), self.clock)
        self.server = Server(path, self.endpoint)
        self.guest = sealed_memfd(GUEST_BYTES)
        self.client = self.connect()
        self._eventfds = []

    def clock(self):
        return self.now_ns

    def pump(self):
        self.server.service(self.now_ns)

    def connect(self):
        client = VfioUserClient.connect(self.server.path, pump=self.pump)
        client.version()
        return client

    def delay(self, map_ns=0, unmap_ns=0, per_page_ns=0):
        """From now on maps and unmaps take so long."""
        delays = (Delay(mean_ns, per_page_ns) for mean_ns in (map_ns, unmap_ns))
        self.endpoint.latency = LatencyModel("test", *delays)

    def config_write(self, offset, value, size=2):
        self.client.region_write(PciRegion.CONFIG, offset, value.to_bytes(size, "little"))

    def config_read(self, offset, size=4):
        return int.from_bytes(self.client.region_read(PciRegion.CONFIG, offset, size), "little")

    def register(self, name):
        return self.endpoint.function.config.register(name).offset

    def enable(self, bits=MEM | BME):
        self.config_write(COMMAND, bits)

    def write(self, offset, value, size=8):
        self.client.region_write(0, offset, value.to_bytes(size, "little"))

    def read(self, offset, size=8):
        return int.from_bytes(self.client.region_read(0, offset, size), "little")

    def map(self, iova, size=4096, offset=0, flags=3):
        self.client.dma_map(iova, size, self.guest, offset, flags)

    def eventfd(self, vector, index=PciIrq.MSIX):
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._eventfds.append(fd)
        self.client.set_eventfds(index, vector, [fd])
        return fd

    def fill(self, offset, data):
        os.pwrite(self.guest, data, offset)

    def memory(self, offset, size):
        return os.pread(self.guest, size, offset)

    def violations(self):
        return dict(self.ledger.log.counts)

    @staticmethod
    def open_files():
        """The numbers of the open files of this process."""
        return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, not paths

    def close(self):
        self.client.close()
        self.server.close(self.now_ns)
        for fd in (self.guest, *self._eventfds):
            os.close(fd)


@pytest.fixture
def signals():
    """How often an event descriptor was signalled since the last call."""

    def count(fd):
        try:
            return os.eventfd_read(fd)
        except BlockingIOError:
            return 0

    return count


@pytest.fixture
def bench(tmp_path):
    """Makes a bench for a device."""
    made = []

    def make(device):
        made.append(Bench(device, tmp_path / f"{len(made)}.sock"))
        return made[-1]

    yield make
    for one in made:
        one.close()
