//! Captures in the format of Wireshark (draft-ietf-opsawg-pcapng): blocks, each with its type and length.

use std::io::BufRead;

use anyhow::{Result, bail};

use super::{
    Arrival, Findings, SECOND_NS,
    pcap::{self, Filled, LONGEST, cut_off},
    syn::Syns,
};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

/// Bytes of the longest block: a packet with room for its header and options.
const LONGEST_BLOCK: usize = LONGEST + (64 << 10);

/// Interfaces that a section may describe; of more, the file is not a capture.
const MOST_INTERFACES: usize = 4_096;

/// An interface of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interface {
    link: u32,
    /// Units of a time in a second.
    per_second: u128,
    offset_s: i64,
}

/// Whether a file begins like a capture of this format.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION.to_be_bytes())
}

/// Reads a capture.
pub(super) fn read(
    input: &mut dyn BufRead,
    findings: &mut Findings,
    emit: &mut dyn FnMut(Arrival) -> Result<()>,
) -> Result<()> {
    let mut syns = Syns::default();
    let mut is_big = false;
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut block = Vec::new();
    let mut has_begun = false;
    loop {
        let mut header = [0; 12];
        let filled = pcap::fill(input, &mut header)?;
        let is_section = begins(&header);
        if !has_begun && !is_section {
            bail!("does not begin like a capture in the pcapng format");
        }
        has_begun = true;
        match filled {
            Filled::Nothing => return Ok(()),
            Filled::Part => return cut_off(findings),
            Filled::All => {}
        }
        if is_section {
            is_big = match header[8..] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => bail!("a section of the capture has no byte order"),
            };
            interfaces.clear();
        }
        let word = |bytes: &[u8], at: usize| {
            let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
        };
        let kind = word(&header, 0).unwrap_or_default();
        let length = word(&header, 4).unwrap_or_default() as usize;
        if !(12..=LONGEST_BLOCK).contains(&length) || !length.is_multiple_of(4) {
            bail!(
                "the block after packet {} claims to be {length} bytes long: what follows cannot be found",
                findings.lines
            );
        }
        // The body begins with the third word of the header, and the length follows it again.
        block.clear();
        block.extend(&header[8..]);
        block.resize(length.max(16) - 12, 0);
        let read = block.len().min(4);
        if length > 12 {
            let mut end = [0; 4];
            let whole =
                pcap::fill(input, &mut block[read..])? != Filled::Part && pcap::fill(input, &mut end)? == Filled::All;
            if !whole {
                return cut_off(findings);
            }
        }
        match kind {
            INTERFACE => {
                let Some(interface) = interface(&block, is_big) else {
                    bail!("an interface of the capture cannot be read")
                };
                if interfaces.len() == MOST_INTERFACES {
                    bail!("the capture has more than {MOST_INTERFACES} interfaces");
                }
                interfaces.push(interface);
            }
            PACKET => {
                findings.lines += 1;
                let all = (word(&block, 0), word(&block, 4), word(&block, 8), word(&block, 12));
                let (Some(interface), Some(high), Some(low), Some(length)) = all else {
                    findings.wrong(findings.lines, "is cut off within its block");
                    continue;
                };
                let Some(interface) = interfaces.get(interface as usize) else {
                    findings.wrong(findings.lines, "is of an interface that the capture does not describe");
                    continue;
                };
                let Some(packet) = block.get(20..).and_then(|data| data.get(..length as usize)) else {
                    findings.wrong(findings.lines, "is longer than its block");
                    continue;
                };
                let units = u128::from(high) << 32 | u128::from(low);
                let since = i64::try_from(units * SECOND_NS as u128 / interface.per_second).ok();
                let Some(at_ns) = since.and_then(|ns| ns.checked_add(interface.offset_s.checked_mul(SECOND_NS)?))
                else {
                    findings.wrong(findings.lines, "has a time before the year 1677 or after 2262");
                    continue;
                };
                pcap::judge(&mut syns, (interface.link, packet, at_ns), findings, emit)?;
            }
            SIMPLE_PACKET => {
                findings.lines += 1;
                findings.wrong(findings.lines, "has no time (a Simple Packet Block)");
            }
            _ => {}
        }
    }
}

