//! HdrHistogram's V2 form of a histogram: what a log and messages hold.
//!
//! A header is followed by a list of numbers, from the first bucket to the last one that is filled: a bucket's count, or, if
//! negative, how many buckets are empty. What a header claims is checked before memory is allocated for it.

use std::io::Write;

use flate2::{Compression, Decompress, FlushDecompress, Status, write::ZlibEncoder};

use super::{bounds, counts::Counts};

/// Of V2: an uncompressed histogram, and one that is compressed.
const PLAIN: u32 = 0x1c84_9313;
const COMPRESSED: u32 = 0x1c84_9314;

/// Bytes of the header.
const HEADER: usize = 40;

/// The highest value that a histogram may be for, in ns: about 73 minutes. Our own end at one minute.
const HIGHEST_NS: u64 = 1 << 42;

/// The most significant digits that a histogram may have; ours have two or three.
const MOST_DIGITS: u32 = 3;

/// Bytes that a histogram inflates to, as a rule: those of a trial have a few hundred non-empty buckets.
const ROOM: usize = 1 << 12;

/// The uncompressed form.
pub fn encoded(counts: &Counts) -> Vec<u8> {
    let layout = counts.layout();
    let mut bytes = Vec::with_capacity(HEADER + 4 * counts.filled().len());
    bytes.extend(PLAIN.to_be_bytes());
    // The length comes last; values are not shifted.
    bytes.extend([0; 8]);
    bytes.extend(u32::from(layout.digits).to_be_bytes());
    bytes.extend(layout.lowest.to_be_bytes());
    bytes.extend(layout.highest.to_be_bytes());
    bytes.extend(1_f64.to_be_bytes());
    let mut next = 0;
    for (bucket, count) in counts.filled() {
        match bucket - next {
            0 => {}
            1 => bytes.push(0),
            // In zigzag: an odd number is a negative one.
            empty => push_leb128(&mut bytes, 2 * u64::from(empty) - 1),
        }
        push_leb128(&mut bytes, count << 1);
        next = bucket + 1;
    }
    if next == 0 {
        // A list has at least the first bucket.
        bytes.push(0);
    }
    let length = (bytes.len() - HEADER) as u32;
    bytes[4..8].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// What [`compressed`] needs, for any number of histograms. Its zlib streams keep the bytes as they are: deflating would save a quarter of
/// the few hundred that a histogram takes as a rule, and the tables of codes for each would take longer than all else that a reader of a log
/// does.
pub fn encoder() -> ZlibEncoder<Vec<u8>> {
    ZlibEncoder::new(Vec::new(), Compression::none())
}

/// The form of a log.
pub fn compressed(counts: &Counts, encoder: &mut ZlibEncoder<Vec<u8>>) -> Vec<u8> {
    let written = encoder.write_all(&encoded(counts)).and_then(|()| encoder.reset(Vec::new()));
    let stream = written.expect("memory does not fail");
    let mut bytes = COMPRESSED.to_be_bytes().to_vec();
    bytes.extend((stream.len() as u32).to_be_bytes());
    bytes.extend(stream);
    bytes
}

/// A histogram that was compressed, unless it was not: what inflates to more than a histogram takes is none.
pub fn plain<'a>(encoded: &'a [u8], inflater: &mut Decompress, inflated: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let (cookie, rest) = encoded.split_first_chunk()?;
    if u32::from_be_bytes(*cookie) != COMPRESSED {
        return Some(encoded);
    }
    let (length, rest) = rest.split_first_chunk()?;
    let mut deflated = rest.get(..u32::from_be_bytes(*length) as usize)?;
    inflater.reset(true);
    inflated.clear();
    loop {
        inflated.reserve(ROOM);
        let before = (inflater.total_in(), inflated.len());
        let status = inflater.decompress_vec(deflated, inflated, FlushDecompress::None).ok()?;
        let taken = inflater.total_in() - before.0;
        deflated = &deflated[taken as usize..];
        if inflated.len() as u64 > bounds::INFLATED_BYTES {
            return None;
        }
        // Whether that was all, its own header says.
        if status == Status::StreamEnd || (taken, inflated.len()) == (0, before.1) {
            return Some(&inflated[..]);
        }
    }
}

/// The counts of an uncompressed histogram; `None` if its header claims more than is there or than one of ours has, or that its values are
/// shifted or parts of a whole number.
pub fn decoded(histogram: &[u8]) -> Option<Counts> {
    let (header, list) = histogram.split_first_chunk::<HEADER>()?;
    let word = |at: usize| Some(u32::from_be_bytes(*header[at..].first_chunk()?));
    let long = |at: usize| Some(u64::from_be_bytes(*header[at..].first_chunk()?));
    let (cookie, length, shift, digits) = (word(0)?, word(4)?, word(8)?, word(12)?);
    let (lowest, highest, ratio) = (long(16)?, long(24)?, f64::from_bits(long(32)?));
    let is_ours = digits <= MOST_DIGITS && highest <= HIGHEST_NS && (shift, ratio) == (0, 1.0);
    if cookie != PLAIN || length as usize != list.len() || !is_ours {
        return None;
    }
    let mut counts = Counts::new(lowest, highest, u8::try_from(digits).ok()?)?;
    walk(list, |bucket, count| counts.push(bucket, count))?;
    Some(counts)
}

