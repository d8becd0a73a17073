//! Captures in the classic format of libpcap (pcap-savefile(5)).

use std::io::{BufRead, ErrorKind};

use anyhow::{Context, Result, bail};

use super::{
    Arrival, Findings, SECOND_NS,
    syn::{Packet, Syns},
};

/// Bytes of the longest packet: libpcap's MAXIMUM_SNAPLEN.
pub(super) const LONGEST: usize = 262_144;

/// How a file was written, by its first four bytes.
#[derive(Debug, Clone, Copy)]
struct Writing {
    is_big: bool,
    /// Nanoseconds of a unit of the fraction.
    unit_ns: i64,
    /// Bytes of a packet's header.
    header: usize,
}

impl Writing {
    fn of(magic: [u8; 4]) -> Option<Self> {
        let (is_big, unit_ns, header) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1_000, 16),
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1_000, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1, 16),
            // What libpcap calls "modified": the interface and the kind of packet follow, and the headers of packets are longer.
            [0x34, 0xcd, 0xb2, 0xa1] => (false, 1_000, 24),
            [0xa1, 0xb2, 0xcd, 0x34] => (true, 1_000, 24),
            _ => return None,
        };
        Some(Self { is_big, unit_ns, header })
    }

    fn word(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// Whether a file begins like a capture of this format.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|magic| Writing::of(*magic).is_some())
}

/// Reads a capture.
pub(super) fn read(
    input: &mut dyn BufRead,
    findings: &mut Findings,
    emit: &mut dyn FnMut(Arrival) -> Result<()>,
) -> Result<()> {
    let mut header = [0; 24];
    input.read_exact(&mut header).context("reading the header of a capture")?;
    let magic = [header[0], header[1], header[2], header[3]];
    let Some(writing) = Writing::of(magic) else { bail!("does not begin like a capture of libpcap") };
    // The upper half says whether frames have a checksum.
    let link = writing.word(&header, 20) & 0xffff;
    let mut syns = Syns::default();
    let mut packet = Vec::new();
    loop {
        let mut header = [0; 24];
        match fill(input, &mut header[..writing.header])? {
            Filled::Nothing => return Ok(()),
            Filled::Part => {
                cut_off(findings);
                return Ok(());
            }
            Filled::All => {}
        }
        let length = writing.word(&header, 8) as usize;
        if length > LONGEST {
            bail!(
                "packet {}: claims to be {length} bytes long, more than libpcap captures ({LONGEST}): what follows cannot be found",
                findings.lines + 1
            );
        }
        packet.resize(length, 0);
        if fill(input, &mut packet)? != Filled::All {
            cut_off(findings);
            return Ok(());
        }
        findings.lines += 1;
        let at_ns =
            i64::from(writing.word(&header, 0)) * SECOND_NS + i64::from(writing.word(&header, 4)) * writing.unit_ns;
        judge(&mut syns, (link, &packet, at_ns), findings, emit)?;
    }
}

/// Counts a packet, and emits the connection that it starts, if it does.
pub(super) fn judge(
    syns: &mut Syns,
    (link, packet, at_ns): (u32, &[u8], i64),
    findings: &mut Findings,
    emit: &mut dyn FnMut(Arrival) -> Result<()>,
) -> Result<()> {
    match syns.judge(link, packet, at_ns) {
        Ok(Packet::Start) => emit(Arrival { at_ns, requests: None, hold_ns: None })?,
        Ok(Packet::Other) => findings.others += 1,
        Err(problem) => findings.wrong(findings.lines, problem),
    }
    Ok(())
}

/// The capture ends within a packet, as that of a tcpdump that was killed.
pub(super) fn cut_off(findings: &mut Findings) {
    findings.lines += 1;
    findings.wrong(findings.lines, "is cut off by the end of the file");
    findings.is_cut_off = true;
}

/// How much of a buffer could be filled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    Nothing,
    Part,
    All,
}

/// Fills a buffer as far as the input goes.
pub(super) fn fill(input: &mut dyn BufRead, buffer: &mut [u8]) -> Result<Filled> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(if filled == 0 { Filled::Nothing } else { Filled::Part }),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Filled::All)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::syn::packets;

    /// A capture of raw IP packets at these instants, with times in microseconds or nanoseconds.
    fn capture(big: bool, nanoseconds: bool, packets: &[(i64, Vec<u8>)]) -> Vec<u8> {
        let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let magic: u32 = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut bytes = word(magic).to_vec();
        bytes.extend([0; 16]);
        bytes.extend(word(101));
        for (at_ns, packet) in packets {
            let unit = if nanoseconds { 1 } else { 1_000 };
            bytes.extend(word((at_ns / SECOND_NS) as u32));
            bytes.extend(word((at_ns % SECOND_NS / unit) as u32));
            bytes.extend(word(packet.len() as u32));
            bytes.extend(word(packet.len() as u32));
            bytes.extend(packet);
        }
        bytes
    }

    fn times(bytes: &[u8]) -> (Result<Vec<i64>>, Findings) {
        let (mut all, mut findings) = (Vec::new(), Findings::default());
        let mut emit = |one: Arrival| {
            all.push(one.at_ns);
            Ok(())
        };
        let read = read(&mut &bytes[..], &mut findings, &mut emit);
        (read.map(|()| all), findings)
    }

    #[test]
    fn captures_of_either_byte_order_and_unit_give_the_times_of_their_syns() {
        let at = [1_700_000_000 * SECOND_NS, 1_700_000_000 * SECOND_NS + 123_456_000];
        let of = |at_ns, port, flags| (at_ns, packets::ipv4((port, 80), 7, flags));
        let packets = [of(at[0], 1, 2), of(at[0], 80, 0x12), of(at[1], 2, 2), of(at[1], 1, 2)];
        for (big, nanoseconds) in [(false, false), (true, false), (false, true), (true, true)] {
            let bytes = capture(big, nanoseconds, &packets);
            let (all, findings) = times(&bytes);
            assert_eq!(all.unwrap(), at);
            assert_eq!((findings.lines, findings.others, findings.malformed), (4, 2, 0));
            let (all, findings) = times(&bytes[..bytes.len() - 1]);
            assert_eq!((all.unwrap().len(), findings.lines, findings.malformed), (2, 4, 1));
        }
    }

    #[test]
    fn packets_may_have_longer_headers() {
        let mut bytes = vec![0x34, 0xcd, 0xb2, 0xa1];
        bytes.extend([0; 16]);
        bytes.extend(101_u32.to_le_bytes());
        for port in [1, 2] {
            let packet = packets::ipv4((port, 80), 7, 2);
            let length = (packet.len() as u32).to_le_bytes();
            bytes.extend(
                [&7_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), &length, &length, &[0xee; 8], &packet].concat(),
            );
        }
        let (all, findings) = times(&bytes);
        assert_eq!((all.unwrap(), findings.malformed), (vec![7_000_005_000; 2], 0));
    }

    #[test]
    fn an_impossible_length_ends_the_reading() {
        let mut bytes = capture(false, false, &[(0, vec![0; 20])]);
        bytes[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(times(&bytes).0.unwrap_err().to_string().starts_with("packet 1: claims"));
        assert!(times(b"x").0.is_err());
    }
}
