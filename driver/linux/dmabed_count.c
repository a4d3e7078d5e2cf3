// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: writing anything to the module parameter count_dump makes
 * the emulator write down what was counted between the marks so far, and begin
 * again. Part of builds with DMABED_COUNT only.
 */
#include <linux/moduleparam.h>

#include "dmabed_count.h"

#ifdef DMABED_COUNT_PLANTED
atomic_t dmabed_planted;
#endif

static int dmabed_count_dump(const char *text, const struct kernel_param *kp)
{
	dmabed_mark(DMABED_MARK_DUMP);
	return 0;
}

static const struct kernel_param_ops dmabed_count_dump_ops = {
	.set = dmabed_count_dump,
};

module_param_cb(count_dump, &dmabed_count_dump_ops, NULL, 0200);
MODULE_PARM_DESC(count_dump, "write: let the emulator write down its counts");
