//! What the kernel says: answers over netlink, files of /proc and of tracefs.

use std::str;

use netlink_packet_sock_diag::SockDiagMessage;

use crate::{
    observe::{
        conntrack,
        counters::{self, Counters},
        datagrams,
        nftables::Listing,
        ports::Range,
        processes,
        rules::Found,
        services, slabs,
        sockets::{self, Socket},
    },
    record::Sockets,
    scenario::Transport,
    sys::{cgroup, clock, nfnetlink, rtnetlink, tracing},
};

/// A piece of a sock_diag answer.
pub fn sock_diag(input: &[u8]) {
    let mut visited = 0;
    let ended = sockets::each_in(input, &mut |message| {
        visited += 1;
        let SockDiagMessage::InetResponse(response) = &message else { return };
        let socket = Socket::of(response);
        assert!(!socket.state.name().is_empty());
        sockets::ipv6_only(response);
    });
    // A message is at least a header of 16 bytes, and a Unix socket's 16.
    assert!(visited <= input.len() / 32, "{visited} sockets of {} bytes: {ended:?}", input.len());
}

/// An answer about a route or about something created, or a part of the list of rules.
pub fn rtnetlink(input: &[u8]) {
    if let Ok(answers) = rtnetlink::read(input) {
        // A message is at least a header of 16 bytes.
        assert!(answers.messages.len() <= input.len() / 16, "{:?}", answers.messages);
    }
}

/// What nft lists.
pub fn nftables(input: &[u8]) {
    if let Ok(listing) = Listing::parse(input) {
        let all = listing.rules(|_| true) + listing.elements(|_| true);
        // An element is at least a digit.
        assert!(all <= input.len() as u64, "{listing:?}");
        assert!(listing.rules(|table| table == "t") <= listing.rules(|_| true));
        assert!(listing.packets_outside("").is_some() || listing.packets("t", "passed").is_none());
    }
}

/// A piece of a list of tracked connections, of chains or of rules.
pub fn nfnetlink(input: &[u8]) {
    let mut objects = 0;
    let mut found = Found::default();
    let ended = nfnetlink::each_in(input, |object| {
        objects += 1;
        found.add_chain(object);
        found.add_rule(object);
    });
    // A message is at least its headers, of 16 and of 4 bytes.
    assert!(objects <= input.len() / 20, "{objects} objects of {} bytes: {ended:?}", input.len());
    let rules = found.rules();
    let in_chains = rules.chains.iter().map(|chain| chain.rules).sum::<u64>();
    assert!(in_chains + rules.called <= objects as u64 && rules.tracking <= in_chains + rules.called, "{rules:?}");
    assert!(rules.words(None).is_some() || in_chains == 0 || !rules.seeing(None).any(|_| true), "{rules:?}");
    if let Ok(states) = conntrack::states_in(input) {
        assert_eq!(states.tcp.values().sum::<u64>() + states.others, objects as u64, "{states:?}");
    }
}

type Parser = fn(&str);

/// A file's text, preceded by which file it is.
pub fn files(input: &[u8]) {
    const PARSERS: [Parser; 12] = [
        |text| {
            let mut counters = Counters::new();
            counters::collect(text, &mut counters);
            counters::collect(text, &mut counters);
            let none = counters::difference(&counters, &counters);
            assert!(none.values().all(|growth| *growth == 0) && none.len() == counters.len());
        },
        |text| counters::add(&mut Sockets::default(), text),
        |text| _ = counters::softnet_of(text),
        |text| {
            let queues = datagrams::parse(text);
            assert!(queues.len() <= text.lines().count());
        },
        |text| _ = slabs::looked_up_bytes(&slabs::parse(text)),
        |text| {
            let (range, reserved) = text.split_once('\n').unwrap_or((text, ""));
            let Ok(range) = Range::parse(range, reserved) else { return };
            assert!(range.low <= range.high && range.usable() <= range.size() && range.first_pass() <= range.usable());
            assert!(range.reserved.windows(2).all(|two| u32::from(*two[0].end()) + 1 < u32::from(*two[1].start())));
            assert!(
                range.reserved.iter().all(|ports| range.is_reserved(*ports.start()) && range.is_reserved(*ports.end()))
            );
        },
        |text| _ = processes::ticks(text),
        |text| {
            if let Some(name) = services::find(text, 80, Transport::Tcp) {
                assert!(!name.contains(char::is_whitespace));
            }
        },
        |text| _ = cgroup::own_folder(text, text),
        |text| _ = clock::offset_ns(text),
        |text| _ = tracing::offset(text, "saddr"),
        |text| {
            if let Some(counts) = conntrack::counts(text) {
                assert_eq!(counts.since(counts), Default::default());
            }
        },
    ];
    let Some((which, text)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    PARSERS[usize::from(*which) % PARSERS.len()](text);
}
