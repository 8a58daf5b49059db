//! The help texts as users see them.

use super::*;

#[test]
fn help_lists_the_commands_and_exit_codes() {
    let run = topology_gen(&["--help"]);
    assert_eq!((run.code, run.words.as_str()), (0, ""));
    insta::assert_snapshot!(run.data, @r#"
    Reads which compute trays share an NVLink partition and writes Slurm's topology.yaml

    Usage: topology-gen <COMMAND>

    Commands:
      probe      Read this tray's GPUs through NVML and judge them
      collect    Ask all trays by a command, in parallel, and keep their readings in a file
      generate   Group all trays by NVLink partition and write topology.yaml
      check      Find everything in a topology.yaml that Slurm refuses, dies of, or takes in another sense
      diff       Tell what a topology.yaml changes for Slurm: exit code 0 nothing, 1 something
      apply      Bring a topology into force: check, back up, write, reload, verify; go back if Slurm refuses
      rollback   Bring a backup into force, in the same way
      watch      Look again and again, and apply what has become stable; as a service
      why        Tell whether a job fits now, where, and if not, why
      convert    Turn a topology.conf into a topology.yaml, or back
      tiers      Print the lines of slurm.conf and the QOS that offer the topologies of a topology.yaml to users
      show       Draw racks, trays, jobs and what still fits: in the terminal, as SVG, as a page
      gpu-hours  Add up the GPU hours of Slurm's accounting by NVLink partition, Slurm partition, account and QOS
      simulate   Replay jobs on racks: what the placement does to occupancy, waits and NVLink locality
      help       Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Exit codes: 0 done, 1 checked and found problems, 2 could not run.
    "#);
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(topology_gen(&["generate", "-h"]).data, @r#"
    Group all trays by NVLink partition and write topology.yaml

    Usage: topology-gen generate [OPTIONS]

    Options:
      -h, --help  Print help (see more with '--help')

    Source, without one Slurm's own list with what each slurmd registered:
          --nodes-json <FILE>      Read the output of `scontrol show nodes --json` from a file
          --readings <FILE>        Read readings from a file, as `collect` writes it
          --ask <TEMPLATE>         Ask each node by this shell command, in which {} is the node
          --nvidia-smi-csv <FILE>  Read the CSV of nvidia-smi from many nodes, each line with `node: ` in front

    Plan:
          --base-size <N>      Base block size, or -N for N trays to spare in the largest NVLink partition
          --tier <NAME=SIZE>   A service tier: the same blocks with another base size, N or -N
          --site-map <FILE>    Names and places of the racks, a CSV
          --expect-gpus <N>    GPUs each tray should have; without it what Slurm's Gres says
          --ignore <HOSTLIST>  Nodes to leave out of all blocks
          --topology <NAME>    Name of the block topology [default: nvlink]
          --fresh              Forget block names and positions of the present file
          --accept-partial     Write the file though some trays are refused; these trays are left out

    Result:
          --out <FILE>       Write topology.yaml here; without it print to standard output
          --previous <FILE>  Keep block names and positions of this file; without it of the output file
          --format <FORMAT>  What to print when there is no output file [default: yaml] [possible values: yaml, conf, table, json, svg, nodesets, features, extra, labels, slinky]
    "#);
}

#[test]
fn help_of_probe() {
    insta::assert_snapshot!(topology_gen(&["probe", "--help"]).data, @r#"
    Read this tray's GPUs through NVML and judge them

    Usage: topology-gen probe [OPTIONS]

    Options:
          --extra              Print one line for `slurmd --extra` instead of the full reading
          --expect-gpus <N>    GPUs this tray should have; fewer are a fault
          --timeout <SECONDS>  Longest time to wait for the driver, in seconds [default: 60]
      -h, --help               Print help
    "#);
}

#[test]
fn help_of_tiers() {
    insta::assert_snapshot!(topology_gen(&["tiers", "-h"]).data, @r#"
    Print the lines of slurm.conf and the QOS that offer the topologies of a topology.yaml to users
    
    Usage: topology-gen tiers [OPTIONS] [FILE]
    
    Arguments:
      [FILE]  The topology.yaml, - for standard input [default: /etc/slurm/topology.yaml]
    
    Options:
          --format <FORMAT>  What to print: conf, lines to include in slurm.conf; sacctmgr, commands for the QOS that --qos names [default: conf]
          --blocks           One more Slurm partition for each NVLink partition
          --qos              A QOS for each of them
      -h, --help             Print help (see more with '--help')
    "#);
}

/// What a screen shows: lines, and characters in a line.
const SCREEN: (usize, usize) = (40, 125);

#[test]
fn help_of_each_command_fits_a_screen() {
    for command in crate::cli::command().get_subcommands() {
        let name = command.get_name();
        let run = topology_gen(&[name, "-h"]);
        assert_eq!((run.code, run.words.as_str()), (0, ""), "{name}");
        let lines = run.data.lines().count();
        // Default values may be what they must be.
        let words = run.data.lines().filter_map(|line| line.split(" [").next());
        let width = words.map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(lines <= SCREEN.0 && width <= SCREEN.1, "{name}: {lines} lines of up to {width} characters");
    }
}

#[test]
fn help_of_watch() {
    let data = topology_gen(&["watch", "-h"]).data;
    let own = data.split("\n\n").find(|part| part.starts_with("Watch:")).unwrap();
    insta::assert_snapshot!(own, @r#"
    Watch:
          --interval <SECONDS>  Between two looks at the trays, in seconds [default: 60]
          --stable <N>          Act on a change that was seen so often in a row [default: 3]
          --settle <SECONDS>    And for so long, in seconds [default: 120]
          --per-hour <N>        Most changes in an hour [default: 4]
          --lost <N>            With so many trays lost at once, wait for them or for a human (SIGHUP) [default: 4]
          --metrics <FOLDER>    Folder for metrics of Prometheus' node exporter
    "#);
}
