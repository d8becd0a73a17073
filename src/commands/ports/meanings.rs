//! What sysctls mean for ephemeral ports, one sentence each.

use serde::Serialize;

use crate::{
    format::thousands,
    observe::{ports::Range, sysctl},
};

/// Duration of TIME_WAIT in seconds: TCP_TIMEWAIT_LEN of include/net/tcp.h, a constant.
pub const TIME_WAIT_S: u64 = 60;
/// Delay of tcp_tw_reuse in milliseconds on kernels without tcp_tw_reuse_delay.
const REUSE_DELAY_MS: u64 = 1_000;

/// A sysctl and its meaning here.
#[derive(Debug, Serialize)]
pub struct Meaning {
    /// Name below net.ipv4.
    pub name: &'static str,
    /// Value; `None` if this kernel has no such sysctl.
    pub value: Option<String>,
    /// What the value means, in a sentence.
    pub meaning: String,
}

/// The namespace the sentences describe.
pub struct Here<'a> {
    /// The ephemeral range.
    pub range: &'a Range,
    /// Sockets of the namespace in TIME_WAIT, on any port.
    pub time_wait: u64,
}

type Explain = fn(&Here<'_>, &dyn Fn(&str) -> Option<String>) -> String;

/// The sysctls in display order.
const SYSCTLS: [(&str, Explain); 7] = [
    ("tcp_tw_reuse", reuse),
    ("tcp_tw_reuse_delay", reuse_delay),
    ("tcp_max_tw_buckets", buckets),
    ("tcp_fin_timeout", fin_timeout),
    ("tcp_timestamps", timestamps),
    ("ip_local_port_range", port_range),
    ("ip_local_reserved_ports", reserved_ports),
];

impl Here<'_> {
    /// The sysctls of the caller's network namespace.
    pub fn read(&self) -> Vec<Meaning> {
        self.explain(&sysctl::read)
    }

    fn explain(&self, read: &dyn Fn(&str) -> Option<String>) -> Vec<Meaning> {
        let one = |(name, explain): (&'static str, Explain)| {
            let value = read(name);
            let meaning =
                if value.is_some() { explain(self, read) } else { "this kernel has no such sysctl".to_owned() };
            Meaning { name, value, meaning }
        };
        SYSCTLS.into_iter().map(one).collect()
    }

    /// Connections per second a tuple group sustains if each port stays occupied for `kept_ms`.
    fn per_second(&self, kept_ms: u64) -> String {
        let rate = self.range.usable() as f64 * 1_000.0 / kept_ms.max(1) as f64;
        // Of few ports, the digits after the point are all there is.
        if rate < 10.0 { format!("{rate:.2}") } else { thousands(rate.floor()) }
    }
}

fn number(value: Option<String>) -> Option<u64> {
    value?.parse().ok()
}

fn reuse(here: &Here<'_>, read: &dyn Fn(&str) -> Option<String>) -> String {
    let blocked = format!(
        "{}/s per tuple group (usable ÷ {TIME_WAIT_S} s) if the client closes first with FIN; closing with a reset \
         (SO_LINGER 0) leaves no TIME_WAIT",
        here.per_second(TIME_WAIT_S * 1_000)
    );
    let delay_ms = number(read("tcp_tw_reuse_delay")).unwrap_or(REUSE_DELAY_MS);
    let reused = here.per_second(delay_ms);
    match (read("tcp_tw_reuse").as_deref(), read("tcp_timestamps").as_deref()) {
        (Some("1" | "2"), Some("0")) => {
            format!("no effect because tcp_timestamps is 0: ports in TIME_WAIT stay blocked; at most {blocked}")
        }
        (Some("1"), _) => format!(
            "connect() reuses ports in TIME_WAIT after {} ms, to any destination: at most {reused}/s per tuple group",
            thousands(delay_ms as f64)
        ),
        (Some("2"), _) => format!(
            "connect() reuses ports in TIME_WAIT after {} ms, on loopback only ({reused}/s per tuple group); elsewhere at \
             most {blocked}",
            thousands(delay_ms as f64)
        ),
        _ => format!("ports in TIME_WAIT stay blocked for {TIME_WAIT_S} s: at most {blocked}"),
    }
}

