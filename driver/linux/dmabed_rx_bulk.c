// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: a map and an unmap for every packet, but many in one call.
 * A group of slots is allocated by one call and mapped by one, as a scatterlist,
 * which under an IOMMU is one range of addresses and one invalidation.
 *
 * A group cannot be unmapped in part. One that is complete when its packets are
 * claimed is unmapped before anybody looks at them: the usual case under load.
 * The last group of a poll may be filled in part only. Its packets go to the
 * stack mapped, and the driver keeps a reference of them until the group is
 * complete, so that no page is free and mapped.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/scatterlist.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "dmabed.h"

#define DMABED_GROUP		16U

/* Renamed in 6.14. */
#ifndef alloc_pages_bulk
#define alloc_pages_bulk(gfp, count, pages) \
	alloc_pages_bulk_array(gfp, count, pages)
#endif

struct dmabed_group {
	struct scatterlist sgl[DMABED_GROUP];
	struct page *page[DMABED_GROUP];
};

static struct dmabed_group *dmabed_group_of(struct dmabed_rx *rx, u32 index)
{
	struct dmabed_group *groups = rx->store;

	return &groups[(index & rx->ring.mask) / DMABED_GROUP];
}

static int dmabed_bulk_setup(struct dmabed_rx *rx)
{
	rx->store = kvcalloc((rx->ring.mask + 1) / DMABED_GROUP,
			     sizeof(struct dmabed_group), GFP_KERNEL);
	return rx->store ? 0 : -ENOMEM;
}

static void dmabed_group_free(struct dmabed_group *group)
{
	u32 i;

	for (i = 0; i < DMABED_GROUP; i++) {
		if (group->page[i])
			put_page(group->page[i]);
		group->page[i] = NULL;
	}
}

/* What the bulk call did not give is asked for singly. */
static bool dmabed_group_alloc(struct dmabed_group *group, gfp_t gfp)
{
	u32 i;

	for (i = alloc_pages_bulk(gfp, DMABED_GROUP, group->page);
	     i < DMABED_GROUP; i++) {
		group->page[i] = __dev_alloc_pages(gfp, 0);
		if (!group->page[i])
			return false;
	}
	return true;
}

static int dmabed_group_map(struct dmabed_rx *rx, struct dmabed_group *group)
{
	u32 i;

	sg_init_table(group->sgl, DMABED_GROUP);
	for (i = 0; i < DMABED_GROUP; i++)
		sg_set_page(&group->sgl[i], group->page[i], PAGE_SIZE, 0);
	return dma_map_sg(rx->ring.dev, group->sgl, DMABED_GROUP,
			  DMA_FROM_DEVICE);
}

/* Neighbours may have become one segment; the pages are in order in any case. */
static void dmabed_group_post(struct dmabed_rx *rx, struct dmabed_group *group,
			      int segments)
{
	struct scatterlist *sg;
	u32 n = 0;
	int i;

	for_each_sg(group->sgl, sg, segments, i) {
		dma_addr_t dma = sg_dma_address(sg);
		dma_addr_t end = dma + sg_dma_len(sg);

		for (; dma != end; dma += PAGE_SIZE, n++)
			dmabed_rx_post(rx, (rx->posted + n) & rx->ring.mask,
				       group->page[n], 0, dma);
	}
}

static bool dmabed_bulk_fill(struct dmabed_rx *rx, gfp_t gfp)
{
	struct dmabed_group *group = dmabed_group_of(rx, rx->posted);
	int segments;

	if (unlikely(!dmabed_group_alloc(group, gfp)))
		goto free_pages;
	segments = dmabed_group_map(rx, group);
	if (unlikely(!segments))
		goto free_pages;
	dmabed_group_post(rx, group, segments);
	rx->stats->rx_alloc += DMABED_GROUP;
	rx->stats->rx_maps++;
	return true;

free_pages:
	dmabed_group_free(group);
	return false;
}

