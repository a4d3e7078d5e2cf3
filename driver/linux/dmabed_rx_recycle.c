// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive buffers of a page, kept by a reference until the
 * stack has let go of them. Received pages wait in a FIFO; refilling looks at
 * the oldest and posts it again, mapped as it was, if nobody else has it. Two
 * atomic operations a packet: the driver's reference and the stack's put_page().
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

struct dmabed_fifo_entry {
	struct page *page;
	dma_addr_t dma;
};

/* @head and @tail run freely; as many entries as the ring has. */
struct dmabed_fifo {
	u32 head;
	u32 tail;
	struct dmabed_fifo_entry entry[];
};

static int dmabed_recycle_setup(struct dmabed_rx *rx)
{
	struct dmabed_fifo *fifo;

	fifo = kvzalloc(struct_size(fifo, entry, rx->ring.mask + 1),
			GFP_KERNEL);
	if (!fifo)
		return -ENOMEM;
	rx->store = fifo;
	return 0;
}

/* The oldest page if it is free again, else a new one. */
static struct page *dmabed_recycle_take(struct dmabed_rx *rx, gfp_t gfp,
					dma_addr_t *dma)
{
	struct dmabed_fifo *fifo = rx->store;
	struct dmabed_fifo_entry *oldest;

	oldest = &fifo->entry[fifo->head & rx->ring.mask];
	if (fifo->head == fifo->tail || page_ref_count(oldest->page) != 1)
		return dmabed_page_get(rx, 0, gfp, dma);
	fifo->head++;
	*dma = oldest->dma;
	dmabed_rx_sync_for_device(rx, oldest->dma + DMABED_RX_HEADROOM);
	return oldest->page;
}

static void dmabed_recycle_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	u32 end = rx->posted + count;
	struct page *page;
	dma_addr_t dma;

	for (; rx->posted != end; rx->posted++) {
		page = dmabed_recycle_take(rx, gfp, &dma);
		if (unlikely(!page)) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		dmabed_rx_post(rx, rx->posted & rx->ring.mask, page, 0, dma);
	}
}

/* Returns false, and leaves nothing mapped, if there is no room. */
static bool dmabed_recycle_keep(struct dmabed_rx *rx,
				const struct dmabed_rx_buf *buf)
{
	struct dmabed_fifo *fifo = rx->store;
	struct dmabed_fifo_entry *entry;

	if (unlikely(fifo->tail - fifo->head > rx->ring.mask ||
		     !dev_page_is_reusable(buf->page))) {
		dmabed_page_unmap(rx, buf->dma - DMABED_RX_HEADROOM, 0);
		return false;
	}
	entry = &fifo->entry[fifo->tail++ & rx->ring.mask];
	entry->page = buf->page;
	entry->dma = buf->dma - DMABED_RX_HEADROOM;
	return true;
}

static void dmabed_recycle_pass(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++) {
		const struct dmabed_rx_buf *buf = &rx->buf[i & rx->ring.mask];

		if (likely(dmabed_recycle_keep(rx, buf)))
			get_page(buf->page);
	}
}

static void dmabed_recycle_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++) {
		const struct dmabed_rx_buf *buf = &rx->buf[i & rx->ring.mask];

		if (unlikely(!dmabed_recycle_keep(rx, buf)))
			put_page(buf->page);
	}
}

static void dmabed_recycle_drain(struct dmabed_rx *rx)
{
	struct dmabed_fifo *fifo = rx->store;
	struct dmabed_fifo_entry *entry;
	u32 i;

	for (i = rx->next; i != rx->posted; i++) {
		const struct dmabed_rx_buf *buf = &rx->buf[i & rx->ring.mask];

		dmabed_page_unmap(rx, buf->dma - DMABED_RX_HEADROOM, 0);
		put_page(buf->page);
	}
	for (; fifo->head != fifo->tail; fifo->head++) {
		entry = &fifo->entry[fifo->head & rx->ring.mask];
		dmabed_page_unmap(rx, entry->dma, 0);
		put_page(entry->page);
	}
}

static void dmabed_recycle_teardown(struct dmabed_rx *rx)
{
	kvfree(rx->store);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_recycle_ops = {
	.name		= "order0_recycle",
	.truesize	= PAGE_SIZE,
	.setup		= dmabed_recycle_setup,
	.refill		= dmabed_recycle_refill,
	.claim		= dmabed_rx_sync_for_cpu,
	.pass		= dmabed_recycle_pass,
	.reuse		= dmabed_recycle_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_recycle_drain,
	.teardown	= dmabed_recycle_teardown,
};