/// Reads the body of an interface's block.
fn interface(block: &[u8], is_big: bool) -> Option<Interface> {
    let half = |at: usize| {
        let bytes = block.get(at..at + 2)?.try_into().ok()?;
        Some(if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let mut interface = Interface { link: half(0)?.into(), per_second: 1_000_000, offset_s: 0 };
    // Link type, reserved, snap length; then options: code, length, value padded to 4 bytes. As libpcap does, take neither twice.
    let mut at = 8;
    let (mut resolved, mut moved) = (false, false);
    while let (Some(code), Some(length)) = (half(at), half(at + 2)) {
        let value = block.get(at + 4..at + 4 + usize::from(length))?;
        match (code, value) {
            (0, _) => break,
            // if_tsresol: a negative power of 10, or of 2 with the highest bit.
            (9, [resolution]) if !std::mem::replace(&mut resolved, true) => {
                let power = u32::from(resolution & 0x7f);
                interface.per_second =
                    if resolution & 0x80 == 0 { 10_u128.checked_pow(power) } else { 2_u128.checked_pow(power) }?;
            }
            // if_tsoffset.
            (14, value) if !std::mem::replace(&mut moved, true) => {
                let bytes = value.try_into().ok()?;
                interface.offset_s = if is_big { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
            }
            (9 | 14, _) => return None,
            _ => {}
        }
        at += 4 + usize::from(length).next_multiple_of(4);
    }
    Some(interface)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::syn::packets;

    fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
        let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = word(body.len() as u32 + 12);
        [&word(kind)[..], &length, &body, &length].concat()
    }

    fn capture(big: bool, resolution: Option<u8>, units: u64) -> Vec<u8> {
        let word = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let half = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
        let mut interface = [&half(101)[..], &[0; 2], &word(0)].concat();
        if let Some(resolution) = resolution {
            interface.extend([&half(9)[..], &half(1), &[resolution, 0, 0, 0], &half(0), &half(0)].concat());
        }
        let data = packets::ipv4((5_000, 80), 1, 2);
        let length = word(data.len() as u32);
        let times = [word((units >> 32) as u32), word(units as u32)].concat();
        let packet = [&word(0)[..], &times, &length, &length, &data].concat();
        // A block of another kind, such as statistics, is passed over.
        let all =
            [(SECTION, section), (INTERFACE, interface), (5, vec![0; 12]), (PACKET, packet.clone()), (PACKET, packet)];
        all.iter().flat_map(|(kind, body)| block(big, *kind, body)).collect()
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
    fn times_count_in_the_units_of_their_interface() {
        for big in [false, true] {
            for (resolution, per_second) in
                [(None, 1_000_000), (Some(9), 1_000_000_000), (Some(3), 1_000), (Some(0x80 | 10), 1_024)]
            {
                let (all, findings) = times(&capture(big, resolution, 1_700_000_000 * per_second + per_second / 2));
                assert_eq!(all.unwrap(), [1_700_000_000 * SECOND_NS + SECOND_NS / 2], "{resolution:?}");
                // The same SYN on two interfaces is one connection.
                assert_eq!((findings.lines, findings.others, findings.malformed), (2, 1, 0));
            }
        }
    }

    #[test]
    fn no_interface_has_two_units_or_offsets() {
        let offset = [&14_u16.to_le_bytes()[..], &8_u16.to_le_bytes(), &(-5_i64).to_le_bytes()].concat();
        let unit = [&9_u16.to_le_bytes()[..], &1_u16.to_le_bytes(), &[9, 0, 0, 0]].concat();
        let of = |options: &[&[u8]]| interface(&[&[1, 0, 0, 0, 0, 0, 0, 0], &options.concat()[..]].concat(), false);
        assert_eq!(of(&[&offset, &unit]), Some(Interface { link: 1, per_second: 1_000_000_000, offset_s: -5 }));
        for twice in [[&offset, &offset], [&unit, &unit]] {
            assert_eq!(of(&[twice[0], twice[1]]), None);
        }
    }

    #[test]
    fn a_capture_may_be_cut_off_anywhere() {
        let bytes = capture(false, Some(9), 5);
        for length in 0..bytes.len() {
            if let (Ok(_), findings) = times(&bytes[..length]) {
                assert!(findings.malformed <= 1, "{length}");
            }
        }
        assert!(times(&[0; 12]).0.is_err());
    }
}
