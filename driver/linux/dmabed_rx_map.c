// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the classic way to supply receive buffers. A page is taken
 * from the page allocator and mapped when it is posted, unmapped when it comes
 * back, and leaves with its packet: one map and one unmap for every buffer.
 */
#include <linux/skbuff.h>

#include "dmabed.h"

static int dmabed_map_setup(struct dmabed_rx *rx)
{
	return 0;
}

static bool dmabed_map_post(struct dmabed_rx *rx, u32 slot, gfp_t gfp)
{
	struct dmabed_rx_buf *buf = &rx->buf[slot];
	struct page *page = __dev_alloc_pages(gfp, 0);

	if (unlikely(!page))
		return false;
	buf->dma = dma_map_page(rx->ring.dev, page, DMABED_RX_HEADROOM,
				rx->buf_len, DMA_FROM_DEVICE);
	if (unlikely(dma_mapping_error(rx->ring.dev, buf->dma))) {
		__free_page(page);
		return false;
	}
	buf->page = page;
	rx->ring.rx[slot].addr = cpu_to_le64(buf->dma);
	return true;
}

static void dmabed_map_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	u32 posted = rx->posted;
	u32 end = posted + count;

	for (; posted != end; posted++) {
		if (unlikely(!dmabed_map_post(rx, posted & rx->ring.mask,
					      gfp))) {
			rx->stats->rx_alloc_fail++;
			break;
		}
	}
	rx->stats->rx_alloc += posted - rx->posted;
	rx->stats->rx_maps += posted - rx->posted;
	rx->posted = posted;
}

/* Before anything of the frame is looked at: the device can no longer write. */
static void dmabed_map_claim(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		dma_unmap_page(rx->ring.dev, rx->buf[i & rx->ring.mask].dma,
			       rx->buf_len, DMA_FROM_DEVICE);
	rx->stats->rx_unmaps += count;
}

static void dmabed_map_pass(struct dmabed_rx *rx, u32 count)
{
}

static void dmabed_map_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		__free_page(rx->buf[i & rx->ring.mask].page);
}

static void dmabed_map_drain(struct dmabed_rx *rx)
{
	u32 count = rx->posted - rx->next;

	dmabed_map_claim(rx, count);
	dmabed_map_reuse(rx, count);
}

static void dmabed_map_teardown(struct dmabed_rx *rx)
{
}

const struct dmabed_rx_ops dmabed_rx_map_ops = {
	.name		= "map_per_packet",
	.truesize	= PAGE_SIZE,
	.recycle	= false,
	.setup		= dmabed_map_setup,
	.refill		= dmabed_map_refill,
	.claim		= dmabed_map_claim,
	.pass		= dmabed_map_pass,
	.reuse		= dmabed_map_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_map_drain,
	.teardown	= dmabed_map_teardown,
};
