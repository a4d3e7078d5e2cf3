# SPDX-License-Identifier: MIT
"""Finds kernel modules and the order to load them in.

A kernel's package holds no modules.dep (depmod writes it when the package is installed), so
dependencies are taken from that file if it is there and from the modules' own `depends=` fields
otherwise.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from vm.compression import decompress

_DEPENDS = re.compile(rb"depends=([\w,-]*)\0")
# Documentation/admin-guide/module-signing.rst: signature, a 12-byte description, this text.  The
# description ends with the signature's length, big-endian (struct module_signature).
_SIGNATURE_MARK = b"~Module signature appended~\n"
_SIGNATURE_INFO = 12
_SUFFIX = re.compile(r"\.ko(\.(gz|xz|zst|lz4))?$")


def module_name(path: str) -> str:
    """The name the kernel uses for a module file: `a/virtio-net.ko.xz` is `virtio_net`."""
    return _SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def parse_modules_dep(text: str) -> dict[str, list[str]]:
    """modules.dep as module name -> names of the modules it needs directly or indirectly."""
    needs = {}
    for line in text.splitlines():
        path, colon, rest = line.partition(":")
        if colon:
            needs[module_name(path)] = [module_name(need) for need in rest.split()]
    return needs


def parse_depends(module: bytes) -> list[str]:
    """Names in the `depends=` field of an unpacked module's .modinfo section."""
    match = _DEPENDS.search(module)
    names = match[1].decode() if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def without_signature(module: bytes) -> bytes:
    """An unpacked module without the signature appended to it, which takes the guest time to check.

    The kernel would not trust it anyway: its certificates are not loaded (`vm.machine`).
    """
    if not module.endswith(_SIGNATURE_MARK):
        return module
    end = len(module) - len(_SIGNATURE_MARK)
    length = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - _SIGNATURE_INFO - length]


def load_order(wanted: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str]:
    """`wanted` and all they need, each once, every module after those it needs."""
    order: list[str] = []
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in order or name in visiting:
            return
        visiting.add(name)
        for need in needs(name):
            visit(need)
        order.append(name)

    for name in wanted:
        visit(name.replace("-", "_"))
    return order


class ModuleTree:
    """The modules under one `lib/modules/<release>` folder (or a kernel build tree)."""

    def __init__(self, folder: Path | None) -> None:
        self._files: dict[str, Path] = {}
        self._needs: dict[str, list[str]] | None = None
        if folder is not None and folder.is_dir():
            self._files = {module_name(p.name): p for p in _module_files(folder)}
            dep = folder / "modules.dep"
            self._needs = parse_modules_dep(dep.read_text()) if dep.exists() else None

    def __contains__(self, name: str) -> bool:
        return name.replace("-", "_") in self._files

    def read(self, name: str) -> bytes:
        """The unpacked contents of a module; KeyError if the tree has none of that name."""
        return decompress(self._files[name.replace("-", "_")].read_bytes())

    def with_dependencies(self, wanted: Iterable[str]) -> list[str]:
        """`wanted` and what they need in load order; what the tree lacks is built in."""
        present = [name for name in wanted if name in self]
        return [name for name in load_order(present, self._needed_by) if name in self]

    def _needed_by(self, name: str) -> list[str]:
        if name not in self:
            return []
        if self._needs is not None:
            return self._needs.get(name, [])
        return parse_depends(self.read(name))


def _module_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "kernel").rglob("*.ko*") if _SUFFIX.search(path.name)] or [
        path for path in folder.rglob("*.ko*") if _SUFFIX.search(path.name)
    ]
