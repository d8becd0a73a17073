/* Counts the accepts of any server, thread by thread, with the time that each connection waited.
 *
 * A wait begins when the kernel puts a connection into ESTABLISHED. It ends when accept returns it, or an io_uring completes its accept.
 * Connections are told apart by the address of their socket in the kernel.
 *
 * A Unix socket's connection is known by its client's socket. It waits from when the kernel has queued it, which wakes the listener; where
 * that is no event (before Linux 6.3), from the client's call of connect. */
#include "kernel.h"
#include "observe.h"

#define IPPROTO_MPTCP 262
#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define IORING_OP_ACCEPT 13
#define IORING_CQE_F_BUFFER 1

/* Inode of the network namespace whose listeners count. */
const volatile __u32 network = 0;
/* Inode of the process namespace in which members are named; 0 for the first. */
const volatile __u32 processes = 0;
static __always_inline void map_address(__be32 to[4], __be32 v4)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = v4;
}

/* The socket's own end. */
static __always_inline void local_end(struct sock *sk, struct endpoint *end)
{
	end->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	end->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (end->family == AF_INET)
		map_address(end->address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	else if (bpf_core_field_exists(sk->__sk_common.skc_v6_rcv_saddr))
		BPF_CORE_READ_INTO(&end->address, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
}

/* The end that it is connected to. */
static __always_inline void remote_end(struct sock *sk, struct endpoint *end)
{
	end->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	end->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (end->family == AF_INET)
		map_address(end->address, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr))
		BPF_CORE_READ_INTO(&end->address, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
}

static __always_inline int is_tcp(struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u16 protocol = BPF_CORE_READ(sk, sk_protocol);

	return (family == AF_INET || family == AF_INET6) && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

static __always_inline int is_in_network(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == network;
}

/* A process id as the namespace `processes` has it; 0 if it has none there. */
static __always_inline __u32 number_of(struct pid *pid)
{
	__u32 level = BPF_CORE_READ(pid, level);
	void *numbers = (void *)__builtin_preserve_access_index(&pid->numbers);
	int i;

	for (i = 0; i < 8 && i <= level; i++) {
		struct upid *number = numbers + i * bpf_core_type_size(struct upid);

		if (BPF_CORE_READ(number, ns, ns.inum) == processes)
			return BPF_CORE_READ(number, nr);
	}
	return 0;
}

/* The running process (upper half) and thread. */
static __always_inline __u64 running(void)
{
	struct task_struct *task;

	if (!processes)
		return bpf_get_current_pid_tgid();
	task = (struct task_struct *)bpf_get_current_task();
	return (__u64)number_of(BPF_CORE_READ(task, group_leader, thread_pid)) << 32 |
	       number_of(BPF_CORE_READ(task, thread_pid));
}

static __always_inline __u32 comes_from_others(struct sock *sk, const struct endpoint *server, const struct totals *sum)
{
	struct endpoint client = {};

	if (sum->asks_whose)
		remote_end(sk, &client);
	return is_foreign(sum, &client, server);
}

static __always_inline int begins(struct sock *sk)
{
	struct connection fresh = { .established_ns = bpf_ktime_get_ns() };
	struct totals *sum = sums();
	struct endpoint at = {};

	/* A socket of this age that belongs to a descriptor has connected to itself, or to one that connected to it. */
	if (!sum || sk->sk_protocol != IPPROTO_TCP || BPF_CORE_READ(sk, sk_socket) || !is_in_network(sk))
		return 0;
	local_end(sk, &at);
	if (!counts(&at))
		return 0;
	fresh.foreign = comes_from_others(sk, &at, sum);
	return established((__u64)sk, &fresh);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(changed, struct sock *sk, int before, int after)
{
	struct endpoint client = {}, server = {};
	struct totals *sum;

	if (after == TCP_ESTABLISHED && before == TCP_SYN_RECV)
		return begins(sk);
	if (is_end(before, after)) {
		/* Of listeners that nobody named, some may belong to the kernel itself, which accepts unseen. */
		if (ended((__u64)sk, after, !sk->sk_err) == NEVER_SEEN && filtered)
			lose();
		return 0;
	}
	if (before != TCP_SYN_SENT && after != TCP_SYN_SENT)
		return 0;
	sum = sums();
	if (!sum || !sum->asks_whose || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (after == TCP_SYN_SENT) {
		connects((__u64)sk, running() >> 32);
	} else if (was_connecting((__u64)sk) && after == TCP_ESTABLISHED) {
		local_end(sk, &client);
		remote_end(sk, &server);
		connected(&client, &server);
	}
	return 0;
}

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);

	if (bpf_core_field_exists(struct mptcp_sock, first) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP) {
		struct sock *first = BPF_CORE_READ((struct mptcp_sock *)sk, first);

		return first ? first : sk;
	}
	return sk;
}

static __always_inline struct file *file_of(__u32 descriptor)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = 0;

	if (descriptor < BPF_CORE_READ(table, max_fds))
		bpf_probe_read_kernel(&file, sizeof(file), files + descriptor);
	return file;
}

/* Who accepts, and how. */
struct accept {
	__u64 pid_tgid;
	int by_ring;
	int is_running; /* whether it is the running thread */
};

static __always_inline struct member *member_of(struct accept accept, struct sock *listener, const struct endpoint *at,
						__u32 *number)
{
	struct member_key key = { .pid_tgid = accept.pid_tgid };
	struct member *member;
	int fresh;

	key.net_or_descriptor = (__u64)BPF_CORE_READ(listener, __sk_common.skc_net.net);
	key.at = *at;
	member = numbered(&key, number, &fresh);
	if (member && fresh) {
		if (accept.is_running)
			bpf_get_current_comm(member->comm, sizeof(member->comm));
		__builtin_memcpy(member->address, at->address, sizeof(member->address));
		member->port_family = at->port | (__u32)at->family << 16;
		/* Last: readers know by it that the row is there. */
		member->pid_tgid = accept.pid_tgid;
	}
	return member;
}

/* A member has this connection, from a listener of this address. */
static __always_inline int accepted(struct accept accept, struct sock *sk, struct sock *listener,
				    const struct endpoint *at, __u64 now_ns)
{
	__u64 key = (__u64)sk, open;
	struct connection *it = bpf_map_lookup_elem(&connections, &key), unseen = {};
	struct totals *sum = sums();
	struct endpoint end = {};
	struct member *member;
	__u32 number;

	if (!sum)
		return 0;
	/* One that is accepted already is another connection, and its end was missed. */
	if (it && !is_waiting(it))
		it = 0;
	/* One that died unaccepted is kept by its address in memory, where another socket may be by now. If it is the same, it may have no
	   port any more. */
	local_end(sk, &end);
	if (!is_in_network(sk) || ((!it || end.port) && !counts(&end)))
		return 0;
	if (!it)
		unseen.foreign = comes_from_others(sk, &end, sum);
	member = member_of(accept, listener, at, &number);
	if (!member) {
		/* It is counted as lost, once. */
		bpf_map_delete_elem(&connections, &key);
		return 0;
	}
	count_accept(sum, member, now_ns);
	if (accept.by_ring)
		__sync_fetch_and_add(&member->completions, 1);
	if (it) {
		got(sum, member, number, key, it, now_ns);
		return 0;
	}
	__sync_fetch_and_add(&member->unstamped, 1);
	if (unseen.foreign)
		__sync_fetch_and_add(&member->foreign, 1);
	open = __sync_fetch_and_add(&member->open, 1) + 1;
	if (open > member->open_peak)
		member->open_peak = open;
	unseen.owner = number + 1;
	if (bpf_map_update_elem(&connections, &key, &unseen, BPF_ANY))
		lose();
	return 0;
}

/* The descriptor that a system call was called with. */
static __always_inline __u32 first_argument(void)
{
	void *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

	if (bpf_core_field_exists(struct pt_regs___x86, di))
		return BPF_CORE_READ((struct pt_regs___x86 *)registers, di);
	if (bpf_core_field_exists(struct pt_regs___arm64, orig_x0))
		return BPF_CORE_READ((struct pt_regs___arm64 *)registers, orig_x0);
	if (bpf_core_field_exists(struct pt_regs___riscv, orig_a0))
		return BPF_CORE_READ((struct pt_regs___riscv *)registers, orig_a0);
	return -1;
}

/* The listeners on Unix sockets that count, by inode. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u32);
} unix_listeners SEC(".maps");

static __always_inline int is_unix(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_family) == AF_UNIX;
}

/* The socket of a file that may be anything; null if it is none. */
static __always_inline struct sock *sock_if(struct file *file)
{
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	return sock_of(file);
}

/* The client's socket, of a connection on a Unix socket. */
static __always_inline __u64 client_of(struct sock *sk)
{
	return (__u64)BPF_CORE_READ((struct unix_sock *)sk, peer);
}

/* The end that stands for the server on a Unix socket: SERVER_END of src/sys/unix.rs. */
static __always_inline void unix_end(struct endpoint *end)
{
	map_address(end->address, bpf_htonl(0x7f000002));
	end->port = 0;
	end->family = AF_INET;
}

/* A member has this connection of a Unix socket. When it ends is not seen. */
static __always_inline int accepted_unix(struct accept accept, struct sock *sk, struct sock *listener, __u64 now_ns)
{
	__u64 client = client_of(sk);
	struct connection *it = bpf_map_lookup_elem(&connections, &client);
	struct totals *sum = sums();
	struct endpoint at = {};
	struct member *member;
	__u32 number;

	unix_end(&at);
	member = member_of(accept, listener, &at, &number);
	if (!member || !sum)
		return 0;
	count_accept(sum, member, now_ns);
	if (accept.by_ring)
		__sync_fetch_and_add(&member->completions, 1);
	if (it) {
		record_wait(sum, number, it->established_ns, now_ns);
		bpf_map_delete_elem(&connections, &client);
	} else {
		__sync_fetch_and_add(&member->unstamped, 1);
		if (sum->asks_whose)
			__sync_fetch_and_add(&member->foreign, 1);
	}
	return 0;
}

static __always_inline int returned_unix(struct accept accept, struct file *file, struct sock *listener, long result, __u64 now_ns)
{
	__u64 inode = BPF_CORE_READ(file, f_inode, i_ino), client;
	__u32 *known = bpf_map_lookup_elem(&unix_listeners, &inode), one = 1, number;
	struct endpoint at = {};
	struct member *member;
	struct sock *sk;

	if (result >= 0) {
		sk = sock_of(file_of(result));
		client = client_of(sk);
		if (!known && !bpf_map_lookup_elem(&connections, &client))
			return 0;
		/* A listener that the server has opened since. */
		if (!known && bpf_map_update_elem(&unix_listeners, &inode, &one, BPF_ANY))
			lose();
		return accepted_unix(accept, sk, listener, now_ns);
	}
	if (!known)
		return 0;
	unix_end(&at);
	member = member_of(accept, listener, &at, &number);
	if (member)
		__sync_fetch_and_add(result == -EAGAIN ? &member->eagain : &member->emfile, 1);
	return 0;
}

/* The client's socket, by the thread that calls connect on it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} unix_connects SEC(".maps");

SEC("tp/syscalls/sys_enter_connect")
int connect_unix(void *ctx)
{
	struct connection fresh = { .established_ns = bpf_ktime_get_ns() };
	struct sock *sk = sock_if(file_of(first_argument()));
	__u64 key = (__u64)sk, thread = bpf_get_current_pid_tgid();
	__u32 pid = running() >> 32;
	struct totals *sum = sums();

	if (!sk || !sum || !is_unix(sk))
		return 0;
	if (!sum->asks_whose || !bpf_map_lookup_elem(&ours, &pid)) {
		/* Another program's. Where a socket of ours was that nobody accepted, its listener would be taken for the server's. */
		bpf_map_delete_elem(&connections, &key);
		return 0;
	}
	if (bpf_map_update_elem(&connections, &key, &fresh, BPF_ANY) || bpf_map_update_elem(&unix_connects, &thread, &key, BPF_ANY))
		lose();
	return 0;
}

