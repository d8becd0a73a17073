//! Programs on the kernel's trace events.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

use super::affinity;

/// Where tracefs is mounted, if it is.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// _IOW('$', 8, u32) and _IO('$', 0): the same on every architecture that has BPF.
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// The descriptions of the kernel's trace events.
#[derive(Debug)]
pub struct Tracefs {
    root: OwnedFd,
}

impl Tracefs {
    /// Opens them. Where they are not mounted, mounts them for this object alone: no path leads there, and the mount ends with it.
    pub fn open() -> io::Result<Self> {
        let root = mount().or_else(|error| {
            let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let open_events = |root: &&str| {
                let root = open(*root, folder, Mode::empty())?;
                // The folder exists even where nothing is mounted on it.
                openat(&root, "events", folder, Mode::empty()).map(|_| root)
            };
            MOUNTED.iter().find_map(|root| open_events(root).ok()).ok_or(error)
        })?;
        Ok(Self { root })
    }

    /// A file of an event, such as `id` or `format`.
    fn read(&self, event: &str, file: &str) -> io::Result<String> {
        let path = format!("events/{event}/{file}");
        let file = openat(&self.root, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Where a field lies in what a program at an event is given, in bytes.
    pub fn offset(&self, event: &str, field: &str) -> io::Result<u32> {
        let missing = || io::Error::other(format!("the event {event} has no field `{field}`"));
        offset(&self.read(event, "format")?, field).ok_or_else(missing)
    }

    /// Runs a loaded program of the type for tracepoints at an event, such as `sock/inet_sock_set_state`, until the result is dropped.
    pub fn attach(&self, event: &str, program: impl AsFd) -> io::Result<OwnedFd> {
        let id = self.read(event, "id")?.trim().parse().map_err(io::Error::other)?;
        let event = open_event(id)?;
        control(&event, PERF_EVENT_IOC_SET_BPF, program.as_fd().as_raw_fd())?;
        control(&event, PERF_EVENT_IOC_ENABLE, 0)?;
        Ok(event)
    }
}

/// The offset of a field in an event's `format`: `field:int ret; offset:16; size:8; signed:1;`, with the length after the name of an array.
pub fn offset(format: &str, field: &str) -> Option<u32> {
    let fields = format.lines().filter_map(|line| line.trim().strip_prefix("field:"));
    let parts = fields.map(|line| line.split(';').map(str::trim));
    let named = parts.filter_map(|mut parts| {
        let name = parts.next()?.split(['[', ' ']).rfind(|word| !word.is_empty() && !word.ends_with(']'))?;
        let offset = parts.next()?.strip_prefix("offset:")?.parse().ok()?;
        Some((name, offset))
    });
    named.into_iter().find(|(name, _)| *name == field).map(|(_, offset)| offset)
}

/// A mount of tracefs that is in no directory.
fn mount() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that lives until the call returns.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), libc::c_uint::from(true)) })?;
    // SAFETY: this command takes neither key nor value, and the descriptor is open.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            ptr::null::<libc::c_char>(),
            ptr::null::<libc::c_void>(),
            0,
        )
    };
    if created == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes numbers only, and the descriptor is open.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::c_uint::from(true), 0) })
}

/// The beginning of perf_event_attr, which is all that the kernel has required since the first version.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

fn open_event(id: u64) -> io::Result<OwnedFd> {
    let attributes = Attributes {
        kind: PERF_TYPE_TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: id,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: 0,
        wakeup_events: 0,
        breakpoint_type: 0,
        breakpoint_address: 0,
    };
    // A program runs on every processor, whichever one its event belongs to.
    let processor = affinity::allowed_cpus()?.first().copied().unwrap_or(0) as libc::c_int;
    // SAFETY: the kernel reads `size` bytes of the attributes, which live until the call returns.
    owned(unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, processor, -1, PERF_FLAG_FD_CLOEXEC)
    })
}

fn control(event: &OwnedFd, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: both requests take a number, and the descriptor is open.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), request, value) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Owns the descriptor that a system call has returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the calls above return a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_kernel_says() {
        let format = "name: x\nID: 7\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
                      \tfield:struct sockaddr * upeer_sockaddr;\toffset:24;\tsize:8;\tsigned:0;\n\
                      \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\n\n\
                      print fmt: \"saddr=%pI4 offset:9;\", REC->saddr\n";
        let found =
            ["common_type", "upeer_sockaddr", "saddr", "saddr_v6", "addr", "16"].map(|field| offset(format, field));
        assert_eq!(found, [Some(0), Some(24), Some(32), Some(40), None, None]);
    }
}
