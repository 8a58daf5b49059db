use super::*;

/// Without `init` nothing of Slurm is there to be asked: what asks for it panics behind the wall, twice, and answers
/// in the end as documented. The others answer as for a NULL context.
#[test]
fn an_entry_point_that_fails_has_an_answer() {
    let null = ptr::null_mut::<c_void>();
    let mut tctx = topology_ctx_t {
        cluster_default: false,
        config: null,
        idx: 0,
        name: ptr::null_mut(),
        plugin: ptr::null_mut(),
        topo_conf: ptr::null_mut(),
        plugin_ctx: null,
    };
    let tctx = &raw mut tctx;
    // SAFETY: what Slurm passes before there is a model.
    assert_eq!(unsafe { topology_p_build_config(tctx) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_destroy_config(tctx) }, TOPO_RC_SUCCESS);
    // SAFETY: as above.
    assert!(!unsafe { topology_p_generate_node_ranking(tctx) });
    // SAFETY: as above.
    let rc = unsafe { topology_p_add_rm_node(ptr::null_mut(), ptr::null_mut(), tctx) };
    assert_eq!(rc, TOPO_RC_SUCCESS);
    // SAFETY: a NULL context is allowed everywhere, and the failing call touches no other argument.
    assert!(unsafe { topology_p_allow_one_node(null) });
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_eval_node(ptr::null_mut(), 0) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_whole_topo(ptr::null_mut(), null) }, TOPO_RC_SUCCESS);
    // SAFETY: as above.
    assert!(unsafe { topology_p_get_bitmap(ptr::null_mut(), null) }.is_null());
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_get_fragmentation(ptr::null_mut(), null) }, 0);
    let (none, nowhere) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_get_node_addr(ptr::null_mut(), none, nowhere, null) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    let levels =
        unsafe { topology_p_split_hostlist(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 1, null) };
    assert_eq!(levels, 0);
    let mut number = 7;
    // SAFETY: for this question a number is written.
    let rc = unsafe { topology_p_get(TOPO_DATA_EXCLUSIVE_TOPO, (&raw mut number).cast(), null) };
    assert_eq!((rc, number), (TOPO_RC_SUCCESS, 1));
    let (mut rank, mut size) = (ptr::NonNull::dangling().as_ptr(), 7);
    // SAFETY: two places for the answer.
    let rc = unsafe { topology_p_get_rank(ptr::null_mut(), &raw mut rank, &raw mut size, null) };
    assert_eq!((rc, size, rank.is_null()), (TOPO_RC_SUCCESS, 0, true));
    // SAFETY: a NULL context is allowed everywhere.
    unsafe { topology_p_get_topology_str(ptr::null_mut(), ptr::null_mut(), tctx) };
    messages_that_fail_have_an_answer();
}

fn messages_that_fail_have_an_answer() {
    let null = ptr::null_mut::<c_void>();
    // SAFETY: the failing call touches no argument.
    assert_eq!(unsafe { topology_p_topoinfo_free(null) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_topoinfo_pack(null, ptr::null_mut(), 0) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    let rc = unsafe { topology_p_topoinfo_print(null, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()) };
    assert_eq!(rc, TOPO_RC_ERROR);
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_topoinfo_unpack(ptr::null_mut(), ptr::null_mut(), 0) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    unsafe { topology_p_jobinfo_free(null) };
    // SAFETY: as above.
    unsafe { topology_p_jobinfo_pack(null, ptr::null_mut(), 0) };
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_jobinfo_unpack(ptr::null_mut(), ptr::null_mut(), 0) }, TOPO_RC_ERROR);
    // SAFETY: as above.
    assert_eq!(unsafe { topology_p_jobinfo_get(0, null, null) }, TOPO_RC_ERROR);
}
