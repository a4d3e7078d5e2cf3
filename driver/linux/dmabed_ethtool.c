// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: ethtool -i, -g, -G, -l, -L, -c, -C and link settings.
 * The statistics are in dmabed_stats.c.
 */
#include <linux/ethtool.h>
#include <linux/log2.h>

#include "dmabed.h"

static void dmabed_get_drvinfo(struct net_device *netdev,
			       struct ethtool_drvinfo *info)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	u32 version = dmabed_read(priv, DMABED_VERSION);

	strscpy(info->driver, DMABED_NAME, sizeof(info->driver));
	strscpy(info->bus_info, pci_name(priv->pdev), sizeof(info->bus_info));
	snprintf(info->fw_version, sizeof(info->fw_version), "%lu.%lu %s",
		 FIELD_GET(DMABED_VERSION_MAJOR, version),
		 FIELD_GET(DMABED_VERSION_MINOR, version), priv->rx_ops->name);
}

static int dmabed_get_link_ksettings(struct net_device *netdev,
				     struct ethtool_link_ksettings *cmd)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	u32 mbps = dmabed_read(priv, DMABED_SPEED);
	bool up = netif_carrier_ok(netdev) && mbps;

	cmd->base.port = PORT_OTHER;
	cmd->base.autoneg = AUTONEG_DISABLE;
	cmd->base.speed = up ? mbps : SPEED_UNKNOWN;
	cmd->base.duplex = up ? DUPLEX_FULL : DUPLEX_UNKNOWN;
	return 0;
}

static void dmabed_get_ringparam(struct net_device *netdev,
				 struct ethtool_ringparam *ring,
				 struct kernel_ethtool_ringparam *kernel_ring,
				 struct netlink_ext_ack *extack)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	ring->rx_max_pending = priv->max_ring;
	ring->tx_max_pending = priv->max_ring;
	ring->rx_pending = priv->cfg.rx_size;
	ring->tx_pending = priv->cfg.tx_size;
}

/* The core has bounded both by the maximum, which is a power of two. */
static int dmabed_set_ringparam(struct net_device *netdev,
				struct ethtool_ringparam *ring,
				struct kernel_ethtool_ringparam *kernel_ring,
				struct netlink_ext_ack *extack)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_config cfg = priv->cfg;

	if (ring->rx_mini_pending || ring->rx_jumbo_pending)
		return -EINVAL;
	if (ring->rx_pending < priv->min_ring ||
	    ring->tx_pending < priv->min_ring) {
		NL_SET_ERR_MSG_FMT(extack, "the smallest ring has %u entries",
				   priv->min_ring);
		return -ERANGE;
	}
	cfg.rx_size = roundup_pow_of_two(ring->rx_pending);
	cfg.tx_size = roundup_pow_of_two(ring->tx_pending);
	return dmabed_reconfigure(priv, &cfg);
}

static void dmabed_get_channels(struct net_device *netdev,
				struct ethtool_channels *channels)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	channels->max_combined = priv->max_queues;
	channels->combined_count = priv->cfg.queues;
	channels->max_other = 1;
	channels->other_count = 1;
}

/* The core has bounded the counts by their maxima and refused none at all. */
static int dmabed_set_channels(struct net_device *netdev,
			       struct ethtool_channels *channels)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_config cfg = priv->cfg;

	if (!channels->combined_count || channels->other_count != 1)
		return -EINVAL;
	cfg.queues = channels->combined_count;
	return dmabed_reconfigure(priv, &cfg);
}

static int dmabed_get_coalesce(struct net_device *netdev,
			       struct ethtool_coalesce *coalesce,
			       struct kernel_ethtool_coalesce *kernel_coalesce,
			       struct netlink_ext_ack *extack)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	coalesce->rx_coalesce_usecs = priv->usecs;
	coalesce->rx_max_coalesced_frames = priv->frames;
	return 0;
}

/* One vector serves both directions: what is called rx holds for tx as well. */
static int dmabed_set_coalesce(struct net_device *netdev,
			       struct ethtool_coalesce *coalesce,
			       struct kernel_ethtool_coalesce *kernel_coalesce,
			       struct netlink_ext_ack *extack)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	if (!FIELD_FIT(DMABED_QP_MODERATION_USECS,
		       coalesce->rx_coalesce_usecs) ||
	    !FIELD_FIT(DMABED_QP_MODERATION_FRAMES,
		       coalesce->rx_max_coalesced_frames)) {
		NL_SET_ERR_MSG(extack, "at most 65535 microseconds and frames");
		return -ERANGE;
	}
	priv->usecs = coalesce->rx_coalesce_usecs;
	priv->frames = coalesce->rx_max_coalesced_frames;
	if (priv->set)
		dmabed_device_moderate(priv);
	return 0;
}

const struct ethtool_ops dmabed_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_RX_USECS |
				     ETHTOOL_COALESCE_RX_MAX_FRAMES,
	.get_drvinfo		= dmabed_get_drvinfo,
	.get_link		= ethtool_op_get_link,
	.get_link_ksettings	= dmabed_get_link_ksettings,
	.get_ringparam		= dmabed_get_ringparam,
	.set_ringparam		= dmabed_set_ringparam,
	.get_channels		= dmabed_get_channels,
	.set_channels		= dmabed_set_channels,
	.get_coalesce		= dmabed_get_coalesce,
	.set_coalesce		= dmabed_set_coalesce,
	.get_sset_count		= dmabed_get_sset_count,
	.get_strings		= dmabed_get_strings,
	.get_ethtool_stats	= dmabed_get_ethtool_stats,
	.get_ts_info		= ethtool_op_get_ts_info,
};
