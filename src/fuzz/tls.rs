//! TLS: what a client sends to our own server, and what a server sends to a loader.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use super::pieces;
use crate::{
    scenario::{Security, TlsVersion},
    tls::{Client, Identity, Server, Session},
};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

static SERVER: LazyLock<Server> =
    LazyLock::new(|| Server::new(Identity::generate(ADDRESS, &[]).expect("a certificate")).expect("a server"));

/// Bytes off the wire at either side, preceded by how they are cut into pieces: they say nothing before there is a handshake, and in pieces
/// mean what they mean in one.
pub fn wire(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else { return };
    let security = Security {
        version: TlsVersion::Any,
        resumption: 0.0,
        verify: true,
        trust: None,
        server_name: None,
        alpn: Some("http/1.1".to_owned()),
    };
    let mut client = Client::new(&security, ADDRESS, Some(SERVER.identity()), (0, 0)).expect("a client");
    let mut sides: [Box<dyn FnMut() -> Session>; 2] = [Box::new(move || client.open().0), Box::new(|| SERVER.accept())];
    for open in &mut sides {
        let whole = taken(&mut open(), &mut std::iter::once(bytes));
        assert_eq!(taken(&mut open(), &mut pieces(bytes, *seed)), whole);
    }
}

/// Whether the bytes are refused.
fn taken(session: &mut Session, pieces: &mut dyn Iterator<Item = &[u8]>) -> bool {
    let (mut said, mut answer, mut refused) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        if session.take(piece, &mut said).is_err() {
            refused = true;
            break;
        }
    }
    // The other side's share of the keys is random: bytes that were written before cannot fit them.
    assert!(said.is_empty() && session.secured().is_none());
    session.give(&mut answer);
    refused
}
