/* What workers and programs tell each other, in memory that both map: no system call on either side. Where several workers take from a
 * queue, each adds its part. */
#ifndef LISTENBENCH_STATE_H
#define LISTENBENCH_STATE_H

#include "reuseport.h"

/* A cache line per queue. The layout is that of src/server/accept/publish.rs. */
struct queue_state {
	__u64 assigned; /* connections picked for it; the program's word, the others are the workers' */
	__u64 closed;   /* connections its workers have closed */
	__u64 open;     /* connections they have open */
	__u64 loop_ns;  /* when the loop of one of them last came round, CLOCK_MONOTONIC */
	__u64 pending;  /* events their loops have before them */
	__u64 workers;  /* how many take from it */
	__u64 unused[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_QUEUES);
	__type(key, __u32);
	__type(value, struct queue_state);
} state SEC(".maps");

#endif
