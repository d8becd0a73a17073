//! Reads `histograms.hlog`, histogram by histogram. What a line claims is checked before memory is allocated for it.

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Decompress, FlushDecompress, Status};
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::{
    bounds,
    counts::Counts,
    lines::{Line, Lines},
    reader::{self, HISTOGRAMS, ReadError, unreadable},
};
use crate::sys::folder::Folder;

/// Of V2: an uncompressed histogram, and one that is compressed.
const PLAIN: u32 = 0x1c84_9313;
const COMPRESSED: u32 = 0x1c84_9314;

/// The highest value that a histogram may be for, in ns: about 73 minutes. Our own end at one minute.
const HIGHEST_NS: u64 = 1 << 42;

/// The most significant digits that a histogram may have; ours have two or three.
const MOST_DIGITS: u32 = 3;

/// Bytes that a histogram inflates to, as a rule: those of a trial have a few hundred non-empty buckets.
const ROOM: usize = 1 << 12;
/// Bytes of the longest name, such as `w511.accept_wait` behind the name of a population.
const NAME_BYTES: usize = 200;

/// A histogram of the log.
#[derive(Debug)]
pub struct Part<'a> {
    /// Number of its trial.
    pub trial: usize,
    pub name: Name<'a>,
    pub counts: Counts,
}

/// What a histogram is called: `w0.accept_wait`, or `kept.w0.accept_wait` if it is of one of several populations; `all.accept_wait` is the
/// sum of all others of its trial and metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// The population whose loaders measured it; `None` if there is only one, or members did.
    pub population: Option<&'a str>,
    /// `w0.accept_wait`: what it is of, and its metric.
    pub own: &'a str,
    pub metric: &'a str,
}

/// In place of a member or loader: the sum of all.
pub const ALL: &str = "all";

impl<'a> Name<'a> {
    /// Whether it is that of a sum, whose values are in other histograms, too.
    pub fn is_sum(&self) -> bool {
        self.population.is_none() && self.own.split_once('.').is_some_and(|(of, _)| of == ALL)
    }

    /// Splits a name; `None` if it is not one.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (before, metric) = name.rsplit_once('.')?;
        match before.split_once('.') {
            None => Some(Self { population: None, own: name, metric }),
            Some((population, _)) => {
                Some(Self { population: Some(population), own: &name[population.len() + 1..], metric })
            }
        }
    }
}

/// Lines of the log that hold no histogram, or one that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable {
    pub lines: usize,
    /// The first of them, counted from 1.
    pub first: usize,
}

