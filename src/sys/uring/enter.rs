//! The system call that submits a ring's operations, and waits for their completions.

use std::{io, time::Duration};

use io_uring::{
    IoUring,
    types::{SubmitArgs, Timespec},
};

/// Submits the queued operations, which the kernel starts at once.
pub(super) fn submit(ring: &IoUring) -> io::Result<()> {
    entered(ring.submit())
}

/// Submits, and waits for a completion, for up to `at_most` if that is given; does not wait if it is zero.
pub(super) fn submit_and_wait(ring: &IoUring, at_most: Option<Duration>) -> io::Result<()> {
    match at_most {
        // Even for a wait of zero length, the kernel would go to sleep and yield the processor.
        Some(Duration::ZERO) => submit(ring),
        Some(at_most) => {
            let span = Timespec::new().sec(at_most.as_secs()).nsec(at_most.subsec_nanos());
            entered(ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span)))
        }
        None => entered(ring.submit_and_wait(1)),
    }
}

/// A timeout, a signal, and a kernel that first requires completions to be taken are not errors.
fn entered(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => Ok(()),
        result => result.map(drop),
    }
}
