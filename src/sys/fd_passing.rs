//! Passing descriptors between processes (SCM_RIGHTS, unix(7)).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

/// A pair of connected, non-blocking sockets that preserve message boundaries. Each end notices when the other closes.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Whether a message was not sent because there is no room for it now: in the receiver's buffer (EAGAIN), or among the descriptors that
/// an ordinary user may have under way, which are as many as the sender's limit of open files (ETOOMANYREFS).
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ETOOMANYREFS))
}

/// Sends a message with a descriptor, which the receiver gets a copy of. Fails if there is no room for it: see [`is_full`].
pub fn send(channel: &OwnedFd, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(channel.as_raw_fd(), &[IoSlice::new(message)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives a message and its descriptor, or `Ok(None)` once the other end is closed. Fails with `WouldBlock` if there
/// is no message, and with EMFILE if this process could not take the descriptor, which is then lost.
pub fn receive(channel: &OwnedFd, message: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut parts = [IoSliceMut::new(message)];
    let received = recvmsg::<()>(channel.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    if received.flags.contains(MsgFlags::MSG_CTRUNC) {
        // There is room for one descriptor, so it is this process that has none.
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    let mut descriptors = Vec::new();
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just given these descriptors to this process, and nothing else owns them.
            descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    match (received.bytes, descriptors.pop()) {
        (_, Some(descriptor)) => Ok(Some(descriptor)),
        (0, None) => Ok(None),
        (_, None) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
    }
}
