//! What is wrong with the ports of a namespace, how bad it is, and what to do about it: the most fitting remedy first.

use std::{collections::BTreeSet, net::SocketAddr};

use serde::Serialize;

use crate::{
    format::{self, plural, thousands},
    observe::{
        ports::Range,
        tuples::{Fill, TupleGroup, Usage},
    },
};

/// The kernel's default range, 32768–60999.
const DEFAULT_SIZE: u64 = 28_232;
/// Beyond this size, a range cannot grow by much.
const WIDE: u64 = 60_000;
/// Part of the ports before the knee from which the knee is near.
const NEAR: f64 = 0.8;

/// A finding and what helps.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub severity: Severity,
    /// A sentence.
    pub finding: String,
    /// The most fitting first; empty if nothing is wrong.
    pub remedies: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Ok,
    /// It works, but slowly or not for long.
    Warning,
    /// It fails now.
    Critical,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a diagnosis rests on.
pub struct Seen<'a> {
    pub range: &'a Range,
    pub usage: &'a Usage,
    /// net.ipv4.tcp_tw_reuse, 0 where timestamps are off.
    pub reuse: u64,
    /// Whether TCP timestamps are on.
    pub timestamps: bool,
    /// The process with the most of these sockets of those that this user may see, and how many it has.
    pub holder: Option<(String, u64)>,
}

/// Why ports are scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Most have the parity that bind() to port 0 prefers.
    Bound,
    /// Most have a listener or a bound socket without a peer.
    Listening,
    /// The range has less than half as many usable ports as the kernel's default.
    Narrow,
    /// Most are in CLOSE_WAIT: the peer has closed, the program has not.
    Leak,
    /// Most are in TIME_WAIT and may not be reused.
    TimeWait,
    /// None of the above.
    Open,
}

impl Diagnosis {
    /// The whole diagnosis as lines: the finding, then the remedies by number.
    pub fn lines(&self) -> String {
        let remedies = self.remedies.iter().enumerate().map(|(number, remedy)| format!("\n{}. {remedy}", number + 1));
        format!("{}: {}{}", self.severity.word(), self.finding, remedies.collect::<String>())
    }
}

