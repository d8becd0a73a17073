//! What a server has lost, as the loaders see it.

use crate::{
    ipc::control::Control,
    record::{Cause, ErrorCount, Lost, Step},
};

/// Connections that failed because of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Nothing listened.
    refused: u64,
    /// They were established, and ended by the server before they had their reply.
    broken: u64,
    /// The server ended them after it had replied. That loses nothing unless an event did it while the client still held the connection.
    ended: u64,
}

impl Losses {
    /// Those of another server so far.
    pub fn read(control: &Control) -> Self {
        Self::of(&control.loader_errors())
    }

    /// Those among a trial's errors.
    pub fn of(errors: &[ErrorCount]) -> Self {
        let mut losses = Self::default();
        for ErrorCount { phase, errno, count } in errors {
            let is_end = matches!(
                errno,
                Cause::Errno(libc::ECONNRESET | libc::EPIPE) | Cause::EndOfFile | Cause::Truncated | Cause::HungUp
            );
            match phase {
                Step::Connect if *errno == Cause::Errno(libc::ECONNREFUSED) => losses.refused += count,
                Step::Tls | Step::Send | Step::Receive if is_end => losses.broken += count,
                Step::Close if is_end => losses.ended += count,
                _ => {}
            }
        }
        losses
    }

    /// How many of these the events account for.
    pub fn explained_by(&self, lost: &[Lost]) -> u64 {
        let sum = |of: fn(&Lost) -> Option<u64>| lost.iter().filter_map(of).sum::<u64>();
        let broken = sum(|lost| lost.cut) + sum(|lost| lost.reset_in_queue);
        self.refused.min(sum(|lost| lost.refused)) + (self.broken + self.ended).min(broken)
    }

    /// What was lost since an earlier instant. Which of them were accepted, no loader knows.
    pub fn since(&self, before: &Self) -> Lost {
        Lost {
            reset_in_queue: None,
            refused: Some(self.refused - before.refused),
            cut: Some(self.broken - before.broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_loses_what_it_refuses_and_what_it_breaks_off() {
        let errors = |refused, reset, ended| {
            let error = |phase, errno, count| ErrorCount { phase, errno, count };
            Losses::of(&[
                error(Step::Connect, Cause::Errno(libc::ECONNREFUSED), refused),
                error(Step::Send, Cause::Errno(libc::EPIPE), reset),
                error(Step::Receive, Cause::Errno(libc::ECONNRESET), reset),
                error(Step::Receive, Cause::EndOfFile, ended),
                error(Step::Tls, Cause::Errno(libc::ECONNRESET), reset),
                error(Step::Receive, Cause::Truncated, ended),
                // Not the server's doing, or after its reply.
                error(Step::Connect, Cause::TIMED_OUT, 7),
                error(Step::Receive, Cause::TIMED_OUT, 7),
                error(Step::Receive, Cause::Deadline, 7),
                error(Step::Close, Cause::Errno(libc::ECONNRESET), 7),
            ])
        };
        let lost = errors(5, 20, 30).since(&errors(2, 10, 10));
        assert_eq!(lost, Lost { reset_in_queue: None, refused: Some(3), cut: Some(70) });
        // 3 refused, 18 broken, and 7 ended after their reply.
        let losses = errors(3, 4, 3);
        for (refused, reset_in_queue, cut, explained) in [
            (Some(3), Some(4), Some(14), 21),
            (Some(3), None, Some(25), 28),
            (Some(3), None, Some(26), 28),
            (None, None, None, 0),
            (Some(2), Some(0), Some(13), 15),
            // One cause does not account for another's.
            (Some(99), Some(0), Some(0), 3),
        ] {
            let of = |refused| Lost { refused, reset_in_queue, cut };
            assert_eq!(losses.explained_by(&[of(refused), Lost::default()]), explained, "{:?}", of(refused));
        }
    }
}