/* A socket has something to read; a listener, a connection. */
SEC("tp_btf/sk_data_ready")
int BPF_PROG(queued_unix, struct sock *sk)
{
	__u64 thread = bpf_get_current_pid_tgid(), *client = bpf_map_lookup_elem(&unix_connects, &thread);
	struct connection *it;

	if (!client || !is_unix(sk))
		return 0;
	it = bpf_map_lookup_elem(&connections, client);
	if (it)
		it->established_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp/syscalls/sys_exit_connect")
int connected_unix(struct syscall_trace_exit *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid(), *client = bpf_map_lookup_elem(&unix_connects, &thread), key;

	if (!client)
		return 0;
	key = *client;
	bpf_map_delete_elem(&unix_connects, &thread);
	if (ctx->ret < 0)
		bpf_map_delete_elem(&connections, &key);
	return 0;
}

static __always_inline int returned(long result)
{
	struct accept accept = { .pid_tgid = running(), .is_running = 1 };
	__u64 now_ns = bpf_ktime_get_ns();
	struct endpoint at = {};
	struct sock *listener;
	struct member *member;
	struct file *file;
	__u32 number;

	if (result < 0 && result != -EAGAIN && !is_out_of_files(result))
		return 0;
	file = file_of(first_argument());
	listener = sock_of(file);
	if (is_unix(listener))
		return returned_unix(accept, file, listener, result, now_ns);
	if (!is_tcp(listener))
		return 0;
	local_end(listener, &at);
	if (result >= 0)
		return accepted(accept, sock_of(file_of(result)), listener, &at, now_ns);
	if (!is_in_network(listener) || !listens(&at))
		return 0;
	member = member_of(accept, listener, &at, &number);
	if (member)
		__sync_fetch_and_add(result == -EAGAIN ? &member->eagain : &member->emfile, 1);
	return 0;
}

SEC("tp/syscalls/sys_exit_accept")
int accept(struct syscall_trace_exit *ctx)
{
	return returned(ctx->ret);
}

SEC("tp/syscalls/sys_exit_accept4")
int accept4(struct syscall_trace_exit *ctx)
{
	return returned(ctx->ret);
}

/* A ring's direct descriptor. */
static __always_inline struct file *fixed_file_of(struct io_ring_ctx *ring, __u32 slot)
{
	unsigned long pointer = 0;

	if (bpf_core_field_exists(struct io_file_table, data)) {
		struct io_rsrc_node **nodes = BPF_CORE_READ(ring, file_table.data.nodes);
		struct io_rsrc_node *node = 0;

		if (slot >= BPF_CORE_READ(ring, file_table.data.nr) ||
		    bpf_probe_read_kernel(&node, sizeof(node), nodes + slot) || !node)
			return 0;
		pointer = BPF_CORE_READ(node, file_ptr);
	} else if (bpf_core_field_exists(struct io_file_table___files, files)) {
		struct io_file_table___files *table =
			(void *)__builtin_preserve_access_index(&ring->file_table);
		struct io_fixed_file *files = BPF_CORE_READ(table, files);

		if (slot >= BPF_CORE_READ(ring, nr_user_files) ||
		    bpf_probe_read_kernel(&pointer, sizeof(pointer), (void *)files + slot * sizeof(pointer)))
			return 0;
	}
	/* The lowest bits are flags. */
	return (struct file *)(pointer & ~7UL);
}

/* Whether the socket has a connection that waits to be accepted. */
static __always_inline int waits_for_accept(struct sock *sk)
{
	__u64 key = is_unix(sk) ? client_of(sk) : (__u64)sk;
	struct connection *it = bpf_map_lookup_elem(&connections, &key);

	return it && is_waiting(it);
}

static __always_inline int is_known(struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&connections, &key) != 0;
}

