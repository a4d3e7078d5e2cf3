# SPDX-License-Identifier: MIT
"""Takes the kernel proper (an ELF vmlinux) out of a bzImage, for booting it directly through PVH.

Layout: Documentation/arch/x86/boot.rst of the Linux sources.  The setup sectors are followed by the
protected-mode part, in which `payload_offset` and `payload_length` place the compressed vmlinux.
"""

import re
import struct

from vm.compression import decompress, detect
from vm.errors import SetupError

_SETUP_SECTS = 0x1F1
_MAGIC = 0x202
_VERSION = 0x206
_PAYLOAD = 0x248
_FIRST_VERSION_WITH_PAYLOAD = 0x0208
_KERNEL_VERSION = 0x20E
_SECTOR = 512
_PT_NOTE = 4
_NOTE_PHYS32_ENTRY = 18


def is_bzimage(image: bytes) -> bool:
    """True if `image` carries the x86 boot protocol's magic."""
    return image[_MAGIC : _MAGIC + 4] == b"HdrS"


def extract_vmlinux(image: bytes) -> bytes:
    """The ELF file inside a bzImage; an ELF file comes back as it is.

    Raises:
        SetupError: the image is neither, is older than protocol 2.08, or its payload is damaged.
    """
    if image.startswith(b"\x7fELF"):
        return image
    if len(image) < _PAYLOAD + 8 or not is_bzimage(image):
        raise SetupError("the kernel image is neither a bzImage nor an ELF vmlinux")
    if int.from_bytes(image[_VERSION : _VERSION + 2], "little") < _FIRST_VERSION_WITH_PAYLOAD:
        raise SetupError("the kernel image's boot protocol is older than 2.08")
    payload = _payload(image)
    if payload.startswith(b"\x7fELF"):
        return payload
    if detect(payload) is None:
        raise SetupError("the kernel image's payload is in an unknown compression format")
    vmlinux = decompress(payload)
    if not vmlinux.startswith(b"\x7fELF"):
        raise SetupError("the kernel image's payload is not an ELF vmlinux")
    return vmlinux


def _payload(image: bytes) -> bytes:
    # Zero setup sectors mean four, for images older than the field.
    setup_end = ((image[_SETUP_SECTS] or 4) + 1) * _SECTOR
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    payload = image[setup_end + offset : setup_end + offset + length]
    if len(payload) != length:
        raise SetupError("the kernel image is truncated")
    return payload


def has_pvh_entry(vmlinux: bytes) -> bool:
    """True if the ELF file has the note (Xen, type 18) that names its PVH entry point."""
    if len(vmlinux) < 64 or vmlinux[4] != 2:
        return False
    table, size, count = (
        struct.unpack_from("<Q", vmlinux, 32)[0],
        *struct.unpack_from("<HH", vmlinux, 54),
    )
    for index in range(count):
        start = table + index * size
        if start + 56 > len(vmlinux):
            return False
        kind, _flags, offset, _va, _pa, length = struct.unpack_from("<IIQQQQ", vmlinux, start)
        if kind == _PT_NOTE and _has_phys32(vmlinux[offset : offset + length]):
            return True
    return False


def _has_phys32(notes: bytes) -> bool:
    offset = 0
    while offset + 12 <= len(notes):
        name_size, value_size, kind = struct.unpack_from("<III", notes, offset)
        name = notes[offset + 12 : offset + 12 + name_size]
        if kind == _NOTE_PHYS32_ENTRY and name == b"Xen\0":
            return True
        offset += 12 + (name_size + 3 & ~3) + (value_size + 3 & ~3)
    return False


def kernel_release(image: bytes) -> str:
    """The release (`uname -r`) of a bzImage or an ELF vmlinux.

    Raises:
        SetupError: the image does not state one.
    """
    if is_bzimage(image):
        start = int.from_bytes(image[_KERNEL_VERSION : _KERNEL_VERSION + 2], "little") + _SECTOR
        text = image[start : image.find(b"\0", start)]
    else:
        match = re.search(rb"Linux version (\S+) \(", image)
        text = match[1] if match else b""
    words = text.split()
    if not words:
        raise SetupError("the kernel image does not state its release")
    return words[0].decode(errors="replace")
