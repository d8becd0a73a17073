/* reuseport-hermes: userspace-directed steering after Hermes (SIGCOMM 2025). Workers publish when their loop last came
 * round, their open connections and their pending events. A connection goes, by its hash, to one of the workers that
 * are left after three sieves: hung ones are dropped, then those with more connections than the mean and theta of it,
 * then those with more pending events likewise. With fewer than two left, the kernel's own hash decides.
 *
 * The paper has workers run the sieves and publish a bitmap; here the program runs them, so that its view is never older
 * than the connection. */
#include "state.h"

#define MOST 64

/* Set when the program is loaded. */
const volatile __u64 hang_ns = 100000000;
const volatile __u64 theta_permille = 500;

static __always_inline int above(__u64 value, __u64 sum, __u64 count)
{
	/* value > sum / count * (1 + theta), without division */
	return value * count * 1000 > sum * (1000 + theta_permille);
}

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	__u64 now = bpf_ktime_get_ns(), left = 0, count = 0, open = 0, kept = 0, kept_count = 0, pending = 0, last = 0;
	__u64 last_count = 0, nth;

	for (__u32 i = 0; i < MOST && i < workers; i++) {
		__u32 key = i;
		struct worker_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (now < one->loop_ns || now - one->loop_ns <= hang_ns)) {
			left |= 1ULL << i;
			count++;
			open += one->open;
		}
	}
	for (__u32 i = 0; i < MOST && i < workers; i++) {
		__u32 key = i;
		struct worker_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (left >> i & 1) && !above(one->open, open, count)) {
			kept |= 1ULL << i;
			kept_count++;
			pending += one->pending;
		}
	}
	for (__u32 i = 0; i < MOST && i < workers; i++) {
		__u32 key = i;
		struct worker_state *one = bpf_map_lookup_elem(&state, &key);

		if (one && (kept >> i & 1) && !above(one->pending, pending, kept_count)) {
			last |= 1ULL << i;
			last_count++;
		}
	}
	if (last_count < 2)
		return SK_PASS;
	nth = (__u64)ctx->hash * last_count >> 32;
	for (__u32 i = 0; i < MOST && i < workers; i++) {
		if (!(last >> i & 1))
			continue;
		if (nth == 0)
			return pick_worker(ctx, i);
		nth--;
	}
	return SK_PASS;
}
