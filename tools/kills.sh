#!/usr/bin/env bash
# Kills the switch again and again under ten TCP streams through a cluster IP, and starts it again at once.
#
#   tools/kills.sh [KILLS] [BINARY]         as root; 20 kills of target/release/kswitch by default
#
# All ten streams must finish. For each kill it prints how long the lab took to be ready again, and the longest
# time between two answers to a ping sent every 2 ms across nodes: the blackout. Needs iperf3, ip and ping.
set -euo pipefail
kills=${1:-20}
binary=${2:-target/release/kswitch}
work=$(mktemp -d)
name=kills-$$
switch=

cat > "$work/lab.toml" <<EOF
[lab]
name = "$name"
[switch]
metrics = "off"
[[node]]
name = "node-a"
[[node]]
name = "node-b"
[[pod]]
metadata = { name = "client" }
spec.nodeName = "node-a"
[[pod]]
metadata = { name = "server", labels = { app = "server" } }
spec.nodeName = "node-b"
[[service]]
metadata = { name = "server" }
spec = { selector = { app = "server" }, clusterIP = "10.8.0.80", ports = [{ port = 5201 }] }
EOF

start() { # its number
    "$binary" --config "$work/lab.toml" > "$work/out.$1" 2> "$work/err.$1" &
    switch=$!
    disown "$switch"
}

ready() { # its number
    for _ in $(seq 2000); do
        grep -qs '^ready' "$work/out.$1" && return
        kill -0 "$switch" 2> /dev/null || break
        sleep 0.01
    done
    echo "the lab did not come up:" >&2
    cat "$work/out.$1" "$work/err.$1" >&2
    exit 1
}

finish() {
    [ -n "$switch" ] && kill "$switch" 2> /dev/null && while kill -0 "$switch" 2> /dev/null; do sleep 0.05; done
    "$binary" clean "$name" > /dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

start 0
ready 0
address=$("$binary" --lab "$name" get pod server -o json | sed -n 's/.*"podIP": "\([0-9.]*\)".*/\1/p' | head -1)
ip netns exec "$name.default.server" iperf3 -s -1 > "$work/server" 2>&1 &
sleep 0.5
seconds=$((2 * kills + 5))
ip netns exec "$name.default.client" iperf3 -c 10.8.0.80 -P 10 -b 20M -t "$seconds" -J > "$work/client" 2>&1 &
client=$!
ip netns exec "$name.default.client" ping -D -i 0.002 -w "$seconds" "$address" > "$work/ping" 2>&1 &
ping=$!
sleep 2
for number in $(seq "$kills"); do
    date +%s.%N >> "$work/moments"
    kill -9 "$switch"
    start "$number"
    ready "$number"
    sed -n 's/.*, in \([0-9.]*\) s.*/\1/p' "$work/out.$number" >> "$work/starts"
    sleep 1.5
done
wait "$client" && code=0 || code=$?
wait "$ping" || true
if [ "$code" != 0 ] || [ "$(grep -c '"socket":' "$work/client")" -lt 20 ]; then
    echo "the streams did not finish:" >&2
    tail -20 "$work/client" >&2
    exit 1
fi
# the longest silence that began within a second after each kill
awk '
    FNR == NR { moment[++kills] = $1; next }
    /icmp_seq/ && match($0, /^\[[0-9.]+\]/) {
        now = substr($0, 2, RLENGTH - 2) + 0 # else it is compared as a text
        if (last) for (k = 1; k <= kills; k++)
            if (now > moment[k] && last < moment[k] + 1 && now - last > gap[k]) gap[k] = now - last
        last = now
    }
    END { for (k = 1; k <= kills; k++) printf "%.0f\n", gap[k] * 1000 }
' "$work/moments" "$work/ping" > "$work/gaps"
if grep -qx 0 "$work/gaps"; then
    echo "a kill that nobody noticed: the pings did not run" >&2
    tail -3 "$work/ping" >&2
    exit 1
fi
paste "$work/starts" "$work/gaps" | awk '{ printf "kill %d: ready in %s s, blackout %s ms\n", NR, $1, $2 }'
sort -n "$work/gaps" | awk '
    { gap[NR] = $1 }
    END { printf "%d kills, ten streams finished; blackout median %d ms, worst %d ms\n", NR, gap[int((NR + 1) / 2)], gap[NR] }'
