//! From where connections to a listener can come, and which servers are not meant to be reached from everywhere.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use schemars::JsonSchema;
use serde::Serialize;

/// From where connections to a listener can come, as far as its address decides. Firewalls and routes may forbid more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exposure {
    /// From this machine or container alone: the address is a loopback address.
    Loopback,
    /// From wherever this one address can be reached.
    OneAddress,
    /// From wherever any address of the network namespace can be reached.
    EveryAddress,
}

impl Exposure {
    /// That of a listener's address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            any if any.is_unspecified() => Self::EveryAddress,
            own if own.is_loopback() => Self::Loopback,
            _ => Self::OneAddress,
        }
    }

    /// The same in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Loopback => "loopback only",
            Self::OneAddress => "one address",
            Self::EveryAddress => "every address",
        }
    }
}

/// Whether this network namespace has an address that is not a loopback address: in one without, nobody outside reaches anything.
pub fn has_outside() -> bool {
    let addresses = getifaddrs().into_iter().flatten().filter_map(|device| {
        let address = device.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    });
    addresses.into_iter().any(|address| !address.is_loopback())
}

/// A server that holds data or administers a machine, and is commonly meant for few clients.
struct Guarded {
    what: &'static str,
    /// Its well-known ports.
    ports: &'static [u16],
    /// Its processes' names, which the kernel cuts to 15 characters.
    names: &'static [&'static str],
    /// Whether a name alone is enough, whatever the port.
    telling: bool,
}

const fn guarded(what: &'static str, ports: &'static [u16], names: &'static [&'static str]) -> Guarded {
    Guarded { what, ports, names, telling: true }
}

/// The same for one whose processes have a name that others have too.
const fn java(what: &'static str, ports: &'static [u16]) -> Guarded {
    Guarded { what, ports, names: &["java"], telling: false }
}

const GUARDED: [Guarded; 15] = [
    guarded("MySQL or MariaDB", &[3306], &["mysqld", "mariadbd"]),
    guarded("PostgreSQL", &[5432], &["postgres"]),
    guarded("Redis", &[6379], &["redis-server", "valkey-server"]),
    guarded("MongoDB", &[27017], &["mongod"]),
    guarded("memcached", &[11211], &["memcached"]),
    guarded("etcd", &[2379], &["etcd"]),
    guarded("CouchDB", &[5984], &[]),
    guarded("ClickHouse", &[9000, 8123], &["clickhouse-serv"]),
    guarded("InfluxDB", &[8086], &["influxd"]),
    guarded("RethinkDB", &[28015], &["rethinkdb"]),
    guarded("the Docker API without TLS", &[2375], &[]),
    java("Elasticsearch or OpenSearch", &[9200]),
    java("Cassandra", &[9042]),
    java("ZooKeeper", &[2181]),
    java("a JDWP debugger", &[5005]),
];

/// Processes that listen on behalf of another: the port alone tells of whom.
const FORWARDERS: [&str; 5] = ["docker-proxy", "rootlesskit", "rootlessport", "dockerd", "systemd"];

/// What a listener is, if it is commonly meant for few clients. `holders` are the names of its processes; without any, which an
/// ordinary user cannot see, its port decides.
pub fn guarded_service(port: u16, holders: &[&str]) -> Option<&'static str> {
    let hidden = holders.iter().all(|name| FORWARDERS.contains(name));
    let is = |service: &&Guarded| {
        let named = holders.iter().any(|name| service.names.contains(name));
        let at_home = service.ports.contains(&port);
        named && (service.telling || at_home) || at_home && hidden
    };
    GUARDED.iter().find(is).map(|service| service.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_decides() {
        for (address, expected) in [
            ("127.0.0.1", Exposure::Loopback),
            ("127.9.8.7", Exposure::Loopback),
            ("::1", Exposure::Loopback),
            ("::ffff:127.0.0.1", Exposure::Loopback),
            ("0.0.0.0", Exposure::EveryAddress),
            ("::", Exposure::EveryAddress),
            ("192.0.2.1", Exposure::OneAddress),
            ("2001:db8::1", Exposure::OneAddress),
        ] {
            assert_eq!(Exposure::of(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_service_is_known_by_its_process_or_by_its_port_if_nobody_else_is_seen() {
        for (port, holders, expected) in [
            (6379, &["redis-server"][..], Some("Redis")),
            (7000, &["redis-server"], Some("Redis")),
            (6379, &[], Some("Redis")),
            (6379, &["docker-proxy"], Some("Redis")),
            (6380, &["docker-proxy"], None),
            (6380, &[], None),
            // Somebody's own server on that port.
            (6379, &["nginx"], None),
            (9200, &["java"], Some("Elasticsearch or OpenSearch")),
            (8080, &["java"], None),
            (80, &["nginx"], None),
        ] {
            assert_eq!(guarded_service(port, holders), expected, "{port} {holders:?}");
        }
    }
}
