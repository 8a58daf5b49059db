/*
 * The part of Slurm's topology plugin interface that slurm-plugin touches directly.
 *
 * Only structures whose layout is the same in Slurm 25.05, 25.11, 26.05 and the 26.11 release candidate are declared
 * here (each compiled and compared, and looked at in the running 26.05.5). Members of job, node and partition records
 * move between micro releases; they are never declared here but read through a layout confirmed for the running build
 * (slurm-plugin/src/abi/layout.rs).
 *
 * Written for this project from the facts of the interface (names, order, types); see Slurm's
 * src/interfaces/topology.h for the originals.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SLURM_NVLINK_TOPOLOGY_ABI_H
#define SLURM_NVLINK_TOPOLOGY_ABI_H

#include <stdbool.h>
#include <stdint.h>

#include <slurm/slurm_version.h>

/* Slurm's objects that are only passed along. */
typedef struct bitstr bitstr_t;
typedef struct list list_t;
typedef struct hostlist hostlist_t;
typedef struct buf buf_t;
typedef struct job_record job_record_t;
typedef struct node_record node_record_t;

/* One block of topology.yaml. Strings come from Slurm's allocator. */
typedef struct {
	char *block_name;
	char *nodes; /* host list text, or NULL for an empty block */
} slurm_conf_block_t;

/* The `block:` part of one topology in topology.yaml. */
typedef struct {
	int config_cnt;
	slurm_conf_block_t *block_configs;
	list_t *block_sizes; /* of int*, may be NULL or empty */
} topology_block_config_t;

/* One topology. Slurm keeps an array of them; plugin_ctx belongs to the plugin. */
typedef struct {
	bool cluster_default;
	void *config; /* topology_block_config_t*, NULL without topology.yaml */
	int idx;
	char *name;
	char *plugin; /* "topology/block", NULL without topology.yaml */
	char *topo_conf;
	void *plugin_ctx;
} topology_ctx_t;

/* What one node can give to the job; only the first members have a fixed place. */
typedef struct {
	uint16_t avail_cpus;
	uint16_t avail_gpus;
} avail_res_head_t;

/* One question "which of these nodes?" from the select plugin. */
typedef struct topology_eval {
	bitstr_t **avail_core; /* per node, updated */
	uint16_t avail_cpus;
	avail_res_head_t **avail_res_array; /* per node */
	uint16_t cr_type;
	bool enforce_binding;
	int eval_action; /* 26.05 and later; a hole before */
	int (*eval_nodes)(struct topology_eval *);
	bool first_pass;
	bool gres_per_job;
	job_record_t *job_ptr;
	uint32_t max_nodes;
	void *mc_ptr;
	uint32_t min_nodes;
	bitstr_t *node_map; /* in: usable nodes, out: chosen nodes */
	bool prefer_alloc_nodes;
	uint32_t req_nodes;
	bool trump_others;
	topology_ctx_t *tctx;
} topology_eval_t;

/* Wrapper around a plugin's own data in messages and job records. */
typedef struct {
	void *data;
	uint32_t plugin_id;
} dynamic_plugin_data_t;

/* Kinds of question for topology_p_get(). */
enum topology_data {
	TOPO_DATA_TOPOLOGY_PTR = 0,
	TOPO_DATA_REC_CNT = 1,
	TOPO_DATA_EXCLUSIVE_TOPO = 2,
};

/* Values of topology_eval_t.eval_action. */
enum eval_action {
	EVAL_ACTION_NONE = 0,
	EVAL_ACTION_BREAK = 1,
};

/* Return codes. SLURM_SUCCESS and SLURM_ERROR are 0 and -1 in slurm/slurm_errno.h. */
enum topology_rc {
	TOPO_RC_SUCCESS = 0,
	TOPO_RC_ERROR = -1,
	TOPO_RC_NO_FIT = 7203,         /* ESLURM_TOPO_NO_FIT, 26.05 */
	TOPO_RC_SEGMENT_NO_FIT = 7204, /* ESLURM_TOPO_SEGMENT_NO_FIT, 26.05 */
	TOPO_RC_INSUFFICIENT = 7205,   /* ESLURM_TOPO_INSUFFICIENT_RESOURCES, 26.05 */
};

/* The id of topology/block in every release. */
#define TOPOLOGY_BLOCK_PLUGIN_ID 103

/* First word of a Slurm bitmap; then the number of bits, then the bits, lowest first. */
#define BITSTR_MAGIC_VALUE 0x42434445

/* Magic numbers that open (or sit at a confirmed offset in) Slurm's records. */
#define JOB_MAGIC_VALUE 0xf0b7392cu
#define DETAILS_MAGIC_VALUE 0x0dea84e7u
#define NODE_MAGIC_VALUE 0x0de575edu

#endif
