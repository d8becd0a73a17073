//! The places of client addresses, in memory that has a slot for each of their ports.

use std::{collections::HashMap, net::IpAddr};

/// Which client addresses have slots of their own. The order of the addresses is that of their places.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// As their sockets show them: an IPv4-mapped address is IPv4's.
    addresses: Vec<IpAddr>,
    by_address: HashMap<IpAddr, usize>,
    /// Whether other addresses have no place. If they may have one, it is the first.
    closed: bool,
}

impl Places {
    /// One place for all clients, whichever addresses the kernel picks for them.
    pub fn anywhere() -> Self {
        Self::default()
    }

    /// A place for each of a load's source addresses. Other clients share the first.
    pub fn of_sources(addresses: &[IpAddr]) -> Self {
        // A single address needs no look at it.
        if addresses.len() > 1 { Self::of(addresses, false) } else { Self::anywhere() }
    }

    /// A place for each address of a job's hosts. Other clients are strangers, and have none.
    pub fn of_job(addresses: &[IpAddr]) -> Self {
        Self::of(addresses, true)
    }

    fn of(addresses: &[IpAddr], closed: bool) -> Self {
        let mut places = Self { closed, ..Self::default() };
        for address in addresses.iter().map(IpAddr::to_canonical) {
            // Hosts may share an address: that of a bridge which each of them has, or that of their machine.
            if !places.by_address.contains_key(&address) {
                places.by_address.insert(address, places.addresses.len());
                places.addresses.push(address);
            }
        }
        places
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.addresses.len().max(1)
    }

    /// The place of a client's address; `None` if it is a stranger's.
    #[inline]
    pub fn place(&self, address: IpAddr) -> Option<usize> {
        if self.by_address.is_empty() && !self.closed {
            return Some(0);
        }
        self.by_address.get(&address.to_canonical()).copied().or(if self.closed { None } else { Some(0) })
    }

    /// The addresses that have places of their own, by place; empty if there is one place for all clients.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether clients at other addresses are strangers.
    pub fn are_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> IpAddr {
        [10, 0, 0, host].into()
    }

    #[test]
    fn whoever_connects_has_a_place_unless_the_job_is_closed() {
        let of_two = [address(1), address(2)];
        for (places, len, expected) in [
            (Places::anywhere(), 1, [Some(0), Some(0), Some(0)]),
            (Places::of_sources(&[]), 1, [Some(0), Some(0), Some(0)]),
            (Places::of_sources(&of_two[1..]), 1, [Some(0), Some(0), Some(0)]),
            (Places::of_sources(&of_two), 2, [Some(0), Some(1), Some(0)]),
            (Places::of_job(&of_two), 2, [Some(0), Some(1), None]),
            (Places::of_job(&of_two[1..]), 1, [None, Some(0), None]),
            (Places::of_job(&[]), 1, [None, None, None]),
        ] {
            assert_eq!([1, 2, 3].map(|host| places.place(address(host))), expected, "{places:?}");
            assert_eq!(places.len(), len, "{places:?}");
        }
    }

    #[test]
    fn an_address_that_several_hosts_have_is_one_place() {
        let places = Places::of_job(&[address(1), address(9), address(1), address(2)]);
        assert_eq!(places.addresses(), [address(1), address(9), address(2)]);
        assert_eq!(places.place(address(2)), Some(2));
    }

    #[test]
    fn a_mapped_address_is_that_of_ipv4() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Places::of_job(&[address(1)]).place(mapped), Some(0));
        assert_eq!(Places::of_job(&[mapped]).place(address(1)), Some(0));
        assert_eq!(Places::of_job(&["::1".parse().unwrap()]).place(mapped), None);
    }
}