impl Seen<'_> {
    pub fn diagnose(&self) -> Diagnosis {
        let usable = self.range.usable();
        if usable == 0 {
            let finding = "no port of the range is usable: connect() without bind() always fails".to_owned();
            return Diagnosis { severity: Severity::Critical, finding, remedies: vec![self.reserve_fewer()] };
        }
        let bound = self.bound();
        let (fill, group) = if bound {
            (self.bound_fill(), None)
        } else {
            let fullest = self.usage.groups.iter().max_by_key(|group| self.fill(group).used);
            (fullest.map_or(self.usage.fill, |group| self.fill(group)), fullest)
        };
        let (severity, state) = judge(&fill, if bound { Call::Bind } else { Call::Connect });
        let cause = self.cause(bound, group);
        let place = match (cause, group) {
            (Cause::Bound, _) => "the programs here".to_owned(),
            (Cause::Listening, None) => "listeners and bound sockets".to_owned(),
            (_, Some(group)) if self.usage.barred == 0 => {
                format!("connections from {} to {}", group.source, group.destination)
            }
            (_, group) => {
                let group = group
                    .map_or_else(String::new, |g| format!(", and connections from {} to {},", g.source, g.destination));
                format!("listeners and bound sockets{group}")
            }
        };
        let taken = format!("{} of {} ports", thousands(fill.used as f64), thousands(usable as f64));
        if severity == Severity::Ok {
            let finding = if fill.used == 0 {
                format!("no connection takes any of the {} ports", thousands(usable as f64))
            } else {
                format!("{place} have taken {taken}; {state}")
            };
            return Diagnosis { severity, finding, remedies: Vec::new() };
        }
        let mut finding = format!("{place} have taken {taken}; {state}. {}", self.evidence(cause, group));
        let sockets = self.usage.sockets();
        match &self.holder {
            Some((holder, held)) if held * 2 > sockets => finding += &format!(" Most are held by {holder}."),
            Some((holder, held)) if !self.waits(group) => {
                let [held, sockets] = [*held, sockets].map(|count| thousands(count as f64));
                finding += &format!(" Of the processes seen, {holder} has the most sockets here, {held} of {sockets}.");
            }
            _ => {}
        }
        Diagnosis { severity, finding, remedies: self.remedies(cause, group) }
    }

    /// The ports that are out of a group's reach: without those in TIME_WAIT if they may be reused.
    fn fill(&self, group: &TupleGroup) -> Fill {
        if self.reuses(group.destination) { group.fill_without_time_wait } else { group.fill }
    }

    fn reuses(&self, destination: SocketAddr) -> bool {
        self.reuse == 1 || self.reuse == 2 && destination.ip().is_loopback()
    }

    /// Whether programs bind before they connect.
    fn bound(&self) -> bool {
        self.usage.early * 2 > self.usage.all.used - self.usage.barred
    }

    /// The fill as bind() to port 0 finds it: its first pass is the other half of the range.
    fn bound_fill(&self) -> Fill {
        let all = self.usage.all;
        let knee = all.usable - all.knee;
        let taken = all.used - (all.knee - all.to_knee);
        Fill { knee, to_knee: knee - taken, ..all }
    }

    fn cause(&self, bound: bool, group: Option<&TupleGroup>) -> Cause {
        let scarce = group.map_or(0, |group| self.scarce(group));
        if bound {
            Cause::Bound
        } else if self.usage.barred >= scarce {
            Cause::Listening
        } else if group.is_some_and(|group| group.close_wait * 2 > scarce) {
            Cause::Leak
        } else if self.range.usable() * 2 < DEFAULT_SIZE {
            Cause::Narrow
        } else if self.waits(group) {
            Cause::TimeWait
        } else {
            Cause::Open
        }
    }

    /// A group's connections whose ports it cannot have again.
    fn scarce(&self, group: &TupleGroup) -> u64 {
        group.connections - if self.reuses(group.destination) { group.time_wait } else { 0 }
    }

    /// Whether most of a group's connections are in TIME_WAIT and keep their ports.
    fn waits(&self, group: Option<&TupleGroup>) -> bool {
        group.is_some_and(|group| !self.reuses(group.destination) && group.time_wait * 2 > group.connections)
    }

    fn evidence(&self, cause: Cause, group: Option<&TupleGroup>) -> String {
        let [all, time_wait, close_wait] =
            group.map_or([0; 3], |group| [self.scarce(group), group.time_wait, group.close_wait]);
        let of = |count: u64, all: u64| format!("{} of {}", thousands(count as f64), thousands(all as f64));
        let waiting = format!("{} connections are in TIME_WAIT, and belong to no process.", of(time_wait, all));
        match cause {
            Cause::Bound => {
                let destinations: BTreeSet<SocketAddr> =
                    self.usage.groups.iter().map(|group| group.destination).collect();
                format!(
                    "Most have the parity that bind() to port 0 prefers, and a port it chooses is lost to all destinations; the connections \
                     go to {}.",
                    plural(destinations.len(), "destination")
                )
            }
            Cause::Listening => {
                let barred = format::counted(self.usage.barred, "port has", "ports have");
                format!("{barred} a listener or a bound socket: connect() skips them for every destination.")
            }
            Cause::Narrow => {
                let [usable, default] = [self.range.usable(), DEFAULT_SIZE].map(|ports| thousands(ports as f64));
                let waiting = if self.waits(group) { format!(" {waiting}") } else { String::new() };
                format!("The range has {usable} usable ports; the kernel's default has {default}.{waiting}")
            }
            Cause::Leak => format!(
                "{} connections are in CLOSE_WAIT: the peer has closed, and the program has not.",
                of(close_wait, all)
            ),
            Cause::TimeWait => waiting,
            Cause::Open => {
                let kept = if group.is_some_and(|group| self.reuses(group.destination)) { 0 } else { time_wait };
                let lasting = of(all - kept - close_wait, all);
                let several = match self.crowded() {
                    0 | 1 => String::new(),
                    several => format!("; {several} tuple groups have at least half as many as the fullest"),
                };
                format!("{lasting} connections are neither in TIME_WAIT nor in CLOSE_WAIT{several}.")
            }
        }
    }

    /// Tuple groups with at least half as many connections as the fullest, those whose ports may be reused aside.
    fn crowded(&self) -> usize {
        let counts = || self.usage.groups.iter().map(|group| self.scarce(group));
        let most = counts().max().unwrap_or(0);
        counts().filter(|count| count * 2 >= most).count()
    }

    fn remedies(&self, cause: Cause, group: Option<&TupleGroup>) -> Vec<String> {
        let usable = thousands(self.range.usable() as f64);
        let pool =
            "keep connections open and reuse them (keep-alive, a connection pool): one port then serves many requests"
                .to_owned();
        let fewer =
            "use fewer connections at once: limit the pool, or send several requests over one (HTTP/2)".to_owned();
        let late = "set IP_BIND_ADDRESS_NO_PORT before bind(): connect() then chooses the port, and every destination can use the \
                    whole range"
            .to_owned();
        let sources = format!(
            "add source addresses: each has {usable} ports to the same destination; set IP_BIND_ADDRESS_NO_PORT before binding to one"
        );
        let destinations =
            format!("let the server listen on more addresses or ports: each has {usable} ports of its own");
        let reset = "let the server close first, or close with a reset (SO_LINGER 0) where nothing unsent may be left: neither leaves \
                     TIME_WAIT here"
            .to_owned();
        let close = "close what the peer has closed: only the program's close() ends CLOSE_WAIT".to_owned();
        let widen = (self.range.size() < WIDE).then(|| {
            "widen the range: `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, and reserve the ports that servers use \
             (net.ipv4.ip_local_reserved_ports)"
                .to_owned()
        });
        let timestamps = if self.timestamps { "" } else { "net.ipv4.tcp_timestamps=1 " };
        let reuse = format!(
            "`sysctl -w {timestamps}net.ipv4.tcp_tw_reuse=1`: connect() then reuses ports in TIME_WAIT after a second; it needs timestamps \
             at both ends"
        );
        let elsewhere =
            "let servers listen on ports outside the range, and close sockets that are only bound".to_owned();
        let several = self.crowded() > 1;
        match cause {
            Cause::Bound => [Some(late), Some(pool), widen].into_iter().flatten().collect(),
            Cause::Listening => [Some(elsewhere), widen].into_iter().flatten().collect(),
            Cause::Leak => [Some(close), widen].into_iter().flatten().collect(),
            Cause::Narrow => {
                let reserved = self.range.size() - self.range.usable();
                let first = if reserved > self.range.usable() { Some(self.reserve_fewer()) } else { widen };
                let others = if self.waits(group) { vec![pool, reuse, reset] } else { vec![fewer] };
                first.into_iter().chain(others).chain([sources]).collect()
            }
            Cause::TimeWait => {
                [Some(pool), Some(reuse), Some(reset), Some(sources), widen].into_iter().flatten().collect()
            }
            Cause::Open if several => [Some(sources), widen, Some(fewer)].into_iter().flatten().collect(),
            Cause::Open => [Some(fewer), Some(sources), Some(destinations), widen].into_iter().flatten().collect(),
        }
    }

    fn reserve_fewer(&self) -> String {
        let reserved = thousands((self.range.size() - self.range.usable()) as f64);
        format!(
            "reserve fewer ports: net.ipv4.ip_local_reserved_ports takes {reserved} of the range's {}",
            thousands(self.range.size() as f64)
        )
    }
}

