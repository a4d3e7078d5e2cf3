// SPDX-License-Identifier: MIT
/*
 * The victim of an attack on stale mappings: takes a network interface down, so
 * that its driver gives its pages back, and at once writes pages of its own into
 * a pipe. The kernel keeps them in fresh pages, of the kind that it had lent to
 * the driver. What is read from the pipe later and is not what was written came
 * from the device. It prints how many pages have such bytes, and the first.
 */
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096
#define WORDS		(PAGE / sizeof(uint64_t))
#define PATTERN		0x5a5a5a5a00000000ULL
#define WAIT_US		800000

static int take_down(const char *name)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	return ioctl(fd, SIOCSIFFLAGS, &request);
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static size_t fill(int pipe, uint64_t *page, size_t pages)
{
	size_t done = 0;

	for (size_t i = 0; i < WORDS; i++)
		page[i] = PATTERN + i;
	while (done < pages && write(pipe, page, PAGE) == PAGE)
		done++;
	return done;
}

/* Returns the pages that are not as they were written; the first is printed. */
static size_t scan(int pipe, uint64_t *page, size_t pages)
{
	size_t changed = 0;

	for (size_t number = 0; number < pages; number++) {
		if (read(pipe, page, PAGE) != PAGE)
			break;
		for (size_t i = 0; i + 2 < WORDS; i++) {
			if (page[i] == PATTERN + i)
				continue;
			if (!changed++)
				printf("first %zu %zu %llx %llx %llu\n", number,
				       i * sizeof(uint64_t),
				       (unsigned long long)page[i],
				       (unsigned long long)page[i + 1],
				       (unsigned long long)page[i + 2]);
			break;
		}
	}
	return changed;
}

int main(int argc, char **argv)
{
	size_t pages = argc > 2 ? strtoul(argv[2], NULL, 0) : 256;
	static uint64_t page[WORDS];
	double down, claimed;
	int ends[2];

	if (argc < 2 || pipe(ends) ||
	    fcntl(ends[1], F_SETPIPE_SZ, (int)(pages * PAGE)) < 0 ||
	    fcntl(ends[1], F_SETFL, O_NONBLOCK) || take_down(argv[1]))
		return EXIT_FAILURE;
	down = now();
	pages = fill(ends[1], page, pages);
	claimed = now();
	usleep(WAIT_US);
	printf("changed %zu of %zu\n", scan(ends[0], page, pages), pages);
	printf("claimed_us %.0f\n", (claimed - down) * 1e6);
	return EXIT_SUCCESS;
}
