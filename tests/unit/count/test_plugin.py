# SPDX-License-Identifier: MIT
"""The counting plugin outside QEMU: which instructions it counts as what, what it refuses."""

import ctypes
import re
from pathlib import Path

import pytest

from testbed.rig import DRIVER_SOURCE
from vm.artifacts import quiet
from vm.cache import cache_dir
from vm.errors import SetupError
from vm.plugin_build import PLUGIN_SOURCES, build_plugin, require_plugin
from vm.qemu import Qemu
from vm.toolchain import provide_toolchain

OTHER, ATOMIC, RETURN, MARK = range(4)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    return build_plugin(folder, provide_toolchain(cache_dir(), quiet))


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory):
    target = tmp_path_factory.mktemp("x86") / "x86.so"
    toolchain = provide_toolchain(cache_dir(), quiet)
    source = str(PLUGIN_SOURCES / "x86.c")
    command = [toolchain.cc, *toolchain.flags, "-shared", "-fPIC", source, "-o", str(target)]
    assert toolchain.run(command).returncode == 0
    function = ctypes.CDLL(str(target)).x86_classify

    def call(code: str) -> tuple[int, int]:
        data = bytes.fromhex(code)
        mark = ctypes.c_uint32(0)
        return function(data, ctypes.c_size_t(len(data)), ctypes.byref(mark)), mark.value

    return call


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("f0 ff 07", ATOMIC),  # lock incl (%rdi)
        ("f0 48 0f c1 07", ATOMIC),  # lock xadd %rax,(%rdi)
        ("66 f0 0f b1 17", ATOMIC),  # lock cmpxchg %dx,(%rdi)
        ("87 07", ATOMIC),  # xchg %eax,(%rdi)
        ("48 87 07", ATOMIC),  # xchg %rax,(%rdi)
        ("65 48 87 05 00 00 00 00", ATOMIC),  # xchg %rax,%gs:0(%rip)
        ("86 07", ATOMIC),  # xchg %al,(%rdi)
        ("48 87 c7", OTHER),  # xchg %rax,%rdi
        ("90", OTHER),  # nop
        ("48 0f c7 0f", OTHER),  # cmpxchg16b (%rdi), no lock
        ("ff 07", OTHER),  # incl (%rdi)
        ("48 cf", RETURN),  # iretq
        ("f2 0f 01 ca", RETURN),  # erets
        ("f3 0f 01 ca", RETURN),  # eretu
        ("0f 01 ca", OTHER),  # clac
        ("0f 1f 80 01 00 ed db", MARK),
        ("0f 1f 80 00 00 00 00", OTHER),
        ("0f 1f 84 00 01 00 ed db", OTHER),
        ("", OTHER),
    ],
)
def test_instruction_is_taken_for_another_kind(classify, code: str, kind: int):
    assert classify(code)[0] == kind


def test_marks_of_driver_and_plugin_differ(classify):
    text = (DRIVER_SOURCE / "dmabed_count.h").read_text()
    marks = [int(word, 16) for word in re.findall(r"define DMABED_MARK_\w+\s+(0x\w+)", text)]
    assert len(marks) == 3
    base = 0xDBED0000
    header = (PLUGIN_SOURCES / "x86.h").read_text()
    offsets = [int(n) for n in re.findall(r"X86_MARK_\w+\s+\(X86_MARK_BASE \+ (\d)\)", header)]
    assert marks == [base + offset for offset in offsets]
    for mark in marks:
        assert classify("0f1f80" + mark.to_bytes(4, "little").hex()) == (MARK, mark)


class Info(ctypes.Structure):
    _fields_ = [
        ("target_name", ctypes.c_char_p),
        ("min", ctypes.c_int),
        ("cur", ctypes.c_int),
        ("system_emulation", ctypes.c_bool),
        ("smp_vcpus", ctypes.c_int),
        ("max_vcpus", ctypes.c_int),
    ]


@pytest.mark.parametrize(
    ("low", "current", "target", "arguments", "said"),
    [
        (2, 6, b"x86_64", [], "speaks plugin API 2 to 6, the plugin 7"),
        (8, 9, b"x86_64", [], "speaks plugin API 8 to 9, the plugin 7"),
        (5, 8, b"x86_64", [], "speaks plugin API 5 to 8, the plugin 7"),
        (2, 7, b"aarch64", [], "not for aarch64"),
        (2, 7, b"x86_64", [], "give out=FILE"),
        (2, 7, b"x86_64", [b"speed=9"], "unknown argument speed=9"),
        (2, 7, b"x86_64", [b"out=/nowhere/at/all"], "cannot write /nowhere/at/all"),
        (2, 7, b"x86_64", [b"probe=on"], "dmabed count: ready"),
    ],
)
def test_plugin_loads_where_it_would_count_nonsense(
    plugin: Path,
    capfd: pytest.CaptureFixture[str],
    low: int,
    current: int,
    target: bytes,
    arguments: list[bytes],
    said: str,
):
    install = ctypes.CDLL(str(plugin), mode=1).qemu_plugin_install  # lazily: QEMU is not here
    info = Info(target, low, current, True, 2, 2)
    words = (ctypes.c_char_p * len(arguments))(*arguments)
    status = install(ctypes.c_uint64(1), ctypes.byref(info), len(arguments), words)
    assert status == 1
    assert said in capfd.readouterr().err


def test_qemu_that_refuses_the_plugin_is_not_named(plugin: Path):
    script = "echo 'plugin requires API version 7, but this QEMU supports only 6' >&2; exit 1"
    old = Qemu(("sh", "-c", script, "qemu-system-old"), (10, 2, 0), {})
    with pytest.raises(SetupError, match=r"10\.2\.0.*requires API version 7.*as 11\.1 has"):
        require_plugin(old, plugin)
