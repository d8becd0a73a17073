/* What the programs that pick a member of a SO_REUSEPORT group have in common. */
#ifndef LISTENBENCH_REUSEPORT_H
#define LISTENBENCH_REUSEPORT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_WORKERS 512

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Number of workers, set when the program is loaded. */
const volatile __u32 workers = 1;

/* Worker k's listener at k. */
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, MAX_WORKERS);
	__type(key, __u32);
	__type(value, __u32);
} members SEC(".maps");

/* Picks a worker. Without a listener there (it has just died), the kernel falls back to its hash. */
static __always_inline int pick_worker(struct sk_reuseport_md *ctx, __u32 worker)
{
	bpf_sk_select_reuseport(ctx, &members, &worker, 0);
	return SK_PASS;
}

#endif
