/* Counts the accepts of any server where the kernel does not describe its own types, from the fields of its trace events alone.
 *
 * A wait begins when the kernel puts a connection into ESTABLISHED, and ends when accept returns the address of that connection's peer. An
 * accept whose caller does not ask for the address is counted without a wait; one by an io_uring is not seen. */
#include "observe.h"

/* Where the fields of the events are, as the kernel's own descriptions have it. */
const volatile __u32 at_sk = 0, at_before = 0, at_after = 0, at_local_port = 0, at_remote_port = 0, at_family = 0, at_protocol = 0,
		     at_local = 0, at_remote = 0, at_descriptor = 0, at_address = 0, at_result = 0;

/* The process namespace in which members are named: device and inode of its file; 0 for the first. */
const volatile __u64 processes_device = 0, processes = 0;

/* What a thread has called accept with. */
struct call {
	__u64 address;
	__u64 descriptor;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, __u64);
	__type(value, struct call);
} calls SEC(".maps");

/* The sockets of connections that wait to be accepted, by their client. Those that nobody accepts are displaced some day. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct endpoint);
	__type(value, __u64);
} sockets SEC(".maps");

#define FIELD(ctx, at, to) bpf_probe_read_kernel(to, sizeof(*(to)), (void *)(ctx) + (at))

/* The running process (upper half) and thread; 0 in another namespace. */
static __always_inline __u64 running(void)
{
	struct bpf_pidns_info ids = {};

	if (!processes)
		return bpf_get_current_pid_tgid();
	if (bpf_get_ns_current_pid_tgid(processes_device, processes, &ids, sizeof(ids)))
		return 0;
	return (__u64)ids.tgid << 32 | ids.pid;
}

static __always_inline int is_same(const __be32 a[4], const __be32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

SEC("tp/sock/inet_sock_set_state")
int changed(void *ctx)
{
	struct endpoint local = {}, remote = {};
	struct connection fresh = { .established_ns = bpf_ktime_get_ns() };
	struct totals *sum = sums();
	int before = 0, after = 0;
	__u16 protocol = 0;
	__u64 sk = 0;

	FIELD(ctx, at_before, &before);
	FIELD(ctx, at_after, &after);
	FIELD(ctx, at_protocol, &protocol);
	if (!sum || protocol != IPPROTO_TCP)
		return 0;
	if (!is_end(before, after) && after != TCP_ESTABLISHED && before != TCP_SYN_SENT && after != TCP_SYN_SENT)
		return 0;
	FIELD(ctx, at_sk, &sk);
	/* IPv4 addresses are mapped here, too. */
	FIELD(ctx, at_local, &local.address);
	FIELD(ctx, at_remote, &remote.address);
	FIELD(ctx, at_local_port, &local.port);
	FIELD(ctx, at_remote_port, &remote.port);
	FIELD(ctx, at_family, &local.family);
	if (is_end(before, after)) {
		if (ended(sk, after, 0) == NEVER_SEEN)
			bpf_map_delete_elem(&sockets, &remote);
		return 0;
	}
	if (after == TCP_ESTABLISHED && before == TCP_SYN_RECV) {
		/* A socket may be connected to itself. */
		if (!counts(&local) || (local.port == remote.port && is_same(local.address, remote.address)))
			return 0;
		fresh.foreign = is_foreign(sum, &remote, &local);
		if (bpf_map_update_elem(&sockets, &remote, &sk, BPF_ANY))
			lose();
		return established(sk, &fresh);
	}
	if (!sum->asks_whose)
		return 0;
	if (after == TCP_SYN_SENT)
		connects(sk, running() >> 32);
	else if (before == TCP_SYN_SENT && was_connecting(sk) && after == TCP_ESTABLISHED)
		connected(&local, &remote);
	return 0;
}

static __always_inline int called(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct call call = {};

	FIELD(ctx, at_descriptor, &call.descriptor);
	FIELD(ctx, at_address, &call.address);
	if (bpf_map_update_elem(&calls, &thread, &call, BPF_ANY))
		lose();
	return 0;
}

SEC("tp/syscalls/sys_enter_accept")
int call_accept(void *ctx)
{
	return called(ctx);
}

SEC("tp/syscalls/sys_enter_accept4")
int call_accept4(void *ctx)
{
	return called(ctx);
}

/* The peer's address, where accept was told to put it. Returns whether it is one of TCP's. */
static __always_inline int read_peer(__u64 address, struct endpoint *peer)
{
	struct {
		__u16 family;
		__be16 port;
		__be32 v4;
		__be32 v6[4];
	} name = {};

	/* sockaddr_in has 16 bytes, sockaddr_in6 has 28. */
	if (!address || bpf_probe_read_user(&name, 16, (void *)address))
		return 0;
	peer->port = bpf_ntohs(name.port);
	if (name.family == AF_INET) {
		peer->address[2] = bpf_htonl(0xffff);
		peer->address[3] = name.v4;
		return 1;
	}
	return name.family == AF_INET6 && !bpf_probe_read_user(peer->address, 16, (void *)address + 8);
}

static __always_inline int returned(void *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), now_ns = bpf_ktime_get_ns();
	struct call *call = bpf_map_lookup_elem(&calls, &thread);
	struct member_key key = { .pid_tgid = running() };
	struct connection *it = 0;
	struct endpoint peer = {};
	struct totals *sum = sums();
	struct member *member;
	__u64 *sk, address, socket = 0;
	long result = 0;
	__u32 number;
	int fresh;

	/* A call that began before the program was there. */
	if (!call)
		return 0;
	key.net_or_descriptor = (__u32)call->descriptor;
	address = call->address;
	bpf_map_delete_elem(&calls, &thread);
	FIELD(ctx, at_result, &result);
	if (!key.pid_tgid || (result < 0 && result != -EAGAIN && !is_out_of_files(result)))
		return 0;
	member = numbered(&key, &number, &fresh);
	if (!member || !sum)
		return 0;
	if (fresh) {
		bpf_get_current_comm(member->comm, sizeof(member->comm));
		member->descriptor = key.net_or_descriptor;
		/* Last: readers know by it that the row is there. */
		member->pid_tgid = key.pid_tgid;
	}
	if (result < 0) {
		__sync_fetch_and_add(result == -EAGAIN ? &member->eagain : &member->emfile, 1);
		return 0;
	}
	count_accept(sum, member, now_ns);
	if (read_peer(address, &peer)) {
		sk = bpf_map_lookup_elem(&sockets, &peer);
		if (sk) {
			socket = *sk;
			it = bpf_map_lookup_elem(&connections, &socket);
		}
	}
	if (!it || !is_waiting(it)) {
		__sync_fetch_and_add(&member->unstamped, 1);
		return 0;
	}
	bpf_map_delete_elem(&sockets, &peer);
	got(sum, member, number, socket, it, now_ns);
	return 0;
}

SEC("tp/syscalls/sys_exit_accept")
int accept(void *ctx)
{
	return returned(ctx);
}

SEC("tp/syscalls/sys_exit_accept4")
int accept4(void *ctx)
{
	return returned(ctx);
}
