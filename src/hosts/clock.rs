//! How far another host's clock is from this one's.
//!
//! Each host's CLOCK_MONOTONIC has an origin of its own. One host asks for the time and notes when it asked and when the answer came:
//! the other host read its clock somewhere between, so the middle is wrong by at most half of the round trip (Cristian 1989,
//! "Probabilistic clock synchronization"). The quickest of several round trips gives the closest bound.

use anyhow::Result;

use super::{inbox::Broken, link::Link};
use crate::{ipc::family::Patience, sys::clock};

/// Round trips of an estimate.
pub const ROUND_TRIPS: usize = 16;

/// An estimate of how far another host's CLOCK_MONOTONIC is ahead of this host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// Nanoseconds that the other clock is ahead.
    pub offset_ns: i64,
    /// The most by which that may be wrong, in nanoseconds: half of the smallest round trip.
    pub bound_ns: u64,
}

impl Offset {
    /// How much further the other clock is ahead in a later estimate, in nanoseconds. The truth is within both bounds' sum of it.
    pub fn drift_ns(self, later: Self) -> i64 {
        later.offset_ns.saturating_sub(self.offset_ns)
    }

    /// The estimate that a round trip gives: `there_ns` was read between the two instants.
    fn of(asked_ns: u64, there_ns: u64, answered_ns: u64) -> Self {
        let round_trip_ns = answered_ns.saturating_sub(asked_ns);
        let offset_ns = i128::from(there_ns) - i128::from(asked_ns) - i128::from(round_trip_ns / 2);
        let offset_ns = offset_ns.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        Self { offset_ns, bound_ns: round_trip_ns.div_ceil(2) }
    }
}

/// Estimates the other host's offset in [`ROUND_TRIPS`] round trips, each of which may take this long. The other host answers as long as it
/// waits in [`Link::receive`] or calls [`Link::try_receive`]. Nothing else may be under way on the link.
pub fn estimate(link: &mut Link, patience: Patience<'_>) -> Result<Offset, Broken> {
    let mut best: Option<Offset> = None;
    for _ in 0..ROUND_TRIPS {
        let asked_ns = clock::monotonic_ns();
        let there_ns = link.ask_time(asked_ns, patience)?;
        let offset = Offset::of(asked_ns, there_ns, clock::monotonic_ns());
        best = Some(best.map_or(offset, |best| if offset.bound_ns < best.bound_ns { offset } else { best }));
    }
    Ok(best.expect("at least one round trip"))
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::{
        super::{
            frame::{self, Frame},
            link::tests::{SOON, pair},
        },
        *,
    };

    #[test]
    fn the_middle_of_a_round_trip_is_the_estimate() {
        assert_eq!(Offset::of(100, 1_150, 200), Offset { offset_ns: 1_000, bound_ns: 50 });
        assert_eq!(Offset::of(1_000, 50, 1_101), Offset { offset_ns: -1_000, bound_ns: 51 });
        // The other clock was read at either end: the truth is as far from the estimate as the bound says.
        assert_eq!(Offset::of(100, 100, 200), Offset { offset_ns: -50, bound_ns: 50 });
        assert_eq!(Offset::of(100, 200, 200), Offset { offset_ns: 50, bound_ns: 50 });
        // Whatever another host claims.
        assert_eq!(Offset::of(0, u64::MAX, 0).offset_ns, i64::MAX);
    }

    #[test]
    fn drift_is_what_a_later_estimate_adds() {
        let [first, later] = [-500, -480].map(|offset_ns| Offset { offset_ns, bound_ns: 10 });
        assert_eq!((first.drift_ns(later), later.drift_ns(first)), (20, -20));
    }

    #[test]
    fn a_clock_on_the_same_machine_is_ahead_by_nothing() {
        let (mut near, mut far) = pair();
        let answering = thread::spawn(move || far.receive::<u32>(Patience::of(SOON)).map(|frame| (frame, far)));
        let offset = estimate(&mut near, Patience::of(SOON)).unwrap();
        assert!(offset.offset_ns.unsigned_abs() <= offset.bound_ns, "{offset:?}");
        near.send(&7).unwrap();
        // Questions for the time do not reach who waits for a message.
        assert!(matches!(answering.join().unwrap(), Ok((Frame::Value(7), _))));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_the_next_ones() {
        let (mut near, mut far) = pair();
        assert!(matches!(near.ask_time(1, Patience::of(Duration::ZERO)), Err(Broken::Cut(_))));
        far.send_bytes(&frame::pong(1, 111)).unwrap();
        far.send_bytes(&frame::pong(2, 222)).unwrap();
        assert_eq!(near.ask_time(2, Patience::of(SOON)).unwrap(), 222);
        // Nor a message.
        far.send_bytes(&frame::pong(2, 333)).unwrap();
        far.send(&7).unwrap();
        assert!(matches!(near.receive::<u32>(Patience::of(SOON)), Ok(Frame::Value(7))));
    }

    #[test]
    fn another_message_is_no_answer() {
        let (mut near, mut far) = pair();
        far.send(&1).unwrap();
        let error = estimate(&mut near, Patience::of(SOON)).unwrap_err();
        assert!(matches!(error, Broken::Garbled(_)), "{error}");
    }
}