/* Whole groups only: up to a group less one may be missing in a quiet ring. */
static void dmabed_bulk_refill(struct dmabed_rx *rx, u32 count, gfp_t gfp)
{
	for (; count >= DMABED_GROUP; count -= DMABED_GROUP) {
		if (unlikely(!dmabed_bulk_fill(rx, gfp))) {
			rx->stats->rx_alloc_fail++;
			break;
		}
		rx->posted += DMABED_GROUP;
	}
}

/*
 * The pages before rx->next were dealt with while mapped: let go of them. What
 * arrived was synced then; the stack may have written beside it since, which a
 * sync of the whole page could undo (bounce buffers).
 */
static void dmabed_bulk_unmap(struct dmabed_rx *rx, u32 first)
{
	struct dmabed_group *group = dmabed_group_of(rx, first);
	u32 i;

	dma_unmap_sg_attrs(rx->ring.dev, group->sgl, DMABED_GROUP,
			   DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
	rx->stats->rx_unmaps++;
	for (i = 0; i < DMABED_GROUP; i++) {
		if ((s32)(first + i - rx->next) < 0)
			put_page(group->page[i]);
		group->page[i] = NULL;
	}
}

/* The first index of the group that is complete in part only, or @end. */
static u32 dmabed_bulk_tail(u32 end)
{
	return round_down(end, DMABED_GROUP);
}

static void dmabed_bulk_claim(struct dmabed_rx *rx, u32 count)
{
	u32 tail = dmabed_bulk_tail(rx->next + count);
	u32 i;

	dmabed_rx_sync_for_cpu(rx, count);
	for (i = dmabed_bulk_tail(rx->next); i != tail; i += DMABED_GROUP)
		dmabed_bulk_unmap(rx, i);
}

static void dmabed_bulk_pass(struct dmabed_rx *rx, u32 count)
{
	u32 end = rx->next + count;
	u32 i = dmabed_bulk_tail(end);

	if ((s32)(i - rx->next) < 0)
		i = rx->next;
	for (; i != end; i++)
		get_page(rx->buf[i & rx->ring.mask].page);
}

/* Pages of a group that is still mapped are let go when it is unmapped. */
static void dmabed_bulk_reuse(struct dmabed_rx *rx, u32 count)
{
	u32 tail = dmabed_bulk_tail(rx->next + count);
	struct page *pages[DMABED_GROUP];
	u32 n = 0;
	u32 i;

	for (i = rx->next; (s32)(tail - i) > 0; i++) {
		pages[n++] = rx->buf[i & rx->ring.mask].page;
		if (n == DMABED_GROUP || i + 1 == tail) {
			release_pages(pages, n);
			n = 0;
		}
	}
}

static void dmabed_bulk_drain(struct dmabed_rx *rx)
{
	u32 i;

	for (i = dmabed_bulk_tail(rx->next); i != rx->posted;
	     i += DMABED_GROUP) {
		struct dmabed_group *group = dmabed_group_of(rx, i);

		dma_unmap_sg_attrs(rx->ring.dev, group->sgl, DMABED_GROUP,
				   DMA_FROM_DEVICE, DMA_ATTR_SKIP_CPU_SYNC);
		rx->stats->rx_unmaps++;
		dmabed_group_free(group);
	}
}

static void dmabed_bulk_teardown(struct dmabed_rx *rx)
{
	kvfree(rx->store);
	rx->store = NULL;
}

const struct dmabed_rx_ops dmabed_rx_bulk_ops = {
	.name		= "bulk_map",
	.truesize	= PAGE_SIZE,
	.setup		= dmabed_bulk_setup,
	.refill		= dmabed_bulk_refill,
	.claim		= dmabed_bulk_claim,
	.pass		= dmabed_bulk_pass,
	.reuse		= dmabed_bulk_reuse,
	.put		= dmabed_rx_put_page,
	.drain		= dmabed_bulk_drain,
	.teardown	= dmabed_bulk_teardown,
};
