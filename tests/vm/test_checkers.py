# SPDX-License-Identifier: MIT
"""What the guest's own kernel says, heard and judged: its checkers (O-20), its page pools (O-8).

On a stock kernel that is what any kernel says; on one with checkers (docs/debug-kernel.md) each of
them is made to speak. Nothing is skipped: what a kernel has not is not done to it.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from testbed.laboratory import Traffic
from testbed.rig import Rig, open_rig
from testbed.scenario import NicPlan, VmPlan
from vm.artifacts import Artifacts
from vm.checkers import POOL_STATS, checkers_of
from vm.kernel_config import kernel_options

pytestmark = pytest.mark.vm

SMALL = NicPlan(queues=1, rx_ring=64, tx_ring=64)
HELD = 20
#: kmemleak passes over objects younger than this (MSECS_MIN_AGE in mm/kmemleak.c), in s.
YOUNG_S = 5.5

#: Wrong by order: a parameter says what. One function each, whose name must be in the complaint.
SOURCE = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/timer.h>

static char *wrong = "";
module_param(wrong, charp, 0444);

static DEFINE_SPINLOCK(lock_a);
static DEFINE_SPINLOCK(lock_b);
static void *lost;
static int table[4];
static int place = 4;

static noinline void wrong_warning(void)
{
	WARN_ON(1);
}

static noinline void wrong_kasan(void)
{
	int *object = kmalloc(sizeof(*object), GFP_KERNEL);

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	READ_ONCE(*object);
}

static noinline void wrong_dma_api(void)
{
	struct platform_device *pdev;

	pdev = platform_device_register_simple("wrong", -1, NULL, 0);
	if (IS_ERR(pdev))
		return;
	dma_unmap_single(&pdev->dev, 0x12345000, 64, DMA_TO_DEVICE);
	platform_device_unregister(pdev);
}

static noinline void wrong_lockdep(void)
{
	spin_lock(&lock_a);
	spin_lock(&lock_b);
	spin_unlock(&lock_b);
	spin_unlock(&lock_a);
	spin_lock(&lock_b);
	spin_lock(&lock_a);
	spin_unlock(&lock_a);
	spin_unlock(&lock_b);
}

static noinline void wrong_atomic_sleep(void)
{
	spin_lock(&lock_a);
	might_sleep();
	spin_unlock(&lock_a);
}

static noinline void wrong_kmemleak(void)
{
	lost = kmalloc(100, GFP_KERNEL);
	WRITE_ONCE(lost, NULL);
}

static noinline void wrong_ubsan(void)
{
	table[READ_ONCE(place)] = 1;
}

static void no_time(struct timer_list *timer)
{
}

static noinline void wrong_debug_objects(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return;
	timer_setup(timer, no_time, 0);
	mod_timer(timer, jiffies + 1000 * HZ);
	kfree(timer);
}

static const struct {
	const char *name;
	void (*act)(void);
} wrongs[] = {
	{ "warning", wrong_warning },
	{ "kasan", wrong_kasan },
	{ "dma-api", wrong_dma_api },
	{ "lockdep", wrong_lockdep },
	{ "atomic-sleep", wrong_atomic_sleep },
	{ "kmemleak", wrong_kmemleak },
	{ "ubsan", wrong_ubsan },
	{ "debug-objects", wrong_debug_objects },
};

/* Fails, so that nothing stays; but kmemleak names a function only while it is there. */
static int __init wrong_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrongs); i++)
		if (!strcmp(wrongs[i].name, wrong))
			wrongs[i].act();
	return strcmp(wrong, "kmemleak") ? -EAGAIN : 0;
}

static void __exit wrong_exit(void)
{
}

module_init(wrong_init);
module_exit(wrong_exit);
MODULE_DESCRIPTION("Each wrong that a checker is there for");
MODULE_LICENSE("GPL");
"""
#: In this order: lockdep falls silent once KASAN has spoken, and the last one stays loaded.
ORDER = (
    "warning", "lockdep", "kasan", "dma-api", "ubsan", "atomic-sleep", "debug-objects", "kmemleak",
)  # fmt: skip


def wrong_module(artifacts: Artifacts, folder: Path) -> Path:
    folder.mkdir()
    (folder / "wrong.c").write_text(SOURCE)
    (folder / "Kbuild").write_text("obj-m := wrong.o\n")
    (module,) = artifacts.build_module(folder)
    return module


def spoken(rig: Rig, rule: str) -> list[str]:
    violations = rig.devices.call("verdict")["violations"]
    return [violation["cause"] for violation in violations if violation["rule"] == rule]


def test_checker_of_the_guests_kernel_is_not_heard(artifacts: Artifacts, tmp_path: Path) -> None:
    module = wrong_module(artifacts, tmp_path / "wrong")
    present = checkers_of(artifacts.kernel)
    todo = [name for name in ORDER if name == "warning" or name in present]

    async def scene() -> tuple[list[str], list[str], list[str]]:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, SMALL) as rig:
            assert await rig.check_guest() == []
            await rig.guest.push(module, "/tmp/wrong.ko")
            for name in todo:
                await rig.guest.run(f"insmod /tmp/wrong.ko wrong={name}", check=False)
            if "kmemleak" in todo:
                await asyncio.sleep(YOUNG_S)
            await rig.check_guest(leaks=True)
            causes = spoken(rig, "O-20")
            await rig.check_guest(leaks=True)
            judged = rig.devices.call("verdict")["not_judged"]["nic"].get("O-20", [])
            return causes, spoken(rig, "O-20"), judged

    causes, again, judged = asyncio.run(scene())
    for name in todo:
        mine = [cause for cause in causes if cause.startswith(f"{name}: ")]
        assert any(f"wrong_{name.replace('-', '_')}" in cause for cause in mine), (name, causes)
    assert again == causes
    absent = ", ".join(sorted(set(ORDER) - set(todo)))
    assert judged == ([f"what the guest's kernel was built without: {absent}"] if absent else [])


def test_page_of_a_pool_is_nobodys_and_nothing_is_said(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    """A sound driver whose pages are held is not blamed; the kernel's counts are the driver's."""
    counts = (kernel_options(artifacts.kernel) or {}).get(POOL_STATS) == "y"

    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "intel-strict", tmp_path, vm, SMALL) as rig:
            await rig.load_sink(verify=True)
            await rig.load("page_pool", SMALL)
            await rig.sink.hold(HELD)
            await rig.receive(Traffic(60, 1514, count=500))
            (holding,) = await rig.count_pools()
            said = (await rig.guest.run(f"ethtool -S {rig.interface}")).stdout
            inflight = re.search(r"q0_rx_pool_inflight: (\d+)", said)
            assert inflight and holding.inflight == int(inflight[1])
            await rig.sink.release()
            (released,) = await rig.count_pools()
            if counts:
                ring = 64
                assert (holding.out, released.out) == (ring + HELD, ring)
            assert "O-8" not in rig.devices.call("verdict")["not_judged"]["nic"]
            assert spoken(rig, "O-8") == []
            await rig.unload()
            assert await rig.count_pools() == []
            assert await rig.check_guest() == []

    asyncio.run(scene())


def test_strategy_without_a_pool_is_judged_by_its_pools(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    async def scene() -> None:
        vm = VmPlan(memory_mib=256)
        async with open_rig(artifacts, "none", tmp_path, vm, SMALL) as rig:
            await rig.load("map_per_packet", SMALL)
            assert await rig.count_pools() == []
            assert "O-8" in rig.devices.call("verdict")["not_judged"]["nic"]

    asyncio.run(scene())
