/* When each passive connection to one address became ESTABLISHED, kept by its client's port.
 *
 * Attached to the cgroup of the process that creates the listeners, and so called for the sockets of other processes too: it changes
 * nothing about them, not even the reply that another program may have given. The time goes into memory that workers map, so that
 * reading it costs no system call. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define PORTS 65536

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The layout is that of src/observe/stamps.rs. */
struct stamp {
	__u64 tag; /* low half: the client's address, folded; high half: how many connections this slot has seen */
	__u64 ns;  /* when the last of them became ESTABLISHED, CLOCK_MONOTONIC */
};

/* Number of client addresses that have slots of their own: those in `places`, and no other is stamped, if they are listed; otherwise a
 * power of two, and the low bits of an address choose. Set when the program is loaded. */
const volatile __u32 addresses = 1;
const volatile __u32 listed = 0;

/* Where the listeners are: SO_NETNS_COOKIE of their network, their port, and their address, folded; 0 for every address. Set when the
 * program is loaded. */
const volatile __u64 network = 0;
const volatile __u32 port = 0;
const volatile __u32 at = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORTS);
	__type(key, __u32);
	__type(value, struct stamp);
} stamps SEC(".maps");

/* An address in network order; IPv4's is mapped into IPv6. */
struct address {
	__u32 words[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct address);
	__type(value, __u32);
} places SEC(".maps");

SEC("sockops")
int stamp(struct bpf_sock_ops *ctx)
{
	__u32 local, address, key, *listed_place, place;
	struct address whole = {};
	struct stamp *slot;

	/* local_port is in host order. */
	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || ctx->local_port != port)
		return 1;
	/* An IPv6 listener for both has connections of IPv4, with mapped addresses. */
	if (ctx->family == AF_INET ||
	    (!ctx->local_ip6[0] && !ctx->local_ip6[1] && ctx->local_ip6[2] == bpf_htonl(0xffff))) {
		local = bpf_ntohl(ctx->local_ip4);
		address = bpf_ntohl(ctx->remote_ip4);
		whole.words[2] = bpf_htonl(0xffff);
		whole.words[3] = ctx->remote_ip4;
	} else {
		local = bpf_ntohl(ctx->local_ip6[0]) ^ bpf_ntohl(ctx->local_ip6[1]) ^ bpf_ntohl(ctx->local_ip6[2]) ^
			bpf_ntohl(ctx->local_ip6[3]);
		address = bpf_ntohl(ctx->remote_ip6[0]) ^ bpf_ntohl(ctx->remote_ip6[1]) ^
			  bpf_ntohl(ctx->remote_ip6[2]) ^ bpf_ntohl(ctx->remote_ip6[3]);
		whole.words[0] = ctx->remote_ip6[0];
		whole.words[1] = ctx->remote_ip6[1];
		whole.words[2] = ctx->remote_ip6[2];
		whole.words[3] = ctx->remote_ip6[3];
	}
	if ((at && local != at) || bpf_get_netns_cookie(ctx) != network)
		return 1;
	place = address & (addresses - 1);
	if (listed) {
		listed_place = bpf_map_lookup_elem(&places, &whole);
		if (!listed_place)
			return 1;
		place = *listed_place;
	}
	/* remote_port is in network order, in the upper half. */
	key = place * PORTS + (bpf_ntohl(ctx->remote_port) & (PORTS - 1));
	slot = bpf_map_lookup_elem(&stamps, &key);
	if (slot) {
		slot->ns = bpf_ktime_get_ns();
		slot->tag = ((slot->tag >> 32) + 1) << 32 | address;
	}
	return 1;
}
