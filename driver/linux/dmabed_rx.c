// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive. A poll first counts what has completed, claims
 * those buffers from the strategy in one call, and only then looks at each.
 *
 * The device is not trusted. Each field of a completion is read once and
 * bounded before use. The ring completes in order, so a completion whose id is
 * not that of the next slot means that the two sides no longer agree on who
 * owns what: the pair is left alone and the device reset. A frame that is only
 * described wrongly is dropped.
 */
#include <linux/etherdevice.h>
#include <linux/prefetch.h>

#include "dmabed.h"
#include "dmabed_count.h"

/* Below this, writing descriptors is not worth the cache misses. */
#define DMABED_REFILL_MIN	16U
#define DMABED_DOORBELL_MAX	256U

/* Sums of one poll, added to the statistics at its end. */
struct dmabed_rx_tally {
	u32 packets;
	u32 bytes;
	u32 dropped;
	u32 discarded;
	u32 bad;
};

static struct dmabed_rx_buf *dmabed_rx_buf(struct dmabed_rx *rx, u32 index)
{
	return &rx->buf[index & rx->ring.mask];
}

static u32 dmabed_rx_missing(const struct dmabed_rx *rx)
{
	return rx->ring.mask + 1 - (rx->posted - rx->next);
}

void dmabed_rx_ring_doorbell(struct dmabed_rx *rx)
{
	writel(rx->posted, rx->qp->regs + DMABED_QP_RX_TAIL);
	rx->rung = rx->posted;
	rx->stats->rx_doorbells++;
}

/*
 * Fills the ring; a ring that got less than a batch cannot be started. Buffers
 * are worth neither an OOM kill nor more than one reclaim each, under which a
 * CPU can be stuck for long: polls fetch what is missing.
 */
static int dmabed_rx_fill(struct dmabed_rx *rx)
{
	rx->ops->refill(rx, dmabed_rx_missing(rx),
			GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	return rx->posted - rx->next < rx->batch ? -ENOMEM : 0;
}

int dmabed_rx_setup(struct dmabed_rx *rx)
{
	int err;

	rx->batch = min((rx->ring.mask + 1) / 4, DMABED_DOORBELL_MAX);
	rx->truesize = rx->ops->truesize;
	rx->buf_len = DMABED_RX_BUF_LEN(rx->truesize);
	err = rx->ops->setup(rx);
	if (err)
		return err;
	err = dmabed_rx_fill(rx);
	if (err)
		dmabed_rx_teardown(rx);
	return err;
}

static void dmabed_rx_drain(struct dmabed_rx *rx)
{
	for (; rx->next != rx->passed; rx->next++)
		rx->ops->put(rx, dmabed_rx_buf(rx, rx->next));
	rx->ops->drain(rx);
	rx->next = rx->posted;
	rx->passed = rx->posted;
	dev_kfree_skb_any(rx->skb);
	rx->skb = NULL;
}

/* What cannot be had now is tried again by the first poll. */
void dmabed_rx_rewind(struct dmabed_rx *rx)
{
	dmabed_rx_drain(rx);
	memset(rx->ring.cq, 0, (rx->ring.mask + 1) * sizeof(*rx->ring.cq));
	rx->next = 0;
	rx->passed = 0;
	rx->posted = 0;
	rx->rung = 0;
	dmabed_rx_fill(rx);
}

void dmabed_rx_teardown(struct dmabed_rx *rx)
{
	dmabed_rx_drain(rx);
	rx->ops->teardown(rx);
}

/*
 * Posts buffers, and tells the device when a batch of them has gathered or when
 * it is running low. The @last poll of a burst leaves no slot empty, so that a
 * quiet ring is a full one. Returns false if the device is low and no memory
 * was to be had.
 */
static bool dmabed_rx_refill(struct dmabed_rx *rx, bool last)
{
	u32 missing = dmabed_rx_missing(rx);

	if (last || missing >= min(rx->batch, DMABED_REFILL_MIN))
		rx->ops->refill(rx, missing, GFP_ATOMIC | __GFP_NOWARN);
	if (rx->posted - rx->rung >= rx->batch ||
	    (rx->rung - rx->next < rx->batch && rx->posted != rx->rung))
		dmabed_rx_ring_doorbell(rx);
	return rx->posted - rx->next >= rx->batch;
}

static u32 dmabed_rx_completed(const struct dmabed_rx *rx, u32 budget)
{
	u32 limit = min(budget, rx->rung - rx->next);
	u32 n = 0;

	while (n < limit && dmabed_is_new(&rx->ring, rx->next + n))
		n++;
	/* The status words were read; now what was written before them. */
	dma_rmb();
	return n;
}

/* Lengths are fetched once, here, whoever needs them later. */
static void dmabed_rx_claim(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++) {
		const struct dmabed_completion *c =
			&rx->ring.cq[i & rx->ring.mask];

		dmabed_rx_buf(rx, i)->len = le16_to_cpu(READ_ONCE(c->len));
		dmabed_count_planted();
	}
	rx->ops->claim(rx, count);
}

