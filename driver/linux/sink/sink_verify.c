// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed sink: counts the test frames of a device and, if told to, checks each
 * byte and each sequence number. Frames come in lists wherever the device's
 * driver delivers them so; a lock or a clock is paid once a list.
 */
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "sink.h"

static bool verify = true;
module_param(verify, bool, 0644);
MODULE_PARM_DESC(verify, "check sequence numbers and payload (default 1); 0: only count");

static bool echo;
module_param(echo, bool, 0644);
MODULE_PARM_DESC(echo, "send every frame back as it came, on the device it came from");

/* Bytes 0, 1, ... 255, 0, ...: filler from any start is a piece of it. */
const u8 *sink_ramp;

int sink_ramp_init(void)
{
	u8 *ramp = kmalloc(256 + SINK_RAMP, GFP_KERNEL);
	u32 i;

	if (!ramp)
		return -ENOMEM;
	for (i = 0; i < 256 + SINK_RAMP; i++)
		ramp[i] = i;
	sink_ramp = ramp;
	return 0;
}

void sink_ramp_exit(void)
{
	kfree(sink_ramp);
}

static bool sink_chunk_ok(const u8 *data, u32 len, u8 start)
{
	u32 done, n;

	for (done = 0; done < len; done += n) {
		n = min_t(u32, len - done, SINK_RAMP);
		if (memcmp(data + done, sink_ramp + (u8)(start + done), n))
			return false;
	}
	return true;
}

bool sink_payload_ok(struct sk_buff *skb, u8 start)
{
	const u32 offset = sizeof(struct sink_header);
	struct skb_seq_state state;
	const u8 *data;
	u32 done = 0;
	u32 n;

	if (!skb_is_nonlinear(skb))
		return sink_chunk_ok(skb->data + offset, skb->len - offset,
				     start);
	skb_prepare_seq_read(skb, offset, skb->len, &state);
	while ((n = skb_seq_read(done, &data, &state))) {
		if (!sink_chunk_ok(data, n, start + done)) {
			skb_abort_seq_read(&state);
			return false;
		}
		done += n;
	}
	return done == skb->len - offset;
}

/* The flow's slot, a free one, or NULL. Caller holds the lock. */
static struct sink_flow *sink_find(struct sink_dev *sink, u32 flow)
{
	u32 i;

	for (i = 0; i < SINK_PROBES; i++) {
		struct sink_flow *f = &sink->flows[(flow + i) % SINK_FLOWS];

		if (!f->used || f->flow == flow)
			return f;
	}
	return NULL;
}

static void sink_track_old(struct sink_counts *counts, struct sink_flow *f,
			   u64 sequence)
{
	u64 age = f->next - 1 - sequence;

	if (age < 64 && (f->seen & BIT_ULL(age))) {
		counts->duplicates++;
		return;
	}
	counts->reordered++;
	if (age < 64)
		f->seen |= BIT_ULL(age);
}

static void sink_track(struct sink_dev *sink, struct sink_counts *counts,
		       u32 flow, u64 sequence)
{
	struct sink_flow *f = sink_find(sink, flow);
	u64 skipped;

	if (!f) {
		counts->untracked++;
		return;
	}
	if (!f->used) {
		*f = (struct sink_flow){ .used = true, .flow = flow,
					 .next = sequence };
		counts->late_start += !!sequence;
	}
	if (sequence < f->next) {
		sink_track_old(counts, f, sequence);
		return;
	}
	skipped = sequence - f->next;
	counts->gaps += skipped;
	f->seen = skipped < 63 ? f->seen << (skipped + 1) | 1 : 1;
	f->next = sequence + 1;
}

/* skb->data is behind the Ethernet header. Caller holds the lock. */
static void sink_verify(struct sink_dev *sink, struct sink_counts *counts,
			struct sk_buff *skb)
{
	struct sink_header buffer;
	const struct sink_header *header;
	u64 sequence;
	u32 flow;

	header = skb_header_pointer(skb, 0, sizeof(buffer), &buffer);
	if (!header) {
		counts->small++;
		return;
	}
	if (be32_to_cpu(header->magic) != SINK_MAGIC) {
		counts->bad_magic++;
		return;
	}
	flow = be32_to_cpu(header->flow);
	sequence = be64_to_cpu(header->sequence);
	if (!sink_payload_ok(skb, sink_filler(sequence, flow))) {
		counts->bad_payload++;
		return;
	}
	sink_track(sink, counts, flow, sequence);
}

static void sink_note_time(struct sink_times *times)
{
	u64 now = ktime_get_ns();

	if (!times->first_ns)
		times->first_ns = now;
	times->last_ns = now;
}

static void sink_count_list(struct sink_counts *counts, struct list_head *list)
{
	struct sk_buff *skb;

	list_for_each_entry(skb, list, list) {
		counts->packets++;
		counts->bytes += skb->len + ETH_HLEN;
	}
}

static void sink_verify_list(struct sink_dev *sink, struct sink_counts *counts,
			     struct list_head *list)
{
	struct sk_buff *skb;

	spin_lock(&sink->lock);
	list_for_each_entry(skb, list, list)
		sink_verify(sink, counts, skb);
	spin_unlock(&sink->lock);
}

/* Any budget but 0 says: softirq, free in bulk. */
static void sink_consume_list(struct list_head *list)
{
	struct sk_buff *skb, *next;

	list_for_each_entry_safe(skb, next, list, list) {
		skb_list_del_init(skb);
		if (!sink_hold(skb))
			napi_consume_skb(skb, 1);
	}
}

/* What the stack cannot take is dropped there and counted by the device. */
static void sink_echo_list(struct list_head *list)
{
	struct sk_buff *skb, *next;

	list_for_each_entry_safe(skb, next, list, list) {
		skb_list_del_init(skb);
		skb_push(skb, ETH_HLEN);
		dev_queue_xmit(skb);
	}
}

void sink_receive_list(struct list_head *list, struct packet_type *pt,
		       struct net_device *orig_dev)
{
	struct sink_dev *sink = pt->af_packet_priv;
	struct sink_percpu *percpu = this_cpu_ptr(sink->percpu);

	sink_note_time(&percpu->times);
	sink_count_list(&percpu->counts, list);
	if (READ_ONCE(verify))
		sink_verify_list(sink, &percpu->counts, list);
	if (READ_ONCE(echo))
		sink_echo_list(list);
	else
		sink_consume_list(list);
}

int sink_receive(struct sk_buff *skb, struct net_device *dev,
		 struct packet_type *pt, struct net_device *orig_dev)
{
	LIST_HEAD(list);

	list_add_tail(&skb->list, &list);
	sink_receive_list(&list, pt, orig_dev);
	return NET_RX_SUCCESS;
}
