/* When the kernel completed each accept of a worker's io_uring, kept by worker and descriptor.
 *
 * The accepts of a trial are told from everything else by the upper bits of their user_data. The time goes into memory that workers
 * map: a worker finds it when it takes the completion from its ring, which the kernel publishes later. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define DESCRIPTORS 65536

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The upper 48 bits of user_data; the lower 16 are the worker's number. Set when the program is loaded. */
const volatile __u64 trial = 0;

/* One slot for each worker and descriptor, as src/observe/completions.rs has it: CLOCK_MONOTONIC, or 0. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DESCRIPTORS);
	__type(key, __u32);
	__type(value, __u64);
} completions SEC(".maps");

static __always_inline int keep(__u64 user_data, __s32 result)
{
	__u32 key;
	__u64 *slot;

	if (user_data >> 16 != trial || result < 0 || result >= DESCRIPTORS)
		return 0;
	key = (user_data & 0xffff) * DESCRIPTORS + result;
	slot = bpf_map_lookup_elem(&completions, &key);
	if (slot)
		*slot = bpf_ktime_get_ns();
	return 0;
}

/* The tracepoint's arguments are context, request, user_data, result and more. The kernel does not attach this program where there are
 * fewer than it reads. */
SEC("raw_tp/io_uring_complete")
int of_fields(struct bpf_raw_tracepoint_args *ctx)
{
	return keep(ctx->args[2], ctx->args[3]);
}

/* Newer kernels: context, request and the completion itself. */
SEC("raw_tp/io_uring_complete")
int of_entry(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_uring_cqe {
		__u64 user_data;
		__s32 result;
		__u32 flags;
	} entry;

	if (bpf_probe_read_kernel(&entry, sizeof(entry), (void *)ctx->args[2]))
		return 0;
	return keep(entry.user_data, entry.result);
}
