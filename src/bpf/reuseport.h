/* What the programs that pick a member of a SO_REUSEPORT group have in common. */
#ifndef LISTENBENCH_REUSEPORT_H
#define LISTENBENCH_REUSEPORT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_QUEUES 512

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Number of queues, set when the program is loaded. */
const volatile __u32 queues = 1;

/* Queue k's listener at k. */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} members SEC(".maps");

/* Picks a queue. Without a listener there (its last worker has just died), the kernel falls back to its hash. */
static __always_inline int pick_queue(struct sk_reuseport_md *ctx, __u32 queue)
{
	bpf_sk_select_reuseport(ctx, &members, &queue, 0);
	return SK_PASS;
}

#endif
