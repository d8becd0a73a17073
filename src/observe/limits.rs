//! Limits of the machine, beside those of a process in [`crate::sys::limits`].

use std::{fs, io};

/// CAP_SYS_ADMIN, a bit of `CapEff` in /proc/self/status (include/uapi/linux/capability.h).
const SYS_ADMIN: u32 = 21;

/// Open files of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineFiles {
    /// Open now.
    pub open: u64,
    /// The most that there may be, fs.file-max.
    pub limit: u64,
}

/// Reads /proc/sys/fs/file-nr.
pub fn files_of_machine() -> io::Result<MachineFiles> {
    parse(&fs::read_to_string("/proc/sys/fs/file-nr")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// `open`, `0`, `limit`.
fn parse(text: &str) -> Option<MachineFiles> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    let (open, _unused, limit) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(MachineFiles { open, limit })
}

/// Whether the calling process has CAP_SYS_ADMIN over the whole machine, and not only in a user namespace of its own.
pub fn may_administrate() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let capabilities =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    // All numbers stand for themselves in the first namespace, and there only.
    let map = fs::read_to_string("/proc/self/uid_map")?;
    let first = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(first && capabilities.is_some_and(|bits| bits >> SYS_ADMIN & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_nr_has_three_numbers() {
        assert_eq!(parse("305\t0\t2466177\n"), Some(MachineFiles { open: 305, limit: 2_466_177 }));
        assert_eq!(parse("305\t0\n"), None);
    }
}
