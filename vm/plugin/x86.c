/* SPDX-License-Identifier: MIT */
/*
 * Tells atomic instructions, returns from interrupts and marks from all others.
 */
#include <stdbool.h>
#include <string.h>

#include "x86.h"

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
		return true;
	default:
		return false;
	}
}

static bool is_mark(const uint8_t *code, size_t size, uint32_t *mark)
{
	static const uint8_t nopl[] = { 0x0f, 0x1f, 0x80 };

	if (size != 7 || memcmp(code, nopl, sizeof(nopl)))
		return false;
	memcpy(mark, code + 3, sizeof(*mark));
	return (*mark & 0xffff0000u) == X86_MARK_BASE;
}

enum x86_kind x86_classify(const uint8_t *code, size_t size, uint32_t *mark)
{
	static const uint8_t eret[] = { 0x0f, 0x01, 0xca };
	bool locked = false, repeated = false;
	size_t i = 0;

	if (is_mark(code, size, mark))
		return X86_MARK;
	for (; i < size && is_prefix(code[i]); i++) {
		locked |= code[i] == 0xf0;
		repeated |= code[i] == 0xf2 || code[i] == 0xf3;
	}
	if (locked)
		return X86_ATOMIC;
	if (i < size && (code[i] & 0xf0) == 0x40)
		i++;
	if (size - i >= 2 && (code[i] & 0xfe) == 0x86 && code[i + 1] >> 6 != 3)
		return X86_ATOMIC;
	if (size - i >= 1 && code[i] == 0xcf)
		return X86_RETURN;
	if (repeated && size - i == sizeof(eret) && !memcmp(code + i, eret, sizeof(eret)))
		return X86_RETURN;
	return X86_OTHER;
}
