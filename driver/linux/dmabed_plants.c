// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: bugs to plant. Each is a step of the driver done wrong, in
 * the way real drivers have had it; most of them are a receive strategy whose
 * operations are wrapped. A plant writes 0x100 + its number to the NOTE register
 * when it first acts, so that the time until it is found can be told.
 */
#include <linux/delay.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <net/page_pool/helpers.h>

#include "dmabed_plants.h"

#define DMABED_NOTE_PLANT	0x100
#define DMABED_P21_MS		8000	/* ifdown has five seconds */
#define DMABED_FAR_ORDER	9	/* beyond the addresses in use here */

static int plant;
module_param(plant, int, 0444);
MODULE_PARM_DESC(plant, "number of the bug to plant (0: none)");

static const struct dmabed_rx_ops *dmabed_real_ops;
static struct dmabed_rx_ops dmabed_planted_ops;
static struct page *dmabed_plant_page;
static dma_addr_t dmabed_plant_dma;
static struct pci_dev *dmabed_plant_other;
static bool dmabed_plant_acted;

/* True once per load of the module: the device is told, for its timeline. */
static bool dmabed_plant_acts(struct dmabed_priv *priv, int number)
{
	if (plant != number || dmabed_plant_acted)
		return false;
	dmabed_plant_acted = true;
	dmabed_write(priv, DMABED_NOTE, DMABED_NOTE_PLANT + number);
	return true;
}

static struct dmabed_rx_buf *dmabed_last_posted(struct dmabed_rx *rx)
{
	return &rx->buf[(rx->posted - 1) & rx->ring.mask];
}

static void dmabed_repost(struct dmabed_rx *rx, dma_addr_t dma)
{
	rx->ring.rx[(rx->posted - 1) & rx->ring.mask].addr = cpu_to_le64(dma);
}

/* P1: gives the buffers back while the ring still runs. */
static void dmabed_p1_drain_early(struct dmabed_rx *rx)
{
	local_bh_disable();
	rx->ops->drain(rx);
	local_bh_enable();
}

/* P8: the pool goes while NAPI and the ring still use it. */
static void dmabed_p8_destroy_early(struct dmabed_rx *rx)
{
	if (rx->pool)
		page_pool_destroy(rx->pool);
}

/* P21: waits, with RTNL held, for something that nobody is going to say. */
static void dmabed_p21_wait(void)
{
	msleep(DMABED_P21_MS);
}

void dmabed_plant_before_down(struct dmabed_priv *priv)
{
	struct dmabed_rx *rx = &priv->set->qp[0].rx;

	if (dmabed_plant_acts(priv, 21))
		dmabed_p21_wait();
	if (dmabed_plant_acts(priv, 1))
		dmabed_p1_drain_early(rx);
	if (dmabed_plant_acts(priv, 8))
		dmabed_p8_destroy_early(rx);
}

/* P2: the caller returns without undoing the maps it has made. */
bool dmabed_plant_map_fails(struct dmabed_tx *tx)
{
	return dmabed_plant_acts(tx->qp->priv, 2);
}

/* P5: a reload fails; the old set is restarted, and then its pages freed. */
int dmabed_plant_reload(struct dmabed_priv *priv)
{
	return plant == 5 && !dmabed_plant_acted ? -ENOMEM : 0;
}

void dmabed_plant_restored(struct dmabed_set *set)
{
	if (dmabed_plant_acts(set->qp[0].priv, 5))
		dmabed_p1_drain_early(&set->qp[0].rx);
}

/* P13: the device may still do DMA when the driver is gone. */
void dmabed_plant_clear_master(struct dmabed_priv *priv)
{
	if (!dmabed_plant_acts(priv, 13))
		pci_clear_master(priv->pdev);
}

static struct pci_dev *dmabed_other_device(struct pci_dev *pdev)
{
	struct pci_dev *other = NULL;

	do {
		other = pci_get_device(DMABED_PCI_VENDOR, DMABED_PCI_DEVICE,
				       other);
	} while (other == pdev);
	return other;
}

