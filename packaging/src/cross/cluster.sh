# A small cluster of arm64 Slurm under emulation. Argument: folder of our arm64 programs.
#
# slurmctld, one real slurmd (r1n01), and 35 nodes that are "in the cloud": they can be allocated with nothing running on
# them. Prints one fact a line, "name: value"; cross/cluster.rs judges them. Everything ends with this script.
set -eu
ours=$1
at=/tmp/slurm
stock=/usr/lib/aarch64-linux-gnu/slurm-wlm
mkdir -p $at/state $at/spool /usr/lib/slurm-nvlink
cp "$ours/libtopology_block.so" /usr/lib/slurm-nvlink/topology_block.so
(umask 077 && head -c 1024 /dev/urandom >$at/slurm.key)
echo 'CgroupPlugin=disabled' >$at/cgroup.conf
cat >$at/slurm.conf <<END
ClusterName=arm
SlurmctldHost=controller(10.75.0.1)
SlurmUser=root
AuthType=auth/slurm
CredType=cred/slurm
PluginDir=/usr/lib/slurm-nvlink:$stock
StateSaveLocation=$at/state
SlurmdSpoolDir=$at/spool
SlurmctldPidFile=$at/slurmctld.pid
SlurmdPidFile=$at/slurmd.pid
SlurmctldLogFile=$at/slurmctld.log
SlurmdLogFile=$at/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=debug
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
TopologyPlugin=topology/block
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=-1
ResumeTimeout=60000
BatchStartTimeout=60000
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=r1n01 NodeAddr=10.75.0.1 NodeHostname=controller CPUs=4
NodeName=r1n[02-18],r2n[01-18] CPUs=4 State=CLOUD
PartitionName=all Nodes=ALL Default=YES State=UP
END
cat >$at/topology.yaml <<END
- topology: nvlink
  cluster_default: true
  block:
    block_sizes: [18]
    blocks:
      - block: nvl-00000001-1
        nodes: r1n[01-18]
      - block: nvl-00000002-1
        nodes: r2n[01-18]
END
export SLURM_CONF=$at/slurm.conf

# Waits for a command to succeed, at most 60 s.
until_true() {
    what=$1 tries=200
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "failed: $what, not within 60 s"; exit 1; }
        sleep 0.3
    done
}
controller_up() { timeout 5 scontrol ping | grep -q 'is UP'; }
tray_idle() { timeout 5 sinfo -h -n r1n01 -o %t | grep -qx idle; }
has_nodes() { [ -n "$(squeue -h -j "$1" -o %N)" ]; }

finish() {
    kill $(cat $at/slurmd.pid $at/slurmctld.pid 2>/dev/null) 2>/dev/null || :
    wait
    sed 's/^/slurmctld.log: /' $at/slurmctld.log
    grep -i 'topology\|error' $at/slurmd.log | sed 's/^/slurmd.log: /' || :
}
trap finish EXIT

"$ours/slurm-nvlink-confirm" --dry-run | sed 's/^/measured: /'
slurmctld -D >/dev/null 2>&1 &
until_true 'slurmctld is up' controller_up
slurmd -D -N r1n01 >/dev/null 2>&1 &
until_true 'slurmd is up' tray_idle
for daemon in slurmctld slurmd; do
    grep -q /usr/lib/slurm-nvlink/topology_block.so /proc/"$(cat $at/$daemon.pid)"/maps && echo "loaded: $daemon"
done
echo "slurmctld machine: $(od -An -tu2 -j18 -N2 /usr/sbin/slurmctld | tr -d ' ')"
scontrol show topology | sed 's/^/topology: /'
echo "tray runs: $(timeout 60 srun -w r1n01 "$ours/topology-gen" --version)"

for job in 18 16 '24 --segment=12'; do
    id=$(sbatch --parsable --exclusive --output=/dev/null --wrap=true -N $job)
    until_true "job -N $job has nodes" has_nodes "$id"
    echo "job $job: $(scontrol show hostnames "$(squeue -h -j "$id" -o %N)" | cut -c1-2 | sort | uniq -c | awk '{print $2 "=" $1}' | xargs)"
    case $job in 18) ;; *) scancel --me; until_true 'the jobs are gone' sh -c '[ -z "$(squeue -h)" ]' ;; esac
done
