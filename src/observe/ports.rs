//! The ephemeral port range and the kinds of ports: arithmetic on net.ipv4.ip_local_port_range and
//! net.ipv4.ip_local_reserved_ports, which apply to IPv4 and IPv6, TCP and UDP.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::sysctl;

/// The range from which connect without bind, and bind to port 0, choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub low: u16,
    pub high: u16,
    /// Ports the kernel never chooses, inside or outside the range: disjoint and in order.
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl Range {
    /// Reads the range of the current network namespace. Fails if /proc/sys cannot be read.
    pub fn read() -> Result<Self> {
        let range = sysctl::read("ip_local_port_range")
            .context("/proc/sys/net/ipv4/ip_local_port_range cannot be read: mount /proc")?;
        // Present since Linux 2.6.36; without it nothing is reserved.
        Self::parse(&range, &sysctl::read("ip_local_reserved_ports").unwrap_or_default())
    }

    /// Parses the two sysctls: `32768 60999` and `40000-40009,40050`.
    pub fn parse(range: &str, reserved: &str) -> Result<Self> {
        let ends = || -> Option<(u16, u16)> {
            let (low, high) = range.trim().split_once(char::is_whitespace)?;
            Some((low.parse().ok()?, high.trim().parse().ok()?))
        };
        let (low, high) = ends().with_context(|| format!("ip_local_port_range: \"{range}\" is not a port range"))?;
        if low > high {
            bail!("ip_local_port_range: \"{range}\" ends before it begins");
        }
        Ok(Self { low, high, reserved: parse_reserved(reserved)? })
    }

    /// Whether a port lies inside the range, reserved or not.
    pub fn contains(&self, port: u16) -> bool {
        (self.low..=self.high).contains(&port)
    }

    /// Whether a port is reserved, inside or outside the range.
    pub fn is_reserved(&self, port: u16) -> bool {
        let after = self.reserved.partition_point(|ports| *ports.start() <= port);
        after > 0 && self.reserved[after - 1].contains(&port)
    }

    /// Whether connect may choose a port: it is inside the range and not reserved.
    pub fn is_usable(&self, port: u16) -> bool {
        self.contains(port) && !self.is_reserved(port)
    }

    /// Ports in the range, including reserved ones.
    pub fn size(&self) -> u64 {
        u64::from(self.high - self.low) + 1
    }

    /// Ports available to one tuple group: source address, destination address and destination port.
    pub fn usable(&self) -> u64 {
        let inside = |ports: &RangeInclusive<u16>| {
            let (from, to) = ((*ports.start()).max(self.low), (*ports.end()).min(self.high));
            (u64::from(to) + 1).saturating_sub(from.into())
        };
        self.size() - self.reserved.iter().map(inside).sum::<u64>()
    }

    /// The number of usable ports that connect without bind tries first: those with the parity of the range's lower end
    /// (`__inet_hash_connect` in net/ipv4/inet_hashtables.c). Once all of them are taken, every further connect walks
    /// through all of them before it tries the others.
    pub fn first_pass(&self) -> u64 {
        self.ports().filter(|port| self.is_first_pass(*port)).count() as u64
    }

    /// Whether connect without bind tries a port in its first pass.
    pub fn is_first_pass(&self, port: u16) -> bool {
        port % 2 == self.low % 2
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        (self.low..=self.high).filter(|port| self.is_usable(*port))
    }
}

/// The most simultaneous connections between these numbers of source addresses, destination addresses and destination
/// ports.
pub fn capacity(sources: u64, usable: u64, destinations: u64, destination_ports: u64) -> u64 {
    sources * usable * destinations * destination_ports
}

/// Parses `40000-40009,40050`, or an empty text. Merges ranges that overlap or touch.
fn parse_reserved(text: &str) -> Result<Vec<RangeInclusive<u16>>> {
    let parse = |item: &str| -> Option<(u16, u16)> {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (low <= high).then_some((low, high))
    };
    let mut items = Vec::new();
    for item in text.trim().split(',').filter(|item| !item.is_empty()) {
        items.push(
            parse(item)
                .with_context(|| format!("ip_local_reserved_ports: \"{item}\" is neither a port nor a range"))?,
        );
    }
    items.sort_unstable();
    let mut apart: Vec<RangeInclusive<u16>> = Vec::new();
    for (low, high) in items {
        match apart.last_mut() {
            Some(last) if u32::from(low) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=high.max(*last.end());
            }
            _ => apart.push(low..=high),
        }
    }
    Ok(apart)
}

