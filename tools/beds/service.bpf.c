// A Service by eBPF at tc, no more: what is the least that the shape of Cilium's data path costs.
// One program at the node's end of either veth; conntrack in a hash map, DNAT, bpf_redirect_peer.
// Compiled by tc.sh: clang -O2 -g -target bpf -DCLIENT=<ifindex> -DSERVER=<ifindex> -DBACKEND=<address>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define big16(x) __builtin_bswap16(x)
#define big32(x) __builtin_bswap32(x)

static void *(*find)(void *, const void *) = (void *)BPF_FUNC_map_lookup_elem;
static long (*update)(void *, const void *, const void *, __u64) = (void *)BPF_FUNC_map_update_elem;
static long (*store)(void *, __u32, const void *, __u32, __u64) = (void *)BPF_FUNC_skb_store_bytes;
static long (*fix_ip)(void *, __u32, __u64, __u64, __u64) = (void *)BPF_FUNC_l3_csum_replace;
static long (*fix_upper)(void *, __u32, __u64, __u64, __u64) = (void *)BPF_FUNC_l4_csum_replace;
static long (*pull)(void *, __u32) = (void *)BPF_FUNC_skb_pull_data;
static long (*redirect_peer)(__u32, __u64) = (void *)BPF_FUNC_redirect_peer;

// addresses and ports in network order
struct flow {
    __u32 source, target;
    __u16 sport, dport;
    __u32 protocol;
};
struct service {
    __u32 address;
    __u16 port, protocol;
};
// what a frame of a flow becomes: another target on the way there, another source on the way back
struct binding {
    __u32 address, is_reply;
};
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __type(key, struct service);
    __type(value, __u32);
} services SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4194304);
    __type(key, struct flow);
    __type(value, struct binding);
} flows SEC(".maps");

#define IP ETH_HLEN
#define UPPER (IP + 20)

static int rewrite(struct __sk_buff *skb, struct flow *flow, struct binding *to)
{
    __u32 old = to->is_reply ? flow->source : flow->target, new = to->address;
    __u32 at = IP + (to->is_reply ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
    __u32 sum = flow->protocol == IPPROTO_TCP ? 16 : 6;
    __u64 flags = BPF_F_PSEUDO_HDR | 4 | (flow->protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0);
    if (old == new)
        return 0;
    if (fix_upper(skb, UPPER + sum, old, new, flags))
        return -1;
    if (fix_ip(skb, IP + offsetof(struct iphdr, check), old, new, 4))
        return -1;
    return store(skb, at, &new, 4, 0);
}

SEC("tc")
int forward(struct __sk_buff *skb)
{
    __u32 out = skb->ifindex == CLIENT ? SERVER : CLIENT;
    if (skb->protocol != big16(ETH_P_IP))
        return redirect_peer(out, 0); // neighbours
    pull(skb, UPPER + 20);
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (data + UPPER + 8 > end)
        return TC_ACT_SHOT;
    struct iphdr *ip = data + IP;
    __u16 *ports = data + UPPER;
    if (ip->ihl != 5 || (ip->protocol != IPPROTO_UDP && ip->protocol != IPPROTO_TCP))
        return redirect_peer(out, 0);
    struct flow flow = {ip->saddr, ip->daddr, ports[0], ports[1], ip->protocol};
    struct binding *known = find(&flows, &flow);
    if (known) {
        struct binding binding = *known;
        return rewrite(skb, &flow, &binding) ? TC_ACT_SHOT : redirect_peer(out, 0);
    }
    struct binding there = {flow.target, 0}, back = {flow.target, 1};
    // 10.96.0.0/16: the Services are found in a map, which fills itself as they are asked for
    if ((flow.target & big32(0xffff0000)) == big32(0x0a600000)) {
        struct service service = {flow.target, flow.dport, flow.protocol};
        __u32 *backend = find(&services, &service), ours = BACKEND;
        if (!backend)
            update(&services, &service, &ours, BPF_ANY);
        there.address = backend ? *backend : ours;
    }
    struct flow reply = {there.address, flow.source, flow.dport, flow.sport, flow.protocol};
    update(&flows, &reply, &back, BPF_ANY);
    update(&flows, &flow, &there, BPF_ANY);
    return rewrite(skb, &flow, &there) ? TC_ACT_SHOT : redirect_peer(out, 0);
}

char _license[] SEC("license") = "GPL";
