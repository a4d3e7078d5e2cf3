# SPDX-License-Identifier: MIT
"""Clients come, go, die and misbehave; the server serves the next one."""

import os
import socket
import struct
import time

import pytest

from emulator.vfio_user import messages as wire
from emulator.vfio_user.messages import Command
from emulator.vfio_user.server import Server, SocketPathError
from tests.support.vfio_user_client import HungUpError, VfioUserClient, map_payload, sealed_memfd


def connect(server: Server) -> VfioUserClient:
    return VfioUserClient.connect(server.path, pump=lambda: server.service(time.monotonic_ns()))


def until_gone(server: Server) -> None:
    while server.connection is not None:
        server.service(time.monotonic_ns())


def test_the_next_client_is_served_after_one_has_died(server, device):
    for generation in range(3):
        with connect(server) as client:
            client.version()
            client.dma_map(0x1000 * generation, 4096)
            event = os.eventfd(0)
            client.set_eventfds(2, 0, [event] * 4)
            os.close(event)
            assert len(device.mappings) == 1
        until_gone(server)
        assert device.mappings == {}
        assert len(device.closed_reasons) == generation + 1


def test_a_client_that_dies_in_the_middle_of_a_message_leaves_nothing_behind(server, device):
    message = wire.encode(1, Command.DMA_MAP, map_payload(0, 4096))
    fd = sealed_memfd(4096)
    try:
        for cut in (1, 15, 16, 17, 47):
            with connect(server) as client:
                client.version()
                client.send_raw(message[:cut], [fd])
                server.service(0)
            until_gone(server)
    finally:
        os.close(fd)
    assert device.calls == []


def test_a_client_that_dies_during_a_delayed_unmap_leaves_nothing_behind(server, device):
    fd = sealed_memfd(4096)
    with connect(server) as client:
        client.version()
        client.dma_map(0, 4096, fd)
        device.unmap_ns = 10**12
        client.send(Command.DMA_UNMAP, wire.DMA_UNMAP.pack(24, 0, 0, 4096))
        client.send(Command.DMA_MAP, map_payload(4096, 4096), [fd])
        client.get_info()
        assert server.next_due_ns() is not None
    until_gone(server)
    os.close(fd)
    assert server.next_due_ns() is None


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("=HHLLL", 1, 9, 15, 0, 0),
        struct.pack("=HHLLL", 1, 9, 0, 0, 0),
        struct.pack("=HHLLL", 1, 9, 0xFFFFFFFF, 0, 0),
        struct.pack("=HHLLL", 1, 9, 16, 2, 0),
        struct.pack("=HHLLL", 1, 9, 16, 15, 0),
        struct.pack("=HHLLL", 1, 11, 16, 1, 0),
    ],
)
def test_a_stream_that_cannot_be_trusted_is_closed_and_the_next_client_served(server, header):
    with connect(server) as client:
        client.version()
        client.send_raw(header)
        client.wait_hangup()
    with connect(server) as client:
        client.version()
        assert client.get_info().num_regions == 9
    until_gone(server)


def test_a_client_that_does_not_read_is_not_served_without_bound(server, device):
    with connect(server) as client:
        client.version()
        client.sock.setblocking(False)
        read = wire.encode(1, Command.REGION_READ, wire.REGION_ACCESS.pack(0, 0, 1 << 20))
        sent = 0
        for _ in range(2000):
            try:
                client.sock.send(read)
                sent += 1
            except BlockingIOError:
                pass
            server.service(0)
        assert server.filenos()[1] == server.filenos()[0]
        waiting = server.connection._unsent
        assert sum(len(data) for data, _ in waiting) <= 3 << 20
        client.sock.setblocking(True)
        for _ in range(sent):
            assert len(client.receive().payload) == 16 + (1 << 20)
    until_gone(server)


def test_bytes_that_trickle_in_are_put_together(server, device):
    with connect(server) as client:
        client.version()
        message = wire.encode(7, Command.REGION_WRITE, wire.REGION_ACCESS.pack(4, 0, 4) + b"abcd")
        for byte in message * 2:
            client.send_raw(bytes([byte]))
            server.service(0)
        assert client.receive().msg_id == 7
        assert client.receive().msg_id == 7
        assert bytes(device.bar0[4:8]) == b"abcd"
    until_gone(server)


def test_more_descriptors_than_a_message_can_have_end_the_connection(server):
    fd = sealed_memfd(4096)
    with connect(server) as client:
        client.version()
        try:
            for _ in range(3):
                client.send_raw(b"\1", [fd] * 250)
            client.wait_hangup()
        except (HungUpError, OSError):
            pass
    os.close(fd)
    until_gone(server)


def test_the_socket_is_private_and_removed_at_the_end(device, tmp_path):
    path = tmp_path / "s"
    with Server(path, device):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_the_socket_of_a_dead_server_is_replaced(device, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Server(path, device) as server:
        assert server.filenos()[0]


def test_a_path_that_cannot_be_listened_at_is_refused_by_name(device, tmp_path):
    path = tmp_path / "s"
    with Server(path, device), pytest.raises(SocketPathError, match="somebody listens"):
        Server(path, device)
    path.write_text("precious")
    with pytest.raises(SocketPathError, match="no socket"):
        Server(path, device)
    assert path.read_text() == "precious"
    with pytest.raises(SocketPathError, match="longer than"):
        Server(tmp_path / ("x" * 200), device)
    with pytest.raises(SocketPathError, match="cannot listen"):
        Server(tmp_path / "missing" / "s", device)
