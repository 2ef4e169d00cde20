# up|down PREFIX DIRECTORY: Open vSwitch, its userspace datapath, TAPs of its own in two namespaces;
# 32 Services by conntrack and DNAT.
what=$1 p=$2 d=$3
export OVS_RUNDIR=$d OVS_LOGDIR=$d OVS_DBDIR=$d OVS_SYSCONFDIR=$d
vsctl() { timeout 15 ovs-vsctl --db="unix:$d/db.sock" "$@"; }
if [ "$what" = down ]; then
    for daemon in vswitchd ovsdb; do
        [ -f "$d/$daemon.pid" ] || continue
        pid=$(cat "$d/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        # what it made may be removed once it is gone
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    done
    for ns in client server; do ip netns del "$p.$ns" 2>/dev/null || true; done
    ip link del "$p-br" 2>/dev/null || true
    # the datapath's own, which stays for a next start; nobody else's
    pgrep -x ovs-vswitchd > /dev/null || ip link del ovs-netdev 2>/dev/null || true
    exit 0
fi
ovsdb-tool create "$d/conf.db" /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server "$d/conf.db" --remote="punix:$d/db.sock" --pidfile="$d/ovsdb.pid" \
    --unixctl="$d/ovsdb.ctl" --log-file="$d/ovsdb.log" --detach
vsctl --no-wait init
# its threads on the processor that kswitch's worker has
taskset -c 0 ovs-vswitchd "unix:$d/db.sock" --pidfile="$d/vswitchd.pid" \
    --unixctl="$d/vswitchd.ctl" --log-file="$d/vswitchd.log" --detach
vsctl add-br "$p-br" -- set bridge "$p-br" datapath_type=netdev
n=2
for ns in client server; do
    ip netns add "$p.$ns"
    ip -n "$p.$ns" link set lo up
    vsctl add-port "$p-br" "$p-$n" -- set interface "$p-$n" type=internal
    ip link set "$p-$n" netns "$p.$ns"
    ip -n "$p.$ns" link set "$p-$n" address 02:00:00:ce:00:0$n up
    ip -n "$p.$ns" addr add 10.206.0.$n/24 dev "$p-$n"
    n=$((n + 1))
done
# Services are reached by the server's own Ethernet address: routing is not what is measured
ip -n "$p.client" route add 10.96.0.0/16 via 10.206.0.3
ip -n "$p.client" neigh replace 10.206.0.3 lladdr 02:00:00:ce:00:03 dev "$p-2"
ip -n "$p.server" neigh replace 10.206.0.2 lladdr 02:00:00:ce:00:02 dev "$p-3"
for n in $(seq 0 31); do
    nat="ct(commit,zone=1,nat(dst=10.206.0.3:$((10000 + n))),table=1)"
    echo "table=0,priority=60,udp,nw_dst=10.96.0.$((10 + n)),udp_dst=9999 actions=$nat"
done > "$d/flows"
cat >> "$d/flows" <<'FLOWS'
table=0,priority=50,ip,nw_dst=10.96.0.0/16 actions=ct(commit,zone=1,nat(dst=10.206.0.3),table=1)
table=0,priority=40,ip,nw_src=10.206.0.3 actions=ct(zone=1,nat,table=1)
table=0,priority=30,ip actions=ct(commit,zone=1,table=1)
table=0,priority=0 actions=NORMAL
table=1 actions=NORMAL
FLOWS
ovs-ofctl -O OpenFlow13 replace-flows "$p-br" "$d/flows"
