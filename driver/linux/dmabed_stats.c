// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: statistics. The names and their number depend on the
 * device only, not on the channels in use, so that they never change between
 * the calls with which user space asks for them.
 */
#include <linux/ethtool.h>

#include "dmabed.h"

struct dmabed_stat {
	const char *name;
	u32 offset;
};

#define DMABED_STAT(field)	{ #field, offsetof(struct dmabed_qstats, field) }

/* Counted by the driver, by queue pair. */
static const struct dmabed_stat dmabed_qp_stats[] = {
	DMABED_STAT(rx_packets),
	DMABED_STAT(rx_bytes),
	DMABED_STAT(rx_dropped),
	DMABED_STAT(rx_discarded),
	DMABED_STAT(rx_bad),
	DMABED_STAT(rx_alloc),
	DMABED_STAT(rx_alloc_fail),
	DMABED_STAT(rx_maps),
	DMABED_STAT(rx_unmaps),
	DMABED_STAT(rx_doorbells),
	DMABED_STAT(tx_packets),
	DMABED_STAT(tx_bytes),
	DMABED_STAT(tx_dropped),
	DMABED_STAT(tx_errors),
	DMABED_STAT(tx_bad),
	DMABED_STAT(tx_maps),
	DMABED_STAT(tx_unmaps),
	DMABED_STAT(tx_stops),
	DMABED_STAT(polls),
	DMABED_STAT(arms),
};

/* Derived from the pool of the pair; see dmabed_pool_values(). */
static const char *const dmabed_pool_stats[] = {
	"rx_pool_maps", "rx_pool_unmaps", "rx_pool_recycled",
	"rx_pool_inflight",
};

/* Registers of the pair. */
static const struct dmabed_stat dmabed_hw_stats[] = {
	{ "hw_rx_packets", DMABED_QP_RX_PACKETS },
	{ "hw_rx_bytes", DMABED_QP_RX_BYTES },
	{ "hw_rx_drops", DMABED_QP_RX_DROPS },
	{ "hw_rx_errors", DMABED_QP_RX_ERRORS },
	{ "hw_tx_packets", DMABED_QP_TX_PACKETS },
	{ "hw_tx_bytes", DMABED_QP_TX_BYTES },
	{ "hw_tx_errors", DMABED_QP_TX_ERRORS },
	{ "hw_interrupts", DMABED_QP_INTERRUPTS },
};

static const char *const dmabed_device_stats[] = { "resets", "dma_faults" };

#define DMABED_PER_QP \
	(ARRAY_SIZE(dmabed_qp_stats) + ARRAY_SIZE(dmabed_pool_stats) + \
	 ARRAY_SIZE(dmabed_hw_stats))

int dmabed_get_sset_count(struct net_device *netdev, int sset)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	if (sset != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return ARRAY_SIZE(dmabed_device_stats) +
	       priv->max_queues * DMABED_PER_QP +
	       page_pool_ethtool_stats_get_count();
}

void dmabed_get_strings(struct net_device *netdev, u32 sset, u8 *data)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	u32 i, q;

	if (sset != ETH_SS_STATS)
		return;
	for (i = 0; i < ARRAY_SIZE(dmabed_device_stats); i++)
		ethtool_puts(&data, dmabed_device_stats[i]);
	for (q = 0; q < priv->max_queues; q++) {
		for (i = 0; i < ARRAY_SIZE(dmabed_qp_stats); i++)
			ethtool_sprintf(&data, "q%u_%s", q,
					dmabed_qp_stats[i].name);
		for (i = 0; i < ARRAY_SIZE(dmabed_pool_stats); i++)
			ethtool_sprintf(&data, "q%u_%s", q,
					dmabed_pool_stats[i]);
		for (i = 0; i < ARRAY_SIZE(dmabed_hw_stats); i++)
			ethtool_sprintf(&data, "q%u_%s", q,
					dmabed_hw_stats[i].name);
	}
	page_pool_ethtool_stats_get_strings(data);
}

/*
 * A pool maps each page it takes and unmaps each page it lets go, and counts
 * both. Buffers it gave out beyond those pages were recycled ones.
 */
