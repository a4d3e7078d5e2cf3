// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: debugfs, <debugfs>/dmabed/<pci name>/. Writing "N [bytes]"
 * to map_bench maps and unmaps one page N times for the device and times each
 * half; writing "N" to read_bench times N register reads. Reading either gives
 * what its last run found, in nanoseconds.
 */
#include <linux/debugfs.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "dmabed.h"

#define DMABED_BENCH_MAX	BIT(20)

struct dmabed_times {
	u32 avg, min, p50, p99, max;
};

/* The last run, of any device: the lock also keeps runs from overlapping. */
static DEFINE_MUTEX(dmabed_bench_lock);
static struct dmabed_bench {
	struct dmabed_priv *priv;
	u32 maps;
	u32 bytes;
	struct dmabed_times map;
	struct dmabed_times unmap;
} dmabed_bench;

static struct dmabed_read_bench {
	struct dmabed_priv *priv;
	u32 reads;
	struct dmabed_times times;
} dmabed_read_bench;

static struct dentry *dmabed_debugfs_root;

static int dmabed_compare(const void *a, const void *b)
{
	u32 x = *(const u32 *)a;
	u32 y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/* Sorts @ns. */
static void dmabed_summarise(struct dmabed_times *times, u32 *ns, u32 n)
{
	u64 sum = 0;
	u32 i;

	sort(ns, n, sizeof(*ns), dmabed_compare, NULL);
	for (i = 0; i < n; i++)
		sum += ns[i];
	times->avg = div_u64(sum, n);
	times->min = ns[0];
	times->p50 = ns[n / 2];
	times->p99 = ns[min(n - 1, (u32)div_u64(n * 99ULL, 100))];
	times->max = ns[n - 1];
}

static int dmabed_bench_pair(struct device *dev, struct page *page, u32 bytes,
			     u32 *map_ns, u32 *unmap_ns)
{
	u64 start = ktime_get_ns();
	dma_addr_t dma;
	u64 mapped;

	dma = dma_map_page(dev, page, 0, bytes, DMA_FROM_DEVICE);
	mapped = ktime_get_ns();
	if (dma_mapping_error(dev, dma))
		return -ENOMEM;
	*map_ns = min_t(u64, mapped - start, U32_MAX);
	start = ktime_get_ns();
	dma_unmap_page(dev, dma, bytes, DMA_FROM_DEVICE);
	*unmap_ns = min_t(u64, ktime_get_ns() - start, U32_MAX);
	return 0;
}

static int dmabed_bench_run(struct dmabed_priv *priv, struct page *page,
			    u32 *ns, u32 maps, u32 bytes)
{
	int err = 0;
	u32 i;

	for (i = 0; i < maps && !err; i++) {
		err = dmabed_bench_pair(&priv->pdev->dev, page, bytes, &ns[i],
					&ns[maps + i]);
		cond_resched();
		if (signal_pending(current))
			err = -EINTR;
	}
	if (err)
		return err;
	dmabed_bench.priv = priv;
	dmabed_bench.maps = maps;
	dmabed_bench.bytes = bytes;
	dmabed_summarise(&dmabed_bench.map, ns, maps);
	dmabed_summarise(&dmabed_bench.unmap, ns + maps, maps);
	return 0;
}

static int dmabed_bench_start(struct dmabed_priv *priv, u32 maps, u32 bytes)
{
	struct page *page;
	int err = -ENOMEM;
	u32 *ns;

	if (!maps || maps > DMABED_BENCH_MAX || !bytes || bytes > PAGE_SIZE)
		return -EINVAL;
	page = alloc_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	ns = kvmalloc_array(maps, 2 * sizeof(*ns), GFP_KERNEL);
	if (!ns)
		goto free_page;
	mutex_lock(&dmabed_bench_lock);
	err = dmabed_bench_run(priv, page, ns, maps, bytes);
	mutex_unlock(&dmabed_bench_lock);
	kvfree(ns);
free_page:
	__free_page(page);
	return err;
}

static ssize_t map_bench_write(struct file *file, const char __user *ubuf,
			       size_t count, loff_t *pos)
{
	struct seq_file *seq = file->private_data;
	u32 maps, bytes = PAGE_SIZE;
	char text[32] = {};
	int err;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, ubuf, count))
		return -EFAULT;
	if (sscanf(text, "%u %u", &maps, &bytes) < 1)
		return -EINVAL;
	err = dmabed_bench_start(seq->private, maps, bytes);
	return err ?: count;
}

