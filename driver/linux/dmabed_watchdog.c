// SPDX-License-Identifier: GPL-2.0
/*
 * dmabed NIC driver: a timer that finds what a well-behaved device never lets
 * happen. It looks at each queue pair four times a second: does the ring still
 * run, did completions arrive that nobody was told of, has the device used
 * descriptors without completing them, has it stopped sending. What a wait may
 * explain is looked at again one tick later. A pair that has been quiet demands
 * an interrupt by an ARM that cannot match, so that doorbells, device and vector
 * are tried end to end.
 *
 * Under RTNL, which is only tried for: whoever holds it may be waiting for us.
 */
#include <linux/rtnetlink.h>

#include "dmabed.h"

#define DMABED_TICK		(HZ / 4)
/* Ticks that a contradiction has to last. */
#define DMABED_PATIENCE		2
/* Ticks that a transmit ring may stand still while the link is up. */
#define DMABED_TX_PATIENCE	8
/* Quiet ticks after which an interrupt is demanded. */
#define DMABED_PROBE_AFTER	4

/* @sent: whether frames were sent since the last tick. */
static bool dmabed_moved(struct dmabed_qp *qp, bool *sent)
{
	struct dmabed_watch *watch = &qp->watch;
	u32 rx = READ_ONCE(qp->rx.next);
	u32 tx = READ_ONCE(qp->tx.clean);
	bool moved = rx != watch->rx || tx != watch->tx;

	*sent = tx != watch->tx;

	watch->rx = rx;
	watch->tx = tx;
	return moved;
}

/* The poll rings the receive doorbell again, and arms at its end. */
static void dmabed_kick(struct dmabed_qp *qp)
{
	WRITE_ONCE(qp->idle_polls, 0);
	WRITE_ONCE(qp->kicked, true);
	local_bh_disable();
	napi_schedule(&qp->napi);
	local_bh_enable();
}

static const char *dmabed_head_odd(struct dmabed_qp *qp)
{
	if (readl(qp->regs + DMABED_QP_RX_HEAD) != qp->watch.rx)
		return "used receive descriptors, completed others";
	if (readl(qp->regs + DMABED_QP_TX_HEAD) != qp->watch.tx)
		return "used transmit descriptors, completed others";
	return NULL;
}

/* What the registers say that cannot be, if it lasts. */
static const char *dmabed_contradiction(struct dmabed_qp *qp, bool moved)
{
	u32 rx = readl(qp->regs + DMABED_QP_RX_CTRL);
	u32 tx = readl(qp->regs + DMABED_QP_TX_CTRL);

	if (dmabed_absent(rx) || dmabed_absent(tx))
		return "does not answer";
	if (!(rx & DMABED_QP_RX_CTRL_RUNNING))
		return "receive ring has stopped";
	if (!(tx & DMABED_QP_TX_CTRL_RUNNING))
		return "transmit ring has stopped";
	return moved ? NULL : dmabed_head_odd(qp);
}

/* Rings again what the device may have missed; true: it sends nothing. */
static bool dmabed_sends_nothing(struct dmabed_qp *qp, bool sent)
{
	struct dmabed_watch *watch = &qp->watch;
	struct dmabed_tx *tx = &qp->tx;

	if (sent || READ_ONCE(tx->prod) == watch->tx ||
	    !netif_carrier_ok(qp->netdev)) {
		watch->still = 0;
		return false;
	}
	netif_tx_lock_bh(qp->netdev);
	writel(tx->prod, qp->regs + DMABED_QP_TX_TAIL);
	netif_tx_unlock_bh(qp->netdev);
	return ++watch->still >= DMABED_TX_PATIENCE;
}

