// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: receive buffers of half a page. When the device has filled
 * one half, the other is posted next, in the same slot and by the same mapping,
 * provided that the stack has let go of it. The driver takes many references at
 * once and counts without atomics how many are left, so that what is paid per
 * packet is the stack's put_page() alone.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

/* References taken at a time; the page's count must not overflow by them. */
#define DMABED_FLIP_REFS	USHRT_MAX

/**
 * struct dmabed_flip - the page of a slot
 * @page: NULL if the next refill has to get one
 * @dma: of the page
 * @offset: of the half that is posted, or is to be posted
 * @refs: references that are the driver's, at least one
 */
struct dmabed_flip {
	struct page *page;
	dma_addr_t dma;
	u32 offset;
	u32 refs;
};

static int dmabed_flip_setup(struct dmabed_rx *rx)
{
	rx->store = kvcalloc(rx->ring.mask + 1, sizeof(struct dmabed_flip),
			     GFP_KERNEL);
	return rx->store ? 0 : -ENOMEM;
}

static bool dmabed_flip_get(struct dmabed_rx *rx, struct dmabed_flip *flip,
			    gfp_t gfp)
{
	flip->page = dmabed_page_get(rx, 0, gfp, &flip->dma);
	if (unlikely(!flip->page))
		return false;
	page_ref_add(flip->page, DMABED_FLIP_REFS - 1);
	flip->refs = DMABED_FLIP_REFS;
	flip->offset = 0;
	return true;
}

static void dmabed_flip_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	struct dmabed_flip *flips = rx->store;
	u32 end = rx->posted + count;

	for (; rx->posted != end; rx->posted++) {
		u32 slot = rx->posted & rx->ring.mask;
		struct dmabed_flip *flip = &flips[slot];

		if (unlikely(!flip->page && !dmabed_flip_get(rx, flip, gfp))) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		dmabed_rx_post(rx, slot, flip->page, flip->offset, flip->dma);
	}
}

/* Unmaps the page and drops the references that are left to the driver. */
static void dmabed_flip_release(struct dmabed_rx *rx, struct dmabed_flip *flip)
{
	dmabed_page_unmap(rx, flip->dma, 0);
	__page_frag_cache_drain(flip->page, flip->refs);
	flip->page = NULL;
}

/* One reference goes with the packet; is it the only one out there? */
static void dmabed_flip_one(struct dmabed_rx *rx, struct dmabed_flip *flip)
{
	flip->refs--;
	if (unlikely(page_ref_count(flip->page) - flip->refs > 1 ||
		     !dev_page_is_reusable(flip->page))) {
		dmabed_flip_release(rx, flip);
		return;
	}
	flip->offset ^= PAGE_SIZE / 2;
	if (unlikely(flip->refs == 1)) {
		page_ref_add(flip->page, DMABED_FLIP_REFS - 1);
		flip->refs = DMABED_FLIP_REFS;
	}
	dmabed_rx_sync_for_device(rx, flip->dma + flip->offset +
				  DMABED_RX_HEADROOM);
}

static void dmabed_flip_pass(struct dmabed_rx *rx, u32 count)
{
	struct dmabed_flip *flips = rx->store;
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++)
		dmabed_flip_one(rx, &flips[i & rx->ring.mask]);
}

/* The slot still has its page, and the same half is posted again. */
static void dmabed_flip_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	if (!dma_dev_need_sync(rx->ring.dev))
		return;
	for (i = rx->next; i != end; i++)
		dmabed_rx_sync_for_device(rx, rx->buf[i & rx->ring.mask].dma);
}

/* Posted or waiting to be: every page is in its slot. */
static void dmabed_flip_drain(struct dmabed_rx *rx)
{
	struct dmabed_flip *flips = rx->store;
	u32 i;

	for (i = 0; i <= rx->ring.mask; i++)
		if (flips[i].page)
			dmabed_flip_release(rx, &flips[i]);
}

static void dmabed_flip_teardown(struct dmabed_rx *rx)
{
	kvfree(rx->store);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_flip_ops = {
	.name		= "half_page_flip",
	.truesize	= PAGE_SIZE / 2,
	.setup		= dmabed_flip_setup,
	.refill		= dmabed_flip_refill,
	.claim		= dmabed_rx_sync_for_cpu,
	.pass		= dmabed_flip_pass,
	.reuse		= dmabed_flip_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_flip_drain,
	.teardown	= dmabed_flip_teardown,
};
