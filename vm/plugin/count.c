/* SPDX-License-Identifier: MIT */
/*
 * A TCG plugin that counts what a guest's kernel executes between two marks:
 * instructions, atomic ones among them, loads and stores, by vCPU and by the
 * translation block they belong to. Interrupts and exceptions in between are
 * counted apart. A mark is an instruction without effect, see x86.h; a third one
 * appends all counts to a file and clears them.
 *
 * Generated code adds to four running totals per vCPU. While a vCPU is between
 * marks, the start of each block settles what was added since the last one on
 * that block's record. So an instruction is counted when it executes, also in a
 * block that is left half way, and the records add up to the total.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_api.h"
#include "x86.h"

#define KERNEL_SPACE	0xffff800000000000ull
#define FIRST_BUCKETS	(1u << 16)

struct counts {
	uint64_t insns;
	uint64_t atomics;
	uint64_t loads;
	uint64_t stores;
};

/* A block between marks on one vCPU; entries: how often its start was reached. */
struct block_counts {
	uint64_t entries;
	struct counts counts;
};

struct block {
	uint64_t pc;
	struct block *next;
	struct block_counts by_vcpu[];
};

/* On the scoreboard; the first six are touched by generated code. */
struct vcpu {
	struct counts total;
	uint64_t active;
	uint64_t interrupted;	/* depth of interrupts taken between marks */
	struct counts settled;
	struct block *block;
	struct counts in_interrupts;
	struct counts at_begin;
	struct counts between;	/* marks, interrupts included: for a check of the sum */
	uint64_t begins;
	uint64_t interrupts;
};

int qemu_plugin_version = QEMU_API_VERSION;

static struct qemu_plugin_scoreboard *score;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block **buckets;
static size_t bucket_count, block_count;
static unsigned int vcpus;
static FILE *out;

#define FIELD(name) ((qemu_plugin_u64){ score, offsetof(struct vcpu, name) })

static struct vcpu *vcpu_of(unsigned int index)
{
	return qemu_plugin_scoreboard_find(score, index);
}

/* Adds to @to what the vCPU did since *@since, which becomes now. */
static void add(struct counts *to, struct counts *since, const struct counts *now)
{
	to->insns += now->insns - since->insns;
	to->atomics += now->atomics - since->atomics;
	to->loads += now->loads - since->loads;
	to->stores += now->stores - since->stores;
	*since = *now;
}

static void settle(struct vcpu *vcpu, struct counts *to)
{
	add(to, &vcpu->settled, &vcpu->total);
}

static void on_block(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = vcpu_of(index);

	settle(vcpu, &vcpu->block->by_vcpu[index].counts);
	vcpu->block = userdata;
	vcpu->block->by_vcpu[index].entries++;
}

static void on_begin(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = vcpu_of(index);

	vcpu->settled = vcpu->total;
	vcpu->at_begin = vcpu->total;
	vcpu->block = userdata;
	vcpu->interrupted = 0;
	vcpu->begins++;
	vcpu->active = 1;
}

static void on_end(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = vcpu_of(index);

	(void)userdata;
	if (vcpu->active) {
		settle(vcpu, &vcpu->block->by_vcpu[index].counts);
		add(&vcpu->between, &vcpu->at_begin, &vcpu->total);
	}
	vcpu->active = 0;
	vcpu->interrupted = 0;
}

static void on_interrupt(unsigned int index, enum qemu_plugin_discon type, uint64_t from_pc,
			 uint64_t to_pc, void *userdata)
{
	struct vcpu *vcpu = vcpu_of(index);

	(void)type, (void)from_pc, (void)to_pc, (void)userdata;
	if (vcpu->active) {
		settle(vcpu, &vcpu->block->by_vcpu[index].counts);
		vcpu->active = 0;
		vcpu->interrupted = 1;
		vcpu->interrupts++;
	} else if (vcpu->interrupted) {
		vcpu->interrupted++;
	}
}

/* The instruction that returns; called only while some interrupt is under way. */
static void on_return(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = vcpu_of(index);

	(void)userdata;
	if (--vcpu->interrupted)
		return;
	settle(vcpu, &vcpu->in_interrupts);
	vcpu->active = 1;
}

static void print_counts(const struct counts *counts)
{
	fprintf(out, " %lu %lu %lu %lu", counts->insns, counts->atomics, counts->loads,
		counts->stores);
}

static void dump_block(struct block *block)
{
	for (unsigned int i = 0; i < vcpus; i++) {
		struct block_counts *mine = &block->by_vcpu[i];

		if (!mine->entries && !mine->counts.insns)
			continue;
		fprintf(out, "block %lx %u %lu", block->pc, i, mine->entries);
		print_counts(&mine->counts);
		fputc('\n', out);
		memset(mine, 0, sizeof(*mine));
	}
}

static void dump_vcpu(unsigned int index)
{
	struct vcpu *vcpu = vcpu_of(index);

	fprintf(out, "vcpu %u %lu %lu", index, vcpu->begins, vcpu->interrupts);
	print_counts(&vcpu->in_interrupts);
	print_counts(&vcpu->between);
	fputc('\n', out);
	vcpu->begins = 0;
	vcpu->interrupts = 0;
	memset(&vcpu->between, 0, sizeof(vcpu->between));
	memset(&vcpu->in_interrupts, 0, sizeof(vcpu->in_interrupts));
}

static bool is_idle(void)
{
	for (unsigned int i = 0; i < vcpus; i++)
		if (vcpu_of(i)->active || vcpu_of(i)->interrupted)
			return false;
	return true;
}

