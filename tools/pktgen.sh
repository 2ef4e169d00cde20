#!/usr/bin/env bash
# Drives the kernel's pktgen inside a network namespace, with the flags that work on TAPs and veths.
#
#   tools/pktgen.sh NETNS INTERFACE TARGET-ADDRESS TARGET-MAC [COUNT [SIZE]]
#
# Where the module is not there, tools/pktgen (cargo run -p kswitch-tools --bin pktgen) does the same.
set -euo pipefail
if [ $# -lt 4 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 2
fi
netns=$1 interface=$2 target=$3 mac=$4 count=${5:-1000000} size=${6:-60}

modprobe pktgen 2>/dev/null || true
if ! ip netns exec "$netns" test -e /proc/net/pktgen/pgctrl; then
    echo "pktgen.sh: this kernel has no pktgen (CONFIG_NET_PKTGEN): nothing was sent." >&2
    echo "Use the generator of this repository: cargo run --release -p kswitch-tools --bin pktgen -- --help" >&2
    exit 3
fi

# pktgen is per namespace: its files are those of the namespace that opens them
ip netns exec "$netns" bash -euo pipefail -s "$interface" "$target" "$mac" "$count" "$size" <<'INSIDE'
interface=$1 target=$2 mac=$3 count=$4 size=$5
thread=/proc/net/pktgen/kpktgend_0
device=/proc/net/pktgen/$interface
echo rem_device_all > "$thread"
echo "add_device $interface" > "$thread"
# TAPs and veths do not let buffers be shared: with clone_skb above 0 or burst above 1 pktgen answers
# "operation not supported". xmit_mode stays start_xmit: netif_receive would feed this namespace's
# own stack, which is the wrong direction.
for setting in "clone_skb 0" "burst 1" "count $count" "pkt_size $size" "delay 0" \
    "dst $target" "dst_mac $mac" "udp_dst_min 9" "udp_dst_max 9" \
    "udp_src_min 1024" "udp_src_max 1024"; do
    echo "$setting" > "$device"
done
echo start > /proc/net/pktgen/pgctrl
cat "$device"
INSIDE