static void dmabed_show_times(struct seq_file *seq, const char *what,
			      const struct dmabed_times *times)
{
	seq_printf(seq,
		   " %s_ns_avg %u %s_ns_min %u %s_ns_p50 %u %s_ns_p99 %u %s_ns_max %u",
		   what, times->avg, what, times->min, what, times->p50,
		   what, times->p99, what, times->max);
}

static int map_bench_show(struct seq_file *seq, void *unused)
{
	mutex_lock(&dmabed_bench_lock);
	if (dmabed_bench.priv == seq->private) {
		seq_printf(seq, "maps %u bytes %u", dmabed_bench.maps,
			   dmabed_bench.bytes);
		dmabed_show_times(seq, "map", &dmabed_bench.map);
		dmabed_show_times(seq, "unmap", &dmabed_bench.unmap);
		seq_putc(seq, '\n');
	} else {
		seq_puts(seq, "maps 0\n");
	}
	mutex_unlock(&dmabed_bench_lock);
	return 0;
}
DEFINE_SHOW_STORE_ATTRIBUTE(map_bench);

static int dmabed_read_start(struct dmabed_priv *priv, u32 reads)
{
	u64 start;
	u32 *ns;
	u32 i;

	if (!reads || reads > DMABED_BENCH_MAX)
		return -EINVAL;
	ns = kvmalloc_array(reads, sizeof(*ns), GFP_KERNEL);
	if (!ns)
		return -ENOMEM;
	for (i = 0; i < reads && !signal_pending(current); i++) {
		start = ktime_get_ns();
		dmabed_read(priv, DMABED_STATUS);
		ns[i] = min_t(u64, ktime_get_ns() - start, U32_MAX);
		cond_resched();
	}
	if (i == reads) {
		mutex_lock(&dmabed_bench_lock);
		dmabed_read_bench.priv = priv;
		dmabed_read_bench.reads = reads;
		dmabed_summarise(&dmabed_read_bench.times, ns, reads);
		mutex_unlock(&dmabed_bench_lock);
	}
	kvfree(ns);
	return i == reads ? 0 : -EINTR;
}

static ssize_t read_bench_write(struct file *file, const char __user *ubuf,
				size_t count, loff_t *pos)
{
	struct seq_file *seq = file->private_data;
	u32 reads;
	int err;

	err = kstrtou32_from_user(ubuf, count, 0, &reads);
	if (!err)
		err = dmabed_read_start(seq->private, reads);
	return err ?: count;
}

static int read_bench_show(struct seq_file *seq, void *unused)
{
	mutex_lock(&dmabed_bench_lock);
	if (dmabed_read_bench.priv == seq->private) {
		seq_printf(seq, "reads %u", dmabed_read_bench.reads);
		dmabed_show_times(seq, "read", &dmabed_read_bench.times);
		seq_putc(seq, '\n');
	} else {
		seq_puts(seq, "reads 0\n");
	}
	mutex_unlock(&dmabed_bench_lock);
	return 0;
}
DEFINE_SHOW_STORE_ATTRIBUTE(read_bench);

void dmabed_debugfs_init(void)
{
	dmabed_debugfs_root = debugfs_create_dir("dmabed", NULL);
}

void dmabed_debugfs_exit(void)
{
	debugfs_remove(dmabed_debugfs_root);
}

void dmabed_debugfs_add(struct dmabed_priv *priv)
{
	priv->debugfs = debugfs_create_dir(pci_name(priv->pdev),
					   dmabed_debugfs_root);
	debugfs_create_file("map_bench", 0600, priv->debugfs, priv,
			    &map_bench_fops);
	debugfs_create_file("read_bench", 0600, priv->debugfs, priv,
			    &read_bench_fops);
}

/* Waits for a run that is under way. */
void dmabed_debugfs_remove(struct dmabed_priv *priv)
{
	debugfs_remove(priv->debugfs);
	mutex_lock(&dmabed_bench_lock);
	if (dmabed_bench.priv == priv)
		dmabed_bench.priv = NULL;
	if (dmabed_read_bench.priv == priv)
		dmabed_read_bench.priv = NULL;
	mutex_unlock(&dmabed_bench_lock);
}
