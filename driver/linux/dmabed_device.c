// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the device behind its registers. Nothing here allocates,
 * and every wait for the device is bounded.
 */
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/iopoll.h>
#include <linux/log2.h>

#include "dmabed.h"

#define DMABED_POLL_US		50
#define DMABED_RESET_US		(500 * USEC_PER_MSEC)
#define DMABED_STOP_US		(200 * USEC_PER_MSEC)

#define DMABED_EVENTS \
	(DMABED_EVENT_LINK | DMABED_EVENT_DMA_FAULT | DMABED_EVENT_RING_FAULT)

static int dmabed_wait_stopped(void __iomem *ctrl)
{
	u32 val;
	int err;

	err = readl_poll_timeout(ctrl, val,
				 dmabed_absent(val) ||
				 !(val & DMABED_QP_RX_CTRL_RUNNING),
				 DMABED_POLL_US, DMABED_STOP_US);
	return !err && dmabed_absent(val) ? -ENODEV : err;
}

/* A reset that did not happen, or not in full, leaves a ring running. */
static int dmabed_see_rings_stopped(struct dmabed_priv *priv)
{
	int err = 0;
	u32 i;

	for (i = 0; i < priv->max_queues && !err; i++) {
		void __iomem *regs = priv->regs + DMABED_QP_BASE(i);

		err = dmabed_wait_stopped(regs + DMABED_QP_RX_CTRL);
		if (!err)
			err = dmabed_wait_stopped(regs + DMABED_QP_TX_CTRL);
	}
	return err;
}

/*
 * Resets the device. Bus mastering is turned on again only by success: after a
 * device failed to stop, this is what keeps it away from freed memory.
 */
int dmabed_device_reset(struct dmabed_priv *priv)
{
	u32 val;
	int err;

	dmabed_write(priv, DMABED_CTRL, DMABED_CTRL_RESET);
	err = readl_poll_timeout(priv->regs + DMABED_STATUS, val,
				 val & DMABED_STATUS_READY, DMABED_POLL_US,
				 DMABED_RESET_US);
	if (!err && dmabed_absent(val))
		err = -ENODEV;
	if (!err)
		err = dmabed_see_rings_stopped(priv);
	WRITE_ONCE(priv->gone, !!err);
	if (err)
		pci_clear_master(priv->pdev);
	else
		pci_set_master(priv->pdev);
	return err;
}

static bool dmabed_caps_sane(const struct dmabed_priv *priv)
{
	return priv->max_queues && priv->min_ring <= priv->max_ring &&
	       priv->frame_cap >= VLAN_ETH_FRAME_LEN;
}

/* Bounds everything that the device says about itself. */
static int dmabed_read_caps(struct dmabed_priv *priv)
{
	u32 caps = dmabed_read(priv, DMABED_CAPS);
	u32 room = pci_resource_len(priv->pdev, 0) - DMABED_QP_BASE(0);
	u32 vectors = FIELD_GET(DMABED_CAPS_VECTORS, caps);
	u32 entries = roundup_pow_of_two(2 * (MAX_SKB_FRAGS + 1));
	u32 log2_max = FIELD_GET(DMABED_CAPS_RING_LOG2_MAX, caps);
	u32 log2_min = FIELD_GET(DMABED_CAPS_RING_LOG2_MIN, caps);
	u32 queues = FIELD_GET(DMABED_CAPS_QUEUES, caps);

	queues = min3(queues, room / DMABED_QP_STRIDE, (u32)DMABED_QP_MAX);
	priv->max_queues = min(queues, vectors ? vectors - 1 : 0);
	/* The ARM register counts completions modulo 2^16. */
	priv->max_ring = BIT(min(log2_max, 15U));
	/* Two of the longest frames fit into any transmit ring. */
	priv->min_ring = max_t(u32, BIT(min(log2_min, 15U)), entries);
	priv->frame_cap = FIELD_GET(DMABED_FRAME_CAP_BYTES,
				    dmabed_read(priv, DMABED_FRAME_CAP));
	if (dmabed_caps_sane(priv))
		return 0;
	dev_err(&priv->pdev->dev, "impossible capabilities %#x, frame %u\n",
		caps, priv->frame_cap);
	return -EIO;
}

