/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed sink: test frames, their receiver and their sender.
 *
 * A test frame has Ethernet type 0x88B5, this header in network byte order, and
 * then filler: byte k is (31 * sequence + 17 * flow + k) modulo 256.
 */
#ifndef DMABED_SINK_H
#define DMABED_SINK_H

#include <linux/etherdevice.h>
#include <linux/list.h>
#include <linux/netdevice.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>

#define SINK_ETHERTYPE	0x88b5
#define SINK_MAGIC	0xdbed0001
#define SINK_FLOWS	256
#define SINK_PROBES	8
#define SINK_RAMP	4096

struct sink_header {
	__be32 magic;
	__be32 flow;
	__be64 sequence;
} __packed;

#define SINK_MIN_FRAME	(ETH_HLEN + sizeof(struct sink_header))

/**
 * struct sink_counts - what one CPU saw of a device
 * @packets: frames of the Ethernet type
 * @bytes: their bytes, Ethernet header included, FCS not
 * @small: too short for a test frame
 * @bad_magic: no test frame
 * @bad_payload: some filler byte was wrong
 * @late_start: flows that did not begin with sequence number 0
 * @gaps: sequence numbers skipped
 * @reordered: frames that came after a later one of their flow
 * @duplicates: frames that came again
 * @untracked: frames of more flows than can be followed
 *
 * What got lost is @gaps - @reordered.
 */
struct sink_counts {
	u64 packets;
	u64 bytes;
	u64 small;
	u64 bad_magic;
	u64 bad_payload;
	u64 late_start;
	u64 gaps;
	u64 reordered;
	u64 duplicates;
	u64 untracked;
};

/* First and last packet; first is 0 before there was one. */
struct sink_times {
	u64 first_ns;
	u64 last_ns;
};

struct sink_percpu {
	struct sink_counts counts;
	struct sink_times times;
};

/**
 * struct sink_flow - what is known of the sequence numbers of a flow
 * @seen: bit i: number next - 1 - i was received
 * @next: one more than the largest number received
 * @flow: its number
 * @used: the slot is taken
 */
struct sink_flow {
	u64 seen;
	u64 next;
	u32 flow;
	bool used;
};

/**
 * struct sink_dev - a device that is listened to
 * @pt: the packet handler
 * @list: of all devices
 * @netdev: the device
 * @percpu: counts since the handler was added
 * @base: counts when they were last reset
 * @lock: guards @flows
 * @flows: open hash
 */
struct sink_dev {
	struct packet_type pt;
	struct list_head list;
	struct net_device *netdev;
	struct sink_percpu __percpu *percpu;
	struct sink_counts base;
	spinlock_t lock; /* guards flows */
	struct sink_flow flows[SINK_FLOWS];
};

/* What a sender is asked for. */
struct sink_order {
	char ifname[IFNAMSIZ];
	u64 count;
	u32 bytes;
	u32 flow;
	bool frags;
};

/* Frames that were held: how many, and those that changed meanwhile. */
struct sink_late {
	u64 frames;
	u64 changed;
};

/* sink_verify.c */
extern const u8 *sink_ramp;
int sink_ramp_init(void);
void sink_ramp_exit(void);
int sink_receive(struct sk_buff *skb, struct net_device *dev,
		 struct packet_type *pt, struct net_device *orig_dev);
void sink_receive_list(struct list_head *list, struct packet_type *pt,
		       struct net_device *orig_dev);
bool sink_payload_ok(struct sk_buff *skb, u8 start);

/* sink_hold.c */
bool sink_hold(struct sk_buff *skb);
void sink_release(struct sink_late *late);
void sink_hold_init(void);
void sink_hold_exit(void);
u32 sink_held_pages(void);

static inline u8 sink_filler(u64 sequence, u32 flow)
{
	return sequence * 31 + flow * 17;
}

/* sink_send.c */
int sink_send(const struct sink_order *order);
void sink_send_show(struct seq_file *seq);

#endif /* DMABED_SINK_H */
