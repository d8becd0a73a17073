/* When each passive connection became ESTABLISHED, kept by its client's port.
 *
 * Attached to a cgroup in which listeners, and nothing else, were created: their connections inherit it, the clients' do
 * not. The time goes into memory that workers map, so that reading it costs no system call. */
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

/* Number of client addresses that have slots of their own, a power of two; set when the program is loaded. */
const volatile __u32 addresses = 1;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORTS);
	__type(key, __u32);
	__type(value, struct stamp);
} stamps SEC(".maps");

SEC("sockops")
int stamp(struct bpf_sock_ops *ctx)
{
	__u32 address, key;
	struct stamp *slot;

	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	if (ctx->family == AF_INET)
		address = bpf_ntohl(ctx->remote_ip4);
	else
		address = bpf_ntohl(ctx->remote_ip6[0]) ^ bpf_ntohl(ctx->remote_ip6[1]) ^
			  bpf_ntohl(ctx->remote_ip6[2]) ^ bpf_ntohl(ctx->remote_ip6[3]);
	/* remote_port is in network order, in the upper half. */
	key = (address & (addresses - 1)) * PORTS + (bpf_ntohl(ctx->remote_port) & (PORTS - 1));
	slot = bpf_map_lookup_elem(&stamps, &key);
	if (slot) {
		slot->ns = bpf_ktime_get_ns();
		slot->tag = ((slot->tag >> 32) + 1) << 32 | address;
	}
	return 1;
}
