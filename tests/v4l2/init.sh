#!/bin/busybox sh
# The first process of the machine: loads the drivers, lays a writable layer over the host's read-only root, runs
# /command in there and leaves its exit code in the folder that is shared with the host.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -onlcr
while read -r module options; do
    # shellcheck disable=SC2086
    insmod "/modules/$module" $options || echo "init: $module cannot be loaded"
done < /order

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root
for folder in proc sys dev; do mount --move "/$folder" "/root/$folder"; done
mkdir -p /root/dev/shm
mount -t tmpfs shm /root/dev/shm
mount -t tmpfs run /root/run
mkdir /root/run/shared
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 shared /root/run/shared
cp /command /root/run/command
ifconfig lo 127.0.0.1 up

timeout -s KILL "$(cat /limit)" chroot /root /bin/bash /run/command
echo $? > /root/run/shared/exit-code
echo 0 0 0 0 > /root/proc/sys/kernel/printk
reboot -f
