/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed NIC driver: queue pairs, their rings and their counts.
 */
#ifndef DMABED_QUEUE_H
#define DMABED_QUEUE_H

#include <linux/netdevice.h>
#include <linux/u64_stats_sync.h>

#include "dmabed_compat.h"
#include "dmabed_hw.h"

/* A buffer is headroom, data, and room for skb_shared_info. */
#define DMABED_RX_HEADROOM	(NET_SKB_PAD + NET_IP_ALIGN)
#define DMABED_RX_BUF_LEN(truesize) \
	((u32)SKB_WITH_OVERHEAD(truesize) - DMABED_RX_HEADROOM)

struct dmabed_priv;
struct dmabed_qp;
struct dmabed_rx;

/**
 * struct dmabed_qstats - counts of one queue pair, kept while it is down
 * @syncp: guards the 64-bit values on 32-bit machines; one writer per side
 * @rx_packets: frames given to the stack
 * @rx_bytes: their bytes
 * @rx_dropped: frames dropped by the driver: no memory, marked bad by the
 *	device, or described by an impossible completion
 * @rx_bad: completions whose contents were impossible
 * @rx_alloc: buffers taken from the page allocator or the pool
 * @rx_alloc_fail: buffers that could not be had or mapped
 * @rx_maps: dma_map_page() calls made by the driver for receive buffers
 * @rx_unmaps: their dma_unmap_page() calls
 * @rx_pool_maps: pages mapped by pools that are gone
 * @rx_pool_unmaps: pages unmapped by pools until they were destroyed
 * @rx_discarded: frames dropped because the attribute rx_discard says so; they
 *	count as received
 * @rx_doorbells: doorbell writes
 * @polls: NAPI polls
 * @arms: ARM writes
 * @tx_syncp: as @syncp, for what completion of transmission writes
 * @tx_packets: frames sent, by their completions
 * @tx_bytes: their bytes
 * @tx_dropped: frames dropped before they reached the ring
 * @tx_errors: frames the device could not send
 * @tx_bad: completions whose contents were impossible
 * @tx_maps: DMA maps for transmission
 * @tx_unmaps: their unmaps
 * @tx_stops: times the queue was stopped for want of descriptors
 * @rescues: completions that no interrupt told of, found by the watchdog
 * @xmit_syncp: as @syncp, for what ndo_start_xmit writes
 */
struct dmabed_qstats {
	struct u64_stats_sync syncp;
	u64 rx_packets, rx_bytes, rx_dropped, rx_bad;
	u64 rx_alloc, rx_alloc_fail, rx_maps, rx_unmaps;
	u64 rx_pool_maps, rx_pool_unmaps;
	u64 rx_discarded, rx_doorbells, polls, arms, rescues;

	struct u64_stats_sync tx_syncp ____cacheline_aligned_in_smp;
	u64 tx_packets, tx_bytes, tx_errors, tx_bad, tx_unmaps;

	struct u64_stats_sync xmit_syncp ____cacheline_aligned_in_smp;
	u64 tx_dropped, tx_maps, tx_stops;
};

/**
 * struct dmabed_ring - a descriptor ring and its completion ring
 * @rx: descriptors of a receive ring
 * @tx: descriptors of a transmit ring
 * @desc: the same, for their allocation
 * @cq: completions, as many entries
 * @mask: entries - 1
 * @log2: log2 of the entries
 * @dev: for DMA
 * @desc_dma: IOVA of @desc
 * @cq_dma: IOVA of @cq
 *
 * Indices into it run freely. The driver never reads a descriptor back.
 */
struct dmabed_ring {
	union {
		struct dmabed_rx_desc *rx;
		struct dmabed_tx_desc *tx;
		void *desc;
	};
	struct dmabed_completion *cq;
	u32 mask;
	u32 log2;
	struct device *dev;
	dma_addr_t desc_dma;
	dma_addr_t cq_dma;
};

/**
 * struct dmabed_rx_buf - the buffer behind a slot of the ring
 * @page: what it is a part of; the head if the page is a compound one
 * @dma: where the device puts the data; the strategy's own business
 * @offset: of its headroom from the start of @page
 * @len: bytes of data, as the completion says, unchecked
 */
struct dmabed_rx_buf {
	struct page *page;
	dma_addr_t dma;
	u32 offset;
	u32 len;
};

static inline void *dmabed_buf_va(const struct dmabed_rx_buf *buf)
{
	return page_address(buf->page) + buf->offset;
}

/**
 * struct dmabed_rx_ops - a strategy for receive buffers
 * @name: value of the module parameter and of the attribute rx_mode
 * @truesize: bytes of a buffer, headroom and shared info included
 * @recycle: pages go back to a page_pool when their skb is freed
 * @setup: prepares @rx, allocates no buffer
 * @refill: fills up to @count slots from rx->posted on and advances it
 * @claim: @count buffers from rx->next on were filled: makes them readable for
 *	the CPU. One of the next two follows at once.
 * @pass: they leave with packets; from here on they are the stack's
 * @reuse: the driver has looked at them and dropped all of them
 * @put: gives back a buffer that was passed but that no skb took over
 * @drain: gives back all buffers from rx->next to rx->posted, and all that is
 *	kept for the next refill; the device has stopped, NAPI is disabled
 * @teardown: undoes @setup
 *
 * Everything on the hot path works on a whole poll, so that an indirect call is
 * paid a few times per poll and the strategy is invisible to the code per
 * packet.
 */