/// Who chooses a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Connect,
    Bind,
}

/// How bad a fill is, and what it means for the next call.
fn judge(fill: &Fill, call: Call) -> (Severity, String) {
    let (name, error) = match call {
        Call::Connect => ("connect()", "EADDRNOTAVAIL (Cannot assign requested address)"),
        Call::Bind => ("bind() to port 0", "EADDRINUSE (Address already in use)"),
    };
    let first_pass = (fill.knee - fill.to_knee) as f64;
    if fill.to_wall == 0 {
        (Severity::Critical, format!("{name} fails with {error}"))
    } else if fill.to_knee == 0 {
        let left = format::counted(fill.to_wall, "port is", "ports are");
        (
            Severity::Warning,
            format!("{name} is slow: each call first searches a half of the range that is full; {left} left"),
        )
    } else if first_pass >= NEAR * fill.knee as f64 {
        (Severity::Warning, format!("after {} more, {name} slows down", thousands(fill.to_knee as f64)))
    } else {
        (Severity::Ok, format!("{name} slows down after {} more", thousands(fill.to_knee as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::sockets::{Socket, State};

    fn socket(port: u16, to: &str, state: State) -> Socket {
        let local = SocketAddr::from(([192, 0, 2, 1], port));
        let remote = to.parse().unwrap();
        Socket { local, remote, state, interface: 0, inode: 7, received: 0, sending: 0, drops: 0, receive_buffer: 0 }
    }

    fn diagnose(range: &Range, sockets: &[Socket], reuse: u64) -> Diagnosis {
        let usage = Usage::of(range, sockets, None);
        let holder = Some(("process 7 (client)".to_owned(), sockets.len() as u64 / 2 + 1));
        Seen { range, usage: &usage, reuse, timestamps: true, holder }.diagnose()
    }

    const TO: &str = "198.51.100.1:80";

    /// The kernel's default range with this many connections of one kind, on the ports connect() would take.
    fn with(count: u16, state: State, reuse: u64) -> Diagnosis {
        let range = Range::parse("32768 60999", "").unwrap();
        let port = |n: u16| if n < 14_116 { 32_768 + 2 * n } else { 32_769 + 2 * (n - 14_116) };
        let sockets: Vec<Socket> = (0..count).map(|n| socket(port(n), TO, state)).collect();
        diagnose(&range, &sockets, reuse)
    }

    fn first(diagnosis: &Diagnosis) -> &str {
        diagnosis.remedies.first().map_or("", |remedy| remedy)
    }

    #[test]
    fn severity_has_its_borders() {
        // 80 % of the 14,116 ports before the knee are 11,293.
        for (count, severity, words) in [
            (0, Severity::Ok, "no connection takes any of the 28,232 ports"),
            (11_292, Severity::Ok, "slows down after 2,824 more"),
            (11_293, Severity::Warning, "after 2,823 more"),
            (14_115, Severity::Warning, "after 1 more"),
            (14_116, Severity::Warning, "connect() is slow"),
            (28_231, Severity::Warning, "1 port is left"),
            (28_232, Severity::Critical, "EADDRNOTAVAIL"),
        ] {
            let found = with(count, State::ESTABLISHED, 0);
            assert_eq!(found.severity, severity, "{count}: {}", found.finding);
            assert!(found.finding.contains(words), "{count}: {}", found.finding);
            assert_eq!(found.remedies.is_empty(), severity == Severity::Ok);
        }
    }

    #[test]
    fn the_first_remedy_fits_what_is_seen() {
        let waiting = with(20_000, State::TIME_WAIT, 0);
        assert!(waiting.finding.contains("20,000 of 20,000 connections are in TIME_WAIT"), "{waiting:?}");
        assert!(
            first(&waiting).contains("keep-alive") && waiting.remedies[1].contains("tcp_tw_reuse=1"),
            "{waiting:?}"
        );
        assert!(waiting.finding.contains("belong to no process"));
        // 2 reuses on loopback only, and this is not loopback; 1 does, and then nothing is scarce.
        assert_eq!(with(20_000, State::TIME_WAIT, 2), waiting);
        assert_eq!(with(20_000, State::TIME_WAIT, 1).severity, Severity::Ok);
        let open = with(20_000, State::ESTABLISHED, 2);
        assert!(first(&open).contains("fewer connections at once"), "{open:?}");
        assert!(
            open.finding.contains("20,000 of 20,000 connections are neither")
                && open.finding.contains("process 7 (client)"),
            "{open:?}"
        );
        assert!(!open.remedies.iter().any(|remedy| remedy.contains("tcp_tw_reuse")));
        let leak = with(20_000, State::CLOSE_WAIT, 2);
        assert!(first(&leak).contains("close what the peer has closed"), "{leak:?}");
    }

    #[test]
    fn what_is_narrow_or_reserved_is_said_first() {
        let sockets: Vec<Socket> = (0..100).map(|n| socket(40_000 + n, TO, State::ESTABLISHED)).collect();
        let narrow = diagnose(&Range::parse("40000 40099", "").unwrap(), &sockets, 0);
        assert_eq!(narrow.severity, Severity::Critical);
        assert!(first(&narrow).starts_with("widen the range"), "{narrow:?}");
        let reserved = diagnose(&Range::parse("32768 60999", "32768-39999,40100-60999").unwrap(), &sockets, 0);
        assert!(first(&reserved).contains("takes 28,132 of the range's 28,232"), "{reserved:?}");
        let nothing = diagnose(&Range::parse("40000 40099", "40000-40099").unwrap(), &[], 0);
        assert!(nothing.severity == Severity::Critical && first(&nothing).contains("reserve fewer"), "{nothing:?}");
    }

    /// A range counts as narrow only below half of the default's 28,232 ports, however few of them are reserved.
    #[test]
    fn a_few_reserved_ports_do_not_make_a_range_narrow() {
        let found = |reserved: &str, state, count: u16| {
            let range = Range::parse("32768 60999", reserved).unwrap();
            let free = (32_768..=60_999).filter(|port| !range.is_reserved(*port));
            let sockets: Vec<Socket> = free.take(count.into()).map(|port| socket(port, TO, state)).collect();
            let usage = Usage::of(&range, &sockets, None);
            Seen { range: &range, usage: &usage, reuse: 0, timestamps: false, holder: None }.diagnose()
        };
        let waiting = found("40000", State::TIME_WAIT, 28_000);
        assert!(first(&waiting).contains("keep-alive"), "{waiting:?}");
        assert!(waiting.remedies[1].contains("tcp_timestamps=1 net.ipv4.tcp_tw_reuse=1"), "{waiting:?}");
        // 14,116 usable ports are half.
        let half = found("32768-46883", State::TIME_WAIT, 14_000);
        assert!(first(&half).contains("keep-alive"), "{half:?}");
        let narrow = found("32768-46884", State::TIME_WAIT, 14_000);
        assert!(first(&narrow).starts_with("reserve fewer"), "{narrow:?}");
        assert!(
            narrow.finding.contains("has 14,115 usable ports") && narrow.finding.contains("in TIME_WAIT"),
            "{narrow:?}"
        );
        assert!(narrow.remedies[1].contains("keep-alive") && narrow.remedies[2].contains("tcp_tw_reuse"), "{narrow:?}");
    }

    #[test]
    fn what_is_said_of_connections_is_their_majority() {
        let range = Range::parse("32768 60999", "").unwrap();
        let mixed = |time_wait: u16, close_wait: u16, reuse| {
            let state = |n| match n {
                n if n < time_wait => State::TIME_WAIT,
                n if n < time_wait + close_wait => State::CLOSE_WAIT,
                _ => State::ESTABLISHED,
            };
            let sockets: Vec<Socket> = (0..24_000).map(|n| socket(32_768 + n, TO, state(n))).collect();
            diagnose(&range, &sockets, reuse)
        };
        // Exactly half is not a majority.
        let open = mixed(12_000, 0, 0);
        assert!(open.finding.contains("12,000 of 24,000 connections are neither"), "{open:?}");
        assert!(mixed(12_001, 0, 0).finding.contains("12,001 of 24,000 connections are in TIME_WAIT"));
        // Of what may not be reused.
        assert!(mixed(0, 12_000, 1).finding.contains("12,000 of 24,000 connections are neither"));
        let leak = mixed(2, 12_000, 1);
        assert!(leak.finding.contains("12,000 of 23,998 connections are in CLOSE_WAIT"), "{leak:?}");
    }

    #[test]
    fn listeners_take_ports_too() {
        let range = Range::parse("40000 40099", "").unwrap();
        let listeners = |count: u16| (0..count).map(|n| socket(40_000 + 2 * n, "0.0.0.0:0", State::LISTEN));
        let alone = diagnose(&range, &listeners(45).collect::<Vec<_>>(), 0);
        assert!(alone.finding.starts_with("listeners and bound sockets have taken 45 of 100 ports"), "{alone:?}");
        assert!(alone.finding.contains("45 ports have a listener") && first(&alone).contains("outside the range"));
        let with = |count: u16| {
            let clients = (count..50).map(|n| socket(40_000 + 2 * n, TO, State::ESTABLISHED));
            diagnose(&range, &listeners(count).chain(clients).collect::<Vec<_>>(), 0)
        };
        assert!(first(&with(25)).contains("outside the range"), "{:?}", with(25));
        let connected = with(24);
        assert!(connected.finding.starts_with("listeners and bound sockets, and connections from"), "{connected:?}");
        assert!(first(&connected).starts_with("widen the range"), "{connected:?}");
    }

    #[test]
    fn the_holder_of_most_is_named_as_such() {
        let range = Range::parse("40000 40099", "").unwrap();
        let sockets: Vec<Socket> = (0..100).map(|n| socket(40_000 + n, TO, State::ESTABLISHED)).collect();
        let usage = Usage::of(&range, &sockets, None);
        let finding = |held| {
            let holder = Some(("process 7 (client)".to_owned(), held));
            Seen { range: &range, usage: &usage, reuse: 0, timestamps: true, holder }.diagnose().finding
        };
        assert!(finding(51).ends_with("Most are held by process 7 (client)."));
        assert!(finding(50).ends_with("process 7 (client) has the most sockets here, 50 of 100."), "{}", finding(50));
    }

    /// bind() to port 0 takes the other parity: few per destination, and yet all are gone.
    #[test]
    fn ports_bound_before_connecting_are_recognized() {
        let range = Range::parse("40000 40099", "").unwrap();
        let bound: Vec<Socket> =
            (0..50).map(|n| socket(40_001 + 2 * n, &format!("198.51.100.{n}:80"), State::ESTABLISHED)).collect();
        let found = diagnose(&range, &bound, 0);
        assert!(first(&found).starts_with("set IP_BIND_ADDRESS_NO_PORT"), "{found:?}");
        assert!(
            found.finding.contains("50 of 100 ports") && found.finding.contains("go to 50 destinations"),
            "{found:?}"
        );
        // The same number by connect() alone is one port for each destination.
        let connected: Vec<Socket> =
            (0..50).map(|n| socket(40_000 + 2 * n, &format!("198.51.100.{n}:80"), State::ESTABLISHED)).collect();
        assert_eq!(diagnose(&range, &connected, 0).severity, Severity::Ok);
        // What a closed listener leaves is one port, however many its clients were.
        let left = (0..60).map(|n| socket(40_001, &format!("198.51.100.{n}:80"), State::TIME_WAIT));
        let sockets: Vec<Socket> =
            left.chain((0..45).map(|n| socket(40_000 + 2 * n, TO, State::ESTABLISHED))).collect();
        let found = diagnose(&range, &sockets, 0);
        assert!(found.severity == Severity::Warning && first(&found).starts_with("widen"), "{found:?}");
    }

    #[test]
    fn several_full_destinations_need_sources() {
        let range = Range::parse("32768 60999", "").unwrap();
        let to = ["198.51.100.1:80", "198.51.100.2:80"];
        let sockets: Vec<Socket> =
            (0..14_000).flat_map(|n| to.map(|to| socket(32_768 + 2 * n, to, State::ESTABLISHED))).collect();
        let found = diagnose(&range, &sockets, 0);
        assert!(found.finding.contains("2 tuple groups have at least half as many as the fullest"), "{found:?}");
        assert!(first(&found).starts_with("add source addresses"), "{found:?}");
    }
}
