// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: getting back from trouble. Inconsistent rings and a silent
 * device lead to its reset, at most one a second, which is tried again for a
 * while if it fails; PCI errors and sleep take the interface out of service and
 * put it back.
 */
#include <linux/pci.h>
#include <linux/rtnetlink.h>

#include "dmabed.h"

#define DMABED_RESET_PERIOD	HZ
/* A device that does not come back is tried again so often. */
#define DMABED_RESET_TRIES	10

/* The caller keeps the interface, detached, while the device is waited for. */
static void dmabed_give_up(struct dmabed_priv *priv)
{
	netdev_err(priv->netdev, "the device does not come back, closing\n");
	priv->tries = 0;
	dev_close(priv->netdev);
	netif_device_attach(priv->netdev);
}

/* A device that is gone for good is the hotplug driver's business. */
static void dmabed_try_later(struct dmabed_priv *priv)
{
	if (priv->tries && !pci_channel_offline(priv->pdev))
		schedule_delayed_work(&priv->reset_work, DMABED_RESET_PERIOD);
	else
		dmabed_give_up(priv);
}

/*
 * The interface is up for the stack and has no set: whatever the device lacks,
 * or the kernel, may be there in a while.
 */
void dmabed_wait_for_device(struct dmabed_priv *priv)
{
	netif_device_detach(priv->netdev);
	priv->tries = DMABED_RESET_TRIES;
	dmabed_try_later(priv);
}

static int dmabed_come_back(struct dmabed_priv *priv)
{
	struct dmabed_set *set;
	int err = dmabed_device_reset(priv);

	if (err)
		return err;
	set = dmabed_set_alloc(priv, &priv->cfg);
	if (IS_ERR(set))
		return PTR_ERR(set);
	err = dmabed_up(priv, set);
	if (err)
		dmabed_set_free(set);
	return err;
}

static void dmabed_try_again(struct dmabed_priv *priv)
{
	priv->tries--;
	priv->last_reset = jiffies;
	if (dmabed_come_back(priv)) {
		dmabed_try_later(priv);
		return;
	}
	netdev_info(priv->netdev, "the device is back\n");
	priv->tries = 0;
	priv->resets++;
	netif_device_attach(priv->netdev);
}

static void dmabed_reset(struct dmabed_priv *priv)
{
	netdev_info(priv->netdev, "resetting\n");
	priv->last_reset = jiffies;
	priv->resets++;
	if (dmabed_restart(priv))
		dmabed_wait_for_device(priv);
}

static void dmabed_reset_work(struct work_struct *work)
{
	struct dmabed_priv *priv = container_of(to_delayed_work(work),
						struct dmabed_priv, reset_work);

	rtnl_lock();
	if (priv->tries)
		dmabed_try_again(priv);
	else if (priv->set && netif_device_present(priv->netdev))
		dmabed_reset(priv);
	rtnl_unlock();
}

/* From any context. A device that asks for resets all the time has to wait. */
void dmabed_schedule_reset(struct dmabed_priv *priv)
{
	unsigned long next = READ_ONCE(priv->last_reset) + DMABED_RESET_PERIOD;
	unsigned long now = jiffies;

	schedule_delayed_work(&priv->reset_work,
			      time_before(now, next) ? next - now : 0);
}

/* A completion made no sense: leaves the pair alone until the reset. */
void dmabed_qp_broken(struct dmabed_qp *qp, const char *what)
{
	WRITE_ONCE(qp->broken, true);
	if (net_ratelimit())
		netdev_warn(qp->netdev, "queue %u: impossible %s completion\n",
			    qp->index, what);
	dmabed_schedule_reset(qp->priv);
}

void dmabed_recover_init(struct dmabed_priv *priv)
{
	INIT_DELAYED_WORK(&priv->reset_work, dmabed_reset_work);
	priv->last_reset = jiffies - DMABED_RESET_PERIOD;
}

/* Gives all memory back but stays "up" for the stack; see dmabed_wake(). */
static void dmabed_sleep(struct dmabed_priv *priv)
{
	struct dmabed_set *set;

	rtnl_lock();
	netif_device_detach(priv->netdev);
	priv->tries = 0;
	set = priv->set;
	if (set) {
		dmabed_down(priv);
		dmabed_set_free(set);
	}
	rtnl_unlock();
}

/* @err: of the device's reset. An interface that is down need not wait for it. */
static int dmabed_wake(struct dmabed_priv *priv, int err)
{
	bool running;
	struct dmabed_set *set;

	rtnl_lock();
	running = netif_running(priv->netdev);
	if (running && !err) {
		set = dmabed_set_alloc(priv, &priv->cfg);
		err = PTR_ERR_OR_ZERO(set);
		if (!err) {
			err = dmabed_up(priv, set);
			if (err)
				dmabed_set_free(set);
		}
	}
	if (err)
		netdev_err(priv->netdev, "did not come back (%d)\n", err);
	if (err && running)
		dmabed_wait_for_device(priv);
	else
		netif_device_attach(priv->netdev);
	rtnl_unlock();
	return err;
}

static pci_ers_result_t dmabed_error_detected(struct pci_dev *pdev,
					      pci_channel_state_t state)
{
	struct dmabed_priv *priv = pci_get_drvdata(pdev);

	dmabed_sleep(priv);
	if (state == pci_channel_io_perm_failure)
		return PCI_ERS_RESULT_DISCONNECT;
	pci_clear_master(pdev);
	return PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t dmabed_slot_reset(struct pci_dev *pdev)
{
	struct dmabed_priv *priv = pci_get_drvdata(pdev);

	pci_restore_state(pdev);
	pci_save_state(pdev);
	if (dmabed_device_reset(priv))
		return PCI_ERS_RESULT_DISCONNECT;
	return PCI_ERS_RESULT_RECOVERED;
}

static void dmabed_error_resume(struct pci_dev *pdev)
{
	dmabed_wake(pci_get_drvdata(pdev), 0);
}

const struct pci_error_handlers dmabed_error_handlers = {
	.error_detected	= dmabed_error_detected,
	.slot_reset	= dmabed_slot_reset,
	.resume		= dmabed_error_resume,
};

/* Another kernel may follow: it must not find a device that does DMA. */
void dmabed_shutdown(struct pci_dev *pdev)
{
	dmabed_sleep(pci_get_drvdata(pdev));
	pci_clear_master(pdev);
}

static int dmabed_suspend(struct device *dev)
{
	dmabed_sleep(dev_get_drvdata(dev));
	return 0;
}

static int dmabed_resume(struct device *dev)
{
	struct dmabed_priv *priv = dev_get_drvdata(dev);

	return dmabed_wake(priv, dmabed_device_reset(priv));
}

const struct dev_pm_ops dmabed_pm_ops = {
	SYSTEM_SLEEP_PM_OPS(dmabed_suspend, dmabed_resume)
};
