#!/usr/bin/env bash
# Looks at every frame of a long transfer through a cluster IP, on both sides, for bad checksums.
#
#   tools/checksums.sh KSWITCH [OCTETS [RATE]]      as root; 10G at 400M by default
#
# Pods get plain TAPs: with offloads a receiver is handed frames whose checksum is left to it, and
# there would be nothing to look at. Frames go from dumpcap to tshark by a pipe, and nothing is kept.
# The rate is bounded so that tshark keeps up; frames that it missed all the same are counted.
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
fi
kswitch=$1 octets=${2:-10G} rate=${3:-400M}
lab=sums-$$
directory=$(mktemp -d)
cat > "$directory/lab.toml" <<LAB
[lab]
name = "$lab"
[switch]
offloads = false
metrics = "off"
[[node]]
name = "a"
[[node]]
name = "b"
[[pod]]
metadata = { name = "client" }
spec.nodeName = "a"
[[pod]]
metadata = { name = "server", labels = { app = "server" } }
spec.nodeName = "b"
[[service]]
metadata = { name = "server" }
spec = { clusterIP = "10.8.1.1", selector = { app = "server" }, ports = [{ port = 80, targetPort = 5201 }] }
LAB
"$kswitch" --config "$directory/lab.toml" > "$directory/said" 2> "$directory/complained" &
switch=$!
trap 'kill "$switch" 2>/dev/null || true; wait "$switch" 2>/dev/null || true; rm -rf "$directory"' EXIT
for _ in $(seq 100); do
    grep -q '^ready' "$directory/said" && break
    sleep 0.1
done
grep -q '^ready' "$directory/said" || { cat "$directory/complained" >&2; exit 1; }

# Every frame, in and out, with IP and TCP checksums verified. Linux writes 0xffff where a checksum
# comes to nothing (CSUM_MANGLED_0), which is the same number; tshark takes it for another.
same='tcp.checksum==0xffff&&tcp.checksum_calculated==0x0000'
right="(tcp.checksum.status==1||($same))&&ip.checksum.status==1"
wrong="(tcp.checksum.status==0&&!($same))||ip.checksum.status==0"
look() {
    ip netns exec "$lab.default.$1" dumpcap -q -i eth0 -B 64 -f tcp -w - 2> "$directory/$1.capture" |
        tshark -n -M 200000 -r - -q -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE \
            -o tcp.analyze_sequence_numbers:FALSE -o tcp.desegment_tcp_streams:FALSE \
            -z "io,stat,0,tcp,$right,$wrong" \
            > "$directory/$1.counts" 2>&1
}
look client & near=$!
look server & far=$!
sleep 3
ip netns exec "$lab.default.server" iperf3 -s -1 > /dev/null &
server=$!
sleep 1
ip netns exec "$lab.default.client" iperf3 -c 10.8.1.1 -p 80 -n "$octets" -b "$rate" -i 0 | tail -4
wait "$server"
sleep 3
pkill -INT -P "$near" dumpcap || true
pkill -INT -P "$far" dumpcap || true
wait "$near" "$far" || true
for side in client server; do
    echo "$side: frames and octets of TCP; with both checksums right; with one wrong"
    grep -E '^\|.*<>' "$directory/$side.counts" || cat "$directory/$side.counts"
    grep -iE 'received/dropped' "$directory/$side.capture" || true
done
