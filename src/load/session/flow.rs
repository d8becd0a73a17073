//! What a loader knows of a flow of datagrams: its id, its first port, and who has answered it.

use std::num::NonZeroU16;

use crate::{
    ipc::{
        connection_id::ConnectionId,
        control::{Account, LoaderCount},
    },
    load::client::Whole,
};

/// A flow in progress.
#[derive(Debug)]
pub(super) struct Flow {
    /// What its datagrams carry.
    id: ConnectionId,
    /// The port of its first datagram.
    first_port: u16,
    /// Whether it has gone on from another port, and has been answered there.
    port: Port,
    /// Its requests so far.
    made: u32,
    /// The workers that answered first and last: one more than the number of each.
    first: Option<NonZeroU16>,
    last: Option<NonZeroU16>,
    /// Whether there was more than one reply.
    again: bool,
    /// Whether another worker answered than the first.
    moved: bool,
    /// The worker that answered last and is not one of those that a reload in progress brings: whom the flow has until they take over.
    settled: Option<NonZeroU16>,
    /// Reloads there had been when the current request was made, and when the last one was that a known worker answered.
    asked_after: u64,
    answered_after: u64,
}

/// Which port a flow uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    First,
    /// Another, where nobody has answered yet.
    Fresh,
    /// Another.
    Second,
}

impl Flow {
    /// A flow that begins at this port. `seed` is another number for each flow of a trial.
    pub fn new(first_port: u16, seed: u32) -> Self {
        Self {
            id: ConnectionId::of_client(scattered(seed.into())),
            first_port,
            port: Port::First,
            made: 0,
            first: None,
            last: None,
            again: false,
            moved: false,
            settled: None,
            asked_after: 0,
            answered_after: 0,
        }
    }

    pub fn first_port(&self) -> u16 {
        self.first_port
    }

    pub fn has_rebound(&self) -> bool {
        self.port != Port::First
    }

    /// Marks its next request, which is made after so many reloads. Returns how many it has made before.
    pub fn asks(&mut self, request: &mut [u8], reloads: u64) -> u32 {
        self.asked_after = reloads;
        self.id.put_into_request(request);
        let before = self.made;
        self.made = before.saturating_add(1);
        before
    }

    /// It goes on from another port.
    pub fn rebinds(&mut self, account: &Account) {
        self.port = Port::Fresh;
        account.add(LoaderCount::Rebound, 1);
    }

    /// It is called what the server calls it from now on.
    pub fn named(&mut self, reply: &Whole) {
        self.id = reply.id.unwrap_or(self.id);
    }

    /// A worker of this generation has answered the current request. Counts whether it is the one that answered before, if the flow has
    /// another port since, or the one that had the flow before the server's new workers took over.
    pub fn answered(&mut self, worker: u16, generation: u64, account: &Account) {
        let worker = NonZeroU16::MIN.saturating_add(worker);
        if let (Port::Fresh, Some(last)) = (self.port, self.last) {
            let stayed = last == worker;
            account.add(if stayed { LoaderCount::ReboundStayed } else { LoaderCount::ReboundMoved }, 1);
        }
        if let (true, Some(settled)) = (self.answered_after < self.asked_after, self.settled) {
            let stayed = settled == worker;
            account.add(if stayed { LoaderCount::ReloadStayed } else { LoaderCount::ReloadMoved }, 1);
        }
        // New workers answer before the old ones have given up their sockets. To a flow that asks all the time, they are not those it had.
        if generation <= self.asked_after {
            self.settled = Some(worker);
        }
        if self.port == Port::Fresh {
            self.port = Port::Second;
        }
        self.answered_after = self.asked_after;
        self.again = self.first.is_some();
        self.last = Some(worker);
        self.moved |= *self.first.get_or_insert(worker) != worker;
    }

    /// The worker that answered first, and what there is to count besides if there were several replies.
    pub fn ended(&self) -> Option<(u16, Option<LoaderCount>)> {
        let kind = if self.moved { LoaderCount::Moved } else { LoaderCount::Sticky };
        self.first.map(|first| (first.get() - 1, self.again.then_some(kind)))
    }
}

/// Another number for each number, that looks like one at random (SplitMix64: Steele, Lea and Flood, 2014).
fn scattered(number: u64) -> u64 {
    let one = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let two = (one ^ one >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let three = (two ^ two >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    three ^ three >> 31
}
