# up|down PREFIX DIRECTORY: two pods on veths of one node; eBPF at tc finds flows, translates Services and
# hands frames over by bpf_redirect_peer. DIRECTORY holds service.bpf.c.
what=$1 p=$2 d=$3
if [ "$what" = down ]; then
    for ns in client server node; do ip netns del "$p.$ns" 2>/dev/null || true; done
    exit 0
fi
for ns in client server node; do ip netns add "$p.$ns"; ip -n "$p.$ns" link set lo up; done
n=2
for pod in client server; do
    ip -n "$p.$pod" link add eth0 address 02:00:00:d1:00:0$n type veth peer name $pod netns "$p.node"
    ip -n "$p.node" link set $pod up
    ip -n "$p.$pod" link set eth0 up
    ip -n "$p.$pod" addr add 10.209.0.$n/24 dev eth0
    n=$((n + 1))
done
# Services are reached by the server's own Ethernet address: routing is not what is measured
ip -n "$p.client" route add 10.96.0.0/16 via 10.209.0.3
ip -n "$p.client" neigh replace 10.209.0.3 lladdr 02:00:00:d1:00:03 dev eth0
ip -n "$p.server" neigh replace 10.209.0.2 lladdr 02:00:00:d1:00:02 dev eth0
index() { ip -n "$p.node" -o link show dev "$1" | cut -d: -f1; }
# 10.209.0.3, as it lies in memory of a little-endian machine
clang -O2 -g -target bpf -I"/usr/include/$(uname -m)-linux-gnu" -DCLIENT="$(index client)" \
    -DSERVER="$(index server)" -DBACKEND=0x0300d10a -c "$d/service.bpf.c" -o "$d/service.o"
# one program at both ends, so that both have the same maps
tc -n "$p.node" qdisc add dev client ingress_block 1 clsact
tc -n "$p.node" qdisc add dev server ingress_block 1 clsact
tc -n "$p.node" filter add block 1 bpf da obj "$d/service.o" sec tc
