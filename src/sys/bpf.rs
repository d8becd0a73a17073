//! Remedies for BPF programs that the kernel refuses.

use std::io;

use nix::errno::Errno;

/// The remedy for a program that could not be loaded or attached. `required` names the kernel it needs.
pub fn remedy(error: &anyhow::Error, required: &str) -> String {
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    match errno.map(Errno::from_raw) {
        Some(Errno::EPERM) => "not permitted: run as root, or with CAP_BPF and CAP_NET_ADMIN".to_owned(),
        Some(Errno::ENOSYS) => "this kernel lacks bpf(2): a kernel with CONFIG_BPF_SYSCALL is required".to_owned(),
        _ => format!("this kernel rejects it: {required}"),
    }
}
