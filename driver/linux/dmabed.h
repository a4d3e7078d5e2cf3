/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed NIC driver: the device, and what the driver's files offer each other.
 *
 * A "set" holds everything that is allocated while the interface is up: one
 * queue pair per channel, each with four rings, a NAPI instance and a source of
 * receive buffers. Changing ring sizes or the number of channels builds a new
 * set beside the old one and swaps them, so a failure leaves the old one alive.
 */
#ifndef DMABED_H
#define DMABED_H

#include <linux/bitfield.h>
#include <linux/dma-mapping.h>
#include <linux/ethtool.h>
#include <linux/io.h>
#include <linux/netdevice.h>
#include <linux/pci.h>

#include "dmabed_hw.h"
#include "dmabed_queue.h"

#define DMABED_NAME		"dmabed_nic"

#define DMABED_DEFAULT_RING	512
#define DMABED_DEFAULT_USECS	64
#define DMABED_DEFAULT_FRAMES	64
#define DMABED_MAX_MTU		9216
/* Polls in a row that found nothing; see dmabed_poll(). */
#define DMABED_IDLE_POLLS	64

/* Values of the NOTE register. */
#define DMABED_NOTE_BOUND	1
#define DMABED_NOTE_GAVE_BACK	2
#define DMABED_NOTE_GONE	3

struct dmabed_config {
	u32 queues;
	u32 rx_size;
	u32 tx_size;
};

struct dmabed_set {
	struct dmabed_config cfg;
	u32 count;
	struct dmabed_qp qp[] __counted_by(count);
};

/**
 * struct dmabed_priv - a device
 * @netdev: its interface
 * @pdev: its PCI function
 * @regs: BAR 0
 * @set: NULL while the interface is down; changed under RTNL while every
 *	transmit queue is stopped
 * @cfg: of the next set
 * @max_queues: bounded by the device and the vectors obtained
 * @max_ring: largest ring, entries
 * @min_ring: smallest ring, entries
 * @frame_cap: largest frame the device carries, bytes
 * @usecs: interrupt moderation
 * @frames: interrupt moderation
 * @rx_ops: where receive buffers come from; as @rx_discard, changed under RTNL
 *	while the interface is down
 * @rx_discard: drop all frames
 * @reset_work: stops, resets and restarts the device
 * @watchdog_work: looks after the queue pairs while there is a set
 * @tries: resets still to be tried of a device that did not come back; the
 *	interface is up without a set then, and detached
 * @last_reset: jiffies
 * @resets: counts them
 * @dma_faults: refused DMA, as reported by the device
 * @gone: the device no longer answers, or may not be touched
 * @debugfs: folder of the device
 * @stats: by queue pair
 */
struct dmabed_priv {
	struct net_device *netdev;
	struct pci_dev *pdev;
	void __iomem *regs;
	struct dmabed_set *set;
	struct dmabed_config cfg;
	u32 max_queues;
	u32 max_ring;
	u32 min_ring;
	u32 frame_cap;
	u32 usecs;
	u32 frames;
	const struct dmabed_rx_ops *rx_ops;
	bool rx_discard;
	struct delayed_work reset_work;
	struct delayed_work watchdog_work;
	u32 tries;
	unsigned long last_reset;
	u64 resets;
	u64 dma_faults;
	bool gone;
	struct dentry *debugfs;
	struct dmabed_qstats stats[DMABED_QP_MAX];
};

static inline u32 dmabed_read(const struct dmabed_priv *priv, u32 reg)
{
	return readl(priv->regs + reg);
}

static inline void dmabed_write(struct dmabed_priv *priv, u32 reg, u32 val)
{
	writel(val, priv->regs + reg);
}

/* Reading the low half latches the high half. */
static inline u64 dmabed_read64(void __iomem *addr)
{
	u64 low = readl(addr);

	return low | (u64)readl(addr + 4) << 32;
}

/* STATUS, EVENT and the control registers never read as all ones here. */
static inline bool dmabed_absent(u32 val)
{
	return val == ~0U;
}

/* dmabed_device.c: registers, nothing that allocates */
int dmabed_device_reset(struct dmabed_priv *priv);
int dmabed_device_identify(struct dmabed_priv *priv);
void dmabed_device_get_mac(struct dmabed_priv *priv, u8 *addr);
void dmabed_device_set_mac(struct dmabed_priv *priv, const u8 *addr);
void dmabed_device_configure(struct dmabed_priv *priv);
void dmabed_device_moderate(struct dmabed_priv *priv);
void dmabed_device_enable_qp(struct dmabed_qp *qp);
int dmabed_device_disable(struct dmabed_priv *priv, struct dmabed_set *set);
void dmabed_device_link(struct dmabed_priv *priv);
irqreturn_t dmabed_event_irq(int irq, void *data);

/* dmabed_queue.c: sets */
struct dmabed_set *dmabed_set_alloc(struct dmabed_priv *priv,
				    const struct dmabed_config *cfg);
