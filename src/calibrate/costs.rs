//! The cost of single operations on the hot path.

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    ipc::{
        histogram::{self, BUCKETS, SharedHistograms},
        ledger::Ledger,
    },
    observe::stamps::{Room, Stamps},
    record::Costs,
    stats::{ascending, median},
    sys::{clock, shared::SharedSlice},
};

/// Operations between two readings of the clock.
const BATCH: usize = 1_000;
/// Batches, of which the median counts.
const BATCHES: usize = 501;
/// The kernel's default ephemeral range, in random order as clients take it, so that the memory of all ports is in use.
const PORTS: std::ops::Range<u16> = 32_768..61_000;
/// Latencies as they occur on loopback, in nanoseconds.
const LOW_NS: f64 = 5_000.0;
const HIGH_NS: f64 = 5_000_000.0;

/// What reading the clock costs, in nanoseconds.
pub fn clock_read_ns() -> f64 {
    let read_ns = batches(1, &mut |_| {
        black_box(clock::monotonic_ns());
    });
    (read_ns - batches(1, &mut |_| {})).max(0.0)
}

/// Measures the costs in the calling process. `stamps`: whether exact stamps are available.
pub fn costs(stamps: bool, seed: u64) -> Result<Costs> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut clients: Vec<SocketAddr> = PORTS.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    clients.shuffle(&mut rng);
    let mut value = |_: &SocketAddr| (LOW_NS * (HIGH_NS / LOW_NS).powf(rng.random_range(0.0..1.0))) as u64;
    let values: Vec<u64> = clients.iter().map(&mut value).collect();
    let empty_ns = batches(clients.len(), &mut |i| {
        black_box((values[i], clients[i]));
    });
    let cost = |body: &mut dyn FnMut(usize)| (batches(clients.len(), body) - empty_ns).max(0.0);

    let shared: SharedSlice<[AtomicU64; BUCKETS]> = SharedSlice::new(1).context("mapping shared memory")?;
    let own = SharedHistograms::new(1).context("mapping shared memory")?;
    let ledger = Ledger::new(Arc::default()).context("mapping shared memory")?;
    let made_ns = clock::monotonic_ns();
    // No connection is made: an empty slot is looked up like any other.
    let stamps = stamps.then(|| Stamps::load(Room::Any(1), SocketAddr::from(([127, 0, 0, 1], 0)))).transpose()?;
    Ok(Costs {
        clock_read_ns: clock_read_ns(),
        stamp_lookup_ns: stamps.map(|stamps| {
            cost(&mut |i| {
                black_box(stamps.take(black_box(clients[i])));
            })
        }),
        shared_histogram_ns: cost(&mut |i| histogram::record(&shared[0], black_box(values[i]))),
        own_histogram_ns: cost(&mut |i| own.record(0, black_box(values[i]))),
        ledger_entry_ns: cost(&mut |i| ledger.accepted(black_box(clients[i]), 1, made_ns + values[i])),
        journey_ns: cost(&mut |i| {
            // As entered above.
            let now_ns = made_ns + values[i];
            ledger.arrived(black_box(clients[i]), now_ns, now_ns, now_ns);
            ledger.answered(black_box(clients[i]), now_ns, now_ns, now_ns);
            black_box(ledger.journey(clients[i]));
        }),
    })
}

/// The median time of one call of `body` in nanoseconds, called with 0 to `count` in turn. The median over batches
/// excludes interruptions. All bodies, including the empty one, are called through a pointer, so subtracting the empty
/// one removes the cost of the call.
fn batches(count: usize, body: &mut dyn FnMut(usize)) -> f64 {
    let mut next = 0;
    let mut batch = || {
        let begun_ns = clock::monotonic_ns();
        for _ in 0..BATCH {
            body(next);
            next = if next + 1 == count { 0 } else { next + 1 };
        }
        (clock::monotonic_ns() - begun_ns) as f64 / BATCH as f64
    };
    // Touches all memory before timing starts.
    for _ in 0..=count / BATCH {
        batch();
    }
    let spans: Vec<f64> = (0..BATCHES).map(|_| batch()).collect();
    median(&ascending(&spans)).unwrap_or(0.0)
}
