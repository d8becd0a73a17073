//! The ephemeral ports of a network namespace.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::sysctl;

/// The ports that connect(2) may choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The lowest.
    pub low: u16,
    /// The highest.
    pub high: u16,
    /// Those that it leaves out (ip_local_reserved_ports).
    pub reserved: Vec<RangeInclusive<u16>>,
}

impl Range {
    /// The range of the calling process's network namespace; `None` where /proc is not mounted.
    pub fn read() -> Option<Self> {
        let (low, high) = sysctl::port_range()?;
        Some(Self { low, high, reserved: parse_reserved(&sysctl::read("ip_local_reserved_ports").unwrap_or_default()) })
    }

    /// Whether connect may choose a port.
    pub fn is_usable(&self, port: u16) -> bool {
        (self.low..=self.high).contains(&port) && !self.reserved.iter().any(|reserved| reserved.contains(&port))
    }

    /// How many ports one tuple group has.
    pub fn usable(&self) -> u64 {
        (self.low..=self.high).filter(|port| self.is_usable(*port)).count() as u64
    }
}

/// Reads `8080,40000-40009`.
fn parse_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let part = |part: &str| {
        let (low, high) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(low.parse().ok()?..=high.parse().ok()?)
    };
    text.split(',').filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_not_usable() {
        let range = Range { low: 40_000, high: 40_999, reserved: parse_reserved("8080,40000-40009,40500") };
        assert_eq!(range.usable(), 989);
        assert!(!range.is_usable(40_009) && range.is_usable(40_010) && !range.is_usable(41_000));
        assert_eq!(parse_reserved(""), []);
    }
}
