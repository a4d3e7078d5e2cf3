// SPDX-License-Identifier: MIT
/*
 * "/init trace FOLDER": sends what a tracing instance recorded to the host, over
 * a virtio-serial port of its own, while the guest runs.  The host sets the pace:
 * at each tick the guest reads its clock, answers with it, and sends every page
 * of every CPU's ring buffer that was begun before.  Between ticks it sleeps, so
 * the ring buffers are the only store; what they overwrite, their pages count.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define MAX_CPUS 64
#define PAGE_HEADER 16 /* u64 time, u64 bytes of data and flags */
#define DATA_BYTES 0xfffff
#define MISSED_STORED (1u << 30) /* the number of lost events follows the data */

static int rings[MAX_CPUS];
static int cpus;
static int over;

static void put_u64(uint8_t *at, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

/* The clock of the trace ("mono"). */
static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void open_rings(const char *folder)
{
	char path[300];

	for (; cpus < MAX_CPUS; cpus++) {
		snprintf(path, sizeof(path), "%s/per_cpu/cpu%d/trace_pipe_raw", folder, cpus);
		rings[cpus] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (rings[cpus] < 0)
			return;
	}
}

/* Sends one page, without the room behind its data.  Returns its time, or 0: no page. */
static uint64_t send_page(int cpu)
{
	static uint8_t page[CHUNK];
	ssize_t n = read(rings[cpu], page, (size_t)sysconf(_SC_PAGESIZE));
	uint64_t begun, commit;
	size_t used;

	if (n < PAGE_HEADER)
		return 0;
	memcpy(&begun, page, sizeof(begun));
	memcpy(&commit, page + 8, sizeof(commit));
	used = PAGE_HEADER + (commit & DATA_BYTES) + (commit & MISSED_STORED ? 8 : 0);
	wire_send((uint32_t)cpu, FRAME_EVENTS, page, used < (size_t)n ? used : (size_t)n);
	return begun;
}

static void handle(const struct frame *frame)
{
	uint64_t now = now_ns();
	uint8_t stamp[8];

	if (frame->type == FRAME_END)
		over = 1;
	if (frame->type != FRAME_TICK)
		return;
	put_u64(stamp, now);
	wire_send(frame->id, FRAME_NOW, stamp, sizeof(stamp));
	for (int cpu = 0; cpu < cpus; cpu++) {
		uint64_t begun;

		do
			begun = send_page(cpu);
		while (begun && begun <= now);
	}
	wire_send(frame->id, FRAME_DRAINED, frame->payload, 0);
}

int stream_trace(const char *folder)
{
	int port = open_port(TRACE_PORT);

	open_rings(folder);
	if (port < 0 || !cpus) {
		complain(port < 0 ? "no virtio-serial port " TRACE_PORT : folder);
		return EXIT_FAILURE;
	}
	wire_attach(port);
	while (!over && !wire_receive(handle))
		;
	return over ? EXIT_SUCCESS : EXIT_FAILURE;
}
