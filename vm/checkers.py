# SPDX-License-Identifier: MIT
"""The checkers built into a guest's kernel, by the configuration of its build tree.

What they say comes by the console (:mod:`vm.splats`) and from files of theirs
(:mod:`vm.checker_files`). Also here: what else depends on how the kernel was built, and how much
longer such a kernel is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vm.accel import Acceleration
from vm.kernel import KernelTree
from vm.kernel_config import kernel_options

#: Checker to the option that builds it; those that any kernel has are not among them.
CHECKERS: Mapping[str, str] = MappingProxyType(
    {
        "kasan": "CONFIG_KASAN",
        "dma-api": "CONFIG_DMA_API_DEBUG",
        "lockdep": "CONFIG_PROVE_LOCKING",
        "atomic-sleep": "CONFIG_DEBUG_ATOMIC_SLEEP",
        "kmemleak": "CONFIG_DEBUG_KMEMLEAK",
        "ubsan": "CONFIG_UBSAN",
        "debug-objects": "CONFIG_DEBUG_OBJECTS",
    }
)
#: Options that make allocations fail by order: fault X-57.
FAILURES = ("CONFIG_FAILSLAB", "CONFIG_FAIL_PAGE_ALLOC", "CONFIG_FAULT_INJECTION_DEBUG_FS")
#: By it a failure can be confined to the driver.
STACK_FILTER = "CONFIG_FAULT_INJECTION_STACKTRACE_FILTER"
POOL_STATS = "CONFIG_PAGE_POOL_STATS"

#: How much longer a guest takes, by what its kernel does beside: rounded up from what boot, load
#: and traffic took against those of a stock kernel (docs/debug-kernel.md).
_SLOWER = {"CONFIG_KASAN": 3.0, "CONFIG_PROVE_LOCKING": 2.0}


def checkers_of(kernel: KernelTree) -> frozenset[str]:
    """The checkers of :data:`CHECKERS` that the kernel has."""
    options = kernel_options(kernel) or {}
    return frozenset(name for name, option in CHECKERS.items() if options.get(option) == "y")


def can_fail(kernel: KernelTree) -> bool:
    """Whether allocations can be made to fail by order, and in the driver alone."""
    options = kernel_options(kernel) or {}
    return all(options.get(option) == "y" for option in (*FAILURES, STACK_FILTER))


def boot_arguments(kernel: KernelTree) -> list[str]:
    """Kernel arguments with which the checkers say all, not only the first thing they find."""
    return ["kasan_multi_shot"] if "kasan" in checkers_of(kernel) else []


def patience_of(kernel: KernelTree, acceleration: Acceleration) -> float:
    """What waits for a guest are multiplied by: 1 for a stock kernel, and wherever KVM works."""
    options = kernel_options(kernel) or {}
    if acceleration.kind == "kvm":
        return 1.0
    factors = [by for option, by in _SLOWER.items() if options.get(option) == "y"]
    product = 1.0
    for factor in factors:
        product *= factor
    return product
