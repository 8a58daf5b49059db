//! Violations that are planted, to see that they are found: something else runs in the place of prolog or epilog.
#![forbid(unsafe_code)]

use crate::cluster::Cluster;
use clap::ValueEnum;
use sim::hook::{Orders, Settings};

/// A planted violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// the epilog does nothing
    NoEpilog,
    /// the prolog fails on a healthy tray
    FailingProlog,
    /// the prolog of a tray says that all is well whatever the fault, and does nothing
    BlindProlog,
    /// the prolog makes the channel and does not wait for the domain
    HastyProlog,
    /// the prolog runs with a list of members of its own
    OwnMembers,
}

/// Makes the channel of the job's user at once; there is no domain.
const HASTY: &str = "mknod -m 600 /dev/nvidia-caps-imex-channels/channel0 c 234 0; exit 0";
/// Runs the real one, and another list lies in the place of its own afterwards.
const OTHERS: &str = "/usr/sbin/imex-prolog || exit; \
    printf '10.75.9.9\\n' > /run/slurm-nvlink/imex/job-$SLURM_JOB_ID/nodes.cfg";

impl Plant {
    fn orders(self) -> Settings {
        let instead = |text: &str| Orders { instead: Some(text.to_owned()), ..Orders::default() };
        match self {
            Self::NoEpilog => Settings { epilog: instead("exit 0"), ..Settings::default() },
            Self::FailingProlog => Settings { prolog: instead("exit 1"), ..Settings::default() },
            Self::BlindProlog => Settings { prolog: instead("exit 0"), ..Settings::default() },
            Self::HastyProlog => Settings { prolog: instead(HASTY), ..Settings::default() },
            Self::OwnMembers => Settings { prolog: instead(OTHERS), ..Settings::default() },
        }
    }

    /// Plants it on a tray, where it stays until the tray gets other orders.
    ///
    /// # Errors
    /// There is no such tray.
    pub fn on(self, cluster: &Cluster, tray: &str) -> anyhow::Result<()> {
        cluster.order(tray, &self.orders())
    }
}
