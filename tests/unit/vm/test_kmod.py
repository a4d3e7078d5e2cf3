# SPDX-License-Identifier: MIT
"""Module dependencies from modules.dep and from the modules themselves."""

import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.kmod import (
    ModuleTree,
    load_order,
    module_name,
    parse_depends,
    parse_modules_dep,
    without_signature,
)


def test_names_are_what_the_kernel_calls_them() -> None:
    assert module_name("kernel/drivers/net/virtio-net.ko.xz") == "virtio_net"
    assert module_name("e1000e.ko") == "e1000e"


def test_modules_dep_lines_with_and_without_needs() -> None:
    text = "kernel/a-b.ko.xz: kernel/c.ko.xz kernel/d.ko.xz\nkernel/c.ko.xz:\n\n"
    assert parse_modules_dep(text) == {"a_b": ["c", "d"], "c": []}


def test_depends_field_of_a_module() -> None:
    assert parse_depends(b"\0license=GPL\0depends=net-failover,failover\0") == [
        "net_failover",
        "failover",
    ]
    assert parse_depends(b"\0depends=\0") == []
    assert parse_depends(b"no such field") == []


@given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9))), st.lists(st.integers(0, 9)))
def test_needs_come_first_each_once_even_with_cycles(
    graph: dict[int, list[int]], wanted: list[int]
) -> None:
    needs = {str(key): [str(value) for value in values] for key, values in graph.items()}
    # Only edges to smaller numbers: what is left is free of cycles and can be checked for order.
    acyclic = {key: [v for v in values if v < key] for key, values in needs.items()}
    order = load_order(map(str, wanted), lambda name: acyclic.get(name, []))
    assert len(order) == len(set(order))
    for position, name in enumerate(order):
        assert set(acyclic.get(name, [])) <= set(order[:position])
    assert set(map(str, wanted)) <= set(load_order(map(str, wanted), lambda n: needs.get(n, [])))


def make_tree(folder: Path) -> None:
    modules = {"virtio_net": "net_failover", "net_failover": "failover", "failover": ""}
    for name, needs in modules.items():
        path = folder / "kernel" / f"{name.replace('_', '-')}.ko.xz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lzma.compress(b"\x7fELF\0depends=" + needs.encode() + b"\0"))


@pytest.mark.parametrize("with_dep", [False, True])
def test_load_order_with_and_without_modules_dep(tmp_path: Path, with_dep: bool) -> None:
    make_tree(tmp_path)
    if with_dep:
        (tmp_path / "modules.dep").write_text(
            "kernel/virtio-net.ko.xz: kernel/net-failover.ko.xz kernel/failover.ko.xz\n"
            "kernel/net-failover.ko.xz: kernel/failover.ko.xz\nkernel/failover.ko.xz:\n"
        )
    tree = ModuleTree(tmp_path)
    assert tree.with_dependencies(["virtio-net", "built_in"]) == [
        "failover",
        "net_failover",
        "virtio_net",
    ]
    assert tree.read("virtio_net").startswith(b"\x7fELF")


def test_signature_goes_and_nothing_else() -> None:
    info = bytes(8) + (300).to_bytes(4, "big")
    signed = b"\x7fELF module" + bytes(300) + info + b"~Module signature appended~\n"
    assert without_signature(signed) == b"\x7fELF module"
    assert without_signature(b"\x7fELF module") == b"\x7fELF module"


def test_kernel_without_modules_has_an_empty_tree() -> None:
    assert ModuleTree(None).with_dependencies(["virtio_net"]) == []
