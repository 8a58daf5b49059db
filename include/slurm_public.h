/*
 * What the plugin takes from Slurm's public header. Apart from slurm_topology_abi.h, because the two name the same types
 * in different ways.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SLURM_NVLINK_PUBLIC_H
#define SLURM_NVLINK_PUBLIC_H

#include <stddef.h>

#include <slurm/slurm.h>

/* Where slurm.conf's TopologyParam is kept. The plugin is built for exactly one release of Slurm, of which this is. */
enum slurm_conf_offset {
	SLURM_CONF_TOPOLOGY_PARAM = offsetof(slurm_conf_t, topology_param),
};

#endif
