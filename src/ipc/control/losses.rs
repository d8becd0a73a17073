//! Connections that loaders lost to events. They are rare, so loaders share the counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Control;
use crate::record::Lost;

/// How a connection was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It was reset while it waited in a queue.
    ResetInQueue,
    /// Nothing listened.
    Refused,
    /// A worker had accepted it, and ended it before the reply was complete.
    Cut,
}

pub(super) type LossCell = [AtomicU64; Loss::Cut as usize + 1];

impl Control {
    /// Counts a connection that was lost at `now_ns`, and whose attempt began at `connect_ns`, for the latest event that had begun by then
    /// and was not over when the connection began.
    pub fn lost(&self, loss: Loss, connect_ns: u64, now_ns: u64) {
        let suspects = (0..self.losses.len()).map(|event| (self.event(event), event)).filter(|(times, _)| {
            (1..=now_ns).contains(&times.begun_ns) && (times.over_ns == 0 || connect_ns <= times.over_ns)
        });
        if let Some((_, event)) = suspects.max_by_key(|(times, event)| (times.begun_ns, *event)) {
            self.losses[event][loss as usize].fetch_add(1, Relaxed);
        }
    }

    /// The connections lost to an event, if the server is our own: of another, nobody knows which were accepted.
    pub fn losses(&self, event: usize) -> Lost {
        let [reset_in_queue, refused, cut] = self.losses[event].each_ref().map(|count| Some(count.load(Relaxed)));
        Lost { reset_in_queue, refused, cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_the_latest_events_that_covers_the_connection() {
        let control = Control::new(1, 1, 3).unwrap();
        control.event_begins(0, 100);
        control.event_is_over(0, 200);
        control.event_begins(1, 150);
        for (connect_ns, now_ns) in [(10, 99), (10, 100), (120, 149), (10, 150), (200, 300)] {
            control.lost(Loss::Cut, connect_ns, now_ns);
        }
        let cut = |event| control.losses(event).cut;
        assert_eq!([cut(0), cut(1), cut(2)], [Some(2), Some(2), Some(0)]);
        control.event_is_over(1, 400);
        control.lost(Loss::Refused, 400, 400);
        control.lost(Loss::Refused, 401, 401);
        control.lost(Loss::ResetInQueue, 150, 170);
        let lost = Lost { reset_in_queue: Some(1), refused: Some(1), cut: Some(2) };
        assert_eq!(control.losses(1), lost);
    }
}
