// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive buffers cut out of blocks of eight pages, or of
 * fewer when memory is split. A block is mapped once and unmapped when the
 * device has filled the last buffer of it; each buffer holds a reference, so a
 * packet that waits keeps all of its block.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

#define DMABED_ORDER_MAX	PAGE_ALLOC_COSTLY_ORDER
#define DMABED_ORDER_PIECE	2048U

struct dmabed_block {
	struct page *page;
	dma_addr_t dma;
	u32 order;
};

/**
 * struct dmabed_blocks - blocks of a queue
 * @open: the one buffers are cut from, if it has a page
 * @offset: of the next buffer
 * @last: by slot: the block whose last buffer is posted there
 */
struct dmabed_blocks {
	struct dmabed_block open;
	u32 offset;
	struct dmabed_block last[];
};

static int dmabed_order_setup(struct dmabed_rx *rx)
{
	struct dmabed_blocks *blocks;

	blocks = kvzalloc(struct_size(blocks, last, rx->ring.mask + 1),
			  GFP_KERNEL);
	if (!blocks)
		return -ENOMEM;
	rx->store = blocks;
	return 0;
}

/* Every refusal is a trip through the page allocator. */
static bool dmabed_order_open(struct dmabed_rx *rx, gfp_t gfp)
{
	struct dmabed_blocks *blocks = rx->store;
	struct dmabed_block *open = &blocks->open;
	int order;

	for (order = DMABED_ORDER_MAX; order >= 0; order--) {
		gfp_t extra = order ? __GFP_NOWARN | __GFP_NORETRY : 0;

		open->page = dmabed_page_get(rx, order, gfp | extra,
					     &open->dma);
		if (likely(open->page))
			break;
	}
	if (unlikely(!open->page))
		return false;
	open->order = order;
	blocks->offset = 0;
	page_ref_add(open->page,
		     (PAGE_SIZE << order) / DMABED_ORDER_PIECE - 1);
	return true;
}

static void dmabed_order_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	struct dmabed_blocks *blocks = rx->store;
	struct dmabed_block *open = &blocks->open;
	u32 end = rx->posted + count;

	for (; rx->posted != end; rx->posted++) {
		u32 slot = rx->posted & rx->ring.mask;

		if (unlikely(!open->page && !dmabed_order_open(rx, gfp))) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		dmabed_rx_post(rx, slot, open->page, blocks->offset, open->dma);
		blocks->offset += DMABED_ORDER_PIECE;
		if (blocks->offset == PAGE_SIZE << open->order) {
			blocks->last[slot] = *open;
			open->page = NULL;
		}
	}
}

/* The ring completes in order: behind its last buffer a block is full. */
static void dmabed_order_pass(struct dmabed_rx *rx, u32 count)
{
	struct dmabed_blocks *blocks = rx->store;
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++) {
		struct dmabed_block *last = &blocks->last[i & rx->ring.mask];

		if (!last->page)
			continue;
		dmabed_page_unmap(rx, last->dma, last->order);
		last->page = NULL;
	}
}

static void dmabed_order_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	dmabed_order_pass(rx, count);
	for (i = rx->next; i != end; i++)
		put_page(rx->buf[i & rx->ring.mask].page);
}

static void dmabed_order_drain(struct dmabed_rx *rx)
{
	struct dmabed_blocks *blocks = rx->store;
	struct dmabed_block *open = &blocks->open;
	u32 left;

	dmabed_order_reuse(rx, rx->posted - rx->next);
	if (!open->page)
		return;
	left = ((PAGE_SIZE << open->order) - blocks->offset) /
	       DMABED_ORDER_PIECE;
	dmabed_page_unmap(rx, open->dma, open->order);
	__page_frag_cache_drain(open->page, left);
	open->page = NULL;
}

static void dmabed_order_teardown(struct dmabed_rx *rx)
{
	kvfree(rx->store);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_order_ops = {
	.name		= "order_fallback",
	.truesize	= DMABED_ORDER_PIECE,
	.setup		= dmabed_order_setup,
	.refill		= dmabed_order_refill,
	.claim		= dmabed_rx_sync_for_cpu,
	.pass		= dmabed_order_pass,
	.reuse		= dmabed_order_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_order_drain,
	.teardown	= dmabed_order_teardown,
};
