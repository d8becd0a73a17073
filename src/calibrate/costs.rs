//! What single operations of the hot path cost.

use std::{hint::black_box, net::SocketAddr, sync::atomic::AtomicU64};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Costs;
use crate::{
    ipc::{
        histogram::{self, BUCKETS},
        ledger::{Journey, Ledger},
    },
    load,
    observe::stamps::Stamps,
    stats::{ascending, median},
    sys::{clock, shared::SharedSlice},
};

/// Operations between two readings of the clock.
const BATCH: usize = 1_000;
/// Batches that the median is taken of.
const BATCHES: usize = 501;
/// The kernel's default range of client ports.
const PORTS: std::ops::Range<u16> = 32_768..61_000;
/// Latencies as they occur on loopback, in nanoseconds.
const LOW_NS: f64 = 5_000.0;
const HIGH_NS: f64 = 5_000_000.0;

/// Measures them in the calling process. `stamps`: whether this kernel and this user can have them.
pub fn costs(stamps: bool, seed: u64) -> Result<Costs> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<u64> =
        (0..BATCH).map(|_| (LOW_NS * (HIGH_NS / LOW_NS).powf(rng.random_range(0.0..1.0))) as u64).collect();
    let clients: Vec<SocketAddr> =
        (0..BATCH).map(|_| SocketAddr::from(([127, 0, 0, 1], rng.random_range(PORTS)))).collect();
    let empty_ns = batches(&mut |i| {
        black_box(values[i]);
    });
    let cost = |body: &mut dyn FnMut(usize)| (batches(body) - empty_ns).max(0.0);

    let shared: SharedSlice<[AtomicU64; BUCKETS]> = SharedSlice::new(1).context("mapping shared memory")?;
    let mut own = load::histogram();
    let ledger = Ledger::new(&[]).context("mapping shared memory")?;
    let stamps = if stamps { Some(Stamps::load(1)?) } else { None };
    Ok(Costs {
        clock_read_ns: cost(&mut |_| {
            black_box(clock::monotonic_ns());
        }),
        stamp_lookup_ns: stamps.map(|(stamps, _stamper)| {
            cost(&mut |i| {
                black_box(stamps.take(black_box(clients[i])));
            })
        }),
        shared_histogram_ns: cost(&mut |i| histogram::record(&shared[0], black_box(values[i]))),
        own_histogram_ns: cost(&mut |i| own.saturating_record(black_box(values[i]))),
        ledger_entry_ns: cost(&mut |i| ledger.accepted(black_box(clients[i]), 1, values[i])),
        journey_ns: cost(&mut |i| {
            let now_ns = values[i];
            let journey = Journey { woke_ns: now_ns, accept_ns: now_ns, read_ns: now_ns, replied_ns: now_ns };
            ledger.travelled(black_box(clients[i]), &journey);
            black_box(ledger.journey(clients[i]));
        }),
    })
}

/// Nanoseconds that a body takes: the median over batches, so that an interruption is nobody's cost. A batch is there to
/// warm up. Every body is called through a pointer, the empty one too, so that the call is no body's cost.
fn batches(body: &mut dyn FnMut(usize)) -> f64 {
    let mut batch = || {
        let begun_ns = clock::monotonic_ns();
        (0..BATCH).for_each(&mut *body);
        (clock::monotonic_ns() - begun_ns) as f64 / BATCH as f64
    };
    batch();
    let spans: Vec<f64> = (0..BATCHES).map(|_| batch()).collect();
    median(&ascending(&spans)).unwrap_or(0.0)
}
