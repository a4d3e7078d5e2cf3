# SPDX-License-Identifier: MIT
"""Unpacking kernels out of synthetic bzImages, in every compression a library here reads."""

import bz2
import gzip
import lzma
import struct
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from vm.bzimage import extract_vmlinux, has_pvh_entry, kernel_release
from vm.compression import decompress
from vm.errors import SetupError

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.ZstdCompressor(write_content_size=False).compress,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "none": lambda data: data,
}


def make_vmlinux(notes: bytes = b"") -> bytes:
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    program = struct.pack("<IIQQQQQQ", 4, 4, 120, 0, 0, len(notes), len(notes), 4)
    return header + program + notes + b"Linux version 6.1.0-test (builder) #1\0" + bytes(500)


def make_bzimage(payload: bytes, *, setup_sectors: int = 3, version: int = 0x020F) -> bytes:
    image = bytearray((setup_sectors + 1) * 512)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<HHHHH", image, 0x206, version, 0, 0, 0, 0x300)
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    image[0x500:0x520] = b"6.1.0-test (builder) #1\0".ljust(32, b"\0")
    return bytes(image) + b"\xcc" * 64 + payload + b"trailing sections"


@pytest.mark.parametrize("name", COMPRESSORS)
def test_payload_comes_out_whatever_its_compression(name: str) -> None:
    vmlinux = make_vmlinux()
    # The kernel's build appends the unpacked size to most formats.
    payload = COMPRESSORS[name](vmlinux) + (b"" if name == "none" else struct.pack("<I", 999))
    assert extract_vmlinux(make_bzimage(payload)) == vmlinux


def test_elf_file_is_taken_as_it_is() -> None:
    assert extract_vmlinux(make_vmlinux()) == make_vmlinux()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "neither"),
        (bytes(4096), "neither"),
        (make_bzimage(gzip.compress(make_vmlinux()), version=0x0207), "older"),
        (make_bzimage(b"unknown stream"), "unknown compression"),
        (make_bzimage(gzip.compress(b"no kernel")), "not an ELF"),
        (make_bzimage(gzip.compress(make_vmlinux()))[:-60], "truncated"),
        (make_bzimage(gzip.compress(make_vmlinux())[:20].ljust(60, b"\xff")), "broken gzip"),
        (make_bzimage(gzip.compress(make_vmlinux())[:-9]), "broken gzip.*too early"),
        (make_bzimage(COMPRESSORS["zstd"](make_vmlinux())[:-9]), "broken zstd.*too early"),
    ],
)
def test_bad_images_are_refused_by_name(image: bytes, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        extract_vmlinux(image)


@given(st.binary(max_size=1200))
def test_any_bytes_are_refused_or_taken_but_never_crash(data: bytes) -> None:
    try:
        extract_vmlinux(data)
    except SetupError:
        return
    assert data.startswith(b"\x7fELF")


def test_pvh_note_is_found_among_others() -> None:
    def note(name: bytes, kind: int, value: bytes) -> bytes:
        padded = name + bytes(-len(name) % 4)
        return struct.pack("<III", len(name), len(value), kind) + padded + value

    other = note(b"GNU\0", 3, bytes(20)) + note(b"Xen\0", 6, b"linux\0\0\0")
    assert has_pvh_entry(make_vmlinux(other + note(b"Xen\0", 18, bytes(8))))
    assert not has_pvh_entry(make_vmlinux(other))
    assert not has_pvh_entry(make_vmlinux(other)[:100])


def test_release_is_read_from_both_kinds_of_image() -> None:
    assert kernel_release(make_bzimage(b"x")) == "6.1.0-test"
    assert kernel_release(make_vmlinux()) == "6.1.0-test"
    with pytest.raises(SetupError, match="release"):
        kernel_release(bytes(2000))


def test_missing_tool_for_a_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vm.compression.shutil.which", lambda _name: None)
    with pytest.raises(SetupError, match="install package lz4"):
        decompress(b"\x02\x21\x4c\x18" + bytes(8))
