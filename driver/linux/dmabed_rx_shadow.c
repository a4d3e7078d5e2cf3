// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the device fills pages that stay mapped and hold nothing
 * but packets; the stack gets copies in pages that never were mapped. Nothing
 * is unmapped, and still the device reaches no byte that the stack reads. The
 * copy's page is set aside when the buffer is posted, so receiving cannot fail.
 */
#include <linux/mm.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

/**
 * struct dmabed_shadow - what belongs to a slot as long as the ring lives
 * @page: filled by the device
 * @dma: of @page
 * @copy: set aside for the stack; NULL once it was passed
 */
struct dmabed_shadow {
	struct page *page;
	dma_addr_t dma;
	struct page *copy;
};

static int dmabed_shadow_setup(struct dmabed_rx *rx)
{
	rx->store = kvcalloc(rx->ring.mask + 1, sizeof(struct dmabed_shadow),
			     GFP_KERNEL);
	return rx->store ? 0 : -ENOMEM;
}

static bool dmabed_shadow_ready(struct dmabed_rx *rx, struct dmabed_shadow *s,
				gfp_t gfp)
{
	if (unlikely(!s->page))
		s->page = dmabed_page_get(rx, 0, gfp, &s->dma);
	if (!s->copy) {
		s->copy = __dev_alloc_pages(gfp, 0);
		rx->stats->rx_alloc += !!s->copy;
	}
	return s->page && s->copy;
}

static void dmabed_shadow_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	struct dmabed_shadow *shadows = rx->store;
	u32 end = rx->posted + count;

	for (; rx->posted != end; rx->posted++) {
		u32 slot = rx->posted & rx->ring.mask;
		struct dmabed_shadow *s = &shadows[slot];

		if (unlikely(!dmabed_shadow_ready(rx, s, gfp))) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		dmabed_rx_post(rx, slot, s->page, 0, s->dma);
	}
}

/* An impossible length is refused later; here it must only do no harm. */
static void dmabed_shadow_pass(struct dmabed_rx *rx, u32 count)
{
	struct dmabed_shadow *shadows = rx->store;
	u32 end = rx->next + count;
	u32 i;

	for (i = rx->next; i != end; i++) {
		struct dmabed_rx_buf *buf = &rx->buf[i & rx->ring.mask];
		struct dmabed_shadow *s = &shadows[i & rx->ring.mask];

		memcpy(page_address(s->copy) + DMABED_RX_HEADROOM,
		       page_address(s->page) + DMABED_RX_HEADROOM,
		       min(buf->len, rx->buf_len));
		dmabed_rx_sync_for_device(rx, buf->dma);
		buf->page = s->copy;
		s->copy = NULL;
	}
}

/* Shadow and copy stay in the slot. */
static void dmabed_shadow_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i;

	if (!dma_dev_need_sync(rx->ring.dev))
		return;
	for (i = rx->next; i != end; i++)
		dmabed_rx_sync_for_device(rx, rx->buf[i & rx->ring.mask].dma);
}

/* They are posted again by the next refill, or freed with the ring. */
static void dmabed_shadow_drain(struct dmabed_rx *rx)
{
}

static void dmabed_shadow_teardown(struct dmabed_rx *rx)
{
	struct dmabed_shadow *shadows = rx->store;
	u32 i;

	for (i = 0; i <= rx->ring.mask; i++) {
		if (shadows[i].copy)
			__free_page(shadows[i].copy);
		if (!shadows[i].page)
			continue;
		dmabed_page_unmap(rx, shadows[i].dma, 0);
		__free_page(shadows[i].page);
	}
	kvfree(shadows);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_shadow_ops = {
	.name		= "shadow_copy",
	.truesize	= PAGE_SIZE,
	.setup		= dmabed_shadow_setup,
	.refill		= dmabed_shadow_refill,
	.claim		= dmabed_rx_sync_for_cpu,
	.pass		= dmabed_shadow_pass,
	.reuse		= dmabed_shadow_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_shadow_drain,
	.teardown	= dmabed_shadow_teardown,
};
