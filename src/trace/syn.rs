//! SYNs in captured packets: the first segment of each TCP connection.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::SECOND_NS;

/// How long after a SYN the kernel may send it again: 127 s with 6 retries, the default of `tcp_syn_retries`.
const RETRIES_NS: i64 = 130 * SECOND_NS;

/// SYNs after which those that cannot come again are forgotten.
const SWEEP: u64 = 1 << 16;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    /// The start of a connection.
    Start,
    /// A SYN that was seen before, or anything else.
    Other,
}

/// Tells the SYNs of new connections from those that are sent again, or captured on a second interface.
#[derive(Debug, Default)]
pub(super) struct Syns {
    /// When each was seen last, by a hash of addresses, ports and sequence number.
    seen: HashMap<u64, i64>,
    now_ns: i64,
    since_sweep: u64,
    /// How many were left by the last sweep.
    left: u64,
}

impl Syns {
    /// Judges a packet of a link type of libpcap's (<https://www.tcpdump.org/linktypes.html>). Fails if it is cut off within its headers.
    pub fn judge(&mut self, link: u32, packet: &[u8], at_ns: i64) -> Result<Packet, &'static str> {
        let Some(segment) = segment(link, packet)? else { return Ok(Packet::Other) };
        self.now_ns = self.now_ns.max(at_ns);
        let mut hasher = DefaultHasher::new();
        segment.hash(&mut hasher);
        let known = self
            .seen
            .insert(hasher.finish(), at_ns)
            .is_some_and(|before_ns| at_ns.saturating_sub(before_ns).saturating_abs() <= RETRIES_NS);
        self.since_sweep += 1;
        if self.since_sweep >= SWEEP.max(self.left) {
            self.since_sweep = 0;
            let now_ns = self.now_ns;
            self.seen.retain(|_, seen_ns| seen_ns.saturating_add(RETRIES_NS) >= now_ns);
            self.left = self.seen.len() as u64;
        }
        Ok(if known { Packet::Other } else { Packet::Start })
    }
}

/// Addresses, and what a TCP header begins with: ports and sequence number.
type Segment<'a> = (&'a [u8], &'a [u8]);

const CUT_OFF: &str = "is cut off within its headers: capture at least 128 bytes of each packet (tcpdump -s 128)";

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// The SYN without ACK that a packet is, if it is one.
fn segment(link: u32, packet: &[u8]) -> Result<Option<Segment<'_>>, &'static str> {
    let (ethertype, network) = match link {
        // LINKTYPE_NULL: the address family in the byte order of the capturing host. LINKTYPE_LOOP: in network order.
        0 | 108 => return ip(packet.get(4..).ok_or(CUT_OFF)?),
        // LINKTYPE_RAW, and what it is called on some systems.
        12 | 14 | 101 | 228 | 229 => return ip(packet),
        // LINKTYPE_ETHERNET.
        1 => after_tags(packet.get(12..).ok_or(CUT_OFF)?)?,
        // LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2: what `tcpdump -i any` writes.
        113 => after_tags(packet.get(14..).ok_or(CUT_OFF)?)?,
        276 => (word(packet, 0)?, packet.get(20..).ok_or(CUT_OFF)?),
        _ => return Err("is of a link type that is not read here: use Ethernet, raw IP or `tcpdump -i any`"),
    };
    if matches!(ethertype, IPV4 | IPV6) { ip(network) } else { Ok(None) }
}