/* An operation of a ring is complete. Those of a request that goes on (multishot) come without the request: what such a result means
 * shows only in that a connection with this descriptor waits to be accepted. */
static __always_inline int completed(struct io_ring_ctx *ring, struct io_kiocb *request, __s32 result, __u32 flags)
{
	struct accept accept = { .pid_tgid = running(), .by_ring = 1, .is_running = 1 };
	__u64 now_ns = bpf_ktime_get_ns();
	struct endpoint at = {};
	struct io_sq_data *thread;
	struct sock *sk, *direct;

	if (result < 0 || flags & IORING_CQE_F_BUFFER)
		return 0;
	if (request && BPF_CORE_READ(request, opcode) != IORING_OP_ACCEPT)
		return 0;
	sk = sock_if(file_of(result));
	if (!sk || !waits_for_accept(sk)) {
		direct = sock_if(fixed_file_of(ring, result));
		if (direct && waits_for_accept(direct))
			sk = direct;
		else if (!request || !sk || !is_tcp(sk) || is_known(sk))
			return 0;
	}
	/* A kernel thread that submits for the ring accepts in its owner's name. */
	thread = BPF_CORE_READ(ring, sq_data);
	if (thread && !processes) {
		accept.pid_tgid = (__u64)BPF_CORE_READ(thread, task_tgid) << 32 | (__u32)BPF_CORE_READ(thread, task_pid);
		accept.is_running = 0;
	}
	if (is_unix(sk))
		return accepted_unix(accept, sk, sk, now_ns);
	/* The ring does not say which listener it was: the connection's own address, or the listener of all addresses that is wanted. */
	local_end(sk, &at);
	if (filtered && !wants(&at, EXACTLY, 0))
		__builtin_memset(at.address, 0, sizeof(at.address));
	return accepted(accept, sk, sk, &at, now_ns);
}

/* A completion for which its ring has no room yet. */
SEC("raw_tp/io_uring_cqe_overflow")
int overflowed(struct bpf_raw_tracepoint_args *ctx)
{
	return completed((void *)ctx->args[0], 0, ctx->args[2], ctx->args[3]);
}

/* The tracepoint's arguments are ring, request, user_data, result, flags and more. The kernel does not attach this program where there
 * are fewer than it reads. */
SEC("raw_tp/io_uring_complete")
int of_fields(struct bpf_raw_tracepoint_args *ctx)
{
	return completed((void *)ctx->args[0], (void *)ctx->args[1], ctx->args[3], ctx->args[4]);
}

/* Newer kernels: ring, request and the completion itself. */
SEC("raw_tp/io_uring_complete")
int of_entry(struct bpf_raw_tracepoint_args *ctx)
{
	struct io_uring_cqe {
		__u64 user_data;
		__s32 result;
		__u32 flags;
	} entry;

	if (bpf_probe_read_kernel(&entry, sizeof(entry), (void *)ctx->args[2]))
		return 0;
	return completed((void *)ctx->args[0], (void *)ctx->args[1], entry.result, entry.flags);
}
