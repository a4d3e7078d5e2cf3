// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: transmit. A frame takes one descriptor for its linear part
 * and one per fragment; the device writes one completion per frame.
 *
 * The producer publishes prod only after everything about the frame is written
 * and accounted, so that a completion invented by the device can neither find
 * half a frame nor make BQL's counts disagree.
 */
#include <linux/etherdevice.h>
#include <net/netdev_queues.h>

#include "dmabed.h"
#include "dmabed_plants.h"

/* Stop below the longest frame; wake when two of them fit. */
#define DMABED_TX_STOP		(MAX_SKB_FRAGS + 1)
#define DMABED_TX_WAKE		(2 * DMABED_TX_STOP)

static u32 dmabed_tx_free(const struct dmabed_tx *tx)
{
	return tx->ring.mask + 1 - (READ_ONCE(tx->prod) - READ_ONCE(tx->clean));
}

static void dmabed_tx_unmap(struct dmabed_tx *tx, u32 first, u32 count)
{
	struct device *dev = tx->ring.dev;
	struct dmabed_tx_buf *buf = &tx->buf[first & tx->ring.mask];
	u32 i;

	dma_unmap_single(dev, buf->dma, buf->len, DMA_TO_DEVICE);
	for (i = 1; i < count; i++) {
		buf = &tx->buf[(first + i) & tx->ring.mask];
		dma_unmap_page(dev, buf->dma, buf->len, DMA_TO_DEVICE);
	}
}

/* Sums of one call of dmabed_tx_reap(). */
struct dmabed_tx_tally {
	u32 packets;
	u32 bytes;
	u32 errors;
	u32 unmaps;
};

/* One frame; returns false if its completion does not fit the oldest one. */
static bool dmabed_tx_reap_one(struct dmabed_tx *tx, u32 prod, int budget,
			       struct dmabed_tx_tally *tally)
{
	const struct dmabed_completion *c = &tx->ring.cq[tx->seen &
							 tx->ring.mask];
	struct dmabed_tx_buf *buf = &tx->buf[tx->clean & tx->ring.mask];
	struct sk_buff *skb = buf->skb;
	u32 count = buf->count;
	u32 last;

	if (unlikely(tx->clean == prod))
		return false;
	last = (tx->clean + count - 1) & tx->ring.mask;
	if (unlikely(le16_to_cpu(READ_ONCE(c->id)) != last ||
		     le16_to_cpu(READ_ONCE(c->len)) != count))
		return false;
	tally->errors += !!(le32_to_cpu(READ_ONCE(c->status)) &
			    DMABED_COMPLETION_STATUS_ERROR);
	tally->packets++;
	tally->bytes += skb->len;
	tally->unmaps += count;
	dmabed_tx_unmap(tx, tx->clean, count);
	buf->skb = NULL;
	napi_consume_skb(skb, budget);
	WRITE_ONCE(tx->seen, tx->seen + 1);
	WRITE_ONCE(tx->clean, tx->clean + count);
	return true;
}

static void dmabed_tx_count(struct dmabed_qstats *stats,
			    const struct dmabed_tx_tally *tally)
{
	u64_stats_update_begin(&stats->tx_syncp);
	stats->tx_packets += tally->packets - tally->errors;
	stats->tx_bytes += tally->bytes;
	stats->tx_errors += tally->errors;
	stats->tx_unmaps += tally->unmaps;
	u64_stats_update_end(&stats->tx_syncp);
}

/* Caller holds reap_lock. Each frame has one completion: the loop ends. */
static void dmabed_tx_reap(struct dmabed_tx *tx, int budget)
{
	struct dmabed_tx_tally tally = {};
	/* Pairs with the release in dmabed_tx_publish(). */
	u32 prod = smp_load_acquire(&tx->prod);

	while (dmabed_is_new(&tx->ring, tx->seen)) {
		dma_rmb();
		if (unlikely(!dmabed_tx_reap_one(tx, prod, budget, &tally))) {
			/* It may be for a frame published a moment ago. */
			if (prod != READ_ONCE(tx->prod))
				break;
			tx->stats->tx_bad++;
			dmabed_qp_broken(tx->qp, "transmit");
			break;
		}
	}
	if (!tally.packets)
		return;
	WRITE_ONCE(tx->qp->idle_polls, 0);
	dmabed_tx_count(tx->stats, &tally);
	netif_txq_completed_wake(tx->txq, tally.packets, tally.bytes,
				 dmabed_tx_free(tx), DMABED_TX_WAKE);
}

/*
 * Returns false if someone else is reaping: netpoll may have interrupted
 * ndo_start_xmit on this very CPU, so nobody may wait for the lock.
 */
bool dmabed_tx_poll(struct dmabed_tx *tx, int budget)
{
	if (unlikely(READ_ONCE(tx->qp->broken)))
		return true;
	if (!spin_trylock(&tx->reap_lock))
		return false;
	dmabed_tx_reap(tx, budget);
	spin_unlock(&tx->reap_lock);
	return true;
}

static void dmabed_tx_describe(struct dmabed_tx *tx, u32 index, u32 flags)
{
	u32 slot = index & tx->ring.mask;
	struct dmabed_tx_desc *desc = &tx->ring.tx[slot];

	desc->addr = cpu_to_le64(tx->buf[slot].dma);
	desc->len = cpu_to_le16(tx->buf[slot].len);
	desc->id = cpu_to_le16(slot);
	desc->flags = cpu_to_le32(flags);
}

