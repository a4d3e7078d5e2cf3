// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed sink: swallows, counts and verifies test frames on any network device,
 * and sends them. /proc/dmabed_sink, when read, gives "key value" lines: those
 * of the sender, then for each device a line "device <name>" and its counts.
 * It takes three commands:
 *
 *	reset
 *	release
 *	send <device> <count> <frame bytes> <flow> [frags]
 *
 * The last returns when the driver has taken the last frame. The second lets go
 * of the frames that the parameter "hold" kept, after another look at them.
 */
#include <linux/if_arp.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/proc_fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "sink.h"

static char *device;
module_param(device, charp, 0444);
MODULE_PARM_DESC(device, "listen on this device only (default: on all)");

static LIST_HEAD(sink_devices);
static DEFINE_MUTEX(sink_lock);
static struct sink_late sink_late;

static int sink_add(struct net_device *netdev)
{
	struct sink_dev *sink = kzalloc(sizeof(*sink), GFP_KERNEL);

	if (!sink)
		return -ENOMEM;
	sink->percpu = alloc_percpu(struct sink_percpu);
	if (!sink->percpu) {
		kfree(sink);
		return -ENOMEM;
	}
	spin_lock_init(&sink->lock);
	sink->netdev = netdev;
	sink->pt.type = htons(SINK_ETHERTYPE);
	sink->pt.dev = netdev;
	sink->pt.func = sink_receive;
	sink->pt.list_func = sink_receive_list;
	sink->pt.af_packet_priv = sink;
	mutex_lock(&sink_lock);
	list_add_tail(&sink->list, &sink_devices);
	mutex_unlock(&sink_lock);
	dev_add_pack(&sink->pt);
	return 0;
}

static void sink_remove(struct net_device *netdev)
{
	struct sink_dev *sink, *next;

	mutex_lock(&sink_lock);
	list_for_each_entry_safe(sink, next, &sink_devices, list) {
		if (sink->netdev != netdev)
			continue;
		/* Waits until no CPU is in the handler. */
		dev_remove_pack(&sink->pt);
		list_del(&sink->list);
		free_percpu(sink->percpu);
		kfree(sink);
	}
	mutex_unlock(&sink_lock);
}

static bool sink_wanted(const struct net_device *netdev)
{
	return netdev->type == ARPHRD_ETHER &&
	       (!device || sysfs_streq(device, netdev->name));
}

/*
 * Registering the notifier reports every device that is there already, and
 * unregistering it takes them all away again.
 */
static int sink_event(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct net_device *netdev = netdev_notifier_info_to_dev(ptr);

	if (event == NETDEV_REGISTER && sink_wanted(netdev))
		return notifier_from_errno(sink_add(netdev));
	if (event == NETDEV_UNREGISTER)
		sink_remove(netdev);
	return NOTIFY_DONE;
}

static struct notifier_block sink_notifier = {
	.notifier_call = sink_event,
};

static void sink_sum(const struct sink_dev *sink, struct sink_counts *sum,
		     struct sink_times *times)
{
	u64 *to = (u64 *)sum;
	int cpu;
	u32 i;

	static_assert(sizeof(*sum) % sizeof(u64) == 0);

	for_each_possible_cpu(cpu) {
		const struct sink_percpu *p = per_cpu_ptr(sink->percpu, cpu);
		const u64 *from = (const u64 *)&p->counts;

		for (i = 0; i < sizeof(*sum) / sizeof(u64); i++)
			to[i] += READ_ONCE(from[i]);
		if (!p->times.first_ns)
			continue;
		times->first_ns = min_not_zero(times->first_ns,
					       p->times.first_ns);
		times->last_ns = max(times->last_ns, p->times.last_ns);
	}
}

/* The counts in the order of struct sink_counts. */
static const char *const sink_names[] = {
	"packets", "bytes", "small", "bad_magic", "bad_payload",
	"late_start", "gaps", "reordered", "duplicates", "untracked",
};

