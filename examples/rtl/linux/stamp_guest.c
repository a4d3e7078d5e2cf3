// SPDX-License-Identifier: GPL-2.0
/*
 * Driver for examples/rtl/stamp.sv: asks it for a few stamps in DMA memory, waits for each
 * interrupt, and compares what was written.
 */

#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

#define STAMP_ID		0x00
#define STAMP_ID_VALUE		0x5354414d
#define STAMP_ADDR_LO		0x04
#define STAMP_ADDR_HI		0x08
#define STAMP_STAMP		0x0c
#define STAMP_COUNT		0x10

#define STAMP_VALUE		0xab00
#define STAMP_WAIT		(10 * HZ)

struct stamp {
	__le64 clock;
	__le32 value;
	__le32 count;
};

static irqreturn_t stamp_irq(int irq, void *data)
{
	complete(data);
	return IRQ_HANDLED;
}

static int stamp_ask(struct pci_dev *pdev, void __iomem *regs, struct completion *done,
		     const struct stamp *stamp)
{
	u32 count;

	for (count = 1; count <= 3; count++) {
		writel(STAMP_VALUE + count, regs + STAMP_STAMP);
		if (!wait_for_completion_timeout(done, STAMP_WAIT))
			return -ETIMEDOUT;
		if (le32_to_cpu(stamp->count) != count ||
		    le32_to_cpu(stamp->value) != STAMP_VALUE + count ||
		    readl(regs + STAMP_COUNT) != count)
			return -EIO;
		dev_info(&pdev->dev, "stamp %u is %#x, at clock %llu\n", count,
			 le32_to_cpu(stamp->value), le64_to_cpu(stamp->clock));
	}
	return 0;
}

static int stamp_try(struct pci_dev *pdev, void __iomem *regs, struct completion *done)
{
	struct stamp *stamp;
	dma_addr_t addr;
	int err;

	stamp = dma_alloc_coherent(&pdev->dev, sizeof(*stamp), &addr, GFP_KERNEL);
	if (!stamp)
		return -ENOMEM;
	writel(lower_32_bits(addr), regs + STAMP_ADDR_LO);
	writel(upper_32_bits(addr), regs + STAMP_ADDR_HI);
	pci_set_master(pdev);
	err = stamp_ask(pdev, regs, done, stamp);
	pci_clear_master(pdev);
	dma_free_coherent(&pdev->dev, sizeof(*stamp), stamp, addr);
	return err;
}

static int stamp_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	DECLARE_COMPLETION_ONSTACK(done);
	void __iomem *regs;
	int err;

	err = pci_enable_device_mem(pdev);
	if (err)
		return err;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		goto err_disable;
	regs = pci_iomap(pdev, 0, 0);
	if (!regs) {
		err = -ENOMEM;
		goto err_disable;
	}
	if (readl(regs + STAMP_ID) != STAMP_ID_VALUE) {
		err = -ENODEV;
		goto err_unmap;
	}
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSIX);
	if (err < 0)
		goto err_unmap;
	err = request_irq(pci_irq_vector(pdev, 0), stamp_irq, 0, "stamp", &done);
	if (err)
		goto err_vectors;
	err = stamp_try(pdev, regs, &done);

	/* All there is to do is done: nothing is kept. */
	free_irq(pci_irq_vector(pdev, 0), &done);
err_vectors:
	pci_free_irq_vectors(pdev);
err_unmap:
	pci_iounmap(pdev, regs);
err_disable:
	pci_disable_device(pdev);
	return err;
}

static const struct pci_device_id stamp_ids[] = {
	{ PCI_DEVICE(0x1234, 0x57a0) },
	{ }
};
MODULE_DEVICE_TABLE(pci, stamp_ids);

static struct pci_driver stamp_driver = {
	.name = "stamp_guest",
	.id_table = stamp_ids,
	.probe = stamp_probe,
};
module_pci_driver(stamp_driver);

MODULE_DESCRIPTION("Stamps of a tiny device in RTL");
MODULE_LICENSE("GPL");
