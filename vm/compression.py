# SPDX-License-Identifier: MIT
"""Unpacks the compressed streams found in kernel images and modules, by their magic bytes."""

import bz2
import lzma
import shutil
import subprocess
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from vm.errors import SetupError

# gzip headers are followed by method 8; the bare two bytes occur by chance in any image.
MAGICS: dict[bytes, str] = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x5d\x00\x00": "lzma",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x89LZO\x00\r\n\x1a\n": "lzop",
}


class _Decompressor(Protocol):
    """What the libraries' stream objects have in common; all stop at the end of the stream."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _by_library(make: Callable[[], _Decompressor]) -> Callable[[bytes], bytes]:
    """Kernel streams do not always state their size and may be followed by other bytes."""

    def unpack(data: bytes) -> bytes:
        stream = make()
        unpacked = stream.decompress(data)
        if not stream.eof:
            raise EOFError("it ends too early")
        return unpacked

    return unpack


def _by_tool(tool: str) -> Callable[[bytes], bytes]:
    """Formats no Python library at hand reads are left to their own tool."""

    def unpack(data: bytes) -> bytes:
        if shutil.which(tool) is None:
            raise SetupError(
                f"a stream is {tool} compressed and there is no {tool}: install package {tool}"
            )
        done = subprocess.run([tool, "-dc"], input=data, capture_output=True, check=False)
        return done.stdout

    return unpack


_UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": _by_library(lambda: zstandard.ZstdDecompressor().decompressobj()),
    "gzip": _by_library(lambda: zlib.decompressobj(wbits=31)),
    "xz": _by_library(lzma.LZMADecompressor),
    "lzma": _by_library(lzma.LZMADecompressor),
    "bzip2": _by_library(bz2.BZ2Decompressor),
    "lz4": _by_tool("lz4"),
    "lzop": _by_tool("lzop"),
}


def detect(data: bytes) -> str | None:
    """The format `data` begins with, or None."""
    return next((name for magic, name in MAGICS.items() if data.startswith(magic)), None)


def decompress(data: bytes) -> bytes:
    """Unpacks a stream of any known format; data in none of them comes back as it is.

    Raises:
        SetupError: the stream is broken, or its format needs a tool that is missing.
    """
    kind = detect(data)
    if kind is None:
        return data
    try:
        return _UNPACKERS[kind](data)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, zstandard.ZstdError) as error:
        raise SetupError(f"broken {kind} stream: {error}") from error
