/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed NIC driver: what kernels older than the one it is written for lack,
 * down to 6.1. Each piece is there because a header was looked into, by the
 * preprocessor or by Kbuild, and not because of a version: distributions
 * backport.
 */
#ifndef DMABED_COMPAT_H
#define DMABED_COMPAT_H

#include <linux/compiler.h>
#include <linux/debugfs.h>
#include <linux/dma-mapping.h>
#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/netlink.h>
#include <net/netdev_queues.h>

#if __has_include("net/page_pool/helpers.h")
#include <net/page_pool/helpers.h>
#else
#include <net/page_pool.h>
#endif

#ifndef __counted_by
#define __counted_by(...)
#endif

#ifndef NL_SET_ERR_MSG_FMT
#define NL_SET_ERR_MSG_FMT(extack, fmt, ...) \
	do { \
		NL_SET_ERR_MSG(extack, "out of range"); \
		pr_debug(fmt "\n", ##__VA_ARGS__); \
	} while (0)
#endif

#ifndef DEFINE_SHOW_STORE_ATTRIBUTE
#define DEFINE_SHOW_STORE_ATTRIBUTE(name) \
static int name ## _open(struct inode *inode, struct file *file) \
{ \
	return single_open(file, name ## _show, inode->i_private); \
} \
\
static const struct file_operations name ## _fops = { \
	.owner		= THIS_MODULE, \
	.open		= name ## _open, \
	.read		= seq_read, \
	.write		= name ## _write, \
	.llseek		= seq_lseek, \
	.release	= single_release, \
}
#endif

#ifdef DMABED_NO_ETHTOOL_PUTS
static inline void ethtool_puts(u8 **data, const char *text)
{
	ethtool_sprintf(data, "%.*s", ETH_GSTRING_LEN, text);
}
#endif

#ifdef DMABED_NO_DMA_DEV_NEED_SYNC
/* Each sync finds out for itself. */
static inline bool dma_dev_need_sync(const struct device *dev)
{
	return true;
}
#endif

#ifdef DMABED_NO_POOL_SYNC_FOR_CPU
static inline void
page_pool_dma_sync_for_cpu(const struct page_pool *pool,
			   const struct page *page, u32 offset, u32 size)
{
	dma_sync_single_range_for_cpu(pool->p.dev,
				      page_pool_get_dma_addr((struct page *)page),
				      offset + pool->p.offset, size,
				      pool->p.dma_dir);
}
#endif

#ifndef netif_txq_completed_wake
/* Reports what was sent; wakes a stopped queue once @enough is free. */
#define netif_txq_completed_wake(txq, packets, bytes, free, enough) \
	do { \
		struct netdev_queue *__txq = (txq); \
		netdev_tx_completed_queue(__txq, packets, bytes); \
		netif_txq_maybe_wake(__txq, free, enough); \
	} while (0)
#endif

#ifdef DMABED_NO_QUEUE_NAPI
enum netdev_queue_type {
	NETDEV_QUEUE_TYPE_RX,
	NETDEV_QUEUE_TYPE_TX,
};

static inline void netif_napi_set_irq(struct napi_struct *napi, int irq)
{
}

static inline void
netif_queue_set_napi(struct net_device *netdev, unsigned int index,
		     enum netdev_queue_type type, struct napi_struct *napi)
{
}
#endif

#endif /* DMABED_COMPAT_H */
