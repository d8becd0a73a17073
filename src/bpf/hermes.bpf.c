/* reuseport-hermes: userspace-directed steering after Hermes (SIGCOMM 2025). Workers publish when their loop last came
 * round, their open connections and their pending events. A connection goes, by its hash, to one of the queues that
 * are left after three sieves: those whose workers all hang are dropped, then those whose workers have more connections each
 * than the mean and theta of it, then those with more pending events likewise. With fewer than two left, the kernel's own
 * hash decides.
 *
 * The paper has workers run the sieves and publish a bitmap; here the program runs them, so that its view is never older
 * than the connection. */
#include "state.h"

#define MOST 64

/* Set when the program is loaded. */
const volatile __u64 hang_ns = 100000000;
const volatile __u64 theta_permille = 500;

static __always_inline int above(__u64 value, __u64 among, __u64 sum, __u64 workers)
{
	/* value / among > sum / workers * (1 + theta), without division */
	return value * workers * 1000 > sum * among * (1000 + theta_permille);
}

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	__u64 now = bpf_ktime_get_ns(), left = 0, workers = 0, open = 0, kept = 0, kept_workers = 0, pending = 0, last = 0;
	__u64 last_count = 0, nth;

	for (__u32 i = 0; i < MOST && i < queues; i++) {
		__u32 key = i;
		struct queue_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (now < one->loop_ns || now - one->loop_ns <= hang_ns)) {
			left |= 1ULL << i;
			workers += one->workers;
			open += one->open;
		}
	}
	for (__u32 i = 0; i < MOST && i < queues; i++) {
		__u32 key = i;
		struct queue_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (left >> i & 1) && !above(one->open, one->workers, open, workers)) {
			kept |= 1ULL << i;
			kept_workers += one->workers;
			pending += one->pending;
		}
	}
	for (__u32 i = 0; i < MOST && i < queues; i++) {
		__u32 key = i;
		struct queue_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (kept >> i & 1) && !above(one->pending, one->workers, pending, kept_workers)) {
			last |= 1ULL << i;
			last_count++;
		}
	}
	if (last_count < 2)
		return SK_PASS;
	nth = (__u64)ctx->hash * last_count >> 32;
	for (__u32 i = 0; i < MOST && i < queues; i++) {
		if (!(last >> i & 1))
			continue;
		if (nth == 0)
			return pick_queue(ctx, i);
		nth--;
	}
	return SK_PASS;
}
