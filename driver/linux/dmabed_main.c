// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: finds the device, takes hold of it and lets it go.
 */
#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "dmabed.h"
#include "dmabed_plants.h"

static char *rx_mode = "page_pool";
module_param(rx_mode, charp, 0444);
MODULE_PARM_DESC(rx_mode, "at first in /sys/class/net/<if>/dmabed/rx_mode (default page_pool)");

/* Memory BAR mapped, DMA mask set, bus mastering off until the reset. */
static int dmabed_pci_setup(struct dmabed_priv *priv)
{
	struct pci_dev *pdev = priv->pdev;
	int err;

	err = pci_enable_device_mem(pdev);
	if (err)
		return err;
	/* Firmware, or a kernel that crashed, may have left it on. */
	pci_clear_master(pdev);
	err = pci_request_mem_regions(pdev, DMABED_NAME);
	if (err)
		goto disable;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		goto release;
	err = -ENODEV;
	if (pci_resource_len(pdev, 0) < DMABED_QP_BASE(1))
		goto release;
	priv->regs = pci_iomap(pdev, 0, 0);
	if (!priv->regs)
		goto release;
	/* For the slot reset; MSI-X is restored by the PCI core on its own. */
	pci_save_state(pdev);
	return 0;

release:
	pci_release_mem_regions(pdev);
disable:
	pci_disable_device(pdev);
	return err;
}

static void dmabed_pci_teardown(struct dmabed_priv *priv)
{
	pci_iounmap(priv->pdev, priv->regs);
	pci_release_mem_regions(priv->pdev);
	pci_disable_device(priv->pdev);
}

/*
 * Vector 0 is for events and enabled while the interface is in service; each
 * further one makes a queue pair usable.
 */
static int dmabed_irq_setup(struct dmabed_priv *priv)
{
	struct pci_dev *pdev = priv->pdev;
	int err, vectors;

	vectors = pci_alloc_irq_vectors(pdev, DMABED_VECTOR_QP(1),
					DMABED_VECTOR_QP(priv->max_queues),
					PCI_IRQ_MSIX);
	if (vectors < 0)
		return vectors;
	priv->max_queues = min(priv->max_queues,
			       (u32)vectors - DMABED_VECTOR_QP(0));
	err = request_irq(pci_irq_vector(pdev, DMABED_VECTOR_EVENT),
			  dmabed_event_irq, IRQF_NO_AUTOEN, pci_name(pdev),
			  priv);
	if (err)
		pci_free_irq_vectors(pdev);
	return err;
}

static void dmabed_irq_teardown(struct dmabed_priv *priv)
{
	free_irq(pci_irq_vector(priv->pdev, DMABED_VECTOR_EVENT), priv);
	pci_free_irq_vectors(priv->pdev);
}

static struct dmabed_priv *dmabed_alloc(struct pci_dev *pdev)
{
	struct net_device *netdev;
	struct dmabed_priv *priv;

	netdev = alloc_etherdev_mqs(sizeof(*priv), DMABED_QP_MAX,
				    DMABED_QP_MAX);
	if (!netdev)
		return NULL;
	SET_NETDEV_DEV(netdev, &pdev->dev);
	priv = netdev_priv(netdev);
	priv->netdev = netdev;
	priv->pdev = pdev;
	priv->rx_ops = dmabed_plant_rx_ops(dmabed_find_rx_mode(rx_mode));
	dmabed_recover_init(priv);
	dmabed_watchdog_init(priv);
	pci_set_drvdata(pdev, priv);
	return priv;
}

/* The reset comes first: whatever ran on the device before is over then. */
static int dmabed_device_setup(struct dmabed_priv *priv)
{
	int err = dmabed_device_identify(priv);

	if (err)
		return err;
	err = dmabed_device_reset(priv);
	if (err)
		dev_err(&priv->pdev->dev, "reset failed (%d)\n", err);
	else
		dmabed_write(priv, DMABED_NOTE, DMABED_NOTE_BOUND);
	return err;
}

static int dmabed_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct dmabed_priv *priv = dmabed_alloc(pdev);
	int err;

	if (!priv)
		return -ENOMEM;
	err = dmabed_pci_setup(priv);
	if (err)
		goto free_netdev;
	err = dmabed_device_setup(priv);
	if (err)
		goto teardown_pci;
	err = dmabed_irq_setup(priv);
	if (err)
		goto clear_master;
	dmabed_netdev_init(priv);
	err = register_netdev(priv->netdev);
	if (err)
		goto teardown_irq;
	dmabed_debugfs_add(priv);
	return 0;

teardown_irq:
	dmabed_irq_teardown(priv);
	cancel_delayed_work_sync(&priv->watchdog_work);
	cancel_delayed_work_sync(&priv->reset_work);
clear_master:
	pci_clear_master(pdev);
teardown_pci:
	dmabed_pci_teardown(priv);
free_netdev:
	free_netdev(priv->netdev);
	return err;
}

/* The order matters: memory first, then bus mastering, then the device. */
static void dmabed_remove(struct pci_dev *pdev)
{
	struct dmabed_priv *priv = pci_get_drvdata(pdev);

	dmabed_debugfs_remove(priv);
	unregister_netdev(priv->netdev);
	dmabed_irq_teardown(priv);
	cancel_delayed_work_sync(&priv->watchdog_work);
	cancel_delayed_work_sync(&priv->reset_work);
	dmabed_write(priv, DMABED_NOTE, DMABED_NOTE_GAVE_BACK);
	dmabed_plant_clear_master(priv);
	dmabed_write(priv, DMABED_NOTE, DMABED_NOTE_GONE);
	dmabed_pci_teardown(priv);
	free_netdev(priv->netdev);
}

static const struct pci_device_id dmabed_ids[] = {
	{ PCI_DEVICE(DMABED_PCI_VENDOR, DMABED_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, dmabed_ids);

static struct pci_driver dmabed_driver = {
	.name		= DMABED_NAME,
	.id_table	= dmabed_ids,
	.probe		= dmabed_probe,
	.remove		= dmabed_remove,
	.shutdown	= dmabed_shutdown,
	.err_handler	= &dmabed_error_handlers,
	.driver.pm	= pm_sleep_ptr(&dmabed_pm_ops),
};

static int __init dmabed_init(void)
{
	int err;

	if (!dmabed_find_rx_mode(rx_mode)) {
		pr_err(DMABED_NAME ": rx_mode=%s: no such strategy\n", rx_mode);
		return -EINVAL;
	}
	dmabed_debugfs_init();
	err = pci_register_driver(&dmabed_driver);
	if (err)
		dmabed_debugfs_exit();
	return err;
}
module_init(dmabed_init);

static void __exit dmabed_exit(void)
{
	pci_unregister_driver(&dmabed_driver);
	dmabed_debugfs_exit();
}
module_exit(dmabed_exit);

MODULE_DESCRIPTION("dmabed virtual NIC");
MODULE_LICENSE("GPL");
