# SPDX-License-Identifier: MIT
"""The cpio writer, checked by reading archives back with a parser of its own."""

import stat
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vm.cpio import CpioArchive


@dataclass(frozen=True)
class Entry:
    mode: int
    data: bytes
    device: tuple[int, int]
    inode: int


def read_newc(archive: bytes) -> dict[str, Entry]:
    """Parses the newc format from its description: 13 hex fields, names and data padded to 4."""
    entries: dict[str, Entry] = {}
    offset = 0
    while True:
        assert archive[offset : offset + 6] == b"070701"
        assert offset % 4 == 0
        words = [int(archive[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        name_end = offset + 110 + words[11]
        name = archive[offset + 110 : name_end - 1].decode()
        assert archive[name_end - 1] == 0
        start = name_end + (-name_end % 4)
        if name == "TRAILER!!!":
            return entries
        assert name not in entries
        data = archive[start : start + words[6]]
        entries[name] = Entry(words[1], data, (words[9], words[10]), words[0])
        end = start + words[6]
        offset = end + (-end % 4)


def test_every_kind_of_entry_reads_back() -> None:
    archive = CpioArchive()
    archive.file("a/b/file", b"hello", 0o640)
    archive.symlink("bin/sh", "/bin/busybox")
    archive.device("dev/console", 5, 1)
    entries = read_newc(archive.finish())
    assert list(entries) == ["a", "a/b", "a/b/file", "bin", "bin/sh", "dev", "dev/console"]
    assert stat.S_ISDIR(entries["a/b"].mode)
    assert (entries["a/b/file"].mode, entries["a/b/file"].data) == (stat.S_IFREG | 0o640, b"hello")
    assert stat.S_ISLNK(entries["bin/sh"].mode)
    assert entries["bin/sh"].data == b"/bin/busybox"
    assert stat.S_ISCHR(entries["dev/console"].mode)
    assert entries["dev/console"].device == (5, 1)
    assert len({entry.inode for entry in entries.values()}) == len(entries)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.binary(max_size=99)))
def test_files_of_any_length_stay_aligned_and_equal(files: dict[str, bytes]) -> None:
    archive = CpioArchive()
    for name, data in files.items():
        archive.file(name, data)
    found = read_newc(archive.finish())
    assert {name: entry.data for name, entry in found.items()} == files


def test_equal_input_gives_equal_bytes() -> None:
    def build() -> bytes:
        archive = CpioArchive()
        archive.file("etc/x", b"1")
        return archive.finish()

    assert build() == build()