static void sink_show_device(struct seq_file *seq, const struct sink_dev *sink)
{
	struct sink_times times = {};
	struct sink_counts sum = {};
	const u64 *base = (const u64 *)&sink->base;
	const u64 *value = (const u64 *)&sum;
	u32 i;

	static_assert(ARRAY_SIZE(sink_names) * sizeof(u64) == sizeof(sum));

	sink_sum(sink, &sum, &times);
	seq_printf(seq, "device %s\n", sink->netdev->name);
	for (i = 0; i < ARRAY_SIZE(sink_names); i++)
		seq_printf(seq, "%s %llu\n", sink_names[i],
			   value[i] - base[i]);
	seq_printf(seq, "first_ns %llu\nlast_ns %llu\n", times.first_ns,
		   times.last_ns);
}

static int sink_show(struct seq_file *seq, void *unused)
{
	struct sink_dev *sink;

	sink_send_show(seq);
	seq_printf(seq, "late_frames %llu\nlate_changed %llu\nheld_pages %u\n",
		   sink_late.frames, sink_late.changed, sink_held_pages());
	mutex_lock(&sink_lock);
	list_for_each_entry(sink, &sink_devices, list)
		sink_show_device(seq, sink);
	mutex_unlock(&sink_lock);
	return 0;
}

/*
 * Counts are not cleared but remembered, for CPUs may be adding to them. For
 * exact results nothing may arrive meanwhile.
 */
static void sink_reset_device(struct sink_dev *sink)
{
	struct sink_times times = {};
	int cpu;

	memset(&sink->base, 0, sizeof(sink->base));
	sink_sum(sink, &sink->base, &times);
	for_each_possible_cpu(cpu)
		WRITE_ONCE(per_cpu_ptr(sink->percpu, cpu)->times.first_ns, 0);
	spin_lock_bh(&sink->lock);
	memset(sink->flows, 0, sizeof(sink->flows));
	spin_unlock_bh(&sink->lock);
}

static void sink_reset(void)
{
	struct sink_dev *sink;

	mutex_lock(&sink_lock);
	list_for_each_entry(sink, &sink_devices, list)
		sink_reset_device(sink);
	mutex_unlock(&sink_lock);
}

static int sink_command(const char *text)
{
	struct sink_order order = {};
	char frags[8] = "";
	int n;

	if (sysfs_streq(text, "reset")) {
		sink_reset();
		return 0;
	}
	if (sysfs_streq(text, "release")) {
		sink_release(&sink_late);
		return 0;
	}
	static_assert(IFNAMSIZ == 16);
	n = sscanf(text, "send %15s %llu %u %u %7s", order.ifname,
		   &order.count, &order.bytes, &order.flow, frags);
	if (n < 4 || (n == 5 && strcmp(frags, "frags")))
		return -EINVAL;
	order.frags = n == 5;
	return sink_send(&order);
}

static ssize_t sink_write(struct file *file, const char __user *buffer,
			  size_t count, loff_t *pos)
{
	char text[96] = {};
	int err;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, buffer, count))
		return -EFAULT;
	err = sink_command(text);
	return err ?: count;
}

static int sink_open(struct inode *inode, struct file *file)
{
	return single_open(file, sink_show, NULL);
}

static const struct proc_ops sink_proc_ops = {
	.proc_open	= sink_open,
	.proc_read	= seq_read,
	.proc_write	= sink_write,
	.proc_lseek	= seq_lseek,
	.proc_release	= single_release,
};

static int __init sink_init(void)
{
	int err = sink_ramp_init();

	if (err)
		return err;
	sink_hold_init();
	err = register_netdevice_notifier(&sink_notifier);
	if (err)
		goto free_ramp;
	err = -ENOMEM;
	if (!proc_create("dmabed_sink", 0600, NULL, &sink_proc_ops))
		goto unregister;
	return 0;

unregister:
	unregister_netdevice_notifier(&sink_notifier);
	sink_hold_exit();
free_ramp:
	sink_ramp_exit();
	return err;
}
module_init(sink_init);

static void __exit sink_exit(void)
{
	remove_proc_entry("dmabed_sink", NULL);
	unregister_netdevice_notifier(&sink_notifier);
	sink_hold_exit();
	sink_ramp_exit();
}
module_exit(sink_exit);

MODULE_DESCRIPTION("Receiver and sender of dmabed test frames");
MODULE_LICENSE("GPL");