/// The ethertype behind tags of VLANs (802.1Q, 802.1ad and, before that, 0x9100), and what follows it.
fn after_tags(mut rest: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    loop {
        let ethertype = word(rest, 0)?;
        let is_tag = matches!(ethertype, 0x8100 | 0x88a8 | 0x9100);
        rest = rest.get(if is_tag { 4 } else { 2 }..).ok_or(CUT_OFF)?;
        if !is_tag {
            return Ok((ethertype, rest));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u16, &'static str> {
    let bytes = bytes.get(at..at + 2).ok_or(CUT_OFF)?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn ip(packet: &[u8]) -> Result<Option<Segment<'_>>, &'static str> {
    const TCP: u8 = 6;
    let first = packet.first().ok_or(CUT_OFF)?;
    match first >> 4 {
        4 => {
            let header = usize::from(first & 0xf) * 4;
            let fixed = packet.get(..20).ok_or(CUT_OFF)?;
            // Of a fragment other than the first, the TCP header is elsewhere.
            let is_later = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff != 0;
            if fixed[9] != TCP || is_later || header < 20 {
                return Ok(None);
            }
            tcp(&fixed[12..20], packet.get(header..).ok_or(CUT_OFF)?)
        }
        6 => {
            let fixed = packet.get(..40).ok_or(CUT_OFF)?;
            let (mut next, mut rest) = (fixed[6], &packet[40..]);
            // Hop-by-hop options, routing and destination options (RFC 8200, section 4) have a length in units of 8 bytes, without the first.
            // A fragment's has 8 bytes (section 4.5).
            while matches!(next, 0 | 43 | 44 | 60) {
                let header = rest.get(..8).ok_or(CUT_OFF)?;
                let is_fragment = next == 44;
                if is_fragment && u16::from_be_bytes([header[2], header[3]]) >> 3 != 0 {
                    return Ok(None);
                }
                next = header[0];
                let units = if is_fragment { 0 } else { usize::from(header[1]) };
                rest = rest.get((units + 1) * 8..).ok_or(CUT_OFF)?;
            }
            if next == TCP { tcp(&fixed[8..40], rest) } else { Ok(None) }
        }
        _ => Ok(None),
    }
}

/// A segment with SYN and without ACK (RFC 9293, section 3.1).
fn tcp<'a>(addresses: &'a [u8], segment: &'a [u8]) -> Result<Option<Segment<'a>>, &'static str> {
    let flags = *segment.get(13).ok_or(CUT_OFF)?;
    Ok((flags & 0x12 == 0x02).then(|| (addresses, &segment[..8])))
}

/// Packets for tests.
#[cfg(test)]
pub(super) mod packets {
    /// An IPv4 packet with a TCP header of these ports, sequence number and flags.
    pub fn ipv4(ports: (u16, u16), sequence: u32, flags: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
        packet.extend(tcp(ports, sequence, flags));
        packet
    }

    /// A TCP header.
    pub fn tcp((from, to): (u16, u16), sequence: u32, flags: u8) -> Vec<u8> {
        let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
        header.extend(sequence.to_be_bytes());
        header.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = 2;

    #[test]
    fn syns_are_found_on_every_link_and_others_are_not() {
        let bare = packets::ipv4((5_000, 80), 1, SYN);
        let with = |before: &[u8]| [before, &bare].concat();
        let ethernet = with(&[&[0; 12][..], &[8, 0]].concat());
        let tagged = with(&[&[0; 12][..], &[0x81, 0, 0, 5, 8, 0]].concat());
        let stacked = with(&[&[0; 12][..], &[0x91, 0, 0, 5, 0x81, 0, 0, 6, 8, 0]].concat());
        let sll = with(&[&[0; 14][..], &[8, 0]].concat());
        let sll2 = with(&[&[8, 0][..], &[0; 18]].concat());
        let mut v6 = vec![0x60, 0, 0, 0, 0, 28, 0, 64];
        v6.extend([1; 32]);
        v6.extend([6, 0, 0, 0, 0, 0, 0, 0]);
        v6.extend(packets::tcp((5_000, 80), 1, SYN));
        for (link, packet) in [
            (101, &bare),
            (0, &with(&[2, 0, 0, 0])),
            (1, &ethernet),
            (1, &tagged),
            (1, &stacked),
            (113, &sll),
            (276, &sll2),
            (101, &v6),
        ] {
            assert_eq!(Syns::default().judge(link, packet, 0), Ok(Packet::Start), "{link} {packet:?}");
            for length in 0..packet.len() {
                let cut = Syns::default().judge(link, &packet[..length], 0);
                assert!(cut == Err(CUT_OFF) || length >= packet.len() - 6, "{link} {length} {cut:?}");
            }
        }
        // The first fragment of a packet has its TCP header, and no other has.
        let mut fragment = v6[..40].to_vec();
        fragment[6] = 44;
        fragment.extend([6, 0, 0, 1, 0, 0, 0, 7]);
        fragment.extend(packets::tcp((5_000, 80), 1, SYN));
        assert_eq!(Syns::default().judge(101, &fragment, 0), Ok(Packet::Start));
        fragment[43] = 8;
        assert_eq!(Syns::default().judge(101, &fragment, 0), Ok(Packet::Other));
        // SYN-ACK, ACK, RST; not TCP; ARP.
        for flags in [0x12, 0x10, 0x04] {
            assert_eq!(Syns::default().judge(101, &packets::ipv4((1, 2), 3, flags), 0), Ok(Packet::Other));
        }
        let mut udp = bare.clone();
        udp[9] = 17;
        assert_eq!(Syns::default().judge(101, &udp, 0), Ok(Packet::Other));
        assert_eq!(Syns::default().judge(1, &[&[0; 12][..], &[8, 6], &[0; 28]].concat(), 0), Ok(Packet::Other));
        assert!(Syns::default().judge(105, &bare, 0).is_err());
    }

    #[test]
    fn a_syn_sent_again_is_no_other_connection() {
        let mut syns = Syns::default();
        let mut judge = |port, sequence, at_s| {
            syns.judge(101, &packets::ipv4((port, 80), sequence, SYN), at_s * SECOND_NS).unwrap()
        };
        assert_eq!(judge(5_000, 1, 0), Packet::Start);
        assert_eq!([judge(5_000, 1, 0), judge(5_000, 1, 1), judge(5_000, 1, 3)], [Packet::Other; 3]);
        assert_eq!([judge(5_000, 2, 4), judge(5_001, 1, 4), judge(5_000, 1, 200)], [Packet::Start; 3]);
    }
}
