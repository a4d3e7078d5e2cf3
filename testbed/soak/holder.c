// SPDX-License-Identifier: MIT
/*
 * A socket that is read late: takes every test frame of an interface into a
 * packet socket with a large buffer, and reads nothing until a file appears. The
 * pages that the driver received into are its to keep so long. Then it reads all
 * of it, checks each byte, and prints "frames N changed M".
 *
 * usage: holder INTERFACE MEBIBYTES FILE
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ETHERTYPE	0x88b5
#define MAGIC		0xdbed0001U
#define FRAME		16384
#define HEADER		30
#define POLL_US		20000

static int listener(const char *name, int mebibytes)
{
	struct sockaddr_ll at = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETHERTYPE),
		.sll_ifindex = (int)if_nametoindex(name),
	};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERTYPE));
	int room = mebibytes << 20;

	if (fd < 0 || !at.sll_ifindex ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)))
		return -1;
	return fd;
}

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

/* Filler begins with a byte that follows from sequence number and flow. */
static int intact(const uint8_t *frame, ssize_t length)
{
	const uint8_t *header = frame + 14;
	uint8_t next;

	if (length < HEADER || be32(header) != MAGIC)
		return 0;
	next = (uint8_t)(be32(header + 12) * 31 + be32(header + 4) * 17);
	for (ssize_t i = HEADER; i < length; i++)
		if (frame[i] != next++)
			return 0;
	return 1;
}

/* An interface that went away is an error, to be read before the frames. */
static ssize_t next(int fd, uint8_t *frame)
{
	ssize_t length = recv(fd, frame, FRAME, MSG_DONTWAIT);

	if (length < 0 && errno == ENETDOWN)
		length = recv(fd, frame, FRAME, MSG_DONTWAIT);
	return length;
}

int main(int argc, char **argv)
{
	unsigned long frames = 0, changed = 0;
	static uint8_t frame[FRAME];
	ssize_t length;
	int fd;

	if (argc < 4)
		return EXIT_FAILURE;
	fd = listener(argv[1], atoi(argv[2]));
	if (fd < 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	puts("listening");
	fflush(stdout);
	while (access(argv[3], F_OK))
		usleep(POLL_US);
	for (; (length = next(fd, frame)) >= 0; frames++)
		changed += !intact(frame, length);
	printf("frames %lu changed %lu\n", frames, changed);
	return EXIT_SUCCESS;
}
