//! The plugin's settings, in slurm.conf or in force. What is wrong with them is no fault of the file: it is noted.
#![forbid(unsafe_code)]

use fabric::placement::{Rules, SETTINGS};

use super::Sink;
use crate::conf::{ClusterSettings, ConfSetting};

/// The scheduler that tests jobs for a start ahead of the queue; Slurm's default (slurm.conf(5), `SchedulerType`).
const BACKFILL: &str = "sched/backfill";

/// Settings that the plugin does not know, and those without effect.
pub(super) fn judge(settings: &ClusterSettings, sink: &mut Sink) {
    let Some(ConfSetting { value, place }) = &settings.topology_param else { return };
    let mut rules = Rules::default();
    for unknown in rules.read(value) {
        let what =
            format!("TopologyParam={unknown} ({place}): no such setting of slurm-nvlink; it is ignored");
        sink.note(0, what, format!("the settings are {SETTINGS}"));
    }
    if rules.patience == 0 {
        return;
    }
    let setting = format!("nvlink_patience={} ({place})", rules.patience);
    if rules.room == 0 {
        let what = format!("{setting} has no effect without nvlink_room");
        sink.note(
            0,
            what,
            format!("set it as well, as in nvlink_room=16,nvlink_patience={}", rules.patience),
        );
    }
    if let Some(other) = settings.scheduler.as_ref().filter(|scheduler| scheduler.value != BACKFILL) {
        let what = format!("{setting} has no effect with SchedulerType={} ({})", other.value, other.place);
        sink.note(0, what, format!("SchedulerType={BACKFILL}, Slurm's default, or remove nvlink_patience"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parameters: &str, scheduler: &str) -> Vec<String> {
        let setting = |value: &str| {
            (!value.is_empty()).then(|| ConfSetting { value: value.into(), place: "slurm.conf:7".into() })
        };
        let settings = ClusterSettings { topology_param: setting(parameters), scheduler: setting(scheduler) };
        let mut sink = Sink::default();
        judge(&settings, &mut sink);
        sink.0.into_iter().map(|finding| format!("{}: {}", finding.severity, finding.what)).collect()
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let fine = "TopoOptional,nvlink_room=16,nvlink_patience=180,nvlink_metrics=/run/x";
        for (parameters, scheduler) in
            [("", "sched/builtin"), (fine, ""), (fine, BACKFILL), ("nvlink_room=16", "x")]
        {
            assert_eq!(found(parameters, scheduler), [""; 0], "{parameters} {scheduler}");
        }
        assert_eq!(
            found("nvlink_spam=1,nvlink_patience=180", "sched/builtin"),
            [
                "note: TopologyParam=nvlink_spam=1 (slurm.conf:7): no such setting of slurm-nvlink; it is ignored",
                "note: nvlink_patience=180 (slurm.conf:7) has no effect without nvlink_room",
                "note: nvlink_patience=180 (slurm.conf:7) has no effect with SchedulerType=sched/builtin (slurm.conf:7)",
            ]
        );
    }
}
