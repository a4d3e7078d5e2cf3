# SPDX-License-Identifier: MIT
"""Guest memory by descriptor: one mapping per file, and nothing that could kill us."""

import fcntl
import os
from collections.abc import Iterator
from errno import EACCES, EINVAL, ENOSPC, EPERM

import pytest

from emulator.vfio_user.backing import MOST_BACKINGS, GuestMemory
from emulator.vfio_user.errors import VfioUserError
from tests.support.vfio_user_client import sealed_memfd, write_file

PAGE = 4096


@pytest.fixture
def opened() -> Iterator[list[int]]:
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


def test_descriptors_of_one_file_share_one_backing(opened):
    opened += [sealed_memfd(2 * PAGE)]
    opened += [os.dup(opened[0]), os.open(f"/proc/self/fd/{opened[0]}", os.O_RDWR)]
    memory = GuestMemory()
    backings = [memory.attach(fd, 2 * PAGE) for fd in opened]
    assert backings[0] is backings[1] is backings[2]
    assert len(memory) == 1
    write_file(opened[0], PAGE, b"guest")
    assert backings[0].array[PAGE : PAGE + 5].tobytes() == b"guest"
    assert backings[0].array.shape == (2 * PAGE,)


def test_different_files_have_different_backings_and_numbers(opened):
    opened += [sealed_memfd(PAGE), sealed_memfd(PAGE)]
    memory = GuestMemory()
    assert [memory.attach(fd).index for fd in opened] == [0, 1]


def test_a_file_that_grew_is_seen_whole_under_the_same_number(opened):
    fd = os.memfd_create("grows", os.MFD_ALLOW_SEALING)
    opened.append(fd)
    os.ftruncate(fd, PAGE)
    memory = GuestMemory()
    backing = memory.attach(fd)
    old = backing.array
    os.ftruncate(fd, 3 * PAGE)
    assert memory.attach(fd, 3 * PAGE) is backing
    assert backing.array.shape == (3 * PAGE,)
    backing.array[0] = 7
    assert old[0] == 7  # who still holds the old array sees the same memory


def test_a_file_cannot_be_shrunk_under_us(opened):
    fd = os.memfd_create("shrinks", os.MFD_ALLOW_SEALING)
    opened.append(fd)
    os.ftruncate(fd, 2 * PAGE)
    backing = GuestMemory().attach(fd)
    with pytest.raises(OSError):
        os.ftruncate(fd, PAGE)
    assert backing.array[2 * PAGE - 1] == 0
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK


def test_a_file_that_could_shrink_is_refused_unless_trusted(opened, tmp_path):
    unsealable = os.memfd_create("unsealable")
    on_disk = os.open(tmp_path / "memory", os.O_RDWR | os.O_CREAT)
    opened += [unsealable, on_disk]
    for fd in opened:
        os.ftruncate(fd, PAGE)
        with pytest.raises(VfioUserError) as refused:
            GuestMemory().attach(fd)
        assert refused.value.errno == EPERM
        assert GuestMemory(allow_unsealed=True).attach(fd).array.shape == (PAGE,)


def test_a_read_only_file_cannot_be_mapped_for_writing(opened):
    writable = sealed_memfd(PAGE)
    opened += [writable, os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)]
    memory = GuestMemory()
    backing = memory.attach(opened[1], writable=False)
    with pytest.raises(ValueError, match="read-only"):
        backing.array[0] = 1
    with pytest.raises(VfioUserError) as refused:
        memory.attach(opened[1])
    assert refused.value.errno == EACCES
    assert memory.attach(writable) is backing
    backing.array[0] = 1
    assert memory.attach(opened[1], writable=False).writable


def test_bytes_beyond_the_end_are_refused(opened):
    opened.append(sealed_memfd(PAGE))
    memory = GuestMemory()
    memory.attach(opened[0], PAGE)
    with pytest.raises(VfioUserError) as refused:
        memory.attach(opened[0], PAGE + 1)
    assert refused.value.errno == EINVAL


def test_the_number_of_files_is_bounded(opened):
    memory = GuestMemory()
    for _ in range(MOST_BACKINGS):
        opened.append(sealed_memfd(PAGE))
        memory.attach(opened[-1])
    opened.append(sealed_memfd(PAGE))
    with pytest.raises(VfioUserError) as refused:
        memory.attach(opened[-1])
    assert refused.value.errno == ENOSPC


def test_a_closed_descriptor_is_a_named_error():
    fd = sealed_memfd(PAGE)
    os.close(fd)
    with pytest.raises(VfioUserError):
        GuestMemory().attach(fd)
