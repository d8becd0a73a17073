//! The server that a load is for.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};
use toml::Value;

use super::{
    super::{Usage, note},
    Setting,
};
use crate::{
    cli::{Host, Target},
    observe::{
        queues::ServerQueues,
        reach::{Reach, Routes},
        sockets,
    },
    scenario::{Transport, keys},
};

/// The values of the scenario that follow from the target.
pub(super) fn settings(target: &Target, allow_remote: bool) -> Result<Vec<Setting>> {
    if let Host::Unix(address) = &target.host {
        return Ok(vec![
            (keys::SERVER_SUBJECT, Value::from("running")),
            (keys::NETWORK, Value::from("host")),
            (keys::ADDRESS, Value::from(address.to_string())),
        ]);
    }
    let address = choose(target, allow_remote)?;
    let mut settings: Vec<Setting> = vec![
        (keys::SERVER_SUBJECT, Value::from("running")),
        (keys::NETWORK, Value::from("host")),
        (keys::ADDRESS, Value::from(address.ip().to_string())),
        (keys::PORT, Value::from(i64::from(address.port()))),
    ];
    if let Some(url) = &target.url {
        settings.push((keys::SERVER_APP, Value::from(if url.is_secured { "https" } else { "http" })));
    }
    Ok(settings)
}

/// Chooses an address from those that the target stands for: the first on which something listens, else the first. None of them may
/// lead away from this network, unless the user says that its owner agrees.
pub(super) fn choose(target: &Target, allow_remote: bool) -> Result<SocketAddr> {
    let addresses = target.addresses()?;
    let routes = Routes::open()?;
    for address in &addresses {
        let reach = routes.reach(Transport::Tcp, None, *address)?;
        let remedy = match reach {
            Reach::Remote if allow_remote => continue,
            Reach::Remote => "if its owner agrees to be loaded, add --allow-remote",
            Reach::Link => "use another of the server's addresses",
            _ => "use the address of a single host, such as 127.0.0.1",
        };
        if let Some(objection) = reach.objection() {
            bail!(Usage(format!("{target}: {} is {objection}; {remedy}", address.ip())));
        }
    }
    let [first, others @ ..] = &addresses[..] else { unreachable!("a target has an address") };
    if others.is_empty() {
        return Ok(*first);
    }
    let listening = addresses.iter().find(|address| listens(**address));
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let (chosen, why) = match listening {
        Some(listening) => (listening, "the first on which something listens"),
        None => (first, "the first: nothing is seen to listen on any of them"),
    };
    note(format_args!("{target} is {}; the load goes to {chosen}, {why}", all.join(" and ")));
    Ok(*chosen)
}

/// Whether this network is seen to have a listener, or a bound datagram socket, that gets what is sent to an address.
fn listens(address: SocketAddr) -> bool {
    let of_connections = || ServerQueues::new(address).and_then(|mut queues| queues.read());
    let of_datagrams = || sockets::read(Transport::Udp, Some(address.port()));
    let gets = |local: IpAddr| local.is_unspecified() || local == address.ip().to_canonical();
    of_connections().is_ok_and(|queues| !queues.is_empty())
        || of_datagrams().is_ok_and(|all| all.iter().any(|socket| socket.is_bound_only() && gets(socket.local.ip())))
}
