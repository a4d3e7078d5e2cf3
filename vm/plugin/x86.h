/* SPDX-License-Identifier: MIT */
/*
 * The few x86-64 instructions the counter has to know.
 */
#ifndef X86_H
#define X86_H

#include <stddef.h>
#include <stdint.h>

enum x86_kind {
	X86_OTHER,
	X86_ATOMIC,	/* LOCK prefix, or XCHG with memory, which locks without one */
	X86_RETURN,	/* from an interrupt or exception: IRETQ, ERETS, ERETU */
	X86_MARK,	/* NOPL with a 32-bit displacement of our own: does nothing anywhere */
};

/* Displacements of marks, in driver/linux/dmabed_count.h too. */
#define X86_MARK_BASE	0xdbed0000u
#define X86_MARK_BEGIN	(X86_MARK_BASE + 1)
#define X86_MARK_END	(X86_MARK_BASE + 2)
#define X86_MARK_DUMP	(X86_MARK_BASE + 3)

/* What the instruction is; *mark is its displacement if it is a mark. */
enum x86_kind x86_classify(const uint8_t *code, size_t size, uint32_t *mark);

#endif
