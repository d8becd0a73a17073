//! The table of connection tracking in the current network namespace.

use super::{file, sysctl};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Table {
    pub entries: u64,
    /// The limit, net.netfilter.nf_conntrack_max.
    pub most: u64,
    /// Packets dropped because an entry could not be made.
    pub dropped: u64,
    /// Packets dropped because another connection's entry was in the way: with NAT, one that has the same port.
    pub insert_failed: u64,
    /// Entries removed early to make room.
    pub evicted: u64,
}

/// Reads the table; `None` if connection tracking is not loaded.
pub fn read() -> Option<Table> {
    let number = |name: &str| sysctl::read(name)?.parse().ok();
    let (entries, most) = (number("net.netfilter.nf_conntrack_count")?, number("net.netfilter.nf_conntrack_max")?);
    let text = file::read("/proc/self/net/stat/nf_conntrack").unwrap_or_default();
    let [dropped, insert_failed, evicted] =
        ["drop", "insert_failed", "early_drop"].map(|column| sum(&text, column));
    Some(Table { entries, most, dropped, insert_failed, evicted })
}

/// Adds up a column, which has a row of hexadecimal numbers for each processor.
fn sum(text: &str, column: &str) -> u64 {
    let mut lines = text.lines();
    let place = lines.next().and_then(|header| header.split_whitespace().position(|name| name == column));
    let Some(place) = place else { return 0 };
    let values = lines.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(place)?, 16).ok());
    values.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_and_added_up() {
        let text = "entries  clashres found drop early_drop\n00000005 00000000 00000000 0000000a 00000001\n\
                    00000005 00000000 00000000 00000006 00000000\n";
        assert_eq!((sum(text, "drop"), sum(text, "early_drop"), sum(text, "icmp_error")), (16, 1, 0));
        assert_eq!(sum("", "drop"), 0);
    }
}
