/* What workers and programs tell each other, in memory that both map: no system call on either side. */
#ifndef LISTENBENCH_STATE_H
#define LISTENBENCH_STATE_H

#include "reuseport.h"

/* A cache line per worker. The layout is that of src/server/accept/bpf.rs. */
struct worker_state {
	__u64 assigned; /* connections picked for it; the program's word, the others are the worker's */
	__u64 closed;   /* connections it has closed */
	__u64 open;     /* connections it has open */
	__u64 loop_ns;  /* when its loop last came round, CLOCK_MONOTONIC */
	__u64 pending;  /* events its loop has before it */
	__u64 unused[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_WORKERS);
	__type(key, __u32);
	__type(value, struct worker_state);
} state SEC(".maps");

#endif
