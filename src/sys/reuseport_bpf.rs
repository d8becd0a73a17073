//! Classic BPF programs that choose a socket in an SO_REUSEPORT group.

use std::{io, os::fd::AsFd};

use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

/// Makes a listener's group choose socket number (processor running the receive path mod members), as in the kernel's
/// selftest reuseport_bpf_cpu.c.
pub fn pick_by_cpu(member: &impl AsFd, members: u32) -> io::Result<()> {
    let cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let code = |parts: u32| parts as u16;
    let mut program = [
        // A = raw_smp_processor_id(); A = A mod members; return A.
        libc::sock_filter { code: code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), jt: 0, jf: 0, k: cpu },
        libc::sock_filter { code: code(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K), jt: 0, jf: 0, k: members },
        libc::sock_filter { code: code(libc::BPF_RET | libc::BPF_A), jt: 0, jf: 0, k: 0 },
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    setsockopt(member, AttachReusePortCbpf, &program)?;
    Ok(())
}
