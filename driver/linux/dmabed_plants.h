/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dmabed NIC driver: bugs to plant, in builds with DMABED_PLANTS=y only; in any
 * other build nothing of this is left. The module parameter "plant" names the
 * bug by its number. They are there to see that the ledger finds them.
 */
#ifndef DMABED_PLANTS_H
#define DMABED_PLANTS_H

#include "dmabed.h"

#ifdef DMABED_PLANTS
const struct dmabed_rx_ops *
dmabed_plant_rx_ops(const struct dmabed_rx_ops *ops);
void dmabed_plant_clear_master(struct dmabed_priv *priv);
void dmabed_plant_before_down(struct dmabed_priv *priv);
int dmabed_plant_reload(struct dmabed_priv *priv);
void dmabed_plant_restored(struct dmabed_set *set);
bool dmabed_plant_map_fails(struct dmabed_tx *tx);
#else
static inline const struct dmabed_rx_ops *
dmabed_plant_rx_ops(const struct dmabed_rx_ops *ops)
{
	return ops;
}

static inline void dmabed_plant_clear_master(struct dmabed_priv *priv)
{
	pci_clear_master(priv->pdev);
}

static inline void dmabed_plant_before_down(struct dmabed_priv *priv)
{
}

static inline int dmabed_plant_reload(struct dmabed_priv *priv)
{
	return 0;
}

static inline void dmabed_plant_restored(struct dmabed_set *set)
{
}

static inline bool dmabed_plant_map_fails(struct dmabed_tx *tx)
{
	return false;
}
#endif

#endif /* DMABED_PLANTS_H */
