/* What the programs that count any server's accepts have in common: the tables that they share with src/observe/accepts. */
#ifndef LISTENBENCH_OBSERVE_H
#define LISTENBENCH_OBSERVE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define EAGAIN 11
#define ENFILE 23
#define EMFILE 24
#define IPPROTO_TCP 6

enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
};

/* Waits below this many bits are exact; each larger power of two has half as many buckets. */
#define EXACT_BITS 8
#define LONGEST_NS ((1ULL << 36) - 1)
#define BUCKETS 3840

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* How many members have room. Set when the program is loaded, like all of these. */
const volatile __u32 capacity = 1;
/* Whether only the listeners in `wanted` count. */
const volatile __u32 filtered = 0;
/* Entries of `unclaimed`, a power of two. */
const volatile __u32 unclaimed_limit = 1;

/* One end of a connection. IPv4 addresses are mapped to IPv6. */
struct endpoint {
	__be32 address[4];
	__u16 port;
	__u16 family;
};

/* Whoever accepts: a thread, on one address of one network, or by one descriptor. */
struct member_key {
	__u64 pid_tgid;
	__u64 net_or_descriptor;
	struct endpoint at;
	__u32 unused;
};

/* Whether accept failed for want of a descriptor. */
static __always_inline int is_out_of_files(long result)
{
	return result == -EMFILE || result == -ENFILE;
}

/* What a member did. The layout is that of src/observe/accepts/tables.rs. */
struct member {
	__u64 pid_tgid;
	__u64 accepted;
	__u64 foreign;     /* of these, established by somebody else than us */
	__u64 unstamped;   /* of these, without a known start */
	__u64 completions; /* of these, by an io_uring */
	__u64 eagain;
	__u64 open;
	__u64 open_peak;
	__u64 last_accept_ns;
	__be32 address[4]; /* of its listener */
	__u64 port_family; /* port, family << 16 */
	char comm[16];
	__u64 descriptor;  /* of its listener, where that is all that is known */
	__u64 emfile;      /* accepts that failed for want of a descriptor */
	__u64 outside;     /* of `accepted`, before the window or after it */
};

struct totals {
	__u64 members;     /* numbers given away */
	__u64 lost;        /* events for which a table had no room */
	__u64 aged_out;    /* starts dropped because too many connections died unaccepted */
	__u64 died;        /* connections that died unaccepted */
	__u64 asks_whose;  /* whether to tell our connections from others */
	__u64 closed_on;   /* of those that died, the ones that were not foreign and whose listener was closed */
	__u64 from_ns;     /* when the window begins; 0: it has always been open */
	__u64 to_ns;       /* when it ends; 0: it does not */
};

/* The listeners to count, as src/observe/accepts/filter.rs enters them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct endpoint);
	__type(value, __u32);
} wanted SEC(".maps");

/* Each member's number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct member_key);
	__type(value, __u32);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct member);
} members SEC(".maps");

struct buckets {
	__u64 count[BUCKETS];
};

/* Each member's accept waits, of connections since the window began that are not foreign. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct buckets);
} waits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

static __always_inline struct totals *sums(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&totals, &first);
}

static __always_inline void lose(void)
{
	struct totals *sum = sums();

	if (sum)
		__sync_fetch_and_add(&sum->lost, 1);
}

/* Families of the entries of `wanted` that stand for more than one address. */
#define EXACTLY 0
#define SOME_IPV4 0xfff4
#define SOME 0xffff

static __always_inline int wants(const struct endpoint *at, __u16 family, int wildcard)
{
	struct endpoint key = { .port = at->port, .family = family };

	if (!wildcard)
		__builtin_memcpy(key.address, at->address, sizeof(key.address));
	return bpf_map_lookup_elem(&wanted, &key) != 0;
}

/* Whether a connection to this address counts. */
static __always_inline int counts(const struct endpoint *at)
{
	return !filtered || wants(at, EXACTLY, 0) || wants(at, at->family, 1);
}

static __always_inline int is_wildcard(const struct endpoint *at)
{
	return !at->address[0] && !at->address[1] && !at->address[3] &&
	       (!at->address[2] || at->address[2] == bpf_htonl(0xffff));
}

/* Whether a listener on this address may take connections that count. */
static __always_inline int listens(const struct endpoint *at)
{
	return counts(at) || (is_wildcard(at) && wants(at, at->family == AF_INET ? SOME_IPV4 : SOME, 1));
}