int dmabed_device_identify(struct dmabed_priv *priv)
{
	struct device *dev = &priv->pdev->dev;
	u32 id = dmabed_read(priv, DMABED_ID);
	u32 version = dmabed_read(priv, DMABED_VERSION);
	u32 major = FIELD_GET(DMABED_VERSION_MAJOR, version);

	if (id != DMABED_ID_MAGIC_VALUE) {
		dev_err(dev, "BAR 0 begins with %#x, not with a dmabed NIC\n",
			id);
		return -ENODEV;
	}
	if (major != DMABED_VERSION_MAJOR_VALUE) {
		dev_err(dev, "interface version %u, the driver knows %u\n",
			major, DMABED_VERSION_MAJOR_VALUE);
		return -ENODEV;
	}
	return dmabed_read_caps(priv);
}

void dmabed_device_get_mac(struct dmabed_priv *priv, u8 *addr)
{
	put_unaligned_le32(dmabed_read(priv, DMABED_MAC_LO), addr);
	put_unaligned_le16(dmabed_read(priv, DMABED_MAC_HI), addr + 4);
}

void dmabed_device_set_mac(struct dmabed_priv *priv, const u8 *addr)
{
	dmabed_write(priv, DMABED_MAC_LO, get_unaligned_le32(addr));
	dmabed_write(priv, DMABED_MAC_HI, get_unaligned_le16(addr + 4));
}

/* Moderation of every pair in use; the registers take a change at any time. */
void dmabed_device_moderate(struct dmabed_priv *priv)
{
	u32 val = FIELD_PREP(DMABED_QP_MODERATION_USECS, priv->usecs) |
		  FIELD_PREP(DMABED_QP_MODERATION_FRAMES, priv->frames);
	u32 i;

	for (i = 0; i < priv->set->count; i++)
		writel(val, priv->set->qp[i].regs + DMABED_QP_MODERATION);
}

/* All that a reset made the device forget, but for the rings. */
void dmabed_device_configure(struct dmabed_priv *priv)
{
	dmabed_device_set_mac(priv, priv->netdev->dev_addr);
	dmabed_write(priv, DMABED_MAX_FRAME, dmabed_max_frame(priv));
	dmabed_write(priv, DMABED_RSS_QUEUES, priv->set->count);
	netif_addr_lock_bh(priv->netdev);
	dmabed_set_rx_mode(priv->netdev);
	netif_addr_unlock_bh(priv->netdev);
	dmabed_device_moderate(priv);
	dmabed_write(priv, DMABED_EVENT, DMABED_EVENTS);
	dmabed_write(priv, DMABED_EVENT_MASK, DMABED_EVENTS);
}

static void dmabed_write_iova(void __iomem *low, dma_addr_t iova)
{
	writel(lower_32_bits(iova), low);
	writel(upper_32_bits(iova), low + 4);
}

/* Starts both directions of a pair and hands it the buffers of its ring. */
void dmabed_device_enable_qp(struct dmabed_qp *qp)
{
	dmabed_write_iova(qp->regs + DMABED_QP_RX_RING_LO, qp->rx.ring.desc_dma);
	dmabed_write_iova(qp->regs + DMABED_QP_RX_CQ_LO, qp->rx.ring.cq_dma);
	writel(qp->rx.ring.log2, qp->regs + DMABED_QP_RX_SIZE);
	dmabed_write_iova(qp->regs + DMABED_QP_TX_RING_LO, qp->tx.ring.desc_dma);
	dmabed_write_iova(qp->regs + DMABED_QP_TX_CQ_LO, qp->tx.ring.cq_dma);
	writel(qp->tx.ring.log2, qp->regs + DMABED_QP_TX_SIZE);
	writel(DMABED_QP_TX_CTRL_ENABLE, qp->regs + DMABED_QP_TX_CTRL);
	writel(DMABED_QP_RX_CTRL_ENABLE, qp->regs + DMABED_QP_RX_CTRL);
	dmabed_rx_ring_doorbell(&qp->rx);
}

