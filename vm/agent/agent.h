/* SPDX-License-Identifier: MIT */
/*
 * Shared declarations of the guest agent: the port to the host, jobs, and
 * what PID 1 does before the first command.  The frame layout (frames.h) is
 * generated from vm/protocol.py when the agent is built.
 */
#ifndef DMABED_AGENT_H
#define DMABED_AGENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frames.h"

#define MAX_JOBS 64
#define AGENT_PORT "dmabed.agent"
#define TRACE_PORT "dmabed.trace"

struct frame {
	uint32_t id;
	uint8_t type;
	uint32_t length;
	const uint8_t *payload;
};

/* setup.c: PID 1's chores */
void setup_guest(void);
int open_port(const char *name);
void complain(const char *what);

/* wire.c: frames in and out of the port */
void wire_attach(int fd);
void wire_send(uint32_t id, uint8_t type, const void *payload, size_t length);
void wire_send_number(uint32_t id, uint8_t type, int32_t value);
int wire_receive(void (*deliver)(const struct frame *frame));

/* jobs.c: commands and file transfers, several at once */
struct pollfd;
void jobs_handle(const struct frame *frame);
size_t jobs_poll_set(struct pollfd *set);
void jobs_pump(const struct pollfd *set, size_t count);
void jobs_reap(void);
void jobs_abandon(void);

/* trace.c: what a tracing instance recorded, streamed */
int stream_trace(const char *folder);

/* genl.c: what the program does when a command of the host calls it "genl" */
int genl_main(int argc, char **argv);

#endif
