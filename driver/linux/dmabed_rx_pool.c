// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive buffers from the kernel's page_pool, one pool per
 * queue. The pool maps a page when it takes it from the page allocator and
 * keeps the mapping while the page circulates, so that in the steady state
 * neither a map nor an unmap is paid per packet.
 */
#include <linux/skbuff.h>

#include "dmabed.h"

static int dmabed_pool_setup(struct dmabed_rx *rx)
{
	struct page_pool_params params = {
		.flags		= PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
		.pool_size	= rx->ring.mask + 1,
		.nid		= dev_to_node(rx->ring.dev),
		.dev		= rx->ring.dev,
#ifndef DMABED_NO_POOL_NAPI
		.napi		= &rx->qp->napi,
#endif
#ifndef DMABED_NO_POOL_NETDEV
		.netdev		= rx->qp->netdev,
		.queue_idx	= rx->qp->index,
#endif
		.dma_dir	= DMA_FROM_DEVICE,
		.max_len	= rx->buf_len,
		.offset		= DMABED_RX_HEADROOM,
	};
	struct page_pool *pool = page_pool_create(&params);

	if (IS_ERR(pool))
		return PTR_ERR(pool);
	rx->pool = pool;
	return 0;
}

static void dmabed_pool_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	u32 posted = rx->posted;
	u32 end = posted + count;

	for (; posted != end; posted++) {
		u32 slot = posted & rx->ring.mask;
		struct page *page = page_pool_alloc_pages(rx->pool, gfp);

		if (unlikely(!page)) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		rx->buf[slot].page = page;
		dmabed_rx_describe(rx, slot,
				   page_pool_get_dma_addr(page) +
				   DMABED_RX_HEADROOM);
	}
	rx->stats->rx_alloc += posted - rx->posted;
	rx->posted = posted;
}

/* Nothing to do where DMA is coherent and no bounce buffer is in the way. */
static void dmabed_pool_claim(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	if (!dma_dev_need_sync(rx->ring.dev))
		return;
	for (i = rx->next; i != end; i++)
		page_pool_dma_sync_for_cpu(rx->pool,
					   rx->buf[i & rx->ring.mask].page, 0,
					   rx->buf_len);
}

/* The skb is marked: freeing it brings the page back. */
static void dmabed_pool_pass(struct dmabed_rx *rx, u32 count)
{
}

static void dmabed_pool_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		page_pool_put_full_page(rx->pool,
					rx->buf[i & rx->ring.mask].page, true);
}

/* Not only called in a poll: the ring's lock instead of the cache. */
static void dmabed_pool_put(struct dmabed_rx *rx,
			    const struct dmabed_rx_buf *buf)
{
	page_pool_put_full_page(rx->pool, buf->page, false);
}

static void dmabed_pool_drain(struct dmabed_rx *rx)
{
	u32 i;

	for (i = rx->next; i != rx->posted; i++)
		page_pool_put_full_page(rx->pool,
					rx->buf[i & rx->ring.mask].page, false);
}

/*
 * Pages that the stack still holds keep the pool alive: it waits for them on
 * its own, after the driver is done with it. Older kernels unmap such a page
 * with a device that may be unbound by then; those whose pools track what they
 * mapped (since 6.16, and backported) unmap it here.
 */
static void dmabed_pool_teardown(struct dmabed_rx *rx)
{
	struct page_pool *pool = rx->pool;
	struct dmabed_qstats *stats = rx->stats;

	rx->pool = NULL;
	stats->rx_pool_maps += pool->pages_state_hold_cnt;
	stats->rx_pool_unmaps +=
		(u32)atomic_read(&pool->pages_state_release_cnt);
	page_pool_destroy(pool);
}

const struct dmabed_rx_ops dmabed_rx_pool_ops = {
	.name		= "page_pool",
	.truesize	= PAGE_SIZE,
	.recycle	= true,
	.setup		= dmabed_pool_setup,
	.refill		= dmabed_pool_refill,
	.claim		= dmabed_pool_claim,
	.pass		= dmabed_pool_pass,
	.reuse		= dmabed_pool_reuse,
	.put		= dmabed_pool_put,
	.drain		= dmabed_pool_drain,
	.teardown	= dmabed_pool_teardown,
};
