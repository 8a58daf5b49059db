//! Who else tries what the documents say: commands, settings and options that no step of this room types.
#![forbid(unsafe_code)]

use By::{Case, NotTyped, Shown};

/// Who tries it.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    /// This case, in whose file these words stand.
    Case(&'static str, &'static str),
    /// A file with this function and these words.
    Shown(&'static str, &'static str, &'static str),
    /// Nobody at each run: it takes too long, or needs what a fresh machine lacks. Told as skipped, with this reason.
    NotTyped(&'static str),
}

/// The stages of `cargo xtask test`.
const STAGES: &str = "packaging/src/test/stages.rs";
const SITE_SETTINGS: &str = "policy::a_site_may_pack_jobs_and_let_them_span";
const WATCH: &str = "watch_systemd::the_service_as_it_is_shipped";
const EVERY_SIZE: &str = "drained::every_size_that_can_run_runs";
const ADVICE: &str = "submit_help::users_read_what_a_segment_would_do";
const VALGRIND: &str = "minutes, on a root tree of its own with valgrind";

/// What stands in a document, and who tries it.
pub(super) const CLAIMS: &[(&str, By)] = &[
    // Settings.
    ("CliFilterPlugins=cli_filter/lua", Case(ADVICE, "CliFilterPlugins=cli_filter/lua")),
    ("OverSubscribe=EXCLUSIVE", Shown("packaging/src/dist/check/site.rs", "boot", "OverSubscribe=EXCLUSIVE")),
    ("SLURM_NVLINK_SIZES=all", Case(EVERY_SIZE, "SLURM_NVLINK_SIZES")),
    (
        "SlurmdParameters=conmgr_quiesce_timeout=300",
        Case("restarts::slurmds_go_on_serving_while_they_wait_for_prologs", "conmgr_quiesce_timeout=300"),
    ),
    ("SwitchType=switch/nvidia_imex", Case("imex_modes::slurm_makes_the_channels", "switch/nvidia_imex")),
    (
        "nvlink_patience=180",
        Case("policy::small_jobs_wait_behind_large_ones_for_a_time", "nvlink_patience=1"),
    ),
    ("nvlink_room=16", Case("policy::small_jobs_leave_room_to_large_ones", "nvlink_room=2")),
    ("nvlink_span=degraded", Case(SITE_SETTINGS, "nvlink_span=degraded")),
    ("nvlink_split=packed", Case(SITE_SETTINGS, "nvlink_split=packed")),
    ("flags=static_alloc", Shown("tests/src/endurance/act.rs", "reserve", "flags=static_alloc")),
    ("policy = \"by-job\"", Case("imex_modes::jobs_that_share_trays_are_guests", "policy = \\\"by-job\\\"")),
    ("segment_required = true", Case("submit_help::a_site_can_require_segments", "segment_required = true")),
    // Options.
    ("--check", Shown("packaging/src/dist/mod.rs", "test", "check(workspace, native")),
    ("--metrics", Case(WATCH, "--metrics")),
    (
        "--network=unique-channel-per-segment",
        Case("beside::segments_are_remembered_over_a_restart", "--network=unique-channel-per-segment"),
    ),
    ("--no-arm", Shown(STAGES, "left_out", "--no-arm was given")),
    ("--no-packages", Shown(STAGES, "left_out", "--no-packages was given")),
    ("--profile gb200-4x18", Case(EVERY_SIZE, "gb200-4x18")),
    ("--without-reload", Case("tiers::trays_move_without_a_reload", "--without-reload")),
    // Commands; the first two are this very run.
    ("cargo xtask test", Shown(STAGES, "run", "Kind::Cases")),
    ("cargo xtask test NAME", Shown(STAGES, "run", "options.filter")),
    ("kill -9", Case("soak::rows_of_the_table_and_random_jobs", "SIGKILL")),
    (
        "scontrol update nodename=X topology=...",
        Case("live::the_same_move_again_changes_nothing", "topology=nvlink:"),
    ),
    ("topology-gen watch", Case(WATCH, "topology-gen")),
    // By nobody.
    ("--arch", NotTyped("of cargo xtask dist: see there")),
    ("--svg docs/dashboard.svg", NotTyped("of cargo xtask monitoring: see there")),
    (
        "ARGS=\"--collector.textfile.directory=/var/lib/prometheus/node-exporter --collector.textfile.directory=/run/slurmctld\"",
        NotTyped("for Debian's node exporter; cargo xtask monitoring starts one with it"),
    ),
    (
        "AccountingStorageTRES=gres/gpu",
        NotTyped(
            "Slurm's accounting needs a database; the records of sacct that the tests read were taken with it",
        ),
    ),
    (
        "cargo xtask bench eval --against nvlink_metrics=FOLDER",
        NotTyped("a measurement of minutes; without --against its short form is typed"),
    ),
    ("cargo xtask dist", NotTyped("a release build for aarch64; the stage packages makes this machine's")),
    ("cargo xtask fuzz", NotTyped("minutes, and needs cargo-fuzz")),
    (
        "cargo xtask install-plugin",
        NotTyped("changes this machine; its parts are tested: install.rs, confirmation::"),
    ),
    ("cargo xtask lab memcheck", NotTyped(VALGRIND)),
    ("cargo xtask memcheck", NotTyped(VALGRIND)),
    ("cargo xtask monitoring", NotTyped("minutes, on a root tree of its own with Prometheus")),
    (
        "cargo xtask soak --minutes 60 --seed 1",
        NotTyped("an hour; the cases endurance:: play a part of a round, and a plan is replayed here"),
    ),
    (
        "promtool test rules slurm-nvlink.test.yml",
        NotTyped("needs Prometheus' tools; cargo xtask monitoring runs it"),
    ),
];