static int dmabed_stop_rings(struct dmabed_set *set)
{
	int err = 0;
	u32 i;

	static_assert(DMABED_QP_RX_CTRL_RUNNING == DMABED_QP_TX_CTRL_RUNNING);

	for (i = 0; i < set->count; i++) {
		writel(0, set->qp[i].regs + DMABED_QP_RX_CTRL);
		writel(0, set->qp[i].regs + DMABED_QP_TX_CTRL);
	}
	for (i = 0; i < set->count && !err; i++) {
		err = dmabed_wait_stopped(set->qp[i].regs + DMABED_QP_RX_CTRL);
		if (!err)
			err = dmabed_wait_stopped(set->qp[i].regs +
						  DMABED_QP_TX_CTRL);
	}
	return err;
}

/*
 * After this the device does no DMA for @set, one way or another: its rings
 * stopped, or a reset stopped them, or its bus mastering is off. Returns an
 * error in the last case only.
 */
int dmabed_device_disable(struct dmabed_priv *priv, struct dmabed_set *set)
{
	int err;

	dmabed_write(priv, DMABED_CTRL, 0);
	dmabed_write(priv, DMABED_EVENT_MASK, 0);
	err = dmabed_stop_rings(set);
	if (!err)
		return 0;
	netdev_warn(priv->netdev, "a ring did not stop (%d), resetting\n", err);
	err = dmabed_device_reset(priv);
	if (err)
		netdev_err(priv->netdev, "reset failed (%d), bus mastering is off\n",
			   err);
	return err;
}

void dmabed_device_link(struct dmabed_priv *priv)
{
	u32 status = dmabed_read(priv, DMABED_STATUS);

	/* No link event would follow a link that has not changed. */
	if (dmabed_absent(status)) {
		dmabed_schedule_reset(priv);
		return;
	}
	if (status & DMABED_STATUS_LINK_UP)
		netif_carrier_on(priv->netdev);
	else
		netif_carrier_off(priv->netdev);
}

/* Reads what the device holds until EVENT.dma_fault is cleared. */
static void dmabed_report_fault(struct dmabed_priv *priv)
{
	u32 info = dmabed_read(priv, DMABED_FAULT_INFO);
	u64 iova = dmabed_read64(priv->regs + DMABED_FAULT_IOVA_LO);

	if (dmabed_absent(info)) {
		dmabed_schedule_reset(priv);
		return;
	}
	WRITE_ONCE(priv->dma_faults, priv->dma_faults +
		   FIELD_GET(DMABED_FAULT_INFO_COUNT, info));
	if (net_ratelimit())
		netdev_warn(priv->netdev,
			    "DMA %s refused at %#llx: queue %lu %s stage %lu\n",
			    info & DMABED_FAULT_INFO_WRITE ? "write" : "read",
			    iova, FIELD_GET(DMABED_FAULT_INFO_QUEUE, info),
			    info & DMABED_FAULT_INFO_TX ? "tx" : "rx",
			    FIELD_GET(DMABED_FAULT_INFO_STAGE, info));
}

irqreturn_t dmabed_event_irq(int irq, void *data)
{
	struct dmabed_priv *priv = data;
	u32 events = dmabed_read(priv, DMABED_EVENT);

	if (dmabed_absent(events)) {
		dmabed_schedule_reset(priv);
		return IRQ_HANDLED;
	}
	events &= DMABED_EVENTS;
	if (!events)
		return IRQ_NONE;
	if (events & DMABED_EVENT_DMA_FAULT)
		dmabed_report_fault(priv);
	dmabed_write(priv, DMABED_EVENT, events);
	if (events & DMABED_EVENT_LINK)
		dmabed_device_link(priv);
	if (events & DMABED_EVENT_RING_FAULT)
		dmabed_schedule_reset(priv);
	return IRQ_HANDLED;
}
