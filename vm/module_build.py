# SPDX-License-Identifier: MIT
"""Builds kernel modules and the guest agent; results are cached by the hash of what went in."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from vm import protocol
from vm.build_root import INSIDE, entered
from vm.cache import provide
from vm.errors import BuildError, SetupError
from vm.kernel import KernelTree
from vm.toolchain import Toolchain

AGENT_SOURCES = Path(__file__).parent / "agent"
_SOURCE_SUFFIXES = (".c", ".h", ".S")
_BUILD_FILES = ("Makefile", "Kbuild")
# Said by kbuild about the tree, not by the compiler about the code.
_HARMLESS = re.compile(r"the compiler differs from the one used|Skipping BTF generation")
_COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(\S+)', re.M)
_DIAGNOSTIC = re.compile(r"(warning|error):|WARNING:|ERROR:|\bError \d", re.IGNORECASE)


def source_files(folder: Path) -> list[Path]:
    """The files of a module's folder that take part in its build, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and (path.suffix in _SOURCE_SUFFIXES or path.name in _BUILD_FILES)
        and not path.name.endswith(".mod.c")
    )


def digest(parts: Iterable[bytes]) -> str:
    """A short hash over byte strings, each delimited."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()[:20]


def _hash_folder(folder: Path, *extra: str) -> str:
    parts = [word.encode() for word in extra]
    for path in source_files(folder):
        parts += [str(path.relative_to(folder)).encode(), path.read_bytes()]
    return digest(parts)


def diagnostics(output: str) -> list[str]:
    """Lines of a build's output that are warnings or errors about the code."""
    return [
        line
        for line in output.splitlines()
        if _DIAGNOSTIC.search(line) and not _HARMLESS.search(line)
    ]


def build_module(kernel: KernelTree, source: Path, cache: Path, toolchain: Toolchain) -> list[Path]:
    """Builds the modules in `source`, a folder with a kbuild file; returns the `.ko` files.

    The folder is copied into the cache first and never written to.  A warning fails the build.

    Raises:
        SetupError: the kernel has no headers, or there is no make.
        BuildError: the compiler, modpost or objtool complained; the text holds what they said.
    """
    build = kernel.build
    if build is None or not build.is_dir():
        raise SetupError(
            f"no headers for kernel {kernel.release}: name its build tree by KDIR=<folder>"
        )
    if shutil.which("make") is None:
        raise SetupError("no make on this host: install it (Debian: apt install make)")
    key = _hash_folder(source, kernel.release, str(build), *_identity(build), toolchain.cc)
    entry = cache / "modules" / f"{source.name}-{key}"

    def fill(folder: Path) -> None:
        for path in source_files(source):
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        _make(kernel, build, folder, toolchain)

    provide(entry, fill)
    return sorted(entry.rglob("*.ko"))


def _identity(build: Path) -> list[str]:
    """What tells two builds of the same release apart: the time of the configuration."""
    config = build / ".config"
    return [str(config.stat().st_mtime_ns)] if config.exists() else []


def kernel_compiler(build: Path, toolchain: Toolchain) -> str:
    """The compiler a tree was built with if the host has it, else the toolchain's."""
    config = build / ".config"
    stated = _COMPILER.search(config.read_text(errors="replace")) if config.exists() else None
    if stated is None:
        return toolchain.cc
    name = stated[1]
    candidates = (name, re.sub(r"^x86_64-linux-gnu-", "", name))
    return next((found for word in candidates if (found := shutil.which(word))), toolchain.cc)


def _make(kernel: KernelTree, build: Path, folder: Path, toolchain: Toolchain) -> None:
    if kernel.root is None:
        command = _host_command(kernel, build, folder, toolchain)
    else:
        inside = Path("/") / build.relative_to(kernel.root)
        command = ["make", "-C", str(inside), f"M={INSIDE}", "KCFLAGS=-Werror", "modules"]
        command = entered(kernel.root, folder, command)
    done = toolchain.run(command)
    if done.returncode or diagnostics(done.stdout) or not list(folder.rglob("*.ko")):
        shown = done.stdout.strip() or "(no output)"
        raise BuildError(f"building {folder.name} for kernel {kernel.release} failed:\n{shown}")


def _host_command(kernel: KernelTree, build: Path, folder: Path, toolchain: Toolchain) -> list[str]:
    """A build by the host's tools."""
    inherited = toolchain.environment.get("LD_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))
    path = ":".join(word for word in [inherited, *map(str, kernel.libraries)] if word)
    compiler = kernel_compiler(build, toolchain)
    return [
        *("env", f"LD_LIBRARY_PATH={path}", "make", "-C", str(build), f"M={folder}"),
        *(f"CC={compiler}", "CROSS_COMPILE=", "KCFLAGS=-Werror"),
        *(("LLVM=1",) if "clang" in compiler else ()),
        "modules",
    ]


def build_agent(cache: Path, toolchain: Toolchain) -> Path:
    """Compiles the guest agent into a static program and returns its path.

    Raises:
        BuildError: it does not compile without warnings.
    """
    header = protocol.c_header()
    entry = cache / f"agent-{_hash_folder(AGENT_SOURCES, header, toolchain.cc)}"

    def fill(folder: Path) -> None:
        (folder / "frames.h").write_text(header)
        flags = [
            "-std=gnu11",
            "-D_GNU_SOURCE",
            "-Os",
            "-static",
            "-s",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{folder}",
        ]
        sources = [str(path) for path in sorted(AGENT_SOURCES.glob("*.c"))]
        command = [toolchain.cc, *toolchain.flags, *flags, *sources, "-o", str(folder / "agent")]
        done = toolchain.run(command)
        if done.returncode:
            raise BuildError(f"the guest agent does not compile:\n{done.stdout}")

    provide(entry, fill)
    return entry / "agent"


def build_program(toolchain: Toolchain, source: Path, folder: Path) -> Path:
    """Compiles one C file into a static program in ``folder``, for guest or host; its path.

    Raises:
        BuildError: it does not compile without warnings.
    """
    program = folder / source.stem
    flags = ["-O2", "-static", "-D_GNU_SOURCE", "-Wall", "-Werror"]
    done = toolchain.run([toolchain.cc, *toolchain.flags, *flags, str(source), "-o", str(program)])
    if done.returncode:
        raise BuildError(f"{source.name} does not compile:\n{done.stdout}")
    return program