/* P17: maps with the struct device of another NIC, in its address space. */
static void dmabed_p17_map_elsewhere(struct dmabed_rx *rx)
{
	struct pci_dev *other = dmabed_plant_other;
	size_t size = PAGE_SIZE << DMABED_FAR_ORDER;
	struct page *page;

	page = alloc_pages(GFP_ATOMIC | __GFP_COMP, DMABED_FAR_ORDER);
	if (other && page && dmabed_plant_acts(rx->qp->priv, 17))
		dmabed_repost(rx, dma_map_page(&other->dev, page, 0, size,
					       DMA_FROM_DEVICE));
	else if (page)
		__free_pages(page, DMABED_FAR_ORDER);
}

/* P15: a pool for all: a page of the first device's pool, mapped for another. */
static void dmabed_p15_share(struct dmabed_rx *rx)
{
	static struct dmabed_rx *owner;
	struct page *page;

	if (!owner)
		owner = rx;
	if (owner == rx || owner->qp->priv == rx->qp->priv || !owner->pool ||
	    !dmabed_plant_acts(rx->qp->priv, 15))
		return;
	page = page_pool_dev_alloc_pages(owner->pool);
	if (page)
		dmabed_repost(rx, dma_map_page(rx->ring.dev, page,
					       DMABED_RX_HEADROOM,
					       rx->buf_len,
					       DMA_FROM_DEVICE));
}

/* P20: the map failed, and nobody looked. */
static void dmabed_p20_unchecked(struct dmabed_rx *rx)
{
	struct dmabed_rx_buf *buf = dmabed_last_posted(rx);

	if (!dmabed_plant_acts(rx->qp->priv, 20))
		return;
	dma_unmap_page(rx->ring.dev, buf->dma, rx->buf_len,
		       DMA_FROM_DEVICE);
	buf->dma = DMA_MAPPING_ERROR;
	dmabed_repost(rx, buf->dma);
}

/*
 * P6: the page of the newest frame is posted again, which the stack has not given
 * back. Only the device's view is wrong, so that the pool's lists survive it.
 */
static void dmabed_p6_recycle_early(struct dmabed_rx *rx, struct page *page)
{
	if (rx->next && dmabed_plant_acts(rx->qp->priv, 6))
		dmabed_repost(rx, page_pool_get_dma_addr(page) +
			      DMABED_RX_HEADROOM);
}

static void dmabed_planted_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	struct page *newest = rx->buf[(rx->next - 1) & rx->ring.mask].page;
	u32 before = rx->posted;

	dmabed_real_ops->refill(rx, count, gfp);
	if (rx->posted == before)
		return;
	if (plant == 6)
		dmabed_p6_recycle_early(rx, newest);
	if (plant == 15)
		dmabed_p15_share(rx);
	if (plant == 17)
		dmabed_p17_map_elsewhere(rx);
	if (plant == 20)
		dmabed_p20_unchecked(rx);
}

/* P10: believes the length in the completion. */
static void dmabed_p10_trust(struct dmabed_rx *rx)
{
	const struct dmabed_completion *c = &rx->ring.cq[rx->next &
							 rx->ring.mask];
	u32 len = le16_to_cpu(READ_ONCE(c->len));
	struct sk_buff *skb = alloc_skb(rx->buf_len, GFP_ATOMIC);

	if (!skb)
		return;
	if (len > rx->buf_len)
		dmabed_plant_acts(rx->qp->priv, 10);
	skb_put(skb, len);
	kfree_skb(skb);
}

/* P18: the first poll's buffers are unmapped when the ring is taken down. */
static dma_addr_t dmabed_p18_late[NAPI_POLL_WEIGHT];
static u32 dmabed_p18_held;

