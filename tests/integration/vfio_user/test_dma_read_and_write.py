# SPDX-License-Identifier: MIT
"""DMA_READ and DMA_WRITE: the server reaches memory of the client that has no descriptor."""

import os
import threading
import time
from errno import EFAULT

import pytest

from emulator.vfio_user.errors import ClientGoneError, DmaTimeoutError, VfioUserError
from emulator.vfio_user.messages import Command
from emulator.vfio_user.outgoing import DmaLayout
from emulator.vfio_user.server import Server
from tests.support.vfio_user_client import HungUpError, VfioUserClient


class ClientThread:
    """A client that answers on a thread of its own, since the server blocks while it waits."""

    def __init__(self, server: Server, layout: DmaLayout, xfer: int) -> None:
        self.client = VfioUserClient.connect(server.path, layout=layout)
        self._server = server
        done = threading.Event()

        def run() -> None:
            self.client.version({"max_data_xfer_size": xfer, "max_msg_fds": 8})
            done.set()
            self.client.wait_hangup()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        while not done.is_set():
            server.service(time.monotonic_ns())

    def finish(self) -> None:
        self._server.disconnect("the test is over", 0)
        self.thread.join()
        self.client.close()


@pytest.mark.parametrize("layout", list(DmaLayout))
@pytest.mark.parametrize("xfer", [1 << 20, 1000])
def test_bytes_arrive_both_ways_in_either_layout_and_any_size(device, tmp_path, layout, xfer):
    with Server(tmp_path / "s", device, dma_layout=layout) as server:
        peer = ClientThread(server, layout, xfer)
        try:
            peer.client.memory[0x10000] = bytearray(os.urandom(4096))
            before = bytes(peer.client.memory[0x10000])
            assert server.dma_read(0x10000, 4096) == before
            server.dma_write(0x10100, bytes(range(256)) * 10)
            assert peer.client.memory[0x10000] == (
                before[:256] + bytes(range(256)) * 10 + before[256 + 2560 :]
            )
            assert all(count <= xfer for _, _, count in peer.client.dma_requests)
            assert server.dma_read(0x10000, 0) == b""
        finally:
            peer.finish()


@pytest.mark.parametrize("command", ["read", "write"])
def test_what_the_client_refuses_is_a_named_error(device, tmp_path, command):
    with Server(tmp_path / "s", device) as server:
        peer = ClientThread(server, DmaLayout.SPECIFICATION, 4096)
        try:
            with pytest.raises(VfioUserError) as refused:
                if command == "read":
                    server.dma_read(0x9000, 16)
                else:
                    server.dma_write(0x9000, bytes(16))
            assert refused.value.errno == EFAULT
        finally:
            peer.finish()


def test_without_a_client_it_fails_at_once(server):
    with pytest.raises(ClientGoneError):
        server.dma_read(0, 1)


def test_a_silent_client_is_not_waited_for_and_its_late_answer_is_dropped(client, server):
    client.memory[0] = bytearray(16)
    with pytest.raises(DmaTimeoutError):
        server.dma_read(0, 16, timeout_s=0.01)
    assert client.get_info().num_regions == 9  # the request was answered on the way to this reply
    assert client.dma_requests == [(Command.DMA_READ, 0, 16)]


def test_a_client_that_goes_while_it_is_waited_for_is_a_named_error(client, server):
    timer = threading.Timer(0.05, client.sock.shutdown, [2])
    timer.start()
    with pytest.raises(ClientGoneError):
        server.dma_read(0, 16, timeout_s=5)
    timer.join()
    server.service(0)
    with pytest.raises(HungUpError):
        client.get_info()


def test_commands_that_come_while_it_waits_are_done_after_it_in_order(client, server, device):
    for value in range(5):
        client.region_write(0, 0, bytes([value] * 4), posted=True)
    with pytest.raises(DmaTimeoutError):
        server.dma_read(0, 16, timeout_s=0.01)
    assert device.calls == []
    client.memory[0] = bytearray(16)
    client.region_write(0, 0, b"last")
    assert [call[3] for call in device.calls] == [bytes([v] * 4) for v in range(5)] + [b"last"]


def test_a_reentrant_server_lets_commands_through_while_it_waits(device, tmp_path):
    with Server(tmp_path / "s", device, reentrant=True) as server:
        with VfioUserClient.connect(
            server.path, pump=lambda: server.service(time.monotonic_ns())
        ) as client:
            client.version()
            client.region_write(0, 0, b"abcd", posted=True)
            with pytest.raises(DmaTimeoutError):
                server.dma_read(0, 16, timeout_s=0.01)
            assert [call[3] for call in device.calls] == [b"abcd"]
        server.service(0)


def test_a_handler_may_wait_and_later_commands_keep_their_order(client, server, device):
    def read_memory(*_: object) -> None:
        device.on_write = None
        with pytest.raises(DmaTimeoutError):
            server.dma_read(0, 16, timeout_s=0.01)

    device.on_write = read_memory
    for value in range(6):
        client.region_write(0, 0, bytes([value] * 4), posted=True)
    client.get_info()
    assert [call[3][0] for call in device.calls] == list(range(6))
