# SPDX-License-Identifier: MIT
"""Writes cpio archives in the "newc" format, the one the kernel unpacks as its initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux sources.
"""

import stat

_TRAILER = "TRAILER!!!"


class CpioArchive:
    """An archive being put together in memory.

    Owners are root and times are zero, so equal input gives equal bytes.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0
        self._folders: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Adds a folder and those above it, unless present."""
        parent = path.rpartition("/")[0]
        if parent:
            self.folder(parent)
        if path not in self._folders:
            self._folders.add(path)
            self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Adds a regular file, and the folders above it."""
        self._make_parent(path)
        self._entry(path, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        """Adds a symbolic link, and the folders above it."""
        self._make_parent(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Adds a character device node, and the folders above it."""
        self._make_parent(path)
        self._entry(path, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> bytes:
        """The archive with its trailer; the kernel accepts several, one after the other."""
        return bytes(self._data + _record(0, _TRAILER, 0, b"", (0, 0)))

    def _make_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent:
            self.folder(parent)

    def _entry(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        self._data += _record(self._inode, path, mode, data, device)


def _record(inode: int, path: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(name), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    head = header + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
