/* The fields of the kernel's structures that programs read. The loader moves each access to where the running kernel has the field. */
#ifndef LISTENBENCH_KERNEL_H
#define LISTENBENCH_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
	struct socket *sk_socket;
};

struct socket {
	struct sock *sk;
};

/* `peer` of the socket that accept returns is the client's. */
struct unix_sock {
	struct sock *peer;
};

/* What accept returns for a connection that both ends made multipath; `first` is its first TCP connection. */
struct mptcp_sock {
	struct sock *first;
};

struct inode {
	unsigned short i_mode;
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct task_struct {
	struct files_struct *files;
	struct task_struct *group_leader;
	struct pid *thread_pid;
};

/* The first argument of a system call after it has returned, by architecture. */
struct pt_regs___x86 {
	unsigned long di;
};

struct pt_regs___arm64 {
	unsigned long orig_x0;
};

struct pt_regs___riscv {
	unsigned long orig_a0;
};

struct syscall_trace_exit {
	long ret;
};

struct io_kiocb {
	__u8 opcode;
};

/* Direct descriptors of a ring, up to Linux 6.12 … */
struct io_fixed_file {
	unsigned long file_ptr;
};

struct io_file_table___files {
	struct io_fixed_file *files;
};

/* … and since. */
struct io_rsrc_node {
	unsigned long file_ptr;
};

struct io_rsrc_data {
	unsigned int nr;
	struct io_rsrc_node **nodes;
};

struct io_file_table {
	struct io_rsrc_data data;
};

/* The kernel thread that submits for a ring, and who created it. */
struct io_sq_data {
	int task_pid;
	int task_tgid;
};

struct io_ring_ctx {
	struct io_sq_data *sq_data;
	struct io_file_table file_table;
	unsigned int nr_user_files;
};

#pragma clang attribute pop

#endif
