//! What a scenario whose server listens on a Unix socket cannot have: there are no packets, ports or addresses of clients.

use super::{
    keys::{self, AnyKey},
    model::{Protocol, Transport},
    server::Server,
    settings::Settings,
    subject::UnderTest,
};

/// Why a key has no effect with a Unix socket; `None` if it may have one.
pub(super) fn idle(key: &str) -> Option<&'static str> {
    let all: [(&[&dyn AnyKey], &str); 11] = [
        (&[keys::PORT, keys::LOAD_SOURCE_PORTS], "it has no ports"),
        (
            &[keys::SERVER_BIND, keys::SERVER_V6ONLY, keys::SERVER_DEVICE, keys::LOAD_SOURCE_ADDRESSES],
            "its clients have no IP addresses, and come through no device",
        ),
        (
            &[
                keys::SERVER_DEFER_ACCEPT,
                keys::SERVER_FASTOPEN,
                keys::SERVER_NODELAY,
                keys::SERVER_BUSY_POLL,
                keys::LOAD_QUICKACK,
            ],
            "it is an option of TCP or of network devices",
        ),
        (&[keys::SERVER_RECEIVE_BUFFER], "what has been sent counts against the sender's buffer (unix(7))"),
        (
            &[keys::STAMPS],
            "the kernel has no hook where connections begin, so that accept waits begin with the client's connect call",
        ),
        (&[keys::PROBE], "our own server counts itself there"),
        (&[keys::LOAD_CLOSE_HOW, keys::LOAD_SOCKETS], "there is one way to close it, and no socket can connect again"),
        (
            &[
                keys::FIREWALL_RULES,
                keys::FIREWALL_FILES,
                keys::FIREWALL_COUNT,
                keys::FIREWALL_SHAPE,
                keys::FIREWALL_MATCH,
                keys::FIREWALL_CONNTRACK,
                keys::FIREWALL_ACTION,
            ],
            "what is sent to it is in no packet that rules could see",
        ),
        (&[keys::NAT_CLIENTS, keys::NAT_PORTS, keys::NAT_PORT_COUNT], "its clients have no addresses to translate"),
        (&[keys::LOAD_PROXY_PROTOCOL], "its connections have no addresses that a header could tell"),
        (&[keys::LOAD_CONNECT_TIMEOUT], "connect() succeeds or fails at once, unless `load.connect` is \"blocking\""),
    ];
    let leaf = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let is = |known: &&dyn AnyKey| {
        let known = known.path();
        // Of a population: `load.kept.quickack`.
        known == key || (known.starts_with("load.") && key.starts_with("load.") && leaf(known) == leaf(key))
    };
    all.iter().find(|(keys, _)| keys.iter().any(is)).map(|(_, why)| *why)
}

/// Rejects combinations that make no sense.
pub(super) fn check(settings: &Settings<'_>, protocol: Protocol, subject: &UnderTest, server: &Server) {
    if protocol.has(Transport::Udp) {
        let problem = "datagrams go to ports, and a Unix socket (`address`) has none: set protocol = \"tcp\"";
        settings.conflict(keys::PROTOCOL, &[keys::ADDRESS], problem);
    }
    if protocol.is_multipath() {
        let problem =
            "MPTCP joins paths between IP addresses, and a Unix socket (`address`) has none: set protocol = \"tcp\"";
        settings.conflict(keys::PROTOCOL, &[keys::ADDRESS], problem);
    }
    if settings.has_messages() && server.app.is_http() {
        let problem = "HTTP is a protocol of streams, and with `unixpacket:` (`address`) what is sent arrives as messages: set another server.app, or an \
                       address that begins with `unix:`";
        settings.conflict(keys::SERVER_APP, &[keys::ADDRESS], problem);
    }
    if subject.is_own() && server.strategy.queues.form_group() {
        let problem = format!(
            "\"{}\" opens several listeners at one address (SO_REUSEPORT), which Unix sockets cannot share: set server.strategy to one of shared-* or dispatcher",
            server.strategy.name
        );
        settings.conflict(keys::SERVER_STRATEGY, &[keys::ADDRESS], problem);
    }
    let UnderTest::Command(command) = subject else { return };
    if command.backend.is_some() {
        let problem = "a server behind a proxy gets the port after the proxy's, and a Unix socket (`address`) has none: use an IP address";
        settings.conflict(keys::SERVER_BACKEND, &[keys::ADDRESS], problem);
    }
    if command.mentions(PORT) {
        let problem = "{port} in server.command or server.files is nothing with a Unix socket (`address`): write {address}, or its path";
        settings.conflict(keys::SERVER_COMMAND, &[keys::ADDRESS, keys::SERVER_FILES], problem);
    }
}

const PORT: &str = "{port}";