/* The number of the member with this key, for whom the caller fills in `member` if `fresh` is set; null if there is no room. */
static __always_inline struct member *numbered(const struct member_key *key, __u32 *number, int *fresh)
{
	struct totals *sum = sums();
	__u32 *known = bpf_map_lookup_elem(&numbers, key);

	*fresh = 0;
	if (known) {
		*number = *known;
		return bpf_map_lookup_elem(&members, number);
	}
	if (!sum)
		return 0;
	if (sum->members >= capacity)
		goto full;
	*number = __sync_fetch_and_add(&sum->members, 1);
	if (*number >= capacity || bpf_map_update_elem(&numbers, key, number, BPF_NOEXIST))
		goto full;
	*fresh = 1;
	return bpf_map_lookup_elem(&members, number);
full:
	__sync_fetch_and_add(&sum->lost, 1);
	return 0;
}

static __always_inline __u32 bucket(__u64 ns)
{
	__u64 high;
	__u32 bits = 0, shift;

	if (ns > LONGEST_NS)
		ns = LONGEST_NS;
	high = ns >> EXACT_BITS;
	if (high >> 16) {
		bits += 16;
		high >>= 16;
	}
	if (high >> 8) {
		bits += 8;
		high >>= 8;
	}
	if (high >> 4) {
		bits += 4;
		high >>= 4;
	}
	if (high >> 2) {
		bits += 2;
		high >>= 2;
	}
	if (high >> 1) {
		bits += 1;
		high >>= 1;
	}
	shift = bits + high;
	return (shift << (EXACT_BITS - 1)) + (ns >> shift);
}

/* Readers come too late to see what had been counted at the window's edges: that depends on each accept's own time. */
static __always_inline void count_accept(struct totals *sum, struct member *member, __u64 now_ns)
{
	__sync_fetch_and_add(&member->accepted, 1);
	if (now_ns < sum->from_ns || (sum->to_ns && now_ns >= sum->to_ns))
		__sync_fetch_and_add(&member->outside, 1);
	member->last_accept_ns = now_ns;
}

/* A connection waited; it counts if it was established since the window began, however late it was accepted. */
static __always_inline void record_wait(struct totals *sum, __u32 number, __u64 established_ns, __u64 now_ns)
{
	struct buckets *mine = bpf_map_lookup_elem(&waits, &number);
	__u32 index = bucket(now_ns - established_ns);

	if (established_ns >= sum->from_ns && mine && index < BUCKETS)
		__sync_fetch_and_add(&mine->count[index], 1);
}

/* Owners of a connection that are not members. */
#define WAITING 0
#define DEAD 0xffffffff

struct connection {
	__u64 established_ns; /* 0: accepted before that was seen */
	__u32 owner;          /* the number of the member that accepted it, from 1; WAITING; or DEAD: died unaccepted */
	__u32 foreign;
};

/* Connections from ESTABLISHED until the server closes them, by socket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4194304);
	__type(key, __u64);
	__type(value, struct connection);
} connections SEC(".maps");

struct dead {
	__u64 sk;
	__u64 established_ns;
};

/* The connections that died unaccepted last: a server may still accept them. The one that a later one displaces is forgotten. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dead);
} unclaimed SEC(".maps");

/* Our processes on this host. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} ours SEC(".maps");

/* Addresses of hosts whose connections are all ours; IPv4's are mapped. */
struct host {
	__be32 address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct host);
	__type(value, __u32);
} hosts SEC(".maps");

/* Sockets on which one of our processes has called connect. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4194304);
	__type(key, __u64);
	__type(value, __u32);
} connecting SEC(".maps");

/* Both ends of a connection. They may have different families, so that in here they have none. */
struct tuple {
	struct endpoint client;
	struct endpoint server;
};

/* Our connections that are established for the client, and not yet for the server. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct tuple);
	__type(value, __u32);
} clients SEC(".maps");

static __always_inline struct tuple between(const struct endpoint *client, const struct endpoint *server)
{
	struct tuple tuple = { *client, *server };

	tuple.client.family = 0;
	tuple.server.family = 0;
	return tuple;
}

/* Whether a connection that a server sees was made by a process that is not ours, on a host that is not ours. */
static __always_inline __u32 is_foreign(const struct totals *sum, const struct endpoint *client, const struct endpoint *server)
{
	struct host host = {};
	struct tuple tuple;

	if (!sum->asks_whose)
		return 0;
	__builtin_memcpy(host.address, client->address, sizeof(host.address));
	if (bpf_map_lookup_elem(&hosts, &host))
		return 0;
	tuple = between(client, server);
	return bpf_map_delete_elem(&clients, &tuple) != 0;
}

static __always_inline void count_down(__u32 number)
{
	struct member *member = bpf_map_lookup_elem(&members, &number);

	if (member)
		__sync_fetch_and_add(&member->open, -1);
}