/* True if interrupts that were demanded did not come. */
static bool dmabed_probe_irq(struct dmabed_qp *qp)
{
	struct dmabed_watch *watch = &qp->watch;
	u32 irqs = READ_ONCE(qp->irqs);
	u32 seen;

	if (watch->quiet < DMABED_PROBE_AFTER ||
	    watch->quiet % DMABED_PROBE_AFTER)
		return false;
	watch->probes = irqs == watch->irqs ? watch->probes + 1 : 0;
	watch->irqs = irqs;
	if (watch->probes > DMABED_PATIENCE) {
		watch->probes = 0;
		return true;
	}
	seen = FIELD_PREP(DMABED_QP_ARM_RX_SEEN, watch->rx & 0xffff) |
	       FIELD_PREP(DMABED_QP_ARM_TX_SEEN,
			  READ_ONCE(qp->tx.seen) & 0xffff);
	writel(~seen, qp->regs + DMABED_QP_ARM);
	return false;
}

/* True while completions lie there that nobody polls for. */
static bool dmabed_rescue(struct dmabed_qp *qp, bool moved)
{
	struct dmabed_watch *watch = &qp->watch;
	bool pending = !moved &&
		       (dmabed_is_new(&qp->rx.ring, watch->rx) ||
			dmabed_is_new(&qp->tx.ring, READ_ONCE(qp->tx.seen)));

	if (pending && watch->pending) {
		qp->stats->rescues++;
		dmabed_kick(qp);
	}
	watch->pending = pending;
	return pending;
}

/* Returns why the device has to be reset, or NULL. */
static const char *dmabed_look(struct dmabed_qp *qp)
{
	struct dmabed_watch *watch = &qp->watch;
	const char *cause;
	bool moved, sent;

	moved = dmabed_moved(qp, &sent);

	if (moved) {
		watch->quiet = 0;
		watch->probes = 0;
	} else {
		watch->quiet++;
	}
	if (dmabed_rescue(qp, moved))
		return NULL;
	cause = dmabed_contradiction(qp, moved);
	watch->odd = cause ? watch->odd + 1 : 0;
	if (watch->odd >= DMABED_PATIENCE)
		return cause;
	if (dmabed_sends_nothing(qp, sent))
		return "sends nothing";
	if (dmabed_probe_irq(qp))
		return "interrupts do not come";
	/* Once, for a doorbell that was lost; and whoever was not armed. */
	if (watch->quiet == 1 || READ_ONCE(qp->idle_polls) >= DMABED_IDLE_POLLS)
		dmabed_kick(qp);
	return NULL;
}

static void dmabed_watchdog_work(struct work_struct *work)
{
	struct dmabed_priv *priv = container_of(to_delayed_work(work),
						struct dmabed_priv,
						watchdog_work);
	struct dmabed_set *set;
	const char *cause;
	u32 i;

	if (!rtnl_trylock())
		goto again;
	set = priv->set;
	if (!set) {
		rtnl_unlock();
		return;
	}
	for (i = 0; i < set->count; i++) {
		if (READ_ONCE(set->qp[i].broken))
			continue;
		cause = dmabed_look(&set->qp[i]);
		if (!cause)
			continue;
		netdev_warn(priv->netdev, "queue %u: %s\n", i, cause);
		dmabed_schedule_reset(priv);
	}
	rtnl_unlock();
again:
	schedule_delayed_work(&priv->watchdog_work, DMABED_TICK);
}

/* @set has come into service: nothing is suspected yet. */
void dmabed_watchdog_start(struct dmabed_priv *priv, struct dmabed_set *set)
{
	u32 i;

	for (i = 0; i < set->count; i++) {
		struct dmabed_qp *qp = &set->qp[i];

		memset(&qp->watch, 0, sizeof(qp->watch));
		qp->watch.irqs = READ_ONCE(qp->irqs) - 1;
		qp->idle_polls = 0;
	}
	schedule_delayed_work(&priv->watchdog_work, DMABED_TICK);
}

void dmabed_watchdog_init(struct dmabed_priv *priv)
{
	INIT_DELAYED_WORK(&priv->watchdog_work, dmabed_watchdog_work);
}