void dmabed_set_free(struct dmabed_set *set);
void dmabed_set_rewind(struct dmabed_set *set);

/* dmabed_service.c: bringing a set into and out of service, under RTNL */
int dmabed_poll(struct napi_struct *napi, int budget);
int dmabed_up(struct dmabed_priv *priv, struct dmabed_set *set);
void dmabed_down(struct dmabed_priv *priv);
int dmabed_restart(struct dmabed_priv *priv);
int dmabed_reconfigure(struct dmabed_priv *priv,
		       const struct dmabed_config *cfg);

/* dmabed_netdev.c */
void dmabed_netdev_init(struct dmabed_priv *priv);
void dmabed_set_rx_mode(struct net_device *netdev);
u32 dmabed_max_frame(const struct dmabed_priv *priv);

/* dmabed_rx.c */
int dmabed_rx_setup(struct dmabed_rx *rx);
void dmabed_rx_rewind(struct dmabed_rx *rx);
void dmabed_rx_teardown(struct dmabed_rx *rx);
void dmabed_rx_ring_doorbell(struct dmabed_rx *rx);
u32 dmabed_rx_poll(struct dmabed_rx *rx, u32 budget, bool *again);

/* dmabed_rx_<strategy>.c */
extern const struct dmabed_rx_ops dmabed_rx_pool_ops;
extern const struct dmabed_rx_ops dmabed_rx_map_ops;
extern const struct dmabed_rx_ops dmabed_rx_array_ops;
extern const struct dmabed_rx_ops dmabed_rx_flip_ops;
extern const struct dmabed_rx_ops dmabed_rx_order_ops;
extern const struct dmabed_rx_ops dmabed_rx_recycle_ops;
extern const struct dmabed_rx_ops dmabed_rx_shadow_ops;
extern const struct dmabed_rx_ops dmabed_rx_bulk_ops;

/* dmabed_rx_page.c: what strategies that map for themselves share */
struct page *dmabed_page_get(struct dmabed_rx *rx, u32 order, gfp_t gfp,
			     dma_addr_t *dma);
void dmabed_page_unmap(struct dmabed_rx *rx, dma_addr_t dma, u32 order);
void dmabed_rx_post(struct dmabed_rx *rx, u32 slot, struct page *page,
		    u32 offset, dma_addr_t dma);
void dmabed_rx_sync_for_cpu(struct dmabed_rx *rx, u32 count);
void dmabed_rx_sync_for_device(struct dmabed_rx *rx, dma_addr_t dma);
void dmabed_rx_put_page(struct dmabed_rx *rx, const struct dmabed_rx_buf *buf);

/* dmabed_rx_modes.c: the strategies by name, and /sys/class/net/<if>/dmabed/ */
const struct dmabed_rx_ops *dmabed_find_rx_mode(const char *name);
extern const struct attribute_group dmabed_attr_group;

/* dmabed_tx.c */
netdev_tx_t dmabed_start_xmit(struct sk_buff *skb, struct net_device *netdev);
bool dmabed_tx_poll(struct dmabed_tx *tx, int budget);
void dmabed_tx_drain(struct dmabed_tx *tx);

/* dmabed_ethtool.c, dmabed_stats.c */
extern const struct ethtool_ops dmabed_ethtool_ops;
int dmabed_get_sset_count(struct net_device *netdev, int sset);
void dmabed_get_strings(struct net_device *netdev, u32 sset, u8 *data);
void dmabed_get_ethtool_stats(struct net_device *netdev,
			      struct ethtool_stats *stats, u64 *data);
void dmabed_get_stats64(struct net_device *netdev,
			struct rtnl_link_stats64 *total);

/* dmabed_recover.c: resets, PCI errors, sleep */
void dmabed_recover_init(struct dmabed_priv *priv);
void dmabed_schedule_reset(struct dmabed_priv *priv);
void dmabed_wait_for_device(struct dmabed_priv *priv);
void dmabed_qp_broken(struct dmabed_qp *qp, const char *what);
void dmabed_shutdown(struct pci_dev *pdev);
extern const struct pci_error_handlers dmabed_error_handlers;
extern const struct dev_pm_ops dmabed_pm_ops;

/* dmabed_watchdog.c: lost interrupts, stuck queues */
void dmabed_watchdog_init(struct dmabed_priv *priv);
void dmabed_watchdog_start(struct dmabed_priv *priv, struct dmabed_set *set);

/* dmabed_debugfs.c */
#ifdef CONFIG_DEBUG_FS
void dmabed_debugfs_init(void);
void dmabed_debugfs_exit(void);
void dmabed_debugfs_add(struct dmabed_priv *priv);
void dmabed_debugfs_remove(struct dmabed_priv *priv);
#else
static inline void dmabed_debugfs_init(void) { }
static inline void dmabed_debugfs_exit(void) { }
static inline void dmabed_debugfs_add(struct dmabed_priv *priv) { }
static inline void dmabed_debugfs_remove(struct dmabed_priv *priv) { }
#endif

#endif /* DMABED_H */
