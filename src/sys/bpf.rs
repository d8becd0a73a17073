//! What to do about BPF programs that the kernel does not take.

use std::io;

use nix::errno::Errno;

/// The remedy for a program that could not be loaded or attached. `wanted` says which kernel it needs.
pub fn remedy(error: &anyhow::Error, wanted: &str) -> String {
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    match errno.map(Errno::from_raw) {
        Some(Errno::EPERM) => "not allowed: run as root, or with CAP_BPF and CAP_NET_ADMIN".to_owned(),
        Some(Errno::ENOSYS) => "this kernel has no bpf(2): one with CONFIG_BPF_SYSCALL is required".to_owned(),
        _ => format!("this kernel does not accept it: {wanted}"),
    }
}
