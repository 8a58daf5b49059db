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
      probe     Read this tray's GPUs through NVML and judge them
      collect   Ask all trays by a command, in parallel, and keep their readings in a file
      generate  Group all trays by NVLink partition and write topology.yaml
      check     Find everything in a topology.yaml that Slurm refuses, dies of, or takes in another sense
      diff      Tell what a topology.yaml changes for Slurm: exit code 0 nothing, 1 something
      apply     Bring a topology into force: check, back up, write, reload, verify; go back if Slurm refuses
      rollback  Bring a backup into force, in the same way
      watch     Look again and again, and apply what has become stable; as a service
      why       Tell whether a job fits now, where, and if not, why
      convert   Turn a topology.conf into a topology.yaml, or back
      tiers     Print the lines of slurm.conf and the QOS that offer the topologies of a topology.yaml to users
      show      Draw racks, trays, jobs and what still fits: in the terminal, as SVG, as a page
      simulate  Replay jobs on racks: what the placement does to occupancy, waits and NVLink locality
      help      Print this message or the help of the given subcommand(s)
    
    Options:
      -h, --help     Print help
      -V, --version  Print version
    
    Exit codes: 0 done, 1 checked and found problems, 2 could not run.
    "#);
}

#[test]
fn help_of_generate() {
    insta::assert_snapshot!(topology_gen(&["generate", "--help"]).data, @r#"
    Group all trays by NVLink partition and write topology.yaml
    
    Usage: topology-gen generate [OPTIONS]
    
    Options:
      -h, --help
              Print help (see a summary with '-h')
    
    Source, without one Slurm's own list with what each slurmd registered:
          --nodes-json <FILE>
              Read the output of `scontrol show nodes --json` from a file, - for standard input, instead of asking Slurm
    
          --readings <FILE>
              Read a JSON object of node names and what `topology-gen probe` printed there, as `collect` writes it
    
          --ask <TEMPLATE>
              Ask each node by this shell command, in which {} is the node, as `collect` does
    
          --nvidia-smi-csv <FILE>
              Read the CSV of nvidia-smi from many nodes, each line with `node: ` in front, - for standard input
    
          --csv-fields <FIELDS>
              The fields that were asked of nvidia-smi, when its CSV has no header
              
              [default: index,uuid,name,driver_version,fabric.state,fabric.status,fabric.cliqueId,fabric.clusterUuid]
    
          --nvidia-smi-folder <FOLDER>
              Read a folder with the output of `nvidia-smi -q` in one file for each node: NODE or NODE.txt
    
          --scontrol <PATH>
              The scontrol to run
              
              [default: scontrol]
    
          --timeout <SECONDS>
              Longest time to wait for one answer of the controller, in seconds
              
              [default: 60]
    
    Plan:
          --base-size <N>
              Base block size, or -N for N trays to spare in the largest NVLink partition; without it as many to spare as in the previous file, else none
    
          --tier <NAME=SIZE>
              A service tier: topology NAME over the same blocks with another base size, N or -N; none takes it out. Tiers of the previous file stay
    
          --site-map <FILE>
              Names and places of the racks: CSV with the columns block,domain,clique,nodes,row,hall
    
          --expect-gpus <N>
              GPUs each tray should have; without it what Slurm's Gres says
    
          --ignore <HOSTLIST>
              Nodes to leave out of all blocks
    
          --topology <NAME>
              Name of the block topology
              
              [default: nvlink]
    
          --fresh
              Forget block names and positions of the present file
    
          --accept-partial
              Write the file though some trays are refused; these trays are left out
    
    Result:
          --out <FILE>
              Write topology.yaml here; without it print to standard output
    
          --previous <FILE>
              Keep block names and positions of this file; without it of the output file
    
          --format <FORMAT>
              What to print when there is no output file
    
              Possible values:
              - yaml:     topology.yaml
              - conf:     topology.conf, for Slurm before 25.05
              - table:    A table of blocks
              - json:     Blocks and the reason of every node that is in none
              - svg:      A picture of the blocks
              - nodesets: NodeSet lines for slurm.conf, one for each block
              - features: scontrol commands that give each tray its block as a Feature, beside those that it has
              - extra:    scontrol commands that give Slurm each tray's reading (Extra)
              - labels:   kubectl commands that label nodes with their NVLink partition (nvidia.com/gpu.clique)
              - slinky:   kubectl commands that annotate nodes for Slinky's slurm-operator (topology.slinky.slurm.net/spec)
              
              [default: yaml]
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
    insta::assert_snapshot!(topology_gen(&["tiers", "--help"]).data, @r#"
    Print the lines of slurm.conf and the QOS that offer the topologies of a topology.yaml to users
    
    Usage: topology-gen tiers [OPTIONS] [FILE]
    
    Arguments:
      [FILE]  The topology.yaml, - for standard input [default: /etc/slurm/topology.yaml]
    
    Options:
          --format <FORMAT>  What to print: conf, lines to include in slurm.conf; sacctmgr, commands for the QOS that --qos names [default: conf]
          --blocks           One more Slurm partition for each NVLink partition
          --qos              A QOS for each of them: a job of a tier gets no more nodes than its base size, so that none needs a second NVLink partition
      -h, --help             Print help
    "#);
}

/// What a screen shows.
const LINES_MAX: usize = 50;

#[test]
fn help_of_each_command_fits_a_screen() {
    for command in
        ["probe", "collect", "check", "diff", "apply", "rollback", "watch", "why", "convert", "tiers"]
    {
        let run = topology_gen(&[command, "--help"]);
        assert_eq!((run.code, run.words.as_str()), (0, ""), "{command}");
        let lines = run.data.lines().count();
        assert!(lines <= LINES_MAX, "{command}: {lines} lines");
    }
    for command in ["generate", "show"] {
        assert!(topology_gen(&[command, "-h"]).data.lines().count() <= LINES_MAX, "{command}");
    }
}

#[test]
fn help_of_watch() {
    let data = topology_gen(&["watch", "--help"]).data;
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