static u64 *dmabed_pool_values(const struct dmabed_qp *qp,
			       const struct dmabed_qstats *stats, u64 *data)
{
	const struct page_pool *pool = qp ? qp->rx.pool : NULL;
	u64 maps = stats->rx_pool_maps;
	u64 unmaps = stats->rx_pool_unmaps;
	u64 inflight = 0;
	u32 hold, release;

	if (pool) {
		release = atomic_read(&pool->pages_state_release_cnt);
		hold = READ_ONCE(pool->pages_state_hold_cnt);
		maps += hold;
		unmaps += release;
		inflight = max((s32)(hold - release), 0);
	}
	*data++ = maps;
	*data++ = unmaps;
	*data++ = maps && stats->rx_alloc > maps ? stats->rx_alloc - maps : 0;
	*data++ = inflight;
	return data;
}

static u64 *dmabed_qp_values(struct dmabed_priv *priv, u32 q, u64 *data)
{
	const struct dmabed_qstats *stats = &priv->stats[q];
	const struct dmabed_qp *qp = NULL;
	u32 i;

	if (priv->set && q < priv->set->count)
		qp = &priv->set->qp[q];
	for (i = 0; i < ARRAY_SIZE(dmabed_qp_stats); i++)
		*data++ = *(const u64 *)((const u8 *)stats +
					 dmabed_qp_stats[i].offset);
	data = dmabed_pool_values(qp, stats, data);
	for (i = 0; i < ARRAY_SIZE(dmabed_hw_stats); i++)
		*data++ = dmabed_read64(priv->regs + DMABED_QP_BASE(q) +
					dmabed_hw_stats[i].offset);
	return data;
}

#ifdef CONFIG_PAGE_POOL_STATS
static void dmabed_kernel_pool_values(struct dmabed_priv *priv, u64 *data)
{
	struct page_pool_stats stats = {};
	u32 q;

	for (q = 0; priv->set && q < priv->set->count; q++)
		if (priv->set->qp[q].rx.pool)
			page_pool_get_stats(priv->set->qp[q].rx.pool, &stats);
	page_pool_ethtool_stats_get(data, &stats);
}
#else
static void dmabed_kernel_pool_values(struct dmabed_priv *priv, u64 *data)
{
}
#endif

void dmabed_get_ethtool_stats(struct net_device *netdev,
			      struct ethtool_stats *stats, u64 *data)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	u32 q;

	*data++ = priv->resets;
	*data++ = READ_ONCE(priv->dma_faults);
	for (q = 0; q < priv->max_queues; q++)
		data = dmabed_qp_values(priv, q, data);
	dmabed_kernel_pool_values(priv, data);
}

static void dmabed_add_rx(const struct dmabed_qstats *stats,
			  struct rtnl_link_stats64 *total)
{
	u64 packets, bytes, dropped, bad;
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->syncp);
		packets = stats->rx_packets;
		bytes = stats->rx_bytes;
		dropped = stats->rx_dropped;
		bad = stats->rx_bad;
	} while (u64_stats_fetch_retry(&stats->syncp, start));
	total->rx_packets += packets;
	total->rx_bytes += bytes;
	total->rx_dropped += dropped;
	total->rx_errors += bad;
}

static void dmabed_add_tx(const struct dmabed_qstats *stats,
			  struct rtnl_link_stats64 *total)
{
	u64 packets, bytes, errors, dropped;
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->tx_syncp);
		packets = stats->tx_packets;
		bytes = stats->tx_bytes;
		errors = stats->tx_errors;
	} while (u64_stats_fetch_retry(&stats->tx_syncp, start));
	do {
		start = u64_stats_fetch_begin(&stats->xmit_syncp);
		dropped = stats->tx_dropped;
	} while (u64_stats_fetch_retry(&stats->xmit_syncp, start));
	total->tx_packets += packets;
	total->tx_bytes += bytes;
	total->tx_errors += errors;
	total->tx_dropped += dropped;
}

void dmabed_get_stats64(struct net_device *netdev,
			struct rtnl_link_stats64 *total)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	u32 q;

	for (q = 0; q < priv->max_queues; q++) {
		dmabed_add_rx(&priv->stats[q], total);
		dmabed_add_tx(&priv->stats[q], total);
	}
}