/* Maps all pieces into the slots from prod on; nothing is left on failure. */
static int dmabed_tx_map(struct dmabed_tx *tx, struct sk_buff *skb)
{
	struct device *dev = tx->ring.dev;
	u32 nr_frags = skb_shinfo(skb)->nr_frags;
	struct dmabed_tx_buf *buf = &tx->buf[tx->prod & tx->ring.mask];
	u32 i;

	buf->len = skb_headlen(skb);
	buf->dma = dma_map_single(dev, skb->data, buf->len, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, buf->dma))
		return -ENOMEM;
	dmabed_tx_describe(tx, tx->prod,
			   nr_frags ? 0 : DMABED_TX_DESC_FLAGS_EOP);
	for (i = 0; i < nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		if (dmabed_plant_map_fails(tx))
			return -ENOMEM;
		buf = &tx->buf[(tx->prod + 1 + i) & tx->ring.mask];
		buf->len = skb_frag_size(frag);
		buf->dma = skb_frag_dma_map(dev, frag, 0, buf->len,
					    DMA_TO_DEVICE);
		if (dma_mapping_error(dev, buf->dma)) {
			dmabed_tx_unmap(tx, tx->prod, 1 + i);
			return -ENOMEM;
		}
		dmabed_tx_describe(tx, tx->prod + 1 + i, i + 1 == nr_frags ?
				   DMABED_TX_DESC_FLAGS_EOP : 0);
	}
	return 0;
}

static void dmabed_tx_doorbell(struct dmabed_tx *tx)
{
	writel(tx->prod, tx->qp->regs + DMABED_QP_TX_TAIL);
}

/* Hands the mapped frame over. The skb may be gone once prod is published. */
static void dmabed_tx_publish(struct dmabed_tx *tx, struct sk_buff *skb)
{
	u32 count = 1 + skb_shinfo(skb)->nr_frags;
	struct dmabed_tx_buf *buf = &tx->buf[tx->prod & tx->ring.mask];
	bool kick;

	buf->skb = skb;
	buf->count = count;
	skb_tx_timestamp(skb);
	u64_stats_update_begin(&tx->stats->xmit_syncp);
	tx->stats->tx_maps += count;
	u64_stats_update_end(&tx->stats->xmit_syncp);
	kick = __netdev_tx_sent_queue(tx->txq, skb->len, netdev_xmit_more());
	/* Pairs with the acquire in dmabed_tx_reap(). */
	smp_store_release(&tx->prod, tx->prod + count);
	if (!netif_txq_maybe_stop(tx->txq, dmabed_tx_free(tx), DMABED_TX_STOP,
				  DMABED_TX_WAKE))
		tx->stats->tx_stops++;
	if (kick || netif_xmit_stopped(tx->txq))
		dmabed_tx_doorbell(tx);
}

static void dmabed_tx_drop(struct dmabed_tx *tx, struct sk_buff *skb)
{
	u64_stats_update_begin(&tx->stats->xmit_syncp);
	tx->stats->tx_dropped++;
	u64_stats_update_end(&tx->stats->xmit_syncp);
	dev_kfree_skb_any(skb);
	/* What was queued with xmit_more before it still wants its doorbell. */
	if (!netdev_xmit_more())
		dmabed_tx_doorbell(tx);
}

netdev_tx_t dmabed_start_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_tx *tx = &priv->set->qp[skb_get_queue_mapping(skb)].tx;

	if (unlikely(dmabed_tx_free(tx) < DMABED_TX_WAKE))
		dmabed_tx_poll(tx, 0);
	if (unlikely(dmabed_tx_free(tx) <= skb_shinfo(skb)->nr_frags)) {
		netif_tx_stop_queue(tx->txq);
		dmabed_tx_doorbell(tx);
		/* Pairs with the one after the reap: it may just have ended. */
		smp_mb__after_atomic();
		if (dmabed_tx_free(tx) >= DMABED_TX_WAKE)
			netif_tx_start_queue(tx->txq);
		return NETDEV_TX_BUSY;
	}
	/* May linearise the skb; frees it if it fails. */
	if (unlikely(eth_skb_pad(skb))) {
		dmabed_tx_drop(tx, NULL);
		return NETDEV_TX_OK;
	}
	if (unlikely(skb->len > priv->frame_cap || dmabed_tx_map(tx, skb))) {
		dmabed_tx_drop(tx, skb);
		return NETDEV_TX_OK;
	}
	dmabed_tx_publish(tx, skb);
	return NETDEV_TX_OK;
}

/* The device has stopped and NAPI is disabled: drops what was not completed. */
void dmabed_tx_drain(struct dmabed_tx *tx)
{
	while (tx->clean != tx->prod) {
		struct dmabed_tx_buf *buf = &tx->buf[tx->clean & tx->ring.mask];

		dmabed_tx_unmap(tx, tx->clean, buf->count);
		tx->stats->tx_unmaps += buf->count;
		tx->clean += buf->count;
		dev_kfree_skb_any(buf->skb);
		buf->skb = NULL;
	}
	memset(tx->ring.cq, 0, (tx->ring.mask + 1) * sizeof(*tx->ring.cq));
	tx->prod = 0;
	tx->clean = 0;
	tx->seen = 0;
}