/// Walks a list of counts, calling `each` with the place and the count of each that is not 0, until it returns `None`. `None` also if the
/// list cannot be decoded or has more than is read.
fn walk(mut list: &[u8], mut each: impl FnMut(usize, u64) -> Option<()>) -> Option<()> {
    let (mut all, mut place) = (0_u128, 0_u64);
    while !list.is_empty() {
        let number = leb128(&mut list)?;
        // In zigzag: an odd number is a run of empty buckets, of which a histogram cannot have this many.
        place = match (number & 1, number >> 1) {
            (0, count) => {
                all += u128::from(count);
                if count > 0 {
                    each(usize::try_from(place).ok()?, count)?;
                }
                place + 1
            }
            (_, empty) if empty < u64::from(u32::MAX) => place.checked_add(empty + 1)?,
            _ => return None,
        };
    }
    (all <= bounds::SUM).then_some(())
}

/// The next number of a list in LEB128 of at most nine bytes, the last of which has eight bits.
fn leb128(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let last = place == 8;
        number |= u64::from(if last { *byte } else { byte & 0x7f }) << (7 * place);
        if last || byte & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

/// Appends a number in LEB128 of at most nine bytes, the last of which has eight bits.
fn push_leb128(bytes: &mut Vec<u8>, mut number: u64) {
    for _ in 0..8 {
        if number < 0x80 {
            break;
        }
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer},
    };
    use proptest::prelude::*;

    use super::*;

    fn by_the_crate(histogram: &Histogram<u64>, mut serializer: impl Serializer) -> Vec<u8> {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).unwrap_or_else(|_| panic!("memory does not fail"));
        bytes
    }

    fn none() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
    }

    proptest! {
        #[test]
        fn the_histogram_crate_writes_and_reads_the_same(
            values in prop::collection::vec((1_u64..60_000_000_000, 0_u32..40, 1_u64..1 << 40), 0..40),
        ) {
            let mut histogram = none();
            for (value, shift, count) in values {
                histogram.record_n(value >> shift, count).unwrap();
            }
            let counts = Counts::of(&histogram);
            prop_assert_eq!(encoded(&counts), by_the_crate(&histogram, V2Serializer::new()));
            let mut encoder = encoder();
            let read = |bytes: &[u8]| Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]).unwrap();
            prop_assert_eq!(&read(&compressed(&counts, &mut encoder)), &histogram);
            let (mut inflater, mut inflated) = (Decompress::new(true), Vec::new());
            for bytes in [compressed(&counts, &mut encoder), by_the_crate(&histogram, V2DeflateSerializer::new())] {
                let plain = plain(&bytes, &mut inflater, &mut inflated).unwrap();
                prop_assert_eq!(&decoded(plain).unwrap(), &counts);
            }
            prop_assert_eq!(decoded(&encoded(&counts)).unwrap(), counts);
        }
    }

    #[test]
    fn what_is_longer_than_a_stored_block_is_read() {
        let mut counts = Counts::new(1, 60_000_000_000, 3).unwrap();
        (0..26_000).for_each(|bucket| counts.push(bucket, 1 << 36).unwrap());
        assert!(encoded(&counts).len() > 2 * usize::from(u16::MAX));
        let (mut inflater, mut inflated) = (Decompress::new(true), Vec::new());
        let compressed = compressed(&counts, &mut encoder());
        assert_eq!(decoded(plain(&compressed, &mut inflater, &mut inflated).unwrap()).unwrap(), counts);
    }

    #[test]
    fn what_a_header_claims_is_checked() {
        let sound = encoded(&Counts::of(&none()));
        let is_sound = |bytes: &[u8]| decoded(bytes).is_some();
        assert!(is_sound(&sound));
        let with = |at: usize, byte: u8| {
            let mut changed = sound.clone();
            changed[at] = byte;
            changed
        };
        // Of the cookie, the length, the digits and the highest value.
        for (at, byte) in [(0, 0), (4, 255), (7, 255), (12, 1), (15, 4), (24, 255), (26, 255)] {
            assert!(!is_sound(&with(at, byte)), "{at}");
        }
        let of = |list: &[u8]| {
            let mut changed = sound[..HEADER].to_vec();
            changed[4..8].copy_from_slice(&(list.len() as u32).to_be_bytes());
            changed.extend(list);
            decoded(&changed).map(|counts| counts.len())
        };
        assert_eq!((of(&[]), of(&[2, 4]), of(&[3]), of(&[0x80, 1])), (Some(0), Some(3), Some(0), Some(64)));
        // A shift, and whole numbers that stand for parts.
        for (at, byte) in [(11, 1), (32, 0)] {
            assert!(!is_sound(&with(at, byte)), "{at}");
        }
        assert_eq!((of(&[0x80]), of(&[0xff; 9]), of(&[0xfe; 9])), (None, None, None), "cut off, or beyond reason");
    }
}