struct dmabed_rx_ops {
	const char *name;
	u32 truesize;
	bool recycle;
	int (*setup)(struct dmabed_rx *rx);
	void (*refill)(struct dmabed_rx *rx, u32 count, gfp_t gfp);
	void (*claim)(struct dmabed_rx *rx, u32 count);
	void (*pass)(struct dmabed_rx *rx, u32 count);
	void (*reuse)(struct dmabed_rx *rx, u32 count);
	void (*put)(struct dmabed_rx *rx, const struct dmabed_rx_buf *buf);
	void (*drain)(struct dmabed_rx *rx);
	void (*teardown)(struct dmabed_rx *rx);
};

/**
 * struct dmabed_rx - receive side of a queue pair
 * @ring: its rings
 * @buf: the buffer behind each slot
 * @ops: where buffers come from
 * @pool: NULL unless the strategy has one
 * @store: what else the strategy keeps
 * @skb: frame whose last buffer has not arrived yet
 * @stats: shared with the transmit side
 * @truesize: bytes of a buffer
 * @buf_len: bytes of it that the device may fill
 * @discard: drop all frames, as XDP_DROP would
 * @batch: descriptors worth a doorbell
 * @next: completions consumed
 * @passed: buffers passed to the stack; differs from @next only within a poll
 *	or after the ring was found to be inconsistent
 * @posted: descriptors filled
 * @rung: value last written to the doorbell
 * @qp: the pair
 *
 * @next, @passed, @posted and @rung run freely; next <= passed <= posted.
 */
struct dmabed_rx {
	struct dmabed_ring ring;
	struct dmabed_rx_buf *buf;
	const struct dmabed_rx_ops *ops;
	struct page_pool *pool;
	void *store;
	struct sk_buff *skb;
	struct dmabed_qstats *stats;
	u32 truesize;
	u32 buf_len;
	bool discard;
	u32 batch;
	u32 next;
	u32 passed;
	u32 posted;
	u32 rung;
	struct dmabed_qp *qp;
};

/**
 * struct dmabed_tx_buf - a transmit descriptor's mapping
 * @skb: in the first descriptor of a frame only
 * @dma: IOVA of the piece
 * @len: its bytes
 * @count: descriptors of the frame, in the first one only
 */
struct dmabed_tx_buf {
	struct sk_buff *skb;
	dma_addr_t dma;
	u32 len;
	u32 count;
};

/**
 * struct dmabed_tx - transmit side of a queue pair
 * @ring: its rings
 * @buf: the mapping behind each slot
 * @stats: shared with the receive side
 * @txq: the stack's queue
 * @qp: the pair
 * @prod: descriptors filled; written by ndo_start_xmit, released to the reaper
 * @reap_lock: one reaper at a time, NAPI or ndo_start_xmit; only ever tried
 * @clean: descriptors reaped
 * @seen: completions consumed
 */
struct dmabed_tx {
	struct dmabed_ring ring;
	struct dmabed_tx_buf *buf;
	struct dmabed_qstats *stats;
	struct netdev_queue *txq;
	struct dmabed_qp *qp;

	u32 prod ____cacheline_aligned_in_smp;

	spinlock_t reap_lock ____cacheline_aligned_in_smp;
	u32 clean;
	u32 seen;
};

/**
 * struct dmabed_watch - what the watchdog remembers of a queue pair
 * @rx: receive completions consumed at the last look
 * @tx: transmit descriptors reaped at the last look
 * @irqs: interrupts at the last probe
 * @quiet: ticks without progress
 * @odd: ticks with a contradiction
 * @still: ticks with frames to send and none sent
 * @probes: probes in a row that no interrupt answered
 * @pending: completions lay there at the last look
 */
struct dmabed_watch {
	u32 rx;
	u32 tx;
	u32 irqs;
	u32 quiet;
	u32 odd;
	u32 still;
	u32 probes;
	bool pending;
};

/**
 * struct dmabed_qp - a queue pair
 * @napi: polls both sides
 * @rx: receive side
 * @tx: transmit side
 * @regs: its registers
 * @priv: the device
 * @netdev: the interface
 * @stats: its counts
 * @index: its number
 * @broken: a completion made no sense; left alone until the reset
 * @kicked: the next poll rings the receive doorbell again
 * @irqs: interrupts handled
 * @idle_polls: polls in a row that found nothing
 * @watch: of the watchdog
 * @irq: of its MSI-X vector
 * @irq_name: shown in /proc/interrupts
 */
struct dmabed_qp {
	struct napi_struct napi;
	struct dmabed_rx rx;
	struct dmabed_tx tx;
	void __iomem *regs;
	struct dmabed_priv *priv;
	struct net_device *netdev;
	struct dmabed_qstats *stats;
	u32 index;
	bool broken;
	bool kicked;
	u32 irqs;
	u32 idle_polls;
	struct dmabed_watch watch;
	int irq;
	char irq_name[IFNAMSIZ + 16];
};

/* The phase is 1 in the first pass over a completion ring, then 0, 1, ... */
static inline bool dmabed_is_new(const struct dmabed_ring *ring, u32 index)
{
	u32 status = le32_to_cpu(READ_ONCE(ring->cq[index & ring->mask].status));

	static_assert(DMABED_COMPLETION_STATUS_PHASE & BIT(0));

	return (status ^ (index >> ring->log2)) & DMABED_COMPLETION_STATUS_PHASE;
}

/*
 * All of it, each time: the device can write to the ring, so nothing that lies
 * there is what it was.
 */
static inline void dmabed_rx_describe(struct dmabed_rx *rx, u32 slot,
				      dma_addr_t dma)
{
	struct dmabed_rx_desc *desc = &rx->ring.rx[slot];

	desc->addr = cpu_to_le64(dma);
	desc->len = cpu_to_le16(rx->buf_len);
	desc->id = cpu_to_le16(slot);
}

#endif /* DMABED_QUEUE_H */
