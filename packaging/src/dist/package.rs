#![forbid(unsafe_code)]
//! What the packages are: names, words, files, dependencies. Both formats are written from this.

/// Where a file of a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A built artifact.
    Artifact(&'static str),
    /// A page or completion that the programs describe themselves.
    Page(&'static str),
    /// A file in `packaging/`, as it is.
    File(&'static str),
    /// The licence: for Debian, which has its text on each machine, the words that name it; else the text.
    Licence,
    /// The notices of the crates that this package of the workspace links.
    Notices(&'static str),
    /// An empty folder.
    Folder,
    /// A link to where Slurm's own plugins are: the folder has another name on each architecture.
    StockPlugins,
}

/// A file of a package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) from: From,
    /// Absolute path where it is installed.
    pub(super) to: &'static str,
    pub(super) mode: u32,
}

/// Another package that must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// One of ours, of the same version.
    Ours(&'static str),
    /// The very upstream release of Slurm that the plugin is built for.
    Slurm,
    /// The C library and what else the programs link.
    Libraries,
}

/// A package.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    /// One line, without a full stop.
    pub(super) summary: &'static str,
    /// A paragraph.
    pub(super) description: &'static str,
    pub(super) needs: &'static [Needs],
    pub(super) items: &'static [Item],
    /// Shell lines that run as root after the files are there; they may not fail the installation.
    pub(super) after_install: &'static str,
    /// Shell lines before the files go, on removal only.
    pub(super) before_remove: &'static str,
    /// Shell lines after the files are gone, on removal only.
    pub(super) after_remove: &'static str,
    /// Shell lines when nothing shall be left: purge in Debian's words. RPM knows no such step.
    pub(super) on_purge: &'static str,
}

const fn program(artifact: &'static str, to: &'static str) -> Item {
    Item { from: From::Artifact(artifact), to, mode: 0o755 }
}

const fn text(from: From, to: &'static str) -> Item {
    Item { from, to, mode: 0o644 }
}

/// All packages.
pub(super) const PACKAGES: &[Package] = &[
    Package {
        name: "slurm-nvlink-plugin-dir",
        summary: "folder for Slurm plugins that go before Slurm's own",
        description: "An empty folder that PluginDir in slurm.conf can name on every host of a cluster, and a link to Slurm's \
                      own plugins, so that the line is the same on x86_64 and aarch64: a host without a folder of PluginDir \
                      cannot start Slurm, and one in which the first is empty runs Slurm's own plugins.",
        needs: &[],
        items: &[
            Item { from: From::Folder, to: "/usr/lib/slurm-nvlink", mode: 0o755 },
            Item { from: From::StockPlugins, to: "/usr/lib/slurm-nvlink/stock", mode: 0o777 },
            text(From::Licence, "/usr/share/doc/slurm-nvlink-plugin-dir/copyright"),
        ],
        after_install: "",
        before_remove: "",
        after_remove: "for file in /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf; do\n    \
                       if grep -qs '^[[:space:]]*PluginDir[[:space:]]*=.*slurm-nvlink' $file; then\n        \
                       echo \"slurm-nvlink-plugin-dir: $file still names /usr/lib/slurm-nvlink in PluginDir; Slurm will not \
                       start on this host before that is taken out\" >&2\n        break\n    fi\ndone\n",
        on_purge: "",
    },
    Package {
        name: "slurm-nvlink-plugin",
        summary: "Slurm topology/block plugin that keeps jobs inside NVLink partitions",
        description: "A drop-in for Slurm's topology/block: a job that fits one NVLink partition of a GB200 or GB300 rack \
                      lies in one, a larger one in the fewest. It is built for one release of Slurm; with any other Slurm \
                      takes its own plugin.",
        needs: &[Needs::Ours("slurm-nvlink-plugin-dir"), Needs::Slurm, Needs::Libraries],
        items: &[
            text(From::Artifact("topology_block.so"), "/usr/lib/slurm-nvlink/topology_block.so"),
            program("slurm-nvlink-confirm", "/usr/sbin/slurm-nvlink-confirm"),
            text(From::Page("slurm-nvlink-confirm.8.gz"), "/usr/share/man/man8/slurm-nvlink-confirm.8.gz"),
            text(
                From::File("examples/cli_filter.lua"),
                "/usr/share/doc/slurm-nvlink-plugin/examples/cli_filter.lua",
            ),
            text(From::Notices("slurm-plugin"), "/usr/share/doc/slurm-nvlink-plugin/THIRD-PARTY-NOTICES.gz"),
            text(From::Licence, "/usr/share/doc/slurm-nvlink-plugin/copyright"),
        ],
        after_install: "slurm-nvlink-confirm || echo 'slurm-nvlink-plugin: this build of Slurm could not be confirmed; \
                        Slurm goes on with its own topology/block' >&2\n",
        before_remove: "",
        after_remove: "",
        on_purge: "rm -rf /var/lib/slurm-nvlink\n",
    },
    Package {
        name: "imex-prolog",
        summary: "Slurm prolog and epilog: an IMEX domain for each job and NVLink partition",
        description: "Brings up NVIDIA's IMEX daemon on exactly a job's trays of each NVLink partition before the job \
                      starts, and takes it down when the job has ended.",
        needs: &[Needs::Libraries],
        items: &[
            program("imex-prolog", "/usr/sbin/imex-prolog"),
            program("imex-epilog", "/usr/sbin/imex-epilog"),
            text(From::File("files/imex-prolog.logrotate"), "/etc/logrotate.d/imex-prolog"),
            text(From::Page("imex-prolog.8.gz"), "/usr/share/man/man8/imex-prolog.8.gz"),
            text(From::Page("imex-epilog.8.gz"), "/usr/share/man/man8/imex-epilog.8.gz"),
            text(From::Page("imex.toml.5.gz"), "/usr/share/man/man5/imex.toml.5.gz"),
            text(From::File("examples/imex.toml"), "/usr/share/doc/imex-prolog/examples/imex.toml"),
            text(From::Notices("imex-prolog"), "/usr/share/doc/imex-prolog/THIRD-PARTY-NOTICES.gz"),
            text(From::Licence, "/usr/share/doc/imex-prolog/copyright"),
        ],
        after_install: "",
        before_remove: "",
        after_remove: "for file in /etc/slurm/slurm.conf /run/slurm/conf/slurm.conf; do\n    \
                       if grep -Eqs '^[[:space:]]*(Prolog|Epilog)[[:space:]]*=.*/imex-(prolog|epilog)' $file; then\n        \
                       echo \"imex-prolog: $file still names it as Prolog or Epilog; the next job drains this tray before that is \
                       taken out\" >&2\n        break\n    fi\ndone\n",
        on_purge: "rm -rf /var/log/slurm-nvlink /run/slurm-nvlink\nrmdir /etc/slurm-nvlink 2>/dev/null || :\n",
    },
    Package {
        name: "topology-gen",
        summary: "writes Slurm's topology.yaml from the NVLink partitions of all trays",
        description: "Reads the NVLink domain and partition of every GPU through NVML, groups compute trays into blocks, \
                      and brings a checked topology.yaml into force, with a way back.",
        needs: &[Needs::Libraries],
        items: &[
            program("topology-gen", "/usr/bin/topology-gen"),
            text(From::Page("topology-gen.1.gz"), "/usr/share/man/man1/topology-gen.1.gz"),
            text(From::Page("topology-gen.bash"), "/usr/share/bash-completion/completions/topology-gen"),
            text(From::Page("_topology-gen"), "/usr/share/zsh/vendor-completions/_topology-gen"),
            text(From::Page("topology-gen.fish"), "/usr/share/fish/vendor_completions.d/topology-gen.fish"),
            text(
                From::File("systemd/topology-gen-watch.service"),
                "/usr/lib/systemd/system/topology-gen-watch.service",
            ),
            text(From::File("systemd/slurmd.conf"), "/usr/share/topology-gen/slurmd.conf"),
            text(
                From::File("monitoring/slurm-nvlink.rules.yml"),
                "/usr/share/doc/topology-gen/examples/slurm-nvlink.rules.yml",
            ),
            text(
                From::File("monitoring/slurm-nvlink.dashboard.json"),
                "/usr/share/doc/topology-gen/examples/slurm-nvlink.dashboard.json",
            ),
            text(From::Notices("topology-gen"), "/usr/share/doc/topology-gen/THIRD-PARTY-NOTICES.gz"),
            text(From::Licence, "/usr/share/doc/topology-gen/copyright"),
        ],
        // Off until somebody enables it; one that runs goes on with the new program.
        after_install: "if [ -d /run/systemd/system ]; then\n    systemctl daemon-reload || :\n    \
                        systemctl try-restart topology-gen-watch.service || :\nfi\n",
        before_remove: "if [ -d /run/systemd/system ]; then\n    \
                        systemctl --quiet --no-warn disable --now topology-gen-watch.service || :\nfi\n",
        after_remove: "if [ -d /run/systemd/system ]; then\n    systemctl daemon-reload || :\nfi\n",
        on_purge: "",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_packages_hold_the_same_path() {
        let mut seen = BTreeSet::new();
        for item in PACKAGES.iter().flat_map(|package| package.items) {
            assert!(item.to.starts_with('/') && seen.insert(item.to), "{}", item.to);
        }
    }

    #[test]
    fn what_is_needed_of_ours_exists() {
        for need in PACKAGES.iter().flat_map(|package| package.needs) {
            if let Needs::Ours(name) = need {
                assert!(PACKAGES.iter().any(|package| package.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn each_package_says_its_licence_and_fits_a_line() {
        for package in PACKAGES {
            assert!(package.items.iter().any(|item| item.from == From::Licence), "{}", package.name);
            let programs = package.items.iter().any(|item| matches!(item.from, From::Artifact(_)));
            let notices = package.items.iter().any(|item| matches!(item.from, From::Notices(_)));
            assert_eq!(programs, notices, "{}", package.name);
            assert!(package.summary.len() <= 80 && !package.summary.ends_with('.'), "{}", package.summary);
        }
    }
}
