# up|down PREFIX DIRECTORY: two nodes of the kernel's own: veth, bridge, routes, and nftables rules of
# the shape that kube-proxy writes for 32 Services with one endpoint.
what=$1 p=$2
if [ "$what" = down ]; then
    for ns in client server a b; do ip netns del "$p.$ns" 2>/dev/null || true; done
    exit 0
fi
for ns in client server a b; do ip netns add "$p.$ns"; ip -n "$p.$ns" link set lo up; done
pair() { # NS IF NS IF
    ip -n "$1" link add "$2" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}
for side in a b; do
    if [ $side = a ]; then pod=client; net=10.204.0; else pod=server; net=10.204.1; fi
    pair "$p.$pod" eth0 "$p.$side" pod
    ip -n "$p.$side" link add cbr0 type bridge
    ip -n "$p.$side" link set cbr0 up
    ip -n "$p.$side" link set pod master cbr0
    ip -n "$p.$side" addr add $net.1/24 dev cbr0
    ip -n "$p.$pod" addr add $net.2/24 dev eth0
    ip -n "$p.$pod" route add default via $net.1
    ip netns exec "$p.$side" sysctl -qw net.ipv4.ip_forward=1
done
pair "$p.a" fabric "$p.b" fabric
ip -n "$p.a" addr add 10.205.0.1/30 dev fabric
ip -n "$p.b" addr add 10.205.0.2/30 dev fabric
ip -n "$p.a" route add 10.204.1.0/24 via 10.205.0.2
ip -n "$p.b" route add 10.204.0.0/24 via 10.205.0.1
rules() {
    echo "table ip kube-proxy {"
    for n in $(seq 0 31); do for port in udp-9999 tcp-5001 tcp-5002 udp-5003; do
        proto=${port%-*} number=${port#*-}
        if [ "$number" = 9999 ]; then backend=$((10000 + n)); else backend=$number; fi
        echo " chain endpoint-$n-$port { ip saddr 10.204.1.2 jump mark-for-masquerade; meta l4proto $proto dnat to 10.204.1.2:$backend; }"
        echo " chain service-$n-$port { ip daddr 10.96.0.$((10 + n)) $proto dport $number ip saddr != 10.204.0.0/16 jump mark-for-masquerade; numgen random mod 1 vmap { 0 : goto endpoint-$n-$port }; }"
    done; done
    echo " chain mark-for-masquerade { meta mark set meta mark or 0x4000; }"
    echo " map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {"
    for n in $(seq 0 31); do for port in udp-9999 tcp-5001 tcp-5002 udp-5003; do
        echo "  10.96.0.$((10 + n)) . ${port%-*} . ${port#*-} : goto service-$n-$port,"
    done; done
    echo " } }"
    echo " map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }"
    echo " chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }"
    echo " chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }"
    echo " chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }"
    echo " chain filter-forward { type filter hook forward priority -110; ct state new jump service-endpoints-check; }"
    echo " chain nat-postrouting { type nat hook postrouting priority srcnat; meta mark & 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }"
    echo "}"
}
rules | sed 's/^ chain mark-for/ chain mark-for/' > "$3/rules"
# a chain must stand before what jumps to it
{ echo "table ip kube-proxy { chain mark-for-masquerade { }"
  for n in $(seq 0 31); do for port in udp-9999 tcp-5001 tcp-5002 udp-5003; do
      echo " chain endpoint-$n-$port { }"; echo " chain service-$n-$port { }"
  done; done; echo "}"; cat "$3/rules"; } > "$3/all"
ip netns exec "$p.a" nft -f "$3/all"
