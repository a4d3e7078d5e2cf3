// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: takes a set of queue pairs into and out of service. All of
 * it runs under RTNL. The order out of service is what keeps the device away
 * from freed memory: stop the queues of the stack, stop the rings and see them
 * stopped, stop NAPI; only then may the set be freed.
 */
#include <linux/interrupt.h>

#include "dmabed.h"
#include "dmabed_count.h"
#include "dmabed_plants.h"

/* Asks for an interrupt as soon as there is a completion not seen here. */
static void dmabed_arm(struct dmabed_qp *qp)
{
	u32 seen = FIELD_PREP(DMABED_QP_ARM_RX_SEEN, qp->rx.next & 0xffff) |
		   FIELD_PREP(DMABED_QP_ARM_TX_SEEN,
			      READ_ONCE(qp->tx.seen) & 0xffff);

	writel(seen, qp->regs + DMABED_QP_ARM);
	qp->stats->arms++;
}

/*
 * A device that has lost a completion answers every ARM with an interrupt, for
 * ever. Who interrupts so often for nothing is armed again by the watchdog only.
 */
static void dmabed_poll_done(struct dmabed_qp *qp, int work)
{
	if (work)
		WRITE_ONCE(qp->idle_polls, 0);
	else
		WRITE_ONCE(qp->idle_polls, qp->idle_polls + 1);
	if (likely(qp->idle_polls < DMABED_IDLE_POLLS))
		dmabed_arm(qp);
}

/*
 * The vector disarmed itself when it was raised and is armed again here, so no
 * interrupt register is touched while the poll goes on.
 */
static int dmabed_poll_qp(struct napi_struct *napi, int budget)
{
	struct dmabed_qp *qp = container_of(napi, struct dmabed_qp, napi);
	bool again = !dmabed_tx_poll(&qp->tx, budget);
	int work;

	if (unlikely(READ_ONCE(qp->kicked)) && budget) {
		WRITE_ONCE(qp->kicked, false);
		dmabed_rx_ring_doorbell(&qp->rx);
	}

	/* No budget: netpoll, which wants transmit completions only. */
	if (!budget)
		return 0;
	work = dmabed_rx_poll(&qp->rx, budget, &again);
	if (unlikely(READ_ONCE(qp->broken))) {
		work = min(work, budget - 1);
		napi_complete_done(napi, work);
		return work;
	}
	if (work == budget || again)
		return budget;
	if (likely(napi_complete_done(napi, work)))
		dmabed_poll_done(qp, work);
	return work;
}

int dmabed_poll(struct napi_struct *napi, int budget)
{
	int work;

	dmabed_mark(DMABED_MARK_BEGIN);
	work = dmabed_poll_qp(napi, budget);
	dmabed_mark(DMABED_MARK_END);
	return work;
}

static irqreturn_t dmabed_qp_irq(int irq, void *data)
{
	struct dmabed_qp *qp = data;

	WRITE_ONCE(qp->irqs, qp->irqs + 1);
	napi_schedule_irqoff(&qp->napi);
	return IRQ_HANDLED;
}

static int dmabed_qp_start(struct dmabed_qp *qp)
{
	struct net_device *netdev = qp->netdev;
	u32 cpu;
	int err;

	snprintf(qp->irq_name, sizeof(qp->irq_name), "%s-TxRx-%u",
		 netdev->name, qp->index);
	err = request_irq(qp->irq, dmabed_qp_irq, 0, qp->irq_name, qp);
	if (err)
		return err;
	cpu = cpumask_local_spread(qp->index, dev_to_node(qp->rx.ring.dev));
	irq_set_affinity_and_hint(qp->irq, cpumask_of(cpu));
	netif_napi_set_irq(&qp->napi, qp->irq);
	netif_queue_set_napi(netdev, qp->index, NETDEV_QUEUE_TYPE_RX,
			     &qp->napi);
	netif_queue_set_napi(netdev, qp->index, NETDEV_QUEUE_TYPE_TX,
			     &qp->napi);
	napi_enable(&qp->napi);
	return 0;
}

