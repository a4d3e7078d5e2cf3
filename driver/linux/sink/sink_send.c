// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed sink: sends test frames as fast as the device takes them. Frames go
 * straight to the driver in bursts, as pktgen's do; a stopped queue (the
 * driver's or byte queue limits') is waited for, so nothing is dropped.
 */
#include <linux/delay.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/skbuff.h>
#include <linux/timekeeping.h>

#include "sink.h"

#define SINK_BURST		32
#define SINK_STALL_NS		(10 * NSEC_PER_SEC)

/* The last or the current order. */
static DEFINE_MUTEX(sink_send_lock);
static struct sink_sent {
	u64 packets;
	u64 ns;
	u64 stalls;
} sink_sent;

/* Filler up to the end of the frame, wherever the skb keeps it. */
static int sink_fill(struct sk_buff *skb, u8 start)
{
	u32 offset, n;
	int err = 0;

	for (offset = SINK_MIN_FRAME; offset < skb->len && !err; offset += n) {
		n = min_t(u32, skb->len - offset, SINK_RAMP);
		err = skb_store_bits(skb, offset, sink_ramp + start, n);
		start += n;
	}
	return err;
}

/* With @frags only the headers are linear. */
static struct sk_buff *sink_alloc(const struct sink_order *order)
{
	u32 linear = order->frags ? SINK_MIN_FRAME : order->bytes;
	u32 paged = order->bytes - linear;
	struct sk_buff *skb;
	int err;

	skb = alloc_skb_with_frags(NET_SKB_PAD + linear, paged, 0, &err,
				   GFP_KERNEL);
	if (!skb)
		return NULL;
	skb_reserve(skb, NET_SKB_PAD);
	__skb_put(skb, linear);
	skb->data_len = paged;
	skb->len += paged;
	return skb;
}

static struct sk_buff *sink_build(const struct sink_order *order,
				  struct net_device *dev, u64 sequence)
{
	struct sk_buff *skb = sink_alloc(order);
	struct sink_header *header;
	struct ethhdr *eth;

	if (!skb)
		return NULL;
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ETH_HLEN);
	skb->dev = dev;
	skb->protocol = htons(SINK_ETHERTYPE);
	eth = eth_hdr(skb);
	eth_broadcast_addr(eth->h_dest);
	ether_addr_copy(eth->h_source, dev->dev_addr);
	eth->h_proto = skb->protocol;
	header = (struct sink_header *)skb_network_header(skb);
	header->magic = cpu_to_be32(SINK_MAGIC);
	header->flow = cpu_to_be32(order->flow);
	header->sequence = cpu_to_be64(sequence);
	if (sink_fill(skb, sink_filler(sequence, order->flow))) {
		kfree_skb(skb);
		return NULL;
	}
	return skb;
}

/* The interface may have fewer queues by now: a driver knows those only. */
static bool sink_has(struct net_device *dev, struct netdev_queue *txq)
{
	return txq - dev->_tx < READ_ONCE(dev->real_num_tx_queues);
}

/* Hands over what the queue takes now; the rest stays in @burst. */
static u32 sink_xmit(struct sk_buff_head *burst, struct net_device *dev,
		     struct netdev_queue *txq)
{
	struct sk_buff *skb;
	u32 done = 0;

	local_bh_disable();
	HARD_TX_LOCK(dev, txq, smp_processor_id());
	while (netif_running(dev) && sink_has(dev, txq) &&
	       !netif_xmit_frozen_or_stopped(txq)) {
		skb = __skb_dequeue(burst);
		if (!skb)
			break;
		if (!dev_xmit_complete(netdev_start_xmit(skb, dev, txq,
							 !skb_queue_empty(burst)))) {
			__skb_queue_head(burst, skb);
			break;
		}
		done++;
	}
	HARD_TX_UNLOCK(dev, txq);
	local_bh_enable();
	return done;
}

static int sink_refill(struct sk_buff_head *burst,
		       const struct sink_order *order, struct net_device *dev,
		       u16 queue, u64 *built)
{
	while (skb_queue_len(burst) < SINK_BURST && *built < order->count) {
		struct sk_buff *skb = sink_build(order, dev, *built);

		if (!skb)
			return -ENOMEM;
		skb_set_queue_mapping(skb, queue);
		__skb_queue_tail(burst, skb);
		++*built;
	}
	return 0;
}

/* Waits for room; gives up if there was none for long, or on a signal. */
static int sink_stall(struct net_device *dev, u64 last_ns)
{
	sink_sent.stalls++;
	if (signal_pending(current))
		return -EINTR;
	if (!netif_running(dev))
		return -ENETDOWN;
	if (ktime_get_ns() - last_ns > SINK_STALL_NS)
		return -ETIMEDOUT;
	usleep_range(50, 100);
	return 0;
}

static int sink_run(const struct sink_order *order, struct net_device *dev)
{
	u16 queue = order->flow % dev->real_num_tx_queues;
	struct netdev_queue *txq = netdev_get_tx_queue(dev, queue);
	u64 start_ns = ktime_get_ns();
	u64 last_ns = start_ns;
	struct sk_buff_head burst;
	u64 built = 0;
	int err = 0;
	u32 done;

	__skb_queue_head_init(&burst);
	while (sink_sent.packets < order->count && !err) {
		err = sink_refill(&burst, order, dev, queue, &built);
		if (err)
			break;
		done = sink_xmit(&burst, dev, txq);
		if (done) {
			last_ns = ktime_get_ns();
			sink_sent.packets += done;
			sink_sent.ns = last_ns - start_ns;
		} else {
			err = sink_stall(dev, last_ns);
		}
		cond_resched();
	}
	__skb_queue_purge(&burst);
	return err;
}

/* Shorter frames would be padded by the driver, and not with filler. */
static int sink_check_order(const struct sink_order *order,
			    const struct net_device *dev)
{
	if (!order->count || order->bytes < ETH_ZLEN ||
	    order->bytes > READ_ONCE(dev->mtu) + ETH_HLEN)
		return -EINVAL;
	if (order->frags && !(dev->features & NETIF_F_SG))
		return -EOPNOTSUPP;
	return netif_carrier_ok(dev) ? 0 : -ENETDOWN;
}

/* Returns when the driver has taken all frames; it may not have sent them. */
int sink_send(const struct sink_order *order)
{
	struct net_device *dev;
	int err;

	dev = dev_get_by_name(&init_net, order->ifname);
	if (!dev)
		return -ENODEV;
	err = mutex_lock_interruptible(&sink_send_lock);
	if (err)
		goto put_dev;
	sink_sent = (struct sink_sent){};
	err = sink_check_order(order, dev);
	if (!err)
		err = sink_run(order, dev);
	mutex_unlock(&sink_send_lock);
put_dev:
	dev_put(dev);
	return err;
}

void sink_send_show(struct seq_file *seq)
{
	seq_printf(seq, "sent_packets %llu\nsent_ns %llu\nsent_stalls %llu\n",
		   READ_ONCE(sink_sent.packets), READ_ONCE(sink_sent.ns),
		   READ_ONCE(sink_sent.stalls));
}