/* A server has a new connection, which waits to be accepted. */
static __always_inline int established(__u64 sk, const struct connection *fresh)
{
	long error = bpf_map_update_elem(&connections, &sk, fresh, BPF_NOEXIST);
	struct connection *old;

	if (!error)
		return 0;
	old = bpf_map_lookup_elem(&connections, &sk);
	if (!old) {
		lose();
		return 0;
	}
	/* Accepted already: its SYN carried data (TCP Fast Open). */
	if (!old->established_ns)
		return 0;
	/* The end of the socket's previous connection was missed. */
	if (old->owner != WAITING && old->owner != DEAD)
		count_down(old->owner - 1);
	bpf_map_update_elem(&connections, &sk, fresh, BPF_ANY);
	return 0;
}

/* Keeps a connection that died unaccepted, in place of the oldest such. */
static __always_inline void keep_dead(struct totals *sum, __u64 sk, __u64 established_ns)
{
	struct connection *oldest;
	struct dead *slot;
	__u32 index;

	index = __sync_fetch_and_add(&sum->died, 1) & (unclaimed_limit - 1);
	slot = bpf_map_lookup_elem(&unclaimed, &index);
	if (!slot)
		return;
	oldest = slot->sk && slot->sk != sk ? bpf_map_lookup_elem(&connections, &slot->sk) : 0;
	if (oldest && oldest->owner == DEAD && oldest->established_ns == slot->established_ns) {
		__u64 key = slot->sk;

		bpf_map_delete_elem(&connections, &key);
		__sync_fetch_and_add(&sum->aged_out, 1);
	}
	slot->sk = sk;
	slot->established_ns = established_ns;
}

/* What `ended` found: a connection closed by somebody who was never seen to accept it, or anything else. */
#define NEVER_SEEN 1

/* A socket goes from ESTABLISHED or CLOSE_WAIT to a state from which it does not come back; `by_owner` if not because of what its peer
 * did or left undone. */
static __always_inline int ended(__u64 sk, int state, int by_owner)
{
	struct connection *it = bpf_map_lookup_elem(&connections, &sk);
	struct totals *sum = sums();
	__u64 established_ns;
	__u32 owner;

	if (!it || !sum)
		return 0;
	established_ns = it->established_ns;
	owner = __sync_lock_test_and_set(&it->owner, DEAD);
	if (owner == DEAD)
		return 0;
	/* Reset while it waits: the server may still accept it. Whoever sends a FIN has it, however that came about. */
	if (owner == WAITING && state == TCP_CLOSE) {
		if (!by_owner) {
			keep_dead(sum, sk, established_ns);
			return 0;
		}
		/* Only a listener owns what waits to be accepted, and only its own end ends that: nobody can accept it any more. */
		if (!it->foreign)
			__sync_fetch_and_add(&sum->closed_on, 1);
		bpf_map_delete_elem(&connections, &sk);
		return 0;
	}
	if (owner != WAITING)
		count_down(owner - 1);
	bpf_map_delete_elem(&connections, &sk);
	return owner == WAITING ? NEVER_SEEN : 0;
}

static __always_inline int is_end(int before, int after)
{
	return (before == TCP_ESTABLISHED || before == TCP_CLOSE_WAIT) &&
	       (after == TCP_FIN_WAIT1 || after == TCP_LAST_ACK || after == TCP_CLOSE);
}

/* A process calls connect; it may be ours. */
static __always_inline void connects(__u64 sk, __u32 pid)
{
	__u32 one = 1;

	if (bpf_map_lookup_elem(&ours, &pid) && bpf_map_update_elem(&connecting, &sk, &one, BPF_ANY))
		lose();
}

/* A client's socket leaves SYN_SENT. */
static __always_inline int was_connecting(__u64 sk)
{
	return bpf_map_delete_elem(&connecting, &sk) == 0;
}

/* One of our connections is established for the client. */
static __always_inline void connected(const struct endpoint *client, const struct endpoint *server)
{
	struct tuple tuple = between(client, server);
	__u32 one = 1;

	if (bpf_map_update_elem(&clients, &tuple, &one, BPF_ANY))
		lose();
}

/* A member has a connection that was seen to be established. */
static __always_inline void got(struct totals *sum, struct member *member, __u32 number, __u64 sk, struct connection *it,
				__u64 now_ns)
{
	__u64 open = __sync_fetch_and_add(&member->open, 1) + 1;

	/* What other clients waited is not what ours did. */
	if (it->foreign)
		__sync_fetch_and_add(&member->foreign, 1);
	else
		record_wait(sum, number, it->established_ns, now_ns);
	if (__sync_lock_test_and_set(&it->owner, number + 1) == DEAD) {
		__sync_fetch_and_add(&member->open, -1);
		bpf_map_delete_elem(&connections, &sk);
	} else if (open > member->open_peak) {
		member->open_peak = open;
	}
}

static __always_inline int is_waiting(const struct connection *it)
{
	return it->established_ns && (it->owner == WAITING || it->owner == DEAD);
}

#endif