/* After napi_disable(), and with the transmit queue stopped for good. */
static void dmabed_qp_stop(struct dmabed_qp *qp)
{
	struct net_device *netdev = qp->netdev;

	netif_queue_set_napi(netdev, qp->index, NETDEV_QUEUE_TYPE_TX, NULL);
	netif_queue_set_napi(netdev, qp->index, NETDEV_QUEUE_TYPE_RX, NULL);
	irq_update_affinity_hint(qp->irq, NULL);
	free_irq(qp->irq, qp);
	netdev_tx_reset_queue(qp->tx.txq);
}

/*
 * Puts @set into service; on failure the caller still owns it, unused. The
 * device must be stopped, its rings with it.
 */
int dmabed_up(struct dmabed_priv *priv, struct dmabed_set *set)
{
	int err;
	u32 i;

	if (READ_ONCE(priv->gone))
		return -ENODEV;
	err = netif_set_real_num_queues(priv->netdev, set->count, set->count);
	if (err)
		return err;
	for (i = 0; i < set->count; i++) {
		err = dmabed_qp_start(&set->qp[i]);
		if (err)
			goto stop_pairs;
	}
	priv->set = set;
	dmabed_device_configure(priv);
	for (i = 0; i < set->count; i++) {
		dmabed_device_enable_qp(&set->qp[i]);
		dmabed_arm(&set->qp[i]);
	}
	dmabed_write(priv, DMABED_CTRL, DMABED_CTRL_ENABLE);
	netif_tx_wake_all_queues(priv->netdev);
	dmabed_watchdog_start(priv, set);
	dmabed_device_link(priv);
	enable_irq(pci_irq_vector(priv->pdev, DMABED_VECTOR_EVENT));
	return 0;

stop_pairs:
	while (i--) {
		napi_disable(&set->qp[i].napi);
		dmabed_qp_stop(&set->qp[i]);
	}
	return err;
}

/* Takes the set out of service; the caller keeps it and frees or rewinds it. */
void dmabed_down(struct dmabed_priv *priv)
{
	struct dmabed_set *set = priv->set;
	u32 i;

	dmabed_plant_before_down(priv);
	/* From here on nothing turns the carrier on again. */
	disable_irq(pci_irq_vector(priv->pdev, DMABED_VECTOR_EVENT));
	/* Without carrier the watchdog does not look at stopped queues. */
	netif_carrier_off(priv->netdev);
	netif_tx_disable(priv->netdev);
	dmabed_device_disable(priv, set);
	for (i = set->count; i--;)
		napi_disable(&set->qp[i].napi);
	/* A poll that was under way meanwhile may have woken a queue. */
	netif_tx_disable(priv->netdev);
	for (i = set->count; i--;)
		dmabed_qp_stop(&set->qp[i]);
	priv->set = NULL;
}

/*
 * Stops, resets and restarts an interface that is up. On failure it is left
 * without a set, for the caller to detach or close.
 */
int dmabed_restart(struct dmabed_priv *priv)
{
	struct dmabed_set *set = priv->set;
	int err;

	dmabed_down(priv);
	err = dmabed_device_reset(priv);
	if (!err) {
		dmabed_set_rewind(set);
		err = dmabed_up(priv, set);
	}
	if (err) {
		netdev_err(priv->netdev, "restart failed (%d)\n", err);
		dmabed_set_free(set);
	}
	return err;
}

/* Swaps an interface that is up to a set of another shape. */
static int dmabed_swap(struct dmabed_priv *priv,
		       const struct dmabed_config *cfg)
{
	struct dmabed_set *old = priv->set;
	struct dmabed_set *new = dmabed_set_alloc(priv, cfg);
	int err;

	if (IS_ERR(new))
		return PTR_ERR(new);
	dmabed_down(priv);
	err = dmabed_plant_reload(priv) ?: dmabed_up(priv, new);
	if (!err) {
		dmabed_set_free(old);
		return 0;
	}
	dmabed_set_free(new);
	dmabed_set_rewind(old);
	if (dmabed_up(priv, old)) {
		netdev_err(priv->netdev, "cannot go back\n");
		dmabed_set_free(old);
		dmabed_wait_for_device(priv);
	} else {
		dmabed_plant_restored(old);
	}
	return err;
}

/* Ring sizes and channels: at once if the interface is up, else for later. */
int dmabed_reconfigure(struct dmabed_priv *priv,
		       const struct dmabed_config *cfg)
{
	int err = 0;

	if (priv->set)
		err = dmabed_swap(priv, cfg);
	if (!err)
		priv->cfg = *cfg;
	return err;
}
