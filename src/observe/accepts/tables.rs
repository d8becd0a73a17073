//! The memory in which programs count, as `src/bpf/observe.h` lays it out.

use std::{
    ffi::CStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use aya::{Ebpf, maps::Map};

use crate::{
    format,
    ipc::control::Window,
    record::Counts,
    sys::shared::{Shareable, SharedSlice, steadily},
};

/// Values of up to this many bits have a bucket each; each larger power of two has half as many buckets. These are the buckets of
/// HdrHistogram with two digits.
const EXACT_BITS: u32 = 8;
const BUCKETS: usize = 3_840;
const MEMBER_WORDS: usize = 17;
/// Which of them counts accepts.
const ACCEPTED: usize = 1;
const TOTALS_WORDS: usize = 8;

const AF_INET: u16 = libc::AF_INET as u16;

/// The mapped tables.
#[derive(Debug)]
pub struct Tables {
    members: SharedSlice<[AtomicU64; MEMBER_WORDS]>,
    waits: SharedSlice<[AtomicU64; BUCKETS]>,
    totals: SharedSlice<[AtomicU64; TOTALS_WORDS]>,
}

/// `struct member`: a row without a listener is known by its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub pid: i32,
    pub tid: i32,
    pub accepted: u64,
    pub foreign: u64,
    pub unstamped: u64,
    pub completions: u64,
    pub eagain: u64,
    pub emfile: u64,
    pub outside: u64,
    pub open: u64,
    pub open_peak: u64,
    /// The kernel's CLOCK_MONOTONIC.
    pub last_accept_ns: u64,
    /// `None` if the kernel told only the listener's descriptor.
    pub listener: Option<SocketAddr>,
    pub descriptor: i32,
    /// Empty if the kernel did not know.
    pub comm: String,
}

impl Tables {
    /// Maps a loaded object's tables, which have room for this many members.
    pub fn of(bpf: &Ebpf, capacity: usize) -> Result<Self> {
        Ok(Self {
            members: mapped(bpf, "members", capacity)?,
            waits: mapped(bpf, "waits", capacity)?,
            totals: mapped(bpf, "totals", 1)?,
        })
    }

    fn total(&self, word: usize) -> &AtomicU64 {
        &self.totals[0][word]
    }

    /// Events for which a table had no room.
    pub fn lost(&self) -> u64 {
        self.total(1).load(Relaxed)
    }

    /// Starts of waits that were dropped because too many later connections died unaccepted.
    pub fn aged_out(&self) -> u64 {
        self.total(2).load(Relaxed)
    }

    /// Connections that were reset because their listener was closed, without foreign ones.
    pub fn closed_on(&self) -> u64 {
        self.total(5).load(Relaxed)
    }

    /// Makes the programs tell our connections from others, from now on.
    pub fn ask_whose(&self) {
        self.total(4).store(1, Relaxed);
    }

    /// Makes the programs tell accepts in the measured window from others, and keep only the waits of connections established since it
    /// began. Instants are the kernel's CLOCK_MONOTONIC.
    pub fn measure(&self, window: Window) {
        self.total(6).store(window.measure_from_ns, Relaxed);
        self.total(7).store(window.measure_to_ns, Relaxed);
    }

    /// The members so far, in order of first appearance, with their numbers.
    pub fn members(&self) -> impl Iterator<Item = (usize, Member)> {
        let used = usize::try_from(self.total(0).load(Relaxed)).unwrap_or(usize::MAX).min(self.members.len());
        let words = self.members[..used].iter().map(|words| words.each_ref().map(|word| word.load(Relaxed)));
        // A row that is being filled in has no process yet.
        words.map(Member::of).enumerate().filter(|(_, member)| member.pid != 0 || member.tid != 0)
    }

    /// A member and the waits of what it has accepted so far, in an empty histogram of the caller's.
    pub fn member(&self, number: usize, empty: impl Fn() -> Counts) -> (Member, Counts) {
        let words = &self.members[number];
        let read = || (Member::of(words.each_ref().map(|word| word.load(Relaxed))), self.waits(number, empty()));
        let (_, found) = steadily(|| words[ACCEPTED].load(Relaxed), |_| true, read);
        found
    }

    fn waits(&self, member: usize, mut waits: Counts) -> Counts {
        let counts = self.waits[member].iter().map(|count| count.load(Relaxed)).enumerate();
        waits.extend(counts.filter(|(_, count)| *count > 0).map(|(index, count)| (lowest(index), count)));
        waits
    }
}

