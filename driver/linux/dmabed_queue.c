// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the memory of queue pairs. A set is allocated in full,
 * receive buffers included, before anything that runs is touched.
 */
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dmabed.h"

static void *dmabed_alloc_entries(struct dmabed_ring *ring, dma_addr_t *dma)
{
	size_t size = (ring->mask + 1) * sizeof(*ring->cq);

	static_assert(sizeof(*ring->rx) == sizeof(*ring->cq));
	static_assert(sizeof(*ring->tx) == sizeof(*ring->cq));

	return dma_alloc_coherent(ring->dev, size, dma, GFP_KERNEL);
}

static void dmabed_free_entries(struct dmabed_ring *ring, void *entries,
				dma_addr_t dma)
{
	dma_free_coherent(ring->dev, (ring->mask + 1) * sizeof(*ring->cq),
			  entries, dma);
}

/* Coherent memory comes zeroed, as the phase bit needs it. */
static int dmabed_ring_alloc(struct dmabed_ring *ring, struct device *dev,
			     u32 entries)
{
	ring->dev = dev;
	ring->mask = entries - 1;
	ring->log2 = ilog2(entries);
	ring->desc = dmabed_alloc_entries(ring, &ring->desc_dma);
	if (!ring->desc)
		return -ENOMEM;
	ring->cq = dmabed_alloc_entries(ring, &ring->cq_dma);
	if (!ring->cq) {
		dmabed_free_entries(ring, ring->desc, ring->desc_dma);
		return -ENOMEM;
	}
	return 0;
}

static void dmabed_ring_free(struct dmabed_ring *ring)
{
	dmabed_free_entries(ring, ring->cq, ring->cq_dma);
	dmabed_free_entries(ring, ring->desc, ring->desc_dma);
}

static void dmabed_qp_init(struct dmabed_qp *qp, struct dmabed_priv *priv,
			   u32 index)
{
	qp->priv = priv;
	qp->netdev = priv->netdev;
	qp->index = index;
	qp->regs = priv->regs + DMABED_QP_BASE(index);
	qp->stats = &priv->stats[index];
	qp->irq = pci_irq_vector(priv->pdev, DMABED_VECTOR_QP(index));

	qp->rx.qp = qp;
	qp->rx.stats = qp->stats;
	qp->rx.ops = priv->rx_ops;
	qp->rx.discard = priv->rx_discard;

	qp->tx.qp = qp;
	qp->tx.stats = qp->stats;
	qp->tx.txq = netdev_get_tx_queue(priv->netdev, index);
	spin_lock_init(&qp->tx.reap_lock);
}

static int dmabed_qp_alloc(struct dmabed_qp *qp,
			   const struct dmabed_config *cfg)
{
	struct device *dev = &qp->priv->pdev->dev;
	int err = -ENOMEM;

	qp->rx.buf = kvcalloc(cfg->rx_size, sizeof(*qp->rx.buf), GFP_KERNEL);
	if (!qp->rx.buf)
		return -ENOMEM;
	qp->tx.buf = kvcalloc(cfg->tx_size, sizeof(*qp->tx.buf), GFP_KERNEL);
	if (!qp->tx.buf)
		goto free_rx_buf;
	err = dmabed_ring_alloc(&qp->rx.ring, dev, cfg->rx_size);
	if (err)
		goto free_tx_buf;
	err = dmabed_ring_alloc(&qp->tx.ring, dev, cfg->tx_size);
	if (err)
		goto free_rx_ring;
	/* The pool keeps a pointer to the NAPI instance: add it first. */
	netif_napi_add(qp->netdev, &qp->napi, dmabed_poll);
	err = dmabed_rx_setup(&qp->rx);
	if (err)
		goto del_napi;
	return 0;

del_napi:
	netif_napi_del(&qp->napi);
	dmabed_ring_free(&qp->tx.ring);
free_rx_ring:
	dmabed_ring_free(&qp->rx.ring);
free_tx_buf:
	kvfree(qp->tx.buf);
free_rx_buf:
	kvfree(qp->rx.buf);
	return err;
}

static void dmabed_qp_free(struct dmabed_qp *qp)
{
	dmabed_tx_drain(&qp->tx);
	dmabed_rx_teardown(&qp->rx);
	netif_napi_del(&qp->napi);
	dmabed_ring_free(&qp->tx.ring);
	dmabed_ring_free(&qp->rx.ring);
	kvfree(qp->tx.buf);
	kvfree(qp->rx.buf);
}

/* A set ready for dmabed_up(), or an ERR_PTR. */
struct dmabed_set *dmabed_set_alloc(struct dmabed_priv *priv,
				    const struct dmabed_config *cfg)
{
	struct dmabed_set *set;
	int err;
	u32 i;

	set = kvzalloc(struct_size(set, qp, cfg->queues), GFP_KERNEL);
	if (!set)
		return ERR_PTR(-ENOMEM);
	set->cfg = *cfg;
	set->count = cfg->queues;
	for (i = 0; i < set->count; i++) {
		dmabed_qp_init(&set->qp[i], priv, i);
		err = dmabed_qp_alloc(&set->qp[i], cfg);
		if (err)
			goto free_pairs;
	}
	return set;

free_pairs:
	while (i--)
		dmabed_qp_free(&set->qp[i]);
	kvfree(set);
	return ERR_PTR(err);
}

/* The set must be out of service: the device stopped, NAPI disabled. */
void dmabed_set_free(struct dmabed_set *set)
{
	u32 i;

	for (i = set->count; i--;)
		dmabed_qp_free(&set->qp[i]);
	kvfree(set);
}

/* Makes a set that was in service ready for dmabed_up() again. */
void dmabed_set_rewind(struct dmabed_set *set)
{
	u32 i;

	for (i = 0; i < set->count; i++) {
		dmabed_tx_drain(&set->qp[i].tx);
		dmabed_rx_rewind(&set->qp[i].rx);
		set->qp[i].broken = false;
	}
}
