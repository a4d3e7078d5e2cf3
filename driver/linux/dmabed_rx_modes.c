// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: the receive strategies by name, and the attributes in
 * /sys/class/net/<interface>/dmabed/. As with the mode of a bond, they can be
 * written while the interface is down: the rings are built for a strategy.
 */
#include <linux/rtnetlink.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "dmabed.h"

static const struct dmabed_rx_ops *const dmabed_rx_modes[] = {
	&dmabed_rx_pool_ops,
	&dmabed_rx_map_ops,
	&dmabed_rx_array_ops,
	&dmabed_rx_flip_ops,
	&dmabed_rx_order_ops,
	&dmabed_rx_recycle_ops,
	&dmabed_rx_shadow_ops,
	&dmabed_rx_bulk_ops,
};

/* NULL if there is none of that name. */
const struct dmabed_rx_ops *dmabed_find_rx_mode(const char *name)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(dmabed_rx_modes); i++)
		if (sysfs_streq(name, dmabed_rx_modes[i]->name))
			return dmabed_rx_modes[i];
	return NULL;
}

static struct dmabed_priv *dmabed_attr_priv(struct device *dev)
{
	return netdev_priv(to_net_dev(dev));
}

/*
 * RTNL, for an interface that is down. It is only tried: whoever removes the
 * interface holds it and waits for this file to be closed.
 */
static int dmabed_attr_lock(struct dmabed_priv *priv)
{
	if (!rtnl_trylock())
		return restart_syscall();
	if (!netif_running(priv->netdev))
		return 0;
	rtnl_unlock();
	return -EBUSY;
}

/* All names, the one in use in brackets. */
static ssize_t rx_mode_show(struct device *dev, struct device_attribute *attr,
			    char *text)
{
	const struct dmabed_rx_ops *used = READ_ONCE(dmabed_attr_priv(dev)->rx_ops);
	ssize_t len = 0;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(dmabed_rx_modes); i++)
		len += sysfs_emit_at(text, len,
				     dmabed_rx_modes[i] == used ? "%s[%s]" :
								  "%s%s",
				     i ? " " : "", dmabed_rx_modes[i]->name);
	return len + sysfs_emit_at(text, len, "\n");
}

static ssize_t rx_mode_store(struct device *dev, struct device_attribute *attr,
			     const char *text, size_t count)
{
	const struct dmabed_rx_ops *ops = dmabed_find_rx_mode(text);
	struct dmabed_priv *priv = dmabed_attr_priv(dev);
	int err;

	if (!ops)
		return -EINVAL;
	err = dmabed_attr_lock(priv);
	if (err)
		return err;
	WRITE_ONCE(priv->rx_ops, ops);
	rtnl_unlock();
	return count;
}
static DEVICE_ATTR_RW(rx_mode);

static ssize_t rx_discard_show(struct device *dev,
			       struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%d\n",
			  READ_ONCE(dmabed_attr_priv(dev)->rx_discard));
}

/* 1: every frame is dropped by the driver, where XDP_DROP would do it. */
static ssize_t rx_discard_store(struct device *dev,
				struct device_attribute *attr,
				const char *text, size_t count)
{
	struct dmabed_priv *priv = dmabed_attr_priv(dev);
	bool discard;
	int err;

	err = kstrtobool(text, &discard);
	if (err)
		return err;
	err = dmabed_attr_lock(priv);
	if (err)
		return err;
	WRITE_ONCE(priv->rx_discard, discard);
	rtnl_unlock();
	return count;
}
static DEVICE_ATTR_RW(rx_discard);

static struct attribute *dmabed_attrs[] = {
	&dev_attr_rx_mode.attr,
	&dev_attr_rx_discard.attr,
	NULL
};

const struct attribute_group dmabed_attr_group = {
	.name	= "dmabed",
	.attrs	= dmabed_attrs,
};