/// Reads a record's histograms one by one, in the log's order: trial by trial. Returns the lines that hold none, if there are any;
/// `None` without a log.
pub fn for_each(folder: &Folder, mut each: impl FnMut(Part<'_>)) -> Result<Option<Option<Unreadable>>, ReadError> {
    let Some(log) = reader::file(folder, HISTOGRAMS)? else { return Ok(None) };
    let failed = |error| unreadable(folder, HISTOGRAMS, error);
    let mut lines = Lines::of(log, bounds::LOG_BYTES, bounds::HISTOGRAM_BYTES).map_err(failed)?;
    let mut decoder = Decoder::default();
    let mut unreadable: Option<Unreadable> = None;
    while let Some((number, line)) = lines.next().map_err(failed)? {
        if number > bounds::LOG_LINES {
            let (path, most) = (folder.path().join(HISTOGRAMS), format!("{} lines", bounds::LOG_LINES));
            return Err(ReadError::TooMuch { path, line: number, most });
        }
        let read = match line {
            // Comments, and the columns' names.
            Line::Whole([] | [b'#' | b'"', ..]) => continue,
            Line::Whole(line) => decoder.read_line(line, &mut each),
            Line::CutOff | Line::TooLong => None,
        };
        if read.is_none() {
            unreadable.get_or_insert(Unreadable { lines: 0, first: number }).lines += 1;
        }
    }
    Ok(Some(unreadable))
}

/// Decodes lines of the log.
pub struct Decoder {
    inflater: Decompress,
    /// The line with its line break, without which a parser waits for more.
    line: Vec<u8>,
    /// What the line has in Base64, and that without its compression.
    encoded: Vec<u8>,
    inflated: Vec<u8>,
    /// The number of values so far.
    values: u128,
}

impl Default for Decoder {
    fn default() -> Self {
        let (line, encoded, inflated) = Default::default();
        Self { inflater: Decompress::new(true), line, encoded, inflated, values: 0 }
    }
}

impl Decoder {
    /// Reads a line, without its line break; `None` if it holds no histogram.
    pub fn read_line(&mut self, line: &[u8], each: &mut impl FnMut(Part<'_>)) -> Option<()> {
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line.push(b'\n');
        // Each line by itself: the reader of the whole log ends at the first line that is damaged.
        let Some(Ok(LogEntry::Interval(interval))) = IntervalLogIterator::new(&self.line).next() else { return None };
        let (trial, name) = place(interval.tag()?.as_str())?;
        self.encoded.clear();
        STANDARD.decode_vec(interval.encoded_histogram(), &mut self.encoded).ok()?;
        let counts = decoded(plain(&self.encoded, &mut self.inflater, &mut self.inflated)?)?;
        self.values += u128::from(counts.len());
        each(Part { trial, name, counts });
        // The rest cannot be used either, since sums could overflow.
        (self.values <= bounds::SUM).then_some(())
    }
}

/// A histogram that was compressed, unless it was not: what inflates to more than a histogram takes is none.
fn plain<'a>(encoded: &'a [u8], inflater: &mut Decompress, inflated: &'a mut Vec<u8>) -> Option<&'a [u8]> {
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

/// Whether an uncompressed histogram can be decoded without more memory than one of ours takes.
pub fn is_sound(histogram: &[u8]) -> bool {
    Header::of(histogram).is_some_and(|(_, list)| walk(list, |_, _| Some(())).is_some())
}

/// The counts of an uncompressed histogram.
fn decoded(histogram: &[u8]) -> Option<Counts> {
    let (Header { lowest, highest, digits, unshifted }, list) = Header::of(histogram)?;
    let mut counts = Counts::new(lowest, highest, digits).filter(|_| unshifted)?;
    walk(list, |bucket, count| counts.push(bucket, count))?;
    Some(counts)
}

/// The header of an uncompressed histogram.
struct Header {
    lowest: u64,
    highest: u64,
    digits: u8,
    /// Whether its values are what they are: a header may say that they are shifted, or parts of a whole number.
    unshifted: bool,
}

impl Header {
    /// The header, and the list of counts behind it, if it claims no more than is there and than one of ours has: memory is allocated as
    /// it says.
    fn of(histogram: &[u8]) -> Option<(Self, &[u8])> {
        let (header, list) = histogram.split_first_chunk::<40>()?;
        let word = |at: usize| Some(u32::from_be_bytes(*header[at..].first_chunk()?));
        let long = |at: usize| Some(u64::from_be_bytes(*header[at..].first_chunk()?));
        let (cookie, length, digits, highest) = (word(0)?, word(4)?, word(12)?, long(24)?);
        let sound = cookie == PLAIN && length as usize == list.len() && digits <= MOST_DIGITS && highest <= HIGHEST_NS;
        let unshifted = word(8)? == 0 && f64::from_bits(long(32)?) == 1.0;
        let header = Self { lowest: long(16)?, highest, digits: u8::try_from(digits).ok()?, unshifted };
        sound.then_some((header, list))
    }
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

/// Splits `t7.w0.accept_wait` into 7 and `w0.accept_wait`.
fn place(tag: &str) -> Option<(usize, Name<'_>)> {
    let (trial, name) = tag.strip_prefix('t')?.split_once('.')?;
    Some((trial.parse().ok()?, Name::parse(name).filter(|_| name.len() <= NAME_BYTES)?))
}

#[cfg(test)]
mod tests {
    use hdrhistogram::{
        Histogram,
        serialization::{Serializer, V2DeflateSerializer, V2Serializer},
    };

    use super::*;

    /// The histograms of a log with this line.
    fn read(encoded: &[u8]) -> Option<Histogram<u64>> {
        let line = format!("Tag=t1.w0.accept_wait,0.000,1.000,1.000,{}", STANDARD.encode(encoded));
        let mut found = None;
        Decoder::default().read_line(line.as_bytes(), &mut |part| found = Some(part.counts.histogram())).and(found)
    }

    fn encoded(histogram: &Histogram<u64>, serializer: &mut impl Serializer) -> Vec<u8> {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).unwrap_or_else(|_| panic!("memory does not fail"));
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for value in [1, 1, 2_000, 77_777_777, 60_000_000_000] {
            histogram.record_n(value, 1 + value % 1_000).unwrap();
        }
        assert_eq!(read(&encoded(&histogram, &mut V2DeflateSerializer::new())).unwrap(), histogram);
        assert_eq!(read(&encoded(&histogram, &mut V2Serializer::new())).unwrap(), histogram);
        let long = Histogram::<u64>::new_with_bounds(1, 2 * HIGHEST_NS, 3).unwrap();
        assert!(read(&encoded(&long, &mut V2Serializer::new())).is_none());
        let fine = Histogram::<u64>::new_with_bounds(1, 1_000, 4).unwrap();
        assert!(read(&encoded(&fine, &mut V2Serializer::new())).is_none());
    }

    #[test]
    fn what_a_header_claims_is_checked() {
        let histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        let sound = encoded(&histogram, &mut V2Serializer::new());
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
            let mut changed = sound[..40].to_vec();
            changed[4..8].copy_from_slice(&(list.len() as u32).to_be_bytes());
            changed.extend(list);
            assert_eq!(is_sound(&changed), decoded(&changed).is_some());
            decoded(&changed).map(|counts| counts.len())
        };
        assert_eq!((of(&[]), of(&[2, 4]), of(&[3]), of(&[0x80, 1])), (Some(0), Some(3), Some(0), Some(64)));
        // A shift, and whole numbers that stand for parts.
        for (at, byte) in [(11, 1), (32, 0)] {
            assert!(is_sound(&with(at, byte)) && decoded(&with(at, byte)).is_none(), "{at}");
        }
        assert_eq!((of(&[0x80]), of(&[0xff; 9]), of(&[0xfe; 9])), (None, None, None), "cut off, or beyond reason");
    }

    #[test]
    fn tags_name_trial_population_and_metric() {
        let of = |tag| place(tag).map(|(trial, name)| (trial, name.population, name.own, name.metric));
        assert_eq!(of("t7.w0.accept_wait"), Some((7, None, "w0.accept_wait", "accept_wait")));
        assert_eq!(of("t12.l3.stage_queue"), Some((12, None, "l3.stage_queue", "stage_queue")));
        // A population may be called like a worker.
        assert_eq!(of("t7.w0.l3.response"), Some((7, Some("w0"), "l3.response", "response")));
        let is_sum = |name| Name::parse(name).map(|name| name.is_sum());
        // A population may be called like a sum.
        let names = ["all.response", "w0.response", "all.w0.response", "kept.all.response"];
        assert_eq!(names.map(is_sum), [true, false, false, false].map(Some));
        for wrong in ["", "7.w0.x", "t7.w0", "tx.w0.y"] {
            assert_eq!(place(wrong), None);
        }
    }
}
