//! Socket questions that the safe crates do not answer.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd},
};

/// `TCP_CLOSE` of the kernel's include/net/tcp_states.h: the socket has no connection.
const TCP_CLOSE: u8 = 7;

/// Whether a TCP socket has a connection, or had one that is not yet over (getsockopt TCP_INFO, state not CLOSE).
pub fn has_connection(socket: &impl AsFd) -> io::Result<bool> {
    // SAFETY: tcp_info is plain C data for which all-zero is a valid value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, and the descriptor is open while borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut length,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(info.tcpi_state != TCP_CLOSE) }
}
