// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed sink: keeps frames, as a slow socket would, and looks at them again
 * when it lets them go. Where they lie, and for how long, is traced.
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/skbuff.h>

#include "sink.h"

#define CREATE_TRACE_POINTS
#include "sink_trace.h"

static uint hold;
module_param(hold, uint, 0644);
MODULE_PARM_DESC(hold, "frames to keep, as a slow socket would, until the command release");

static struct sk_buff_head sink_held;

/* From its first byte, which is that of the Ethernet header. */
static void sink_trace_hold(const struct sk_buff *skb)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);
	u32 i;

	if (!trace_sink_hold_enabled())
		return;
	trace_sink_hold(virt_to_phys(skb_mac_header(skb)),
			ETH_HLEN + skb_headlen(skb));
	for (i = 0; i < shinfo->nr_frags; i++)
		trace_sink_hold(page_to_phys(skb_frag_page(&shinfo->frags[i])) +
				skb_frag_off(&shinfo->frags[i]),
				skb_frag_size(&shinfo->frags[i]));
}

static void sink_trace_release(const struct sk_buff *skb)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);
	u32 i;

	if (!trace_sink_release_enabled())
		return;
	trace_sink_release(virt_to_phys(skb_mac_header(skb)),
			   ETH_HLEN + skb_headlen(skb));
	for (i = 0; i < shinfo->nr_frags; i++)
		trace_sink_release(page_to_phys(skb_frag_page(&shinfo->frags[i])) +
				   skb_frag_off(&shinfo->frags[i]),
				   skb_frag_size(&shinfo->frags[i]));
}

/* Another test frame in its place is as bad as noise. */
static bool sink_intact(struct sk_buff *skb)
{
	const struct sink_header *was = (const struct sink_header *)skb->cb;
	struct sink_header buffer;
	const struct sink_header *header;

	header = skb_header_pointer(skb, 0, sizeof(buffer), &buffer);
	return header && !memcmp(header, was, sizeof(*was)) &&
	       sink_payload_ok(skb, sink_filler(be64_to_cpu(was->sequence),
						be32_to_cpu(was->flow)));
}

/* What is no test frame is not kept. */
bool sink_hold(struct sk_buff *skb)
{
	struct sink_header *header = (struct sink_header *)skb->cb;

	BUILD_BUG_ON(sizeof(*header) > sizeof(skb->cb));
	if (skb_queue_len_lockless(&sink_held) >= READ_ONCE(hold) ||
	    skb_copy_bits(skb, 0, header, sizeof(*header)) ||
	    be32_to_cpu(header->magic) != SINK_MAGIC)
		return false;
	/* Once it is in the queue, another CPU may let it go. */
	sink_trace_hold(skb);
	skb_queue_tail(&sink_held, skb);
	return true;
}

/* Looks at what is held once more, lets it go and says what it found. */
void sink_release(struct sink_late *late)
{
	struct sk_buff *skb;

	while ((skb = skb_dequeue(&sink_held))) {
		late->frames++;
		late->changed += !sink_intact(skb);
		sink_trace_release(skb);
		kfree_skb(skb);
	}
}

/* Receive buffers that the held frames lie in: heads of a pool, and fragments. */
u32 sink_held_pages(void)
{
	struct sk_buff *skb;
	unsigned long flags;
	u32 pages = 0;

	spin_lock_irqsave(&sink_held.lock, flags);
	skb_queue_walk(&sink_held, skb)
		pages += skb->pp_recycle + skb_shinfo(skb)->nr_frags;
	spin_unlock_irqrestore(&sink_held.lock, flags);
	return pages;
}

void sink_hold_init(void)
{
	skb_queue_head_init(&sink_held);
}

/* Nothing is received any more. */
void sink_hold_exit(void)
{
	struct sink_late late = {};

	sink_release(&late);
}
