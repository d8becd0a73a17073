/* reuseport-least: each connection goes to the queue whose workers have the fewest connections each, open or on their way, the lowest
 * number among equals. A SYN that is dropped and sent again counts twice. */
#include "state.h"

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	struct queue_state *found = 0;
	__u64 fewest = 0, among = 0;
	__u32 queue = 0;

	for (__u32 i = 0; i < MAX_QUEUES; i++) {
		__u32 key = i;
		struct queue_state *one;
		__u64 open;

		if (i >= queues)
			break;
		one = bpf_map_lookup_elem(&state, &key);
		if (!one)
			break;
		open = one->assigned - one->closed;
		/* open / one->workers < fewest / among, without division */
		if (!found || open * among < fewest * one->workers) {
			fewest = open;
			among = one->workers;
			found = one;
			queue = i;
		}
	}
	if (found)
		__sync_fetch_and_add(&found->assigned, 1);
	return pick_queue(ctx, queue);
}