static void dmabed_p18_claim_late(struct dmabed_rx *rx, u32 count)
{
	if (count > NAPI_POLL_WEIGHT || !dmabed_plant_acts(rx->qp->priv, 18)) {
		dmabed_real_ops->claim(rx, count);
		return;
	}
	for (; dmabed_p18_held < count; dmabed_p18_held++)
		dmabed_p18_late[dmabed_p18_held] =
			rx->buf[(rx->next + dmabed_p18_held) &
				rx->ring.mask].dma;
}

static void dmabed_p18_unmap(struct dmabed_rx *rx)
{
	while (dmabed_p18_held)
		dma_unmap_page(rx->ring.dev, dmabed_p18_late[--dmabed_p18_held],
			       rx->buf_len, DMA_FROM_DEVICE);
}

static void dmabed_planted_claim(struct dmabed_rx *rx, u32 count)
{
	if (plant == 18) {
		dmabed_p18_claim_late(rx, count);
		return;
	}
	dmabed_real_ops->claim(rx, count);
	if (plant == 10)
		dmabed_p10_trust(rx);
}

/* P3: unmaps a page that its pool is going to unmap. */
static void dmabed_planted_drain(struct dmabed_rx *rx)
{
	struct page *page = rx->buf[rx->next & rx->ring.mask].page;

	if (plant == 3 && rx->next != rx->posted &&
	    dmabed_plant_acts(rx->qp->priv, 3))
		dma_unmap_page(rx->ring.dev, page_pool_get_dma_addr(page),
			       PAGE_SIZE, DMA_FROM_DEVICE);
	if (plant == 18)
		dmabed_p18_unmap(rx);
	dmabed_real_ops->drain(rx);
}

/* P4, first half: two pages in one map. P17 needs a NIC to take for its own. */
static int dmabed_planted_setup(struct dmabed_rx *rx)
{
	struct device *dev = rx->ring.dev;

	if (plant == 4 && !dmabed_plant_page) {
		dmabed_plant_page = alloc_pages(GFP_KERNEL, 1);
		if (!dmabed_plant_page)
			return -ENOMEM;
		dmabed_plant_dma = dma_map_page(dev, dmabed_plant_page, 0,
						2 * PAGE_SIZE, DMA_FROM_DEVICE);
	}
	if (plant == 17 && !dmabed_plant_other)
		dmabed_plant_other = dmabed_other_device(rx->qp->priv->pdev);
	return dmabed_real_ops->setup(rx);
}

/*
 * P4, second half: one of them is unmapped. P8: the pool is gone already. P19:
 * the pool is left to the pages that the stack still holds.
 */
static void dmabed_planted_teardown(struct dmabed_rx *rx)
{
	struct dmabed_priv *priv = rx->qp->priv;

	if (plant == 4 && dmabed_plant_page && dmabed_plant_acts(priv, 4)) {
		dma_unmap_page(rx->ring.dev, dmabed_plant_dma, PAGE_SIZE,
			       DMA_FROM_DEVICE);
		__free_pages(dmabed_plant_page, 1);
		dmabed_plant_page = NULL;
	}
	if (plant == 17) {
		pci_dev_put(dmabed_plant_other);
		dmabed_plant_other = NULL;
	}
	if (plant == 8 && dmabed_plant_acted) {
		rx->pool = NULL;
		return;
	}
	if (plant == 19 && rx->pool && dmabed_plant_acts(priv, 19)) {
		page_pool_disable_direct_recycling(rx->pool);
		rx->pool = NULL;
		return;
	}
	dmabed_real_ops->teardown(rx);
}

/* The strategy, with the steps replaced that a plant may do wrong. */
const struct dmabed_rx_ops *
dmabed_plant_rx_ops(const struct dmabed_rx_ops *ops)
{
	dmabed_real_ops = ops;
	dmabed_planted_ops = *ops;
	dmabed_planted_ops.setup = dmabed_planted_setup;
	dmabed_planted_ops.refill = dmabed_planted_refill;
	dmabed_planted_ops.claim = dmabed_planted_claim;
	dmabed_planted_ops.drain = dmabed_planted_drain;
	dmabed_planted_ops.teardown = dmabed_planted_teardown;
	return &dmabed_planted_ops;
}
