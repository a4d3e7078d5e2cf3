# SPDX-License-Identifier: MIT
"""Guest memory by file descriptor: one mapping of each whole file, whoever maps parts of it.

QEMU sends a descriptor with every DMA_MAP, a new number for the same file each time. The file is
told by its device and inode numbers, mapped once, and the descriptor is the caller's to close.

A file that shrinks while it is mapped turns an access into SIGBUS, which would kill the process. So
a file has to carry F_SEAL_SHRINK, as QEMU's memory-backend-memfd does by default; if it may still
be sealed, it is sealed here. Others are refused unless ``allow_unsealed`` says that the client is
trusted.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from errno import EACCES, EINVAL, ENOSPC, EPERM

import numpy as np
from numpy.typing import NDArray

from emulator.vfio_user.errors import VfioUserError

MOST_BACKINGS = 64  # each holds a descriptor; QEMU has one per memory backend


class Backing:
    """A file of guest memory. ``index`` never changes, and no other backing of its owner has it.

    array: uint8[bytes of the file], shared with the guest; take it anew for each use, since it is
    replaced when the file grows. It cannot be written if the client's descriptor cannot.
    """

    __slots__ = ("array", "index", "sealed", "size", "writable")

    def __init__(self, index: int) -> None:
        self.index = index
        self.size = 0
        self.writable = False
        self.sealed = False
        self.array: NDArray[np.uint8] = np.zeros(0, np.uint8)


class GuestMemory:
    """All files of one client's memory. ``allow_unsealed``: trust the client not to shrink them."""

    def __init__(self, allow_unsealed: bool = False) -> None:
        self._allow_unsealed = allow_unsealed
        self._backings: dict[tuple[int, int], Backing] = {}
        self._next_index = 0

    def __len__(self) -> int:
        return len(self._backings)

    def attach(self, fd: int, end: int = 0, writable: bool = True) -> Backing:
        """The backing of the file behind ``fd``, mapped as far as the file goes.

        ``fd`` is not kept. end: bytes the file must have, that is offset + size of a DMA_MAP.

        Raises:
            VfioUserError: EINVAL if it is no regular file or too short, EACCES if it has to be
                writable and is not, EPERM if it could shrink, ENOSPC if there are too many, or the
                errno of the system call that failed.
        """
        try:
            status = os.fstat(fd)
            backing = self._backings.get((status.st_dev, status.st_ino))
            if backing is None or backing.size != status.st_size or writable > backing.writable:
                backing = self._map(fd, status, backing)
        except OSError as error:
            raise VfioUserError(error.errno or EINVAL, "guest memory cannot be mapped") from error
        if end > backing.size:
            raise VfioUserError(EINVAL, f"bytes up to {end:#x} of a file of {backing.size:#x}")
        if writable and not backing.writable:
            raise VfioUserError(EACCES, "the descriptor of writable guest memory is read-only")
        return backing

    def release(self) -> None:
        """Forgets all files; each is unmapped when the last user of its array is gone."""
        self._backings.clear()

    def _map(self, fd: int, status: os.stat_result, old: Backing | None) -> Backing:
        if not stat.S_ISREG(status.st_mode) or status.st_size <= 0:
            raise VfioUserError(EINVAL, "guest memory has to be a regular file that is not empty")
        if old is None and len(self._backings) >= MOST_BACKINGS:
            raise VfioUserError(ENOSPC, f"more than {MOST_BACKINGS} files of guest memory")
        sealed = _seal(fd)
        if not sealed and not self._allow_unsealed:
            raise VfioUserError(
                EPERM, "guest memory could be shrunk under us: seal it with F_SEAL_SHRINK"
            )
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        if old is not None and old.writable and not writable and old.size == status.st_size:
            return old
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        # The seal is on: the size can only have grown since it was read.
        mapped = mmap.mmap(fd, status.st_size, mmap.MAP_SHARED, protection)
        backing = old or Backing(self._next_index)
        backing.array = np.frombuffer(mapped, np.uint8)
        backing.size, backing.writable, backing.sealed = status.st_size, writable, sealed
        if old is None:
            self._next_index += 1
            self._backings[status.st_dev, status.st_ino] = backing
        return backing


def _seal(fd: int) -> bool:
    """Whether the file cannot shrink any more; makes it so if it may be sealed."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if not seals & fcntl.F_SEAL_SHRINK:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    except OSError:  # not a memfd (EINVAL), sealed against seals or read-only (EPERM)
        return False
    return True
