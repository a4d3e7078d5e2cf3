// SPDX-License-Identifier: MIT
/*
 * The guest agent, PID 1 of the test guests.  It sets the guest up, then
 * serves the host over one virtio-serial port: run commands, stream their
 * output, push and pull files, answer heartbeats.  Called by a command as
 * "genl" it asks the kernel by netlink.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent.h"

#define HOST_WAIT_US 10000

static int watch_children(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void drain_signals(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) > 0)
		;
	jobs_reap();
}

/* While no host is connected the port polls ready: wait without spinning. */
static void host_left(int port)
{
	jobs_abandon();
	wire_attach(port);
	usleep(HOST_WAIT_US);
}

static void serve(int port, int children)
{
	struct pollfd set[2 + 2 * MAX_JOBS];

	wire_attach(port);
	for (;;) {
		size_t count = jobs_poll_set(set + 2);

		set[0] = (struct pollfd){ .fd = port, .events = POLLIN };
		set[1] = (struct pollfd){ .fd = children, .events = POLLIN };
		if (poll(set, count + 2, -1) < 0)
			continue;
		jobs_pump(set + 2, count);
		if (set[1].revents)
			drain_signals(children);
		if (set[0].revents && wire_receive(jobs_handle))
			host_left(port);
	}
}

int main(int argc, char **argv)
{
	int children, port;

	if (argc == 3 && !strcmp(argv[1], "trace"))
		return stream_trace(argv[2]);
	if (getpid() != 1)
		return genl_main(argc, argv); /* called by its other name */
	children = watch_children();
	setup_guest();
	port = open_port(AGENT_PORT);
	if (port < 0) {
		complain("no virtio-serial port " AGENT_PORT);
		return EXIT_FAILURE; /* PID 1 leaving is a panic, with this line above it */
	}
	serve(port, children);
}
