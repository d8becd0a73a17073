/* reuseport-round-robin: connection n goes to queue n mod queues. */
#include "reuseport.h"

__u64 next;

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	return pick_queue(ctx, __sync_fetch_and_add(&next, 1) % queues);
}