/// The kinds of ports of RFC 6335, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// 0–1023, the system ports: assigned by IANA.
    WellKnown,
    /// 1024–49151, the user ports: registered with IANA.
    Registered,
    /// 49152–65535, private or dynamic: never assigned.
    Dynamic,
}

impl Class {
    pub fn of(port: u16) -> Self {
        match port {
            0..=1_023 => Self::WellKnown,
            1_024..=49_151 => Self::Registered,
            _ => Self::Dynamic,
        }
    }

    /// The kind's name and range.
    pub fn name(self) -> &'static str {
        match self {
            Self::WellKnown => "well-known (0–1023)",
            Self::Registered => "registered (1024–49151)",
            Self::Dynamic => "dynamic (49152–65535)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_is_the_range_less_what_is_reserved_inside_it() {
        let usable = |range, reserved| Range::parse(range, reserved).unwrap().usable();
        assert_eq!(usable("32768 60999", ""), 28_232);
        assert_eq!(usable("32768\t60999\n", "40000-40009,40050"), 28_221);
        // Reserved ranges outside the range, across its ends, overlapping.
        assert_eq!(usable("40000 40099", "80,8080-8090"), 100);
        assert_eq!(usable("40000 40099", "39990-40009,40090-50000"), 80);
        assert_eq!(usable("40000 40099", "40010-40019,40015,40000-40011"), 80);
        assert_eq!(usable("40000 40099", "1-65535"), 0);
        assert_eq!(usable("1 65535", "65535"), 65_534);
    }

    #[test]
    fn ports_are_reserved_inside_the_range_and_outside() {
        let range = Range::parse("40000 40099", "8080,40010-40019,40020").unwrap();
        assert_eq!(range.reserved, [8_080..=8_080, 40_010..=40_020]);
        assert!(range.is_reserved(8_080) && !range.contains(8_080));
        assert!(range.is_reserved(40_020) && range.contains(40_020));
        assert!(!range.is_reserved(40_021) && !range.is_reserved(40_009) && !range.is_reserved(1));
        assert!(range.is_usable(40_021) && !range.is_usable(40_020) && !range.is_usable(40_100));
        assert!(range.contains(40_000) && range.contains(40_099) && !range.contains(40_100));
    }

    #[test]
    fn the_first_pass_has_the_parity_of_the_lower_end() {
        let first_pass = |range, reserved| Range::parse(range, reserved).unwrap().first_pass();
        assert_eq!(first_pass("32768 60999", ""), 14_116);
        assert_eq!(first_pass("40000 40004", ""), 3);
        assert_eq!(first_pass("40001 40004", ""), 2);
        assert_eq!(first_pass("40000 40009", "40001,40003"), 5);
        assert_eq!(first_pass("40000 40009", "40000,40002"), 3);
    }

    #[test]
    fn nonsense_is_refused() {
        for (range, reserved) in
            [("32768", ""), ("a b", ""), ("2 1", ""), ("1 65536", ""), ("1 2", "x"), ("1 2", "5-3"), ("1 2", "70000")]
        {
            assert!(Range::parse(range, reserved).is_err(), "{range} {reserved}");
        }
    }

    #[test]
    fn capacity_multiplies() {
        assert_eq!(capacity(1, 28_232, 1, 1), 28_232);
        assert_eq!(capacity(2, 28_232, 3, 4), 677_568);
    }

    #[test]
    fn classes_have_their_ends() {
        for (port, class) in [
            (0, Class::WellKnown),
            (1_023, Class::WellKnown),
            (1_024, Class::Registered),
            (49_151, Class::Registered),
            (49_152, Class::Dynamic),
            (65_535, Class::Dynamic),
        ] {
            assert_eq!(Class::of(port), class);
        }
    }
}
