// SPDX-License-Identifier: MIT
/*
 * Jobs: commands run by /bin/sh, files written (push) and files read (pull).
 * Each has the id its request carried; all run side by side in one poll loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

enum kind { FREE, COMMAND, PUSH, PULL };

struct job {
	enum kind kind;
	uint32_t id;
	pid_t pid;
	int fd[2]; /* COMMAND: stdout, stderr; PUSH and PULL: the file */
	int error; /* PUSH: errno of the first failed write */
};

static struct job jobs[MAX_JOBS];

static struct job *find_job(uint32_t id)
{
	for (int i = 0; i < MAX_JOBS; i++)
		if (jobs[i].kind != FREE && jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static struct job *new_job(enum kind kind, uint32_t id)
{
	for (int i = 0; i < MAX_JOBS; i++) {
		if (jobs[i].kind != FREE)
			continue;
		jobs[i] = (struct job){ .kind = kind, .id = id, .fd = { -1, -1 } };
		return &jobs[i];
	}
	wire_send_number(id, FRAME_DONE, EAGAIN);
	return NULL;
}

static void free_job(struct job *job)
{
	for (int i = 0; i < 2; i++)
		if (job->fd[i] >= 0)
			close(job->fd[i]);
	job->kind = FREE;
}

static void finish(struct job *job, uint8_t type, int32_t value)
{
	uint32_t id = job->id;

	free_job(job);
	wire_send_number(id, type, value);
}

static void exec_shell(const char *command, int out, int err)
{
	sigset_t none;

	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(open("/dev/null", O_RDONLY), 0);
	dup2(out, 1);
	dup2(err, 2);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

static void start_command(const struct frame *frame)
{
	struct job *job = new_job(COMMAND, frame->id);
	char *command = strndup((const char *)frame->payload, frame->length);
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };

	if (!job || !command)
		goto out;
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) {
		finish(job, FRAME_DONE, errno);
		goto out;
	}
	job->pid = fork();
	if (!job->pid)
		exec_shell(command, out[1], err[1]);
	job->fd[0] = out[0];
	job->fd[1] = err[0];
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	if (job->pid < 0)
		finish(job, FRAME_DONE, errno);
	else
		setpgid(job->pid, job->pid);
out:
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	free(command);
}

/* Payload: file mode (4 bytes, used by push only), then the path. */
static void start_transfer(const struct frame *frame, enum kind kind, int flags)
{
	struct job *job = new_job(kind, frame->id);
	char *path;
	mode_t mode;

	if (!job)
		return;
	if (frame->length < 5) {
		finish(job, FRAME_DONE, EINVAL);
		return;
	}
	mode = (mode_t)(frame->payload[0] | frame->payload[1] << 8);
	path = strndup((const char *)frame->payload + 4, frame->length - 4);
	job->fd[0] = path ? open(path, flags | O_CLOEXEC, mode) : -1;
	if (job->fd[0] < 0)
		finish(job, FRAME_DONE, path ? errno : ENOMEM);
	else if (kind == PUSH)
		fchmod(job->fd[0], mode);
	free(path);
}

static void write_file(const struct frame *frame)
{
	struct job *job = find_job(frame->id);
	uint32_t done = 0;

	if (!job || job->kind != PUSH)
		return; /* refused earlier; the host has the errno */
	while (done < frame->length && !job->error) {
		ssize_t n = write(job->fd[0], frame->payload + done, frame->length - done);

		if (n < 0)
			job->error = errno;
		else
			done += (uint32_t)n;
	}
}

static void end_push(const struct frame *frame)
{
	struct job *job = find_job(frame->id);

	if (!job || job->kind != PUSH)
		return;
	if (close(job->fd[0]) && !job->error)
		job->error = errno;
	job->fd[0] = -1;
	finish(job, FRAME_DONE, job->error);
}

static void kill_job(const struct frame *frame)
{
	struct job *job = find_job(frame->id);

	if (job && job->kind == COMMAND && frame->length == 1)
		kill(-job->pid, frame->payload[0]);
}

void jobs_handle(const struct frame *frame)
{
	switch (frame->type) {
	case FRAME_PING:
		wire_send(frame->id, FRAME_PONG, frame->payload, frame->length);
		break;
	case FRAME_RUN:
		start_command(frame);
		break;
	case FRAME_KILL:
		kill_job(frame);
		break;
	case FRAME_PUSH:
		start_transfer(frame, PUSH, O_WRONLY | O_CREAT | O_TRUNC);
		break;
	case FRAME_PULL:
		start_transfer(frame, PULL, O_RDONLY);
		break;
	case FRAME_DATA:
		write_file(frame);
		break;
	case FRAME_END:
		end_push(frame);
		break;
	}
}

/* Sends one chunk of stream i.  Returns what read() did. */
static ssize_t pump(struct job *job, int i)
{
	static const uint8_t stream_type[2] = { FRAME_STDOUT, FRAME_STDERR };
	static uint8_t chunk[CHUNK];
	ssize_t n = read(job->fd[i], chunk, sizeof(chunk));

	if (n > 0)
		wire_send(job->id, job->kind == PULL ? FRAME_DATA : stream_type[i], chunk,
			  (size_t)n);
	return n;
}

static void pump_stream(struct job *job, int i)
{
	ssize_t n = pump(job, i);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	if (job->kind == PULL) {
		finish(job, FRAME_DONE, n < 0 ? errno : 0);
		return;
	}
	close(job->fd[i]);
	job->fd[i] = -1;
}

/* One entry per job stream, in the fixed order jobs_pump() expects. */
size_t jobs_poll_set(struct pollfd *set)
{
	for (int i = 0; i < 2 * MAX_JOBS; i++) {
		const struct job *job = &jobs[i / 2];
		int wanted = job->kind == COMMAND || (job->kind == PULL && i % 2 == 0);

		set[i] = (struct pollfd){ .fd = wanted ? job->fd[i % 2] : -1, .events = POLLIN };
	}
	return 2 * MAX_JOBS;
}

void jobs_pump(const struct pollfd *set, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct job *job = &jobs[i / 2];

		if (set[i].revents && job->kind != FREE && job->fd[i % 2] == set[i].fd)
			pump_stream(job, (int)(i % 2));
	}
}

/*
 * A command is over when its shell is: what the pipes still hold is sent, but
 * a background child that kept them open is not waited for.
 */
void jobs_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < MAX_JOBS; i++) {
			struct job *job = &jobs[i];

			if (job->kind != COMMAND || job->pid != pid)
				continue;
			for (int s = 0; s < 2; s++)
				while (job->fd[s] >= 0 && pump(job, s) > 0)
					;
			finish(job, FRAME_EXIT,
			       WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
		}
	}
}

/* The host went away: nobody wants these results any more. */
void jobs_abandon(void)
{
	for (int i = 0; i < MAX_JOBS; i++) {
		if (jobs[i].kind == COMMAND)
			kill(-jobs[i].pid, SIGKILL);
		if (jobs[i].kind != FREE)
			free_job(&jobs[i]);
	}
}
