/* reuseport-round-robin: connection n goes to worker n mod workers. */
#include "reuseport.h"

__u64 next;

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	return pick_worker(ctx, __sync_fetch_and_add(&next, 1) % workers);
}
