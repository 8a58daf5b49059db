/*
 * Sizes and offsets of the stable structures, as compiled from Slurm 25.05.8, 25.11.7, 26.05.3 and the 26.11 release
 * candidate and seen in the running 26.05.5 (LP64). Compiled by build.rs for the target; it produces no code.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stddef.h>

#include "slurm_topology_abi.h"

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member)

SIZE(topology_eval_t, 112);
AT(topology_eval_t, avail_core, 0);
AT(topology_eval_t, avail_cpus, 8);
AT(topology_eval_t, avail_res_array, 16);
AT(topology_eval_t, cr_type, 24);
AT(topology_eval_t, enforce_binding, 26);
AT(topology_eval_t, eval_action, 28);
AT(topology_eval_t, eval_nodes, 32);
AT(topology_eval_t, first_pass, 40);
AT(topology_eval_t, gres_per_job, 41);
AT(topology_eval_t, job_ptr, 48);
AT(topology_eval_t, max_nodes, 56);
AT(topology_eval_t, mc_ptr, 64);
AT(topology_eval_t, min_nodes, 72);
AT(topology_eval_t, node_map, 80);
AT(topology_eval_t, prefer_alloc_nodes, 88);
AT(topology_eval_t, req_nodes, 92);
AT(topology_eval_t, trump_others, 96);
AT(topology_eval_t, tctx, 104);

SIZE(topology_ctx_t, 56);
AT(topology_ctx_t, cluster_default, 0);
AT(topology_ctx_t, config, 8);
AT(topology_ctx_t, idx, 16);
AT(topology_ctx_t, name, 24);
AT(topology_ctx_t, plugin, 32);
AT(topology_ctx_t, topo_conf, 40);
AT(topology_ctx_t, plugin_ctx, 48);

SIZE(topology_block_config_t, 24);
AT(topology_block_config_t, config_cnt, 0);
AT(topology_block_config_t, block_configs, 8);
AT(topology_block_config_t, block_sizes, 16);

SIZE(slurm_conf_block_t, 16);
AT(slurm_conf_block_t, block_name, 0);
AT(slurm_conf_block_t, nodes, 8);

SIZE(dynamic_plugin_data_t, 16);
AT(dynamic_plugin_data_t, data, 0);
AT(dynamic_plugin_data_t, plugin_id, 8);

AT(avail_res_head_t, avail_cpus, 0);
