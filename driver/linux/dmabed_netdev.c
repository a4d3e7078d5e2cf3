// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the network interface, but for its data path.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>

#include "dmabed.h"

static int dmabed_open(struct net_device *netdev)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_set *set;
	int err;

	/* A device that was given up may have come back. */
	if (READ_ONCE(priv->gone)) {
		err = dmabed_device_reset(priv);
		if (err)
			return err;
	}
	set = dmabed_set_alloc(priv, &priv->cfg);
	if (IS_ERR(set))
		return PTR_ERR(set);
	err = dmabed_up(priv, set);
	if (err)
		dmabed_set_free(set);
	return err;
}

static int dmabed_stop(struct net_device *netdev)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_set *set = priv->set;

	/* There is none if the device was given up. */
	if (set) {
		dmabed_down(priv);
		dmabed_set_free(set);
	}
	dmabed_write(priv, DMABED_NOTE, DMABED_NOTE_GAVE_BACK);
	return 0;
}

u32 dmabed_max_frame(const struct dmabed_priv *priv)
{
	return min(READ_ONCE(priv->netdev->mtu) + (u32)VLAN_ETH_HLEN,
		   priv->frame_cap);
}

/* Long frames span buffers, so that the rings need not change. */
static int dmabed_change_mtu(struct net_device *netdev, int mtu)
{
	struct dmabed_priv *priv = netdev_priv(netdev);

	WRITE_ONCE(netdev->mtu, mtu);
	if (priv->set)
		dmabed_write(priv, DMABED_MAX_FRAME, dmabed_max_frame(priv));
	return 0;
}

static int dmabed_set_mac_address(struct net_device *netdev, void *p)
{
	int err = eth_prepare_mac_addr_change(netdev, p);

	if (err)
		return err;
	eth_commit_mac_addr_change(netdev, p);
	dmabed_device_set_mac(netdev_priv(netdev), netdev->dev_addr);
	return 0;
}

/* The device has no address table: any group address means all of them. */
void dmabed_set_rx_mode(struct net_device *netdev)
{
	u32 filter = 0;

	if ((netdev->flags & IFF_PROMISC) || !netdev_uc_empty(netdev))
		filter |= DMABED_RX_FILTER_PROMISC;
	if ((netdev->flags & IFF_ALLMULTI) || !netdev_mc_empty(netdev))
		filter |= DMABED_RX_FILTER_ALLMULTI;
	dmabed_write(netdev_priv(netdev), DMABED_RX_FILTER, filter);
}

static void dmabed_tx_timeout(struct net_device *netdev, unsigned int txqueue)
{
	struct dmabed_priv *priv = netdev_priv(netdev);
	struct dmabed_tx *tx = &priv->set->qp[txqueue].tx;

	netdev_warn(netdev, "queue %u: filled %u, reaped %u, completions %u\n",
		    txqueue, READ_ONCE(tx->prod), READ_ONCE(tx->clean),
		    READ_ONCE(tx->seen));
	dmabed_schedule_reset(priv);
}

static const struct net_device_ops dmabed_netdev_ops = {
	.ndo_open		= dmabed_open,
	.ndo_stop		= dmabed_stop,
	.ndo_start_xmit		= dmabed_start_xmit,
	.ndo_get_stats64	= dmabed_get_stats64,
	.ndo_change_mtu		= dmabed_change_mtu,
	.ndo_set_mac_address	= dmabed_set_mac_address,
	.ndo_set_rx_mode	= dmabed_set_rx_mode,
	.ndo_validate_addr	= eth_validate_addr,
	.ndo_tx_timeout		= dmabed_tx_timeout,
};

static void dmabed_init_mac(struct dmabed_priv *priv)
{
	struct net_device *netdev = priv->netdev;
	u8 addr[ETH_ALEN];

	dmabed_device_get_mac(priv, addr);
	if (is_valid_ether_addr(addr)) {
		eth_hw_addr_set(netdev, addr);
		return;
	}
	eth_hw_addr_random(netdev);
	dev_warn(&priv->pdev->dev, "no MAC address, using %pM\n",
		 netdev->dev_addr);
}

static void dmabed_init_stats(struct dmabed_priv *priv)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(priv->stats); i++) {
		u64_stats_init(&priv->stats[i].syncp);
		u64_stats_init(&priv->stats[i].tx_syncp);
		u64_stats_init(&priv->stats[i].xmit_syncp);
	}
}

/* Before register_netdev(); the device was identified. */
void dmabed_netdev_init(struct dmabed_priv *priv)
{
	struct net_device *netdev = priv->netdev;
	u32 ring = clamp_t(u32, DMABED_DEFAULT_RING, priv->min_ring,
			   priv->max_ring);

	priv->cfg.queues = min(priv->max_queues, num_online_cpus());
	priv->cfg.rx_size = ring;
	priv->cfg.tx_size = ring;
	priv->usecs = DMABED_DEFAULT_USECS;
	priv->frames = DMABED_DEFAULT_FRAMES;

	netdev->netdev_ops = &dmabed_netdev_ops;
	netdev->ethtool_ops = &dmabed_ethtool_ops;
	netdev->sysfs_groups[0] = &dmabed_attr_group;
	netdev->watchdog_timeo = 5 * HZ;
	netdev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
	netdev->min_mtu = ETH_MIN_MTU;
	netdev->max_mtu = min_t(u32, DMABED_MAX_MTU,
				priv->frame_cap - VLAN_ETH_HLEN);
	netdev->hw_features = NETIF_F_SG | NETIF_F_RXHASH;
	netdev->features = netdev->hw_features | NETIF_F_HIGHDMA;
	netdev->vlan_features = NETIF_F_SG | NETIF_F_HIGHDMA;
	dmabed_init_mac(priv);
	dmabed_init_stats(priv);
	netif_carrier_off(netdev);
}
