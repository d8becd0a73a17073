/* What the programs that pick a member of a SO_REUSEPORT group have in common. */
#ifndef LISTENBENCH_REUSEPORT_H
#define LISTENBENCH_REUSEPORT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_QUEUES 512

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Number of queues, set when the program is loaded. */
const volatile __u32 queues = 1;

/* A queue has a listener on each of so many addresses, and the listeners on an address are a group. Set when the program is loaded. */
#define MOST_ADDRESSES 16
const volatile __u32 addresses = 1;

/* Queue k's listener on the n-th address at n * MAX_QUEUES + k; as many entries as there are addresses of so many. */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} members SEC(".maps");

/* Takes a queue's listener of the group that the packet is for, as the kernel takes no other; whether there is one. */
static __always_inline int take_queue(struct sk_reuseport_md *ctx, __u32 queue)
{
	if (queue >= MAX_QUEUES)
		return 0;
	for (__u32 n = 0; n < MOST_ADDRESSES && n < addresses; n++) {
		__u32 key = n * MAX_QUEUES + queue;

		if (!bpf_sk_select_reuseport(ctx, &members, &key, 0))
			return 1;
	}
	return 0;
}

/* Picks a queue. Without a listener there (its last worker has just died), the kernel falls back to its hash. */
static __always_inline int pick_queue(struct sk_reuseport_md *ctx, __u32 queue)
{
	take_queue(ctx, queue);
	return SK_PASS;
}

#endif
