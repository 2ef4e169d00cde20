# up|down PREFIX DIRECTORY: vde_switch with a TAP in each of two namespaces.
what=$1 p=$2 d=$3
if [ "$what" = down ]; then
    if [ -f "$d/pid" ]; then kill "$(cat "$d/pid")" 2>/dev/null || true; fi
    sleep 0.2
    for ns in client server; do ip netns del "$p.$ns" 2>/dev/null || true; done
    exit 0
fi
taskset -c 0 vde_switch -daemon -sock "$d/ctl" -pidfile "$d/pid" -tap "$p-2" -tap "$p-3"
n=2
for ns in client server; do
    ip netns add "$p.$ns"
    ip -n "$p.$ns" link set lo up
    ip link set "$p-$n" netns "$p.$ns"
    ip -n "$p.$ns" link set "$p-$n" up
    ip -n "$p.$ns" addr add 10.208.0.$n/24 dev "$p-$n"
    n=$((n + 1))
done
