# SPDX-License-Identifier: MIT
"""Builds the TCG plugin that counts (`vm/plugin`) and asks the QEMU at hand whether it takes it.

The interface's version is part of the question: QEMU passes other arguments to the callbacks of
another version, so a plugin for the wrong one would count nonsense or crash.
"""

import os
import subprocess
from pathlib import Path

from vm.cache import provide
from vm.errors import BuildError, SetupError
from vm.module_build import digest, source_files
from vm.qemu import Qemu
from vm.toolchain import Toolchain

PLUGIN_SOURCES = Path(__file__).parent / "plugin"
_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
_WARNINGS = ("-Wall", "-Wextra", "-Werror")
_PROBE = ("-machine", "none", "-nodefaults", "-display", "none")
_READY = "dmabed count: ready"


def build_plugin(cache: Path, toolchain: Toolchain) -> Path:
    """Compiles the plugin and returns its path.

    Raises:
        BuildError: it does not compile without warnings.
    """
    files = source_files(PLUGIN_SOURCES)
    key = digest([toolchain.cc.encode(), *(path.read_bytes() for path in files)])
    entry = cache / f"plugin-{key}"

    def fill(folder: Path) -> None:
        sources = [str(path) for path in files if path.suffix == ".c"]
        target = str(folder / "count.so")
        command = [toolchain.cc, *toolchain.flags, *_FLAGS, *_WARNINGS, *sources, "-o", target]
        done = toolchain.run(command)
        if done.returncode:
            raise BuildError(f"the counting plugin does not compile:\n{done.stdout}")

    provide(entry, fill)
    return entry / "count.so"


def require_plugin(qemu: Qemu, plugin: Path) -> None:
    """Returns if `qemu` can run `plugin`.

    Raises:
        SetupError: it has no plugins, or its interface has another version; the text says which.
    """
    done = subprocess.run(
        [*qemu.command, *_PROBE, "-plugin", f"file={plugin},probe=on"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **qemu.environment},
    )
    if _READY not in done.stderr:
        said = done.stderr.strip().replace("\n", "; ")[:400]
        raise SetupError(
            f"{qemu.describe()} does not take the counting plugin: {said}; counting needs a QEMU"
            " with TCG plugins of API version 7, as 11.1 has"
        )
