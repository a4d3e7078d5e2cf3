// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: pages of the page allocator, mapped for the device; what
 * the receive strategies that do without page_pool share.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>

#include "dmabed.h"

/* A mapped block of 2^@order pages, or NULL. */
struct page *dmabed_page_get(struct dmabed_rx *rx, u32 order, gfp_t gfp,
			     dma_addr_t *dma)
{
	struct page *page = __dev_alloc_pages(gfp, order);

	if (unlikely(!page))
		return NULL;
	*dma = dma_map_page(rx->ring.dev, page, 0, PAGE_SIZE << order,
			    DMA_FROM_DEVICE);
	if (unlikely(dma_mapping_error(rx->ring.dev, *dma))) {
		__free_pages(page, order);
		return NULL;
	}
	rx->stats->rx_maps++;
	rx->stats->rx_alloc++;
	return page;
}

/* The CPU has synced what it reads of it. */
void dmabed_page_unmap(struct dmabed_rx *rx, dma_addr_t dma, u32 order)
{
	dma_unmap_page_attrs(rx->ring.dev, dma, PAGE_SIZE << order,
			     DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	rx->stats->rx_unmaps++;
}

/*
 * Puts the buffer at @offset of @page into @slot; @dma is where the page is
 * mapped. The descriptor's length and id never change.
 */
void dmabed_rx_post(struct dmabed_rx *rx, u32 slot, struct page *page,
		    u32 offset, dma_addr_t dma)
{
	struct dmabed_rx_buf *buf = &rx->buf[slot];

	buf->page = page;
	buf->offset = offset;
	buf->dma = dma + offset + DMABED_RX_HEADROOM;
	rx->ring.rx[slot].addr = cpu_to_le64(buf->dma);
}

/* Nothing to do where DMA is coherent and no bounce buffer is in the way. */
void dmabed_rx_sync_for_cpu(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	if (!dma_dev_need_sync(rx->ring.dev))
		return;
	for (i = rx->next; i != end; i++)
		dma_sync_single_for_cpu(rx->ring.dev,
					rx->buf[i & rx->ring.mask].dma,
					rx->buf_len, DMA_FROM_DEVICE);
}

/* @dma: of the data, as in struct dmabed_rx_buf. */
void dmabed_rx_sync_for_device(struct dmabed_rx *rx, dma_addr_t dma)
{
	dma_sync_single_for_device(rx->ring.dev, dma, rx->buf_len,
				   DMA_FROM_DEVICE);
}

/* As freeing the skb would have done. */
void dmabed_rx_put_page(struct dmabed_rx *rx, const struct dmabed_rx_buf *buf)
{
	put_page(buf->page);
}
