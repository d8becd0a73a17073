//! The receipt: bytes in a reply that state which worker served the client, when the connection was accepted, and which request and
//! 4-tuple the worker saw. The client checks them against its own.
//!
//! If the connection began with a PROXY protocol header that names its ends, the 4-tuple is the header's. Its digest then goes on over
//! one more byte, [`Told`], so that a server that ignores headers does not pass for one that reads them.
//!
//! Layout, little endian: worker `u16`, client's nonce `u32`, accept time `u48` (nanoseconds of CLOCK_MONOTONIC
//! modulo 2⁴⁸), digest of the 4-tuple `u32`: 16 bytes. Where a reply has room, the 4-tuple itself follows: client
//! address (16 bytes, IPv4 mapped into IPv6), client port `u16`, server address, server port: 52 bytes in all.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::proxy_header::Version;

/// Length of a receipt without the 4-tuple.
pub const RECEIPT_BYTES: usize = 16;
/// Length of a receipt followed by the 4-tuple.
pub const FULL_RECEIPT_BYTES: usize = RECEIPT_BYTES + TUPLE_BYTES;
const TUPLE_BYTES: usize = 2 * END_BYTES;
const END_BYTES: usize = ADDRESS_BYTES + 2;
const ADDRESS_BYTES: usize = 16;
const TIME_MASK: u64 = (1 << 48) - 1;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The loader's end.
    pub client: SocketAddr,
    /// The worker's end.
    pub server: SocketAddr,
}

impl Tuple {
    /// Whether both name the same ends, an IPv4 address being the same as when it is mapped into IPv6.
    pub fn is(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }

    fn bytes(&self) -> [u8; TUPLE_BYTES] {
        let mut bytes = [0; TUPLE_BYTES];
        for (half, end) in bytes.chunks_exact_mut(END_BYTES).zip([self.client, self.server]) {
            half.copy_from_slice(&End::from(end).0);
        }
        bytes
    }

    /// 32-bit FNV-1a over the 36 bytes of the 4-tuple (Fowler, Noll, Vo: offset basis 2166136261, prime 16777619).
    fn digest(bytes: &[u8; TUPLE_BYTES]) -> u32 {
        bytes.iter().fold(2_166_136_261, |hash, byte| fnv(hash, *byte))
    }
}

/// One end of a connection as a receipt states it, in 18 bytes instead of a [`SocketAddr`]'s 32: the address, IPv4 mapped into IPv6, and
/// the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End([u8; END_BYTES]);

impl From<SocketAddr> for End {
    #[inline]
    fn from(end: SocketAddr) -> Self {
        let address = match end.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; END_BYTES];
        bytes[..ADDRESS_BYTES].copy_from_slice(&address.octets());
        bytes[ADDRESS_BYTES..].copy_from_slice(&end.port().to_le_bytes());
        Self(bytes)
    }
}

impl From<End> for SocketAddr {
    #[inline]
    fn from(End([address @ .., low, high]): End) -> Self {
        Self::new(Ipv6Addr::from(address).to_canonical(), u16::from_le_bytes([low, high]))
    }
}

fn fnv(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
}

/// What a PROXY protocol header has told a server about a connection's ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// There was no header.
    #[default]
    Nothing,
    /// The socket's own ends.
    Own(Version),
    /// Those of another connection, which a proxy passes on.
    Another(Version),
    /// There was a header, and it names none.
    Unnamed(Version),
}

impl Told {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Own(Version::Text),
        Self::Own(Version::Binary),
        Self::Another(Version::Text),
        Self::Another(Version::Binary),
        Self::Unnamed(Version::Text),
        Self::Unnamed(Version::Binary),
    ];

    /// A 4-tuple's digest, continued.
    fn continued(self, digest: u32) -> u32 {
        match self {
            Self::Nothing => digest,
            Self::Own(version) => fnv(digest, version.number()),
            Self::Another(version) => fnv(digest, 0x10 | version.number()),
            Self::Unnamed(version) => fnv(digest, 0x20 | version.number()),
        }
    }

    /// What must have been told for this to be a 4-tuple's digest.
    fn of(tuple: &[u8; TUPLE_BYTES], digest: u32) -> Option<Self> {
        let plain = Tuple::digest(tuple);
        Self::ALL.into_iter().find(|told| told.continued(plain) == digest)
    }
}

/// A decoded receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the worker that accepted the connection.
    pub worker: u16,
    /// The nonce of the request answered.
    pub nonce: u32,
    accept_low48: u64,
    digest: u32,
    tuple: Option<[u8; TUPLE_BYTES]>,
    certainty: Certainty,
}

/// Whether bytes in the place of a receipt are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// A header names them, or they contain the 4-tuple that their digest is of.
    Certain,
    /// They have a receipt's length.
    Possible,
}

impl Receipt {
    /// The receipt for a request with `nonce` on a connection accepted at `accept_ns`, whose ends are known as `told` says.
    pub fn new(worker: u16, nonce: u32, accept_ns: u64, (tuple, told): (&Tuple, Told)) -> Self {
        let bytes = tuple.bytes();
        Self {
            worker,
            nonce,
            accept_low48: accept_ns & TIME_MASK,
            digest: told.continued(Tuple::digest(&bytes)),
            tuple: Some(bytes),
            certainty: Certainty::Certain,
        }
    }

