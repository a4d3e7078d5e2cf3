// SPDX-License-Identifier: MIT
/*
 * What PID 1 does before it takes commands: mounts, the modules the boot
 * needs, the loopback interface, and finding the virtio-serial port.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define PORT_CLASS "/sys/class/virtio-ports"
#define MODULE_LIST "/etc/modules"
#define PORT_WAIT_US 2000
#define PORT_TRIES 15000

void complain(const char *what)
{
	fprintf(stderr, "dmabed-agent: %s: %s\n", what, strerror(errno));
}

static void mount_all(void)
{
	static const char *const mounts[][3] = {
		{ "devtmpfs", "/dev", "devtmpfs" },
		{ "proc", "/proc", "proc" },
		{ "sysfs", "/sys", "sysfs" },
		{ "tmpfs", "/tmp", "tmpfs" },
		{ "devpts", "/dev/pts", "devpts" },
		{ "debugfs", "/sys/kernel/debug", "debugfs" },
		{ "tracefs", "/sys/kernel/tracing", "tracefs" },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i][1], 0755);
		mount(mounts[i][0], mounts[i][1], mounts[i][2], 0, NULL);
	}
}

static void use_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	for (int i = 0; fd >= 0 && i < 3; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
}

static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
		complain(path);
	if (fd >= 0)
		close(fd);
}

static void load_modules(void)
{
	FILE *list = fopen(MODULE_LIST, "re");
	char path[512];

	while (list && fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = '\0';
		load_module(path);
	}
	if (list)
		fclose(list);
}

static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	request.ifr_flags = IFF_UP;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		complain("lo");
	if (fd >= 0)
		close(fd);
}

void setup_guest(void)
{
	mount_all();
	use_console();
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/root", 1);
	load_modules();
	raise_loopback();
}

static int port_has_name(const char *device, const char *wanted)
{
	char path[300], name[32] = "";
	int fd;

	snprintf(path, sizeof(path), PORT_CLASS "/%s/name", device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (read(fd, name, sizeof(name) - 1) < 0)
		name[0] = '\0';
	close(fd);
	name[strcspn(name, "\n")] = '\0';
	return !strcmp(name, wanted);
}

static int try_port(const char *name)
{
	DIR *ports = opendir(PORT_CLASS);
	struct dirent *entry;
	char path[300];
	int fd = -1;

	while (ports && fd < 0 && (entry = readdir(ports))) {
		if (!port_has_name(entry->d_name, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (ports)
		closedir(ports);
	return fd;
}

/* With virtio-iommu as a module the port's device probes late: keep looking. */
int open_port(const char *name)
{
	int fd = try_port(name);

	for (int i = 0; fd < 0 && i < PORT_TRIES; i++) {
		usleep(PORT_WAIT_US);
		fd = try_port(name);
	}
	return fd;
}
