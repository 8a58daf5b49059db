# Prepares the room: run once, inside its namespaces. Arguments: tree source cargo-home target how
#
# Nothing is mounted anywhere else, and all of it is gone with the last process of the room. The tree, the source and
# cargo's home cannot be written to from inside.
# Exit code 3: this kernel has no binfmt_misc for a user namespace of its own (Linux 6.7 has).
set -eu
tree=$1 source=$2 cargo=$3 target=$4 name=$5

# Linux runs arm64 programs by qemu here, and only here where the room has its own user namespace. Flag F opens qemu now,
# so that programs find it whatever their root is.
binfmt=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc $binfmt || exit 3
header='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
echo ":$name:M::$header:$mask:$tree/usr/bin/qemu-aarch64:F" >$binfmt/register

readonly_bind() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
readonly_bind "$tree" "$tree"
for below in proc sys dev; do mount --rbind "/$below" "$tree/$below"; done
for below in mnt tmp run; do mount -t tmpfs tmpfs "$tree/$below"; done
cd "$tree/mnt"
mkdir source cargo target include include/slurm
readonly_bind "$source" source
readonly_bind "$cargo" cargo
mount --bind "$target" target
# Slurm's headers alone: beside them in /usr/include are the C headers of this machine's architecture.
mount --bind "$tree/usr/include/slurm" include/slurm
chroot "$tree" ip link set lo up
