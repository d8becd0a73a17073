//! What rank 0 tells the job through the launcher: where to connect, and with which token.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::{
    frame::Frame,
    hello::{Hello, Reply},
    inbox::Broken,
    link::Link,
};
use crate::{ipc::family::Patience, sys::random};

/// The most addresses on a card: launchers are for short texts.
const ADDRESSES: usize = 16;
/// How long the first attempts to connect to each address may take; each round takes twice as long as the one before.
const FIRST_ROUND: Duration = Duration::from_millis(250);
const LONGEST_ROUND: Duration = Duration::from_secs(4);
/// How long whoever was reached may take to answer. The host looked for answers at once, unless its processors are busy.
const REPLY_PATIENCE: Duration = Duration::from_secs(5);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

/// An invitation to connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Card {
    /// The host's addresses, most useful first.
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    /// What only the job knows: 128 random bits in hexadecimal.
    pub token: String,
}

impl Card {
    pub(super) fn new(mut addresses: Vec<IpAddr>, port: u16, token: String) -> Self {
        addresses.truncate(ADDRESSES);
        Self { addresses, port, token }
    }

    /// Connects to whoever wrote the card, trying its addresses in turn, and introduces this host.
    pub fn connect(&self, hello: &Hello, patience: Patience<'_>) -> Result<Link> {
        let wait = patience.begin();
        let mut round = FIRST_ROUND;
        loop {
            let mut failures = Vec::new();
            for address in &self.addresses {
                let address = SocketAddr::new(*address, self.port);
                match attempt(address, round.min(wait.left()), hello) {
                    Ok(link) => return Ok(link),
                    Err(Failed::Elsewhere(error)) => failures.push(format!("{address}: {error}")),
                    Err(Failed::Refused(reason)) => bail!("rank 0 at {address} refused this host: {reason}"),
                }
                wait.check().with_context(|| format!("connecting to rank 0 ({})", failures.join("; ")))?;
            }
            round = LONGEST_ROUND.min(2 * round);
            thread::sleep(PAUSE);
            wait.check().with_context(|| format!("connecting to rank 0 ({})", failures.join("; ")))?;
        }
    }
}

/// A new token.
pub fn token() -> io::Result<String> {
    Ok(format!("{:016x}{:016x}", random::unguessable()?, random::unguessable()?))
}

/// Why an attempt has not led to a link.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nobody answered there, or somebody else: another address, or a later attempt, may do.
    Elsewhere(anyhow::Error),
    /// This host is not to come in.
    Refused(String),
}

/// Connects to one address and introduces this host.
pub(super) fn attempt(address: SocketAddr, at_most: Duration, hello: &Hello) -> Result<Link, Failed> {
    let connected = || -> Result<(Link, Frame<Reply>)> {
        let stream = TcpStream::connect_timeout(&address, at_most.max(Duration::from_millis(1)))?;
        let mut link = Link::over(stream)?;
        link.send(hello)?;
        let reply = link.receive(Patience::of(REPLY_PATIENCE)).map_err(|broken| match broken {
            Broken::Ended(_) => anyhow!("it closed the connection without a reply"),
            other => other.into(),
        })?;
        Ok((link, reply))
    };
    match connected().map_err(Failed::Elsewhere)? {
        (link, Frame::Value(Reply::Welcome)) => Ok(link),
        (_, Frame::Value(Reply::Refused(reason))) => Err(Failed::Refused(reason)),
        (_, Frame::Histogram(..)) => Err(Failed::Elsewhere(anyhow!("its reply is not one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_128_bits_that_differ_each_time() {
        let tokens = [token().unwrap(), token().unwrap()];
        assert!(tokens.iter().all(|token| token.len() == 32 && token.bytes().all(|c| c.is_ascii_hexdigit())));
        assert_ne!(tokens[0], tokens[1]);
    }

    #[test]
    fn a_card_stays_short() {
        let addresses: Vec<IpAddr> = (0..20).map(|number| [10, 0, 0, number].into()).collect();
        let card = Card::new(addresses.clone(), 1, token().unwrap());
        assert_eq!(card.addresses, addresses[..ADDRESSES]);
        assert!(serde_json::to_string(&card).unwrap().len() < 1_000);
    }
}
