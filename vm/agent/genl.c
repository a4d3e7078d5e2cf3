// SPDX-License-Identifier: MIT
/*
 * "genl FAMILY COMMAND": asks a generic netlink family of the kernel to dump
 * what COMMAND (its number) gets, and prints the attributes of each answer as a
 * line of hexadecimal digits. The host knows what they mean.
 */
#include <errno.h>
#include <linux/genetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

#define ANSWER_BYTES 65536

struct question {
	struct nlmsghdr nl;
	struct genlmsghdr genl;
	struct nlattr attr;
	char name[GENL_NAMSIZ];
};

typedef void (*take_answer)(const struct nlmsghdr *answer, void *context);

static int open_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
}

/* Without a name the question ends before its attribute. */
static int ask(int fd, uint16_t type, uint16_t flags, uint8_t command, const char *name)
{
	struct question question = {
		.nl = { .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags },
		.genl = { .cmd = command, .version = 1 },
	};

	question.nl.nlmsg_len = offsetof(struct question, attr);
	if (name) {
		question.attr.nla_type = CTRL_ATTR_FAMILY_NAME;
		question.attr.nla_len = sizeof(question.attr) + sizeof(question.name);
		strncpy(question.name, name, sizeof(question.name) - 1);
		question.nl.nlmsg_len = sizeof(question);
	}
	return send(fd, &question, question.nl.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* The error an acknowledgement or the end of a dump carries; its first word. */
static int error_of(const struct nlmsghdr *end)
{
	return *(const int *)NLMSG_DATA(end);
}

/* Takes answers until the kernel says that there are no more. */
static int listen_to(int fd, take_answer take, void *context)
{
	static char answers[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

	for (;;) {
		ssize_t got = recv(fd, answers, sizeof(answers), 0);
		struct nlmsghdr *answer = (struct nlmsghdr *)answers;

		if (got < 0)
			return -errno;
		for (; NLMSG_OK(answer, got); answer = NLMSG_NEXT(answer, got)) {
			if (answer->nlmsg_type == NLMSG_DONE || answer->nlmsg_type == NLMSG_ERROR)
				return error_of(answer);
			take(answer, context);
		}
	}
}

static const char *attributes(const struct nlmsghdr *answer, size_t *length)
{
	*length = NLMSG_PAYLOAD(answer, GENL_HDRLEN);
	return (const char *)NLMSG_DATA(answer) + GENL_HDRLEN;
}

static void take_family(const struct nlmsghdr *answer, void *context)
{
	size_t length;
	const char *place = attributes(answer, &length);

	while (length >= NLA_HDRLEN) {
		const struct nlattr *attr = (const struct nlattr *)place;
		size_t step = NLA_ALIGN(attr->nla_len);

		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			memcpy(context, place + NLA_HDRLEN, sizeof(uint16_t));
		if (step < NLA_HDRLEN || step > length)
			return;
		place += step;
		length -= step;
	}
}

static void print_answer(const struct nlmsghdr *answer, void *context)
{
	size_t length;
	const char *place = attributes(answer, &length);

	(void)context;
	while (length--)
		printf("%02x", (unsigned char)*place++);
	putchar('\n');
}

static int dump(const char *family, uint8_t command)
{
	int fd = open_netlink();
	uint16_t type = 0;
	int err;

	if (fd < 0)
		return -errno;
	err = ask(fd, GENL_ID_CTRL, NLM_F_ACK, CTRL_CMD_GETFAMILY, family);
	if (!err)
		err = listen_to(fd, take_family, &type);
	if (!err)
		err = ask(fd, type, NLM_F_DUMP, command, NULL);
	if (!err)
		err = listen_to(fd, print_answer, NULL);
	close(fd);
	return err;
}

int genl_main(int argc, char **argv)
{
	int err;

	if (argc != 3) {
		fprintf(stderr, "usage: genl FAMILY COMMAND\n");
		return EXIT_FAILURE;
	}
	err = dump(argv[1], (uint8_t)atoi(argv[2]));
	if (err)
		fprintf(stderr, "genl %s %s: %s\n", argv[1], argv[2], strerror(-err));
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