/*
 * The skb's shared info lies in the same page, behind the data. With a
 * strategy that keeps pages mapped, the device can still write there; that is
 * the price of recycling that this driver exists to show. See rule O-16.
 */
static struct sk_buff *dmabed_rx_build(struct dmabed_rx *rx,
				       const struct dmabed_rx_buf *buf)
{
	struct sk_buff *skb = napi_build_skb(dmabed_buf_va(buf), rx->truesize);

	if (unlikely(!skb)) {
		rx->ops->put(rx, buf);
		return NULL;
	}
#ifdef CONFIG_PAGE_POOL
	/* skb_mark_for_recycle(), without a branch */
	skb->pp_recycle = rx->ops->recycle;
#endif
	skb_reserve(skb, DMABED_RX_HEADROOM);
	__skb_put(skb, buf->len);
	return skb;
}

static void dmabed_rx_drop_partial(struct dmabed_rx *rx)
{
	dev_kfree_skb_any(rx->skb);
	rx->skb = NULL;
}

/* Adds a buffer to the frame under way, or begins one. */
static bool dmabed_rx_gather(struct dmabed_rx *rx,
			     const struct dmabed_rx_buf *buf, bool sop)
{
	if (sop && !rx->skb && buf->len >= ETH_HLEN) {
		rx->skb = dmabed_rx_build(rx, buf);
		return rx->skb;
	}
	if (!sop && rx->skb &&
	    skb_shinfo(rx->skb)->nr_frags < MAX_SKB_FRAGS) {
		skb_add_rx_frag(rx->skb, skb_shinfo(rx->skb)->nr_frags,
				buf->page, buf->offset + DMABED_RX_HEADROOM,
				buf->len, rx->truesize);
		return true;
	}
	rx->ops->put(rx, buf);
	return false;
}

/*
 * A buffer of a frame that spans several, or one that something is wrong with.
 * A frame that cannot be used is dropped up to its next SOP.
 */
static noinline struct sk_buff *dmabed_rx_piece(struct dmabed_rx *rx,
						const struct dmabed_rx_buf *buf,
						u32 status, u32 frame_len,
						struct dmabed_rx_tally *tally)
{
	struct sk_buff *skb;

	if (unlikely(!buf->len || buf->len > rx->buf_len)) {
		tally->bad++;
		rx->ops->put(rx, buf);
		goto drop;
	}
	if (!dmabed_rx_gather(rx, buf, status & DMABED_COMPLETION_STATUS_SOP))
		goto drop;
	if (!(status & DMABED_COMPLETION_STATUS_EOP))
		return NULL;
	if ((status & DMABED_COMPLETION_STATUS_ERROR) ||
	    rx->skb->len != frame_len)
		goto drop;
	skb = rx->skb;
	rx->skb = NULL;
	return skb;

drop:
	tally->dropped++;
	dmabed_rx_drop_partial(rx);
	return NULL;
}

/*
 * What GRO cannot merge is collected and handed over in one call. Packets of
 * one flow all take the same way, so they stay in order.
 */
static void dmabed_rx_deliver(struct dmabed_rx *rx, struct sk_buff *skb,
			      u32 hash, struct list_head *list)
{
	struct dmabed_qp *qp = rx->qp;

	skb->protocol = eth_type_trans(skb, qp->netdev);
	skb_record_rx_queue(skb, qp->index);
	if (qp->netdev->features & NETIF_F_RXHASH)
		skb_set_hash(skb, hash, PKT_HASH_TYPE_L3);
	if (skb->protocol == htons(ETH_P_IP) ||
	    skb->protocol == htons(ETH_P_IPV6))
		napi_gro_receive(&qp->napi, skb);
	else
		list_add_tail(&skb->list, list);
}

/* One completion; returns false if the ring is inconsistent. */
static bool dmabed_rx_one(struct dmabed_rx *rx, struct list_head *list,
			  struct dmabed_rx_tally *tally)
{
	const u32 ends = DMABED_COMPLETION_STATUS_SOP |
			 DMABED_COMPLETION_STATUS_EOP;
	u32 slot = rx->next & rx->ring.mask;
	const struct dmabed_completion *c = &rx->ring.cq[slot];
	u32 status = le32_to_cpu(READ_ONCE(c->status));
	u32 frame_len = le32_to_cpu(READ_ONCE(c->frame_len));
	const struct dmabed_rx_buf *buf = &rx->buf[slot];
	struct sk_buff *skb;