    /// The short form, without the 4-tuple.
    pub fn short(&self) -> [u8; RECEIPT_BYTES] {
        let mut bytes = [0; RECEIPT_BYTES];
        bytes[..2].copy_from_slice(&self.worker.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[6..12].copy_from_slice(&self.accept_low48.to_le_bytes()[..6]);
        bytes[12..].copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// Writes the receipt at the head of a reply of at least [`RECEIPT_BYTES`], with the 4-tuple where there is room.
    pub fn write(&self, reply: &mut [u8]) {
        reply[..RECEIPT_BYTES].copy_from_slice(&self.short());
        if let (Some(tuple), Some(room)) = (&self.tuple, reply.get_mut(RECEIPT_BYTES..FULL_RECEIPT_BYTES)) {
            room.copy_from_slice(tuple);
        }
    }

    /// Reads the receipt at the head of a whole reply; `None` if the reply is too short to hold one, or has a 4-tuple that doesn't fit
    /// its digest: then other bytes are in its place.
    pub fn read(reply: &[u8]) -> Option<Self> {
        let receipt = Self::parse(reply.first_chunk()?);
        let Some(tuple) = reply.get(RECEIPT_BYTES..FULL_RECEIPT_BYTES).and_then(|tuple| tuple.try_into().ok()) else {
            return Some(receipt);
        };
        let certain = Self { tuple: Some(tuple), certainty: Certainty::Certain, ..receipt };
        Told::of(&tuple, receipt.digest).map(|_| certain)
    }

    /// Reads a receipt's short form from where only receipts are.
    pub fn read_short(bytes: &[u8; RECEIPT_BYTES]) -> Self {
        Self { certainty: Certainty::Certain, ..Self::parse(bytes) }
    }

    fn parse(bytes: &[u8; RECEIPT_BYTES]) -> Self {
        let mut time = [0; 8];
        time[..6].copy_from_slice(&bytes[6..12]);
        Self {
            worker: u16::from_le_bytes([bytes[0], bytes[1]]),
            nonce: u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            accept_low48: u64::from_le_bytes(time),
            digest: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            tuple: None,
            certainty: Certainty::Possible,
        }
    }

    /// Whether this is certainly a receipt. Another program's bytes may look like one.
    pub fn is_certain(&self) -> bool {
        self.certainty == Certainty::Certain
    }

    /// What the server had been told of this connection, if the receipt is of it, whichever request it answers.
    pub fn told_of(&self, tuple: &Tuple) -> Option<Told> {
        let bytes = tuple.bytes();
        Told::of(&bytes, self.digest).filter(|_| self.tuple.is_none_or(|theirs| theirs == bytes))
    }

    /// Nanoseconds from `connect_ns` to the accept, both on this machine's CLOCK_MONOTONIC; `None` if the accept is earlier, or more
    /// than 39 hours (half of 2⁴⁸ ns) later: then one of the two belongs to another connection.
    pub fn wait_since(&self, connect_ns: u64) -> Option<u64> {
        let wait = self.accept_low48.wrapping_sub(connect_ns) & TIME_MASK;
        (wait <= TIME_MASK / 2).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tuple(client_port: u16) -> Tuple {
        Tuple { client: ([127, 0, 0, 1], client_port).into(), server: ([127, 0, 0, 1], 7000).into() }
    }

    #[test]
    fn another_connections_receipt_is_recognised() {
        for (room, told) in
            [RECEIPT_BYTES, FULL_RECEIPT_BYTES, 64].into_iter().flat_map(|room| Told::ALL.map(|told| (room, told)))
        {
            let mut reply = vec![0; room];
            Receipt::new(1, 42, 1_000, (&tuple(40_000), told)).write(&mut reply);
            let receipt = Receipt::read(&reply).unwrap();
            assert_eq!(receipt.nonce, 42);
            assert_eq!(receipt.told_of(&tuple(40_000)), Some(told));
            assert_eq!(receipt.told_of(&tuple(40_001)), None);
        }
    }

    #[test]
    fn an_end_is_restored_in_the_family_that_it_had() {
        for end in ["127.0.0.1:40001", "10.0.255.3:1", "[::1]:65535", "[2001:db8::7f00:1]:256", "[::]:0"] {
            let end: SocketAddr = end.parse().unwrap();
            assert_eq!(SocketAddr::from(End::from(end)), end);
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7".parse().unwrap();
        assert_eq!(SocketAddr::from(End::from(mapped)), "10.0.0.1:7".parse().unwrap());
    }

    #[test]
    fn a_reply_too_short_for_a_receipt_has_none() {
        assert_eq!(Receipt::read(&[0; RECEIPT_BYTES - 1]), None);
    }

    #[test]
    fn another_programs_bytes_are_not_a_receipt() {
        assert_eq!(Receipt::read(&[0; FULL_RECEIPT_BYTES]), None);
        assert_eq!(Receipt::read(&[b'x'; 64]), None);
        // A short form cannot be told from other bytes, unless it stands where only receipts do.
        let zeros = [0; RECEIPT_BYTES];
        assert!(!Receipt::read(&zeros).unwrap().is_certain() && Receipt::read_short(&zeros).is_certain());
    }

    proptest! {
        #[test]
        fn the_wait_survives_truncation_to_48_bits(connect_ns: u64, wait in 0..TIME_MASK / 2) {
            let connect_ns = connect_ns / 2;
            let receipt = Receipt::new(3, 7, connect_ns + wait, (&tuple(1), Told::Nothing));
            prop_assert_eq!(Receipt::read(&receipt.short()).unwrap().wait_since(connect_ns), Some(wait));
        }

        #[test]
        fn an_accept_before_the_connect_is_refused(connect_ns in 1u64 << 50.., early in 1u64..1 << 40) {
            let receipt = Receipt::new(3, 7, connect_ns - early, (&tuple(1), Told::Nothing));
            prop_assert_eq!(receipt.wait_since(connect_ns), None);
        }
    }
}
