/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed NIC driver: marks for an emulator that counts instructions, in builds
 * with DMABED_COUNT only. A mark is a no-op whose operand says which it is; the
 * numbers are in vm/plugin/x86.h too.
 */
#ifndef DMABED_COUNT_H
#define DMABED_COUNT_H

#include <linux/atomic.h>

#define DMABED_MARK_BEGIN	0xdbed0001
#define DMABED_MARK_END		0xdbed0002
#define DMABED_MARK_DUMP	0xdbed0003

/* nopl MARK(%rax), with a displacement that no compiler chooses. */
static __always_inline void dmabed_mark(const u32 mark)
{
#ifdef DMABED_COUNT
	asm volatile(".byte 0x0f, 0x1f, 0x80\n\t.long %c0"
		     : : "i" (mark) : "memory");
#endif
}

/* To see that the counting sees it: one atomic operation more per packet. */
#ifdef DMABED_COUNT_PLANTED
extern atomic_t dmabed_planted;

static inline void dmabed_count_planted(void)
{
	atomic_inc(&dmabed_planted);
}
#else
static inline void dmabed_count_planted(void)
{
}
#endif

#endif /* DMABED_COUNT_H */
