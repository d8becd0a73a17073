/* reuseport-random: each connection goes to a queue at random. */
#include "reuseport.h"

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	return pick_queue(ctx, bpf_get_prandom_u32() % queues);
}