/* While a vCPU is between marks its counts are in motion: "busy" is all that is said. */
static void on_dump(unsigned int index, void *userdata)
{
	(void)index, (void)userdata;
	if (!is_idle()) {
		fprintf(out, "busy\n");
		fflush(out);
		return;
	}
	pthread_mutex_lock(&lock);
	fprintf(out, "dump %d\n", qemu_plugin_version);
	for (unsigned int i = 0; i < vcpus; i++)
		dump_vcpu(i);
	for (size_t i = 0; i < bucket_count; i++)
		for (struct block *block = buckets[i]; block; block = block->next)
			dump_block(block);
	fprintf(out, "end\n");
	fflush(out);
	pthread_mutex_unlock(&lock);
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory) {
		fprintf(stderr, "dmabed count: out of memory\n");
		abort();
	}
	return memory;
}

static struct block **bucket_of(uint64_t pc)
{
	return &buckets[(pc * 0x9e3779b97f4a7c15ull >> 32) & (bucket_count - 1)];
}

static void grow(void)
{
	struct block **old = buckets;
	size_t old_count = bucket_count;

	bucket_count = old_count ? 2 * old_count : FIRST_BUCKETS;
	buckets = allocate(bucket_count, sizeof(*buckets));
	for (size_t i = 0; i < old_count; i++) {
		for (struct block *block = old[i], *next; block; block = next) {
			struct block **bucket = bucket_of(block->pc);

			next = block->next;
			block->next = *bucket;
			*bucket = block;
		}
	}
	free(old);
}

/* The record of the block at @pc: one, however often it is translated. */
static struct block *block_at(uint64_t pc)
{
	struct block *block, **bucket;

	pthread_mutex_lock(&lock);
	if (block_count >= bucket_count)
		grow();
	bucket = bucket_of(pc);
	for (block = *bucket; block && block->pc != pc; block = block->next)
		;
	if (!block) {
		block = allocate(1, sizeof(*block) + vcpus * sizeof(block->by_vcpu[0]));
		block->pc = pc;
		block->next = *bucket;
		*bucket = block;
		block_count++;
	}
	pthread_mutex_unlock(&lock);
	return block;
}

static void instrument_mark(struct qemu_plugin_insn *insn, uint32_t mark, struct block *block)
{
	qemu_plugin_vcpu_cb cb = mark == X86_MARK_BEGIN ? on_begin :
				 mark == X86_MARK_END ? on_end :
				 mark == X86_MARK_DUMP ? on_dump : NULL;

	if (cb)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, cb, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void instrument(struct qemu_plugin_insn *insn, struct block *block)
{
	const enum qemu_plugin_op add = QEMU_PLUGIN_INLINE_ADD_U64;
	uint8_t code[16];
	uint32_t mark;

	switch (x86_classify(code, qemu_plugin_insn_data(insn, code, sizeof(code)), &mark)) {
	case X86_MARK:
		instrument_mark(insn, mark, block);
		return;
	case X86_RETURN:
		qemu_plugin_register_vcpu_insn_exec_cond_cb(insn, on_return,
							    QEMU_PLUGIN_CB_NO_REGS,
							    QEMU_PLUGIN_COND_NE,
							    FIELD(interrupted), 0, NULL);
		break;
	case X86_ATOMIC:
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, add,
								    FIELD(total.atomics), 1);
		break;
	case X86_OTHER:
		break;
	}
	qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, add, FIELD(total.insns), 1);
	qemu_plugin_register_vcpu_mem_inline_per_vcpu(insn, QEMU_PLUGIN_MEM_R, add,
						      FIELD(total.loads), 1);
	qemu_plugin_register_vcpu_mem_inline_per_vcpu(insn, QEMU_PLUGIN_MEM_W, add,
						      FIELD(total.stores), 1);
}

static void on_translation(struct qemu_plugin_tb *tb, void *userdata)
{
	uint64_t pc = qemu_plugin_tb_vaddr(tb);
	struct block *block;

	(void)userdata;
	if (pc < KERNEL_SPACE)
		return;
	block = block_at(pc);
	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS,
						  QEMU_PLUGIN_COND_EQ, FIELD(active), 1, block);
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++)
		instrument(qemu_plugin_tb_get_insn(tb, i), block);
}

static int refuse(const char *why, const char *detail)
{
	fprintf(stderr, "dmabed count: %s%s\n", why, detail);
	return 1;
}

static int check(const qemu_info_t *info)
{
	if (info->version.min > QEMU_API_VERSION || info->version.cur != QEMU_API_VERSION) {
		fprintf(stderr, "dmabed count: this QEMU speaks plugin API %d to %d, the plugin %d\n",
			info->version.min, info->version.cur, QEMU_API_VERSION);
		return 1;
	}
	if (!info->system_emulation || strcmp(info->target_name, "x86_64"))
		return refuse("made for qemu-system-x86_64, not for ", info->target_name);
	return 0;
}

/*
 * Arguments: out=FILE, where counts are appended; or probe=on, which only says
 * that everything fits, and ends QEMU.
 */
int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	const char *path = NULL;

	if (check(info))
		return 1;
	for (int i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "probe=on"))
			return refuse("ready", "");
		if (strncmp(argv[i], "out=", 4))
			return refuse("unknown argument ", argv[i]);
		path = argv[i] + 4;
	}
	if (!path)
		return refuse("no file to write to: give out=FILE", "");
	out = fopen(path, "w");
	if (!out)
		return refuse("cannot write ", path);
	vcpus = info->system.max_vcpus;
	score = qemu_plugin_scoreboard_new(sizeof(struct vcpu));
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation, NULL);
	qemu_plugin_register_vcpu_discon_cb(id, QEMU_PLUGIN_DISCON_INTERRUPT |
						QEMU_PLUGIN_DISCON_EXCEPTION,
					    on_interrupt, NULL);
	return 0;
}