fn reuse_delay(_: &Here<'_>, read: &dyn Fn(&str) -> Option<String>) -> String {
    let used = if read("tcp_tw_reuse").as_deref() == Some("0") { "; unused while tcp_tw_reuse is 0" } else { "" };
    format!("milliseconds in TIME_WAIT before tcp_tw_reuse may reuse a port{used}")
}

fn buckets(here: &Here<'_>, read: &dyn Fn(&str) -> Option<String>) -> String {
    let most = number(read("tcp_max_tw_buckets")).unwrap_or(0);
    let reach = if most < here.range.usable() { "; smaller than the range, so ports are freed early" } else { "" };
    format!(
        "maximum number of sockets in TIME_WAIT (now {}); any beyond it are destroyed silently, counted only by \
         TCPTimeWaitOverflow{reach}",
        thousands(here.time_wait as f64)
    )
}

fn fin_timeout(_: &Here<'_>, read: &dyn Fn(&str) -> Option<String>) -> String {
    let seconds = number(read("tcp_fin_timeout")).unwrap_or(0);
    format!(
        "a closed socket waits {seconds} s in FIN_WAIT2 for its peer's FIN and keeps its port; TIME_WAIT is always \
         {TIME_WAIT_S} s"
    )
}

fn timestamps(_: &Here<'_>, read: &dyn Fn(&str) -> Option<String>) -> String {
    match read("tcp_timestamps").as_deref() {
        Some("0") => "off: ports in TIME_WAIT cannot be reused".to_owned(),
        _ => "on, as tcp_tw_reuse requires (on the peer too)".to_owned(),
    }
}

fn port_range(here: &Here<'_>, _: &dyn Fn(&str) -> Option<String>) -> String {
    format!(
        "connect() without bind(), and bind() to port 0, choose from these {} ports; widen it for more per tuple group",
        thousands(here.range.size() as f64)
    )
}

fn reserved_ports(here: &Here<'_>, _: &dyn Fn(&str) -> Option<String>) -> String {
    let inside = here.range.size() - here.range.usable();
    if inside == 0 {
        return "reserves no port of the range: a server inside the range can lose its port to a client".to_owned();
    }
    format!("reserves {} ports of the range for servers to bind", thousands(inside as f64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The meaning of sysctl `name` given these values.
    fn meaning(values: &[(&str, &str)], name: &str) -> String {
        in_range("32768 60999", values, name)
    }

    fn in_range(range: &str, values: &[(&str, &str)], name: &str) -> String {
        let range = Range::parse(range, "").unwrap();
        let values: HashMap<&str, &str> = values.iter().copied().collect();
        let read = |name: &str| values.get(name).map(|value| (*value).to_owned());
        let all = Here { range: &range, time_wait: 12 }.explain(&read);
        assert_eq!(all.len(), 7);
        all.into_iter().find(|found| found.name == name).unwrap().meaning
    }

    #[test]
    fn reuse_decides_the_rate() {
        let reuse = |value, stamps| meaning(&[("tcp_tw_reuse", value), ("tcp_timestamps", stamps)], "tcp_tw_reuse");
        assert!(reuse("0", "1").contains("at most 470/s"));
        assert!(reuse("2", "1").contains("loopback only (28,232/s per tuple group); elsewhere at most 470/s"));
        let everywhere = reuse("1", "1");
        assert!(everywhere.contains("28,232/s") && !everywhere.contains("470/s"));
        assert!(reuse("1", "0").contains("no effect"));
        let few = |range| in_range(range, &[("tcp_tw_reuse", "0")], "tcp_tw_reuse");
        assert!(few("40000 40009").contains("at most 0.17/s"), "{}", few("40000 40009"));
        assert!(few("40000 40598").contains("at most 9.98/s") && few("40000 40599").contains("at most 10/s"));
        let slow = [("tcp_tw_reuse", "1"), ("tcp_timestamps", "1"), ("tcp_tw_reuse_delay", "2000")];
        assert!(meaning(&slow, "tcp_tw_reuse").contains("14,116/s"));
    }

    #[test]
    fn values_are_judged_against_the_range() {
        assert!(meaning(&[("tcp_max_tw_buckets", "1000")], "tcp_max_tw_buckets").contains("smaller than the range"));
        assert!(!meaning(&[("tcp_max_tw_buckets", "65536")], "tcp_max_tw_buckets").contains("smaller than the range"));
        assert_eq!(meaning(&[], "tcp_tw_reuse_delay"), "this kernel has no such sysctl");
    }
}
