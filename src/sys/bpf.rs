//! BPF programs: what loads them, why the kernel refuses one, and what one missed.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::anyhow;
use aya::{Btf, BtfError, EbpfLoader};
use nix::errno::Errno;

const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// Loaders that nobody has used yet.
static STOCK: Mutex<Vec<EbpfLoader<'static>>> = Mutex::new(Vec::new());

/// How many loaders to keep: the most that a trial with the common strategies uses, for stamps and for steering.
const STOCKED: usize = 2;

/// Has loaders in stock for children forked later. Making one takes tens of milliseconds, because each reads all types of the kernel, whether
/// or not a program needs them.
pub fn stock() {
    let mut stock = STOCK.lock().unwrap_or_else(PoisonError::into_inner);
    while stock.len() < STOCKED {
        stock.push(unused());
    }
    // Found out once, by loading a dozen programs.
    aya::features();
}

/// A loader for programs that need no types of the kernel; for others, give it these.
pub fn loader<'a>() -> EbpfLoader<'a> {
    STOCK.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(unused)
}

/// The kernel's description of its own types, which is read once: children forked later have it, too.
pub fn types() -> Result<&'static Btf, BtfError> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    match TYPES.get() {
        Some(types) => Ok(types),
        None => Btf::from_sys_fs().map(|types| TYPES.get_or_init(|| types)),
    }
}

fn unused() -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}

/// Explains, with a remedy, why a program could not be loaded or attached. `required` names the kernel it needs. What holds for all
/// programs reads the same for each of them, whichever call failed first.
pub fn explained(error: anyhow::Error, program: &str, required: &str) -> anyhow::Error {
    let errno = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error());
    match errno.map(Errno::from_raw) {
        Some(Errno::EPERM) => anyhow!(
            "loading BPF programs is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        ),
        Some(Errno::ENOSYS) => anyhow!("this kernel lacks bpf(2): a kernel with CONFIG_BPF_SYSCALL is required"),
        // Not the kernel's word on the program.
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
            error.context(format!("BPF program {program} cannot be loaded"))
        }
        _ => error.context(format!("BPF program {program}: this kernel rejects it: {required}")),
    }
}

/// bpf_prog_info of the kernel's include/uapi/linux/bpf.h, up to the one field of interest.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    before: [u64; 26],
    recursion_misses: u64,
}

/// The part of bpf_attr that BPF_OBJ_GET_INFO_BY_FD reads.
#[repr(C)]
struct GetInfo {
    program: u32,
    length: u32,
    info: u64,
}

/// How many runs of a program the kernel has skipped; 0 before Linux 5.12, which does not count them. It skips a program that is
/// already running on the same processor, and a program at a trace event also while any other runs there, or while any process is in a
/// bpf(2) call that changes a map. The program has not looked at its event then, so that nobody knows whether it mattered.
pub fn missed_runs(program: impl AsFd) -> io::Result<u64> {
    let mut info = ProgramInfo::default();
    let request = GetInfo {
        program: program.as_fd().as_raw_fd() as u32,
        length: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel reads `request` and writes at most `length` bytes of `info`; both live until the call returns. No pointers
    // within `info` are followed, since all lengths in it are 0.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const request, size_of::<GetInfo>()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(info.recursion_misses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_permitted_reads_the_same_whichever_call_failed() {
        let said = |errno: Errno, context: &'static str| {
            let error = anyhow::Error::new(io::Error::from(errno)).context(context);
            format!("{:#}", explained(error, "observe", "5.15 or later is required"))
        };
        let not_permitted =
            "loading BPF programs is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
        assert_eq!(said(Errno::EPERM, "failed to create map `clients`"), not_permitted);
        assert_eq!(said(Errno::EPERM, "failed to create map `unclaimed`"), not_permitted);
        let out_of_files = said(Errno::EMFILE, "failed to create map `clients`");
        assert!(out_of_files.starts_with("BPF program observe cannot be loaded: failed to"), "{out_of_files}");
        let rejected = said(Errno::EINVAL, "verifying program `changed`");
        let begin =
            "BPF program observe: this kernel rejects it: 5.15 or later is required: verifying program `changed`";
        assert!(rejected.starts_with(begin), "{rejected}");
    }
}
