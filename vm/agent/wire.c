// SPDX-License-Identifier: MIT
/*
 * Frames on the virtio-serial port: a fixed little-endian header (length, id,
 * type), then the payload.  Writes block: the host always reads.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

static int port = -1;
static uint8_t input[HEADER_SIZE + MAX_PAYLOAD];
static size_t filled;

void wire_attach(int fd)
{
	port = fd;
	filled = 0;
}

static void put_u32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
	return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static void write_all(const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = write(port, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* the host is gone; the main loop notices */
		data += n;
		length -= (size_t)n;
	}
}

void wire_send(uint32_t id, uint8_t type, const void *payload, size_t length)
{
	static uint8_t out[HEADER_SIZE + MAX_PAYLOAD];

	put_u32(out, (uint32_t)length);
	put_u32(out + 4, id);
	out[8] = type;
	memset(out + 9, 0, HEADER_SIZE - 9);
	memcpy(out + HEADER_SIZE, payload, length);
	write_all(out, HEADER_SIZE + length);
}

void wire_send_number(uint32_t id, uint8_t type, int32_t value)
{
	uint8_t payload[4];

	put_u32(payload, (uint32_t)value);
	wire_send(id, type, payload, sizeof(payload));
}

/* Delivers every whole frame in the buffer; returns -1 on an oversized one. */
static int deliver_frames(void (*deliver)(const struct frame *frame))
{
	size_t used = 0;

	while (filled - used >= HEADER_SIZE) {
		const uint8_t *at = input + used;
		struct frame frame = {
			.length = get_u32(at),
			.id = get_u32(at + 4),
			.type = at[8],
			.payload = at + HEADER_SIZE,
		};

		if (frame.length > MAX_PAYLOAD)
			return -1;
		if (filled - used < HEADER_SIZE + frame.length)
			break;
		deliver(&frame);
		used += HEADER_SIZE + frame.length;
	}
	memmove(input, input + used, filled - used);
	filled -= used;
	return 0;
}

/* Reads once.  Returns 0, or -1 when the host hung up or broke the framing. */
int wire_receive(void (*deliver)(const struct frame *frame))
{
	ssize_t n = read(port, input + filled, sizeof(input) - filled);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0)
		return -1;
	filled += (size_t)n;
	return deliver_frames(deliver);
}
