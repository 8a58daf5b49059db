# Prepares the room: run once, inside its namespaces. Arguments: tree source cargo-home target entry
#
# All mounts are gone with the last process of the room. Neither the tree nor the source nor cargo's home can be written to
# from inside: the root folder is an overlay over the tree, whose upper half is in memory.
set -eu
tree=$1 source=$2 cargo=$3 target=$4 entry=$5

# Linux runs arm64 programs by qemu as long as this entry exists; the holder of the room removes it. Flag F opens qemu now,
# so that programs find it whatever their root is.
binfmt=/proc/sys/fs/binfmt_misc
mount -t binfmt_misc binfmt_misc $binfmt
header='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
echo ":$entry:M::$header:$mask:$tree/usr/bin/qemu-aarch64:F" >$binfmt/register

mount -t tmpfs tmpfs "$tree/mnt"
root=$tree/mnt/root
mkdir "$root" "$tree/mnt/upper" "$tree/mnt/work"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$tree/mnt/upper,workdir=$tree/mnt/work" "$root"

readonly_bind() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
for below in proc sys dev; do mount --rbind "/$below" "$root/$below"; done
mkdir "$root/mnt/source" "$root/mnt/cargo" "$root/mnt/target" "$root/mnt/include"
readonly_bind "$source" "$root/mnt/source"
readonly_bind "$cargo" "$root/mnt/cargo"
mount --bind "$target" "$root/mnt/target"
# Slurm's headers alone: beside them in /usr/include are the C headers of this machine's architecture.
ln -s /usr/include/slurm "$root/mnt/include/slurm"

printf '127.0.0.1 localhost\n10.75.0.1 controller\n' >"$root/etc/hosts"
chroot "$root" hostname controller
chroot "$root" ip link set lo up
chroot "$root" ip address add 10.75.0.1/32 dev lo