impl Member {
    fn of(words: [u64; MEMBER_WORDS]) -> Self {
        let bytes = |word: u64| word.to_ne_bytes();
        let [pid_tgid, accepted, foreign, unstamped, completions, eagain, open, open_peak, last_accept_ns, ..] = words;
        let address: Vec<u8> = words[9..11].iter().copied().flat_map(bytes).collect();
        let comm: Vec<u8> = words[12..14].iter().copied().flat_map(bytes).collect();
        Self {
            pid: (pid_tgid >> 32) as i32,
            tid: pid_tgid as i32,
            accepted,
            foreign,
            unstamped,
            completions,
            eagain,
            emfile: words[15],
            outside: words[16],
            // A connection that is closed while it is accepted counts down before it counts up.
            open: if (open as i64) < 0 { 0 } else { open },
            open_peak,
            last_accept_ns,
            descriptor: words[14] as i32,
            listener: address.try_into().ok().and_then(|address| listener(address, words[11])),
            comm: CStr::from_bytes_until_nul(&comm)
                .map_or(String::new(), |comm| format::one_line(&comm.to_string_lossy())),
        }
    }
}

/// A listener's address; `None` if it has not been entered.
fn listener(address: [u8; 16], port_family: u64) -> Option<SocketAddr> {
    let (port, family) = (port_family as u16, (port_family >> 16) as u16);
    let address = Ipv6Addr::from(address);
    let address = match address.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None if family == AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        None => IpAddr::V6(address),
    };
    (family != 0).then(|| SocketAddr::new(address, port))
}

/// The smallest value of a bucket.
fn lowest(index: usize) -> u64 {
    let half = 1 << (EXACT_BITS - 1);
    if index < 2 * half {
        return index as u64;
    }
    let shift = index / half - 1;
    ((index - shift * half) as u64) << shift
}

fn mapped<T: Shareable>(bpf: &Ebpf, name: &str, length: usize) -> Result<SharedSlice<T>> {
    let Some(Map::Array(map)) = bpf.map(name) else { anyhow::bail!("the object has no array `{name}`") };
    SharedSlice::of_bpf_array(map, length).with_context(|| format!("mapping map `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `bucket` of `src/bpf/observe.h` has it.
    fn bucket(ns: u64) -> usize {
        let bits = u64::BITS - ns.leading_zeros();
        let shift = bits.saturating_sub(EXACT_BITS);
        ((shift as usize) << (EXACT_BITS - 1)) + (ns >> shift) as usize
    }

    #[test]
    fn buckets_are_those_of_the_histogram_that_they_go_to() {
        assert_eq!(bucket((1 << 36) - 1) + 1, BUCKETS);
        let histogram = super::super::counts().histogram();
        for ns in (0..35).flat_map(|bits| [1u64 << bits, (1 << bits) + 1, (2 << bits) - 1]) {
            let shown = lowest(bucket(ns));
            assert_eq!(bucket(shown), bucket(ns), "{ns}");
            assert!(
                histogram.equivalent(shown, ns) && (ns - shown) as f64 <= 0.008 * ns as f64,
                "{ns} is shown as {shown}"
            );
        }
        for ns in 0..256 {
            assert_eq!(lowest(bucket(ns)), ns);
        }
    }

    #[test]
    fn a_row_is_read_as_the_program_wrote_it() {
        let mut words = [0; MEMBER_WORDS];
        words[0] = 7 << 32 | 9;
        (1..9).for_each(|word| words[word] = word as u64);
        let mapped = Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped().octets();
        words[9] = u64::from_ne_bytes(mapped[..8].try_into().unwrap());
        words[10] = u64::from_ne_bytes(mapped[8..].try_into().unwrap());
        words[11] = u64::from(AF_INET) << 16 | 8_080;
        words[12] = u64::from_ne_bytes(*b"nginx\0\0\0");
        words[15] = 15;
        words[16] = 16;
        let member = Member::of(words);
        assert_eq!((member.pid, member.tid, member.accepted, member.foreign, member.unstamped), (7, 9, 1, 2, 3));
        assert_eq!((member.completions, member.eagain, member.open, member.open_peak), (4, 5, 6, 7));
        assert_eq!((member.last_accept_ns, member.comm.as_str()), (8, "nginx"));
        assert_eq!((member.emfile, member.outside), (15, 16));
        assert_eq!(member.listener, Some("127.0.0.1:8080".parse().unwrap()));
    }

    #[test]
    fn listeners_of_either_family_are_told_apart() {
        let (v4, v6) = (u64::from(AF_INET) << 16, (libc::AF_INET6 as u64) << 16);
        let of = |address: &str, family| {
            listener(address.parse::<Ipv6Addr>().unwrap().octets(), family | 80).map(|at| at.to_string())
        };
        assert_eq!(of("::ffff:0.0.0.0", v4).as_deref(), Some("0.0.0.0:80"));
        assert_eq!(of("::", v6).as_deref(), Some("[::]:80"));
        assert_eq!(of("::1", v6).as_deref(), Some("[::1]:80"));
        // A connection over IPv4 to a listener for both.
        assert_eq!(of("::ffff:127.0.0.1", v6).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(of("::", 0), None);
    }
}
