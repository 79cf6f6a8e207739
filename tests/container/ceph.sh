#!/bin/bash
# A real S3 server for the tests: Ceph (mon, one osd in memory, radosgw) from Debian's packages, in a chroot, on loopback.
#
#   sudo tests/container/ceph.sh start /tmp/ceph    # the first time: debootstrap, a minute or two and 1 GB
#   ASSAY_TEST_S3=http://127.0.0.1:17480 ASSAY_TEST_S3_KEY=testaccess ASSAY_TEST_S3_SECRET=testsecret \
#     python -m pytest tests/container/test_object_store.py tests/faults/test_ledger_object_store.py
#   sudo tests/container/ceph.sh stop /tmp/ceph
set -eu
do=${1:?start or stop}
work=$(realpath -m "${2:?a folder to work in}")
root=$work/root
mon=${MON_PORT:-17689}
port=${S3_PORT:-17480}
packages=radosgw,ceph-mon,ceph-osd,ceph-common

stop() {  # the front first: radosgw does not end while it waits for storage that is gone
  for name in rgw osd mon; do
    [ -f "$work/$name.pid" ] || continue
    id=$(cat "$work/$name.pid")
    kill "$id" 2>/dev/null
    for _ in $(seq 20); do
      kill -0 "$id" 2>/dev/null || break
      sleep 0.5
    done
    kill -9 "$id" 2>/dev/null
    rm -f "$work/$name.pid"
  done
  if mountpoint -q "$root/proc"; then umount "$root/proc"; fi
}

run() {  # a daemon, its output and its process id in the work folder
  chroot "$root" "${@:2}" >"$work/$1.log" 2>&1 &
  echo $! >"$work/$1.pid"
}

until_says() {  # what a command has to print, within a minute
  for _ in $(seq 60); do
    if "${@:2}" 2>/dev/null | grep -q "$1"; then return; fi
    sleep 1
  done
  echo "no $1 from: ${*:2}; see $work/*.log" >&2
  exit 1
}

set +e
stop
set -e
[ "$do" = start ] || exit 0
mkdir -p "$work"
if [ ! -x "$root/usr/bin/radosgw" ]; then
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1)
  debootstrap --variant=minbase --include=$packages bookworm "$root" "$mirror" >"$work/debootstrap.log"
fi
mount -t proc proc "$root/proc"
for node in null:3 random:8 urandom:9; do
  [ -c "$root/dev/${node%:*}" ] || mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"
done
rm -rf "$root"/var/lib/ceph/mon/ceph-a "$root"/var/lib/ceph/osd/ceph-0
mkdir -p "$root"/etc/ceph "$root"/var/run/ceph "$root"/var/log/ceph "$root"/var/lib/ceph/{mon/ceph-a,osd/ceph-0}
id=$(cat /proc/sys/kernel/random/uuid)
cat >"$root/etc/ceph/ceph.conf" <<CONF
[global]
fsid = $id
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_host = [v1:127.0.0.1:$mon]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr2 = false
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$port
CONF
chroot "$root" monmaptool --create --clobber --fsid "$id" --addv a "[v1:127.0.0.1:$mon]" /tmp/monmap >/dev/null
chroot "$root" ceph-mon --mkfs -i a --monmap /tmp/monmap
run mon ceph-mon -f -i a
until_says quorum chroot "$root" timeout 5 ceph -s
osd=$(cat /proc/sys/kernel/random/uuid)
chroot "$root" ceph osd new "$osd" >/dev/null
chroot "$root" ceph-osd -i 0 --mkfs --osd-uuid "$osd" >"$work/mkfs.log" 2>&1
run osd ceph-osd -f -i 0
until_says "1 up" chroot "$root" timeout 5 ceph -s
run rgw radosgw -f -n client.rgw
until_says '"keys"' chroot "$root" timeout 20 radosgw-admin user create --uid=tests --display-name=tests \
  --access-key="${ASSAY_TEST_S3_KEY:-testaccess}" --secret-key="${ASSAY_TEST_S3_SECRET:-testsecret}"
until_says Owner curl -s "http://127.0.0.1:$port/"
echo "http://127.0.0.1:$port"
