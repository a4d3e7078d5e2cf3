// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive buffers from a plain array of mapped pages that
 * only the queue's own poll touches. A page that the driver drops goes back to
 * the array without an atomic operation. A page that goes to the stack does not
 * come back: it is unmapped and leaves for good, as without an array.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

struct dmabed_array {
	u32 count;
	u32 size;
	struct {
		struct page *page;
		dma_addr_t dma;
	} entry[] __counted_by(size);
};

static int dmabed_array_setup(struct dmabed_rx *rx)
{
	u32 size = rx->ring.mask + 1;
	struct dmabed_array *array;

	array = kvzalloc(struct_size(array, entry, size), GFP_KERNEL);
	if (!array)
		return -ENOMEM;
	array->size = size;
	rx->store = array;
	return 0;
}

static struct page *dmabed_array_take(struct dmabed_rx *rx, gfp_t gfp,
				      dma_addr_t *dma)
{
	struct dmabed_array *array = rx->store;

	if (unlikely(!array->count))
		return dmabed_page_get(rx, 0, gfp, dma);
	array->count--;
	*dma = array->entry[array->count].dma;
	return array->entry[array->count].page;
}

static void dmabed_array_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	u32 end = rx->posted + count;
	struct page *page;
	dma_addr_t dma;

	for (; rx->posted != end; rx->posted++) {
		page = dmabed_array_take(rx, gfp, &dma);
		if (unlikely(!page)) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		dmabed_rx_post(rx, rx->posted & rx->ring.mask, page, 0, dma);
	}
}

static dma_addr_t dmabed_array_dma(const struct dmabed_rx_buf *buf)
{
	return buf->dma - DMABED_RX_HEADROOM;
}

static void dmabed_array_pass(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		dmabed_page_unmap(rx, dmabed_array_dma(&rx->buf[i & rx->ring.mask]),
				  0);
}

static void dmabed_array_give(struct dmabed_rx *rx,
			      const struct dmabed_rx_buf *buf)
{
	struct dmabed_array *array = rx->store;

	if (unlikely(array->count == array->size ||
		     !dev_page_is_reusable(buf->page))) {
		dmabed_page_unmap(rx, dmabed_array_dma(buf), 0);
		put_page(buf->page);
		return;
	}
	dmabed_rx_sync_for_device(rx, buf->dma);
	array->entry[array->count].page = buf->page;
	array->entry[array->count].dma = dmabed_array_dma(buf);
	array->count++;
}

static void dmabed_array_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		dmabed_array_give(rx, &rx->buf[i & rx->ring.mask]);
}

static void dmabed_array_drain(struct dmabed_rx *rx)
{
	struct dmabed_array *array = rx->store;
	struct page *page;
	u32 i;

	dmabed_array_pass(rx, rx->posted - rx->next);
	for (i = rx->next; i != rx->posted; i++)
		put_page(rx->buf[i & rx->ring.mask].page);
	while (array->count) {
		page = array->entry[--array->count].page;
		dmabed_page_unmap(rx, array->entry[array->count].dma, 0);
		put_page(page);
	}
}

static void dmabed_array_teardown(struct dmabed_rx *rx)
{
	kvfree(rx->store);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_array_ops = {
	.name		= "array_cache",
	.truesize	= PAGE_SIZE,
	.setup		= dmabed_array_setup,
	.refill		= dmabed_array_refill,
	.claim		= dmabed_rx_sync_for_cpu,
	.pass		= dmabed_array_pass,
	.reuse		= dmabed_array_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_array_drain,
	.teardown	= dmabed_array_teardown,
};