	if (unlikely(le16_to_cpu(READ_ONCE(c->id)) != slot)) {
		tally->bad++;
		return false;
	}
	rx->next++;
	prefetchw(dmabed_buf_va(buf) + DMABED_RX_HEADROOM);
	if (likely((status & (ends | DMABED_COMPLETION_STATUS_ERROR)) == ends &&
		   buf->len == frame_len && buf->len - ETH_HLEN <=
		   rx->buf_len - ETH_HLEN && !rx->skb)) {
		skb = dmabed_rx_build(rx, buf);
		tally->dropped += !skb;
	} else {
		skb = dmabed_rx_piece(rx, buf, status, frame_len, tally);
	}
	if (likely(skb)) {
		tally->packets++;
		tally->bytes += skb->len;
		dmabed_rx_deliver(rx, skb, le32_to_cpu(READ_ONCE(c->hash)),
				  list);
	}
	return true;
}

/* Returns fewer than @count only if the ring is inconsistent. */
static u32 dmabed_rx_pass(struct dmabed_rx *rx, u32 count,
			  struct dmabed_rx_tally *tally)
{
	LIST_HEAD(list);
	u32 i;

	rx->ops->pass(rx, count);
	rx->passed = rx->next + count;
	for (i = 0; i < count; i++) {
		if (unlikely(!dmabed_rx_one(rx, &list, tally)))
			break;
	}
	netif_receive_skb_list(&list);
	return i;
}

/* What a filter sees before it drops a frame: its length and its type. */
static bool dmabed_rx_look(struct dmabed_rx *rx, u32 index,
			   struct dmabed_rx_tally *tally)
{
	u32 slot = index & rx->ring.mask;
	const struct dmabed_completion *c = &rx->ring.cq[slot];
	u32 status = le32_to_cpu(READ_ONCE(c->status));
	const struct dmabed_rx_buf *buf = &rx->buf[slot];
	const struct ethhdr *eth = dmabed_buf_va(buf) + DMABED_RX_HEADROOM;

	if (unlikely(le16_to_cpu(READ_ONCE(c->id)) != slot)) {
		tally->bad++;
		return false;
	}
	READ_ONCE(eth->h_proto);
	tally->bytes += buf->len;
	tally->packets += !!(status & DMABED_COMPLETION_STATUS_EOP);
	return true;
}

/* Returns as dmabed_rx_pass(); in either case all buffers were dealt with. */
static u32 dmabed_rx_discard(struct dmabed_rx *rx, u32 count,
			     struct dmabed_rx_tally *tally)
{
	u32 i;

	for (i = 0; i < count; i++) {
		if (unlikely(!dmabed_rx_look(rx, rx->next + i, tally)))
			break;
	}
	rx->ops->reuse(rx, count);
	rx->next += count;
	rx->passed = rx->next;
	tally->discarded += tally->packets;
	return i;
}

static void dmabed_rx_count(struct dmabed_qstats *stats,
			    const struct dmabed_rx_tally *tally)
{
	u64_stats_update_begin(&stats->syncp);
	stats->rx_packets += tally->packets;
	stats->rx_bytes += tally->bytes;
	stats->rx_dropped += tally->dropped;
	stats->rx_discarded += tally->discarded;
	stats->rx_bad += tally->bad;
	stats->polls++;
	u64_stats_update_end(&stats->syncp);
}

/*
 * Returns the completions consumed, at most @budget. Sets *@again if the device
 * has too few buffers and memory was short: it could not raise an interrupt for
 * a frame it had to drop, so the poll has to go on by itself.
 */
u32 dmabed_rx_poll(struct dmabed_rx *rx, u32 budget, bool *again)
{
	struct dmabed_rx_tally tally = {};
	u32 n, done = 0;

	if (unlikely(READ_ONCE(rx->qp->broken)))
		return 0;
	n = dmabed_rx_completed(rx, budget);
	if (n) {
		dmabed_rx_claim(rx, n);
		done = rx->discard ? dmabed_rx_discard(rx, n, &tally) :
				     dmabed_rx_pass(rx, n, &tally);
	}
	if (unlikely(done != n))
		dmabed_qp_broken(rx->qp, "receive");
	dmabed_rx_count(rx->stats, &tally);
	if (done == n && !dmabed_rx_refill(rx, n < budget))
		*again = true;
	return done;
}