/// Rejects sysctls of protocols that a Unix socket has not.
pub(super) fn check_sysctls(settings: &Settings<'_>, sysctls: &[(String, String)]) {
    // Where addresses are compared, they are for the others.
    if !settings.is_unix() || settings.is_swept(keys::ADDRESS) {
        return;
    }
    const OF_IP: [&str; 8] = ["tcp_", "udp_", "ip_", "ipv4.", "ipv6.", "nf_", "netfilter.", "icmp"];
    for (name, _) in sysctls {
        let written = name.replace('/', ".");
        let short = written.strip_prefix("net.").unwrap_or(&written);
        if OF_IP.iter().any(|prefix| short.starts_with(prefix)) {
            let problem = "is about IP, and has no effect with a Unix socket (`address`): remove it";
            settings.refuse_sysctl(name, problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Plan, Source};

    fn error(text: &str) -> String {
        let text = format!("address = \"unix:@t\"\n{text}");
        Plan::read(&Source { name: "t", text: &text }, &[]).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_a_unix_socket_has_not_is_refused_with_the_reason() {
        assert_eq!(error("server.backlog = 5\n[load]\nrequests = 2"), "");
        for (text, says) in [
            ("port = 80", "`port` has no effect with a Unix socket (`address`): it has no ports"),
            ("server.nodelay = true", "option of TCP"),
            ("server.fastopen = 5", "option of TCP"),
            ("server.bind = \"0.0.0.0\"", "no IP addresses"),
            ("server.receive_buffer = 5000", "sender's buffer"),
            ("stamps = \"sock_ops\"", "no hook"),
            ("probe = \"counts\"", "counts itself"),
            (
                "probe = \"counts\"\nserver.subject = \"command\"\nserver.command = \"a\"",
                "use \"btf\", \"auto\" or \"off\"",
            ),
            ("load.close_how = \"rst\"", "one way to close"),
            ("load.sockets = \"recycled\"", "one way to close"),
            ("[[load]]\nname = \"a\"\nclose_how = \"rst\"", "`load.a.close_how` has no effect with a Unix socket"),
            ("load.proxy_protocol = 1", "no addresses that a header could tell"),
            ("load.source_ports = \"explicit\"", "it has no ports"),
            ("load.source_addresses = \"127.0.0.1\"", "no IP addresses"),
            ("load.connect_timeout = \"1s\"", "at once"),
            ("load.connect = \"blocking\"", "have one each"),
            ("load.connect = \"blocking\"\nload.concurrency = 5\nload.loaders = 4", "have one each"),
            ("protocol = \"udp\"", "datagrams go to ports"),
            ("network = \"veth\"", "packets of a veth pair cannot reach"),
            ("kind = \"ports\"", "\"ports\" fills ports"),
            ("server.strategy = \"reuseport\"", "which Unix sockets cannot share"),
            ("[[event]]\nat = \"1s\"\nkind = \"reload\"\nhow = \"reopen\"", "would be in the way"),
            ("sysctl.tcp_tw_reuse = 0", "is about IP"),
            ("sysctl.\"net.ipv4.tcp_syncookies\" = 0", "is about IP"),
            ("server.subject = \"command\"\nserver.command = \"a {port}\"", "{port} in server.command"),
            (
                "server.subject = \"command\"\nserver.command = \"a {backend}\"\nserver.backend = true",
                "port after the proxy's",
            ),
        ] {
            let error = error(text);
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(error("sysctl.somaxconn = 5"), "");
        let blocking =
            "load.connect = \"blocking\"\nload.concurrency = 5\nload.loaders = 5\nload.connect_timeout = \"1s\"";
        assert_eq!(error(blocking), "");
    }

    #[test]
    fn what_messages_cannot_carry_is_refused_with_the_reason() {
        let error = |text: &str| {
            let text = format!("address = \"unixpacket:@t\"\n{text}");
            Plan::read(&Source { name: "t", text: &text }, &[]).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(error(""), "");
        assert!(error("server.app = \"http\"").contains("HTTP is a protocol of streams"));
        assert!(error("load.engine = \"uring\"").contains("shorter than a message"));
        assert!(error("load.quickack = true").contains("no effect with a Unix socket"));
    }

    #[test]
    fn a_unix_socket_can_be_compared_with_a_port() {
        let text = "[server]\nstrategy = \"shared-epoll\"\nnodelay = true\n[load]\nclose_how = \"rst\"\n[sysctl]\ntcp_tw_reuse = 0\n\
                    [matrix]\naddress = [\"127.0.0.1\", \"unix:@t\", \"unix:{dir}/a\"]";
        let plan = Plan::read(&Source { name: "t", text }, &[]).unwrap();
        let unset = text.replace("strategy = \"shared-epoll\"", "");
        let error = Plan::read(&Source { name: "t", text: &unset }, &[]).err().unwrap().to_string();
        assert!(error.contains("which Unix sockets cannot share"), "{error}");
        let places = plan.cells.iter().map(|cell| cell.scenario.place()).collect::<Vec<_>>();
        assert_eq!(places, ["127.0.0.1:7000", "unix:@t", "unix:{dir}/a"]);
    }
}
