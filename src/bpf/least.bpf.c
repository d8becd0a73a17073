/* reuseport-least: each connection goes to the worker with the fewest connections open or on their way to it, the lowest
 * number among equals. A SYN that is dropped and sent again counts twice. */
#include "state.h"

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	struct worker_state *found = 0;
	__u64 fewest = ~0ULL;
	__u32 worker = 0;

	for (__u32 i = 0; i < MAX_WORKERS; i++) {
		__u32 key = i;
		struct worker_state *one;
		__u64 open;

		if (i >= workers)
			break;
		one = bpf_map_lookup_elem(&state, &key);
		if (!one)
			break;
		open = one->assigned - one->closed;
		if (open < fewest) {
			fewest = open;
			found = one;
			worker = i;
		}
	}
	if (found)
		__sync_fetch_and_add(&found->assigned, 1);
	return pick_worker(ctx, worker);
}
