// SPDX-License-Identifier: MIT
/*
 * The victim of an attack on stale mappings: takes a network interface down, so
 * that its driver gives its pages back, and at once fills fresh memory of its own
 * with a pattern. Nobody but this process writes there; whatever changes was
 * written by the device. It prints how many pages changed, and where the first.
 */
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096
#define WORDS		(PAGE / sizeof(uint64_t))
#define PATTERN		0x5a5a5a5a00000000ULL

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

static void fill(volatile uint64_t *words, size_t pages)
{
	for (size_t i = 0; i < pages * WORDS; i++)
		words[i] = PATTERN + i;
}

/* Returns the pages with a word that is not the pattern; the first is printed. */
static size_t scan(const volatile uint64_t *words, size_t pages)
{
	size_t changed = 0;

	for (size_t page = 0; page < pages; page++) {
		for (size_t i = page * WORDS; i < (page + 1) * WORDS; i++) {
			if (words[i] == PATTERN + i)
				continue;
			if (!changed++)
				printf("first %zu %zu %llx %llx %llu\n", page,
				       i % WORDS * sizeof(uint64_t),
				       (unsigned long long)words[i],
				       (unsigned long long)words[i + 1],
				       (unsigned long long)words[i + 2]);
			break;
		}
	}
	return changed;
}

int main(int argc, char **argv)
{
	size_t pages = argc > 2 ? strtoul(argv[2], NULL, 0) : 1024;
	uint64_t *words;
	double down, filled;

	words = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (argc < 2 || words == MAP_FAILED)
		return EXIT_FAILURE;
	madvise(words, pages * PAGE, MADV_NOHUGEPAGE);
	if (take_down(argv[1]))
		return EXIT_FAILURE;
	down = now();
	fill(words, pages);
	filled = now();
	usleep(300000);
	printf("changed %zu of %zu\n", scan(words, pages), pages);
	printf("filled_us %.0f\n", (filled - down) * 1e6);
	return EXIT_SUCCESS;
}
