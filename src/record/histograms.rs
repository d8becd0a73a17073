//! Reads `histograms.hlog`, histogram by histogram. What a line claims is checked before memory is allocated for it.

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::Decompress;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::{
    bounds,
    counts::Counts,
    lines::{Line, Lines},
    reader::{self, HISTOGRAMS, ReadError, unreadable},
    v2,
};
use crate::sys::{folder::Folder, parallel};

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
    // The number of values so far.
    let mut values = 0;
    let mut unreadable: Option<Unreadable> = None;
    loop {
        let batch = lines.batch().map_err(failed)?;
        let Some((last, _)) = batch.last() else { return Ok(Some(unreadable)) };
        if *last > bounds::LOG_LINES {
            let (path, most) = (folder.path().join(HISTOGRAMS), format!("{} lines", bounds::LOG_LINES));
            return Err(ReadError::TooMuch { path, line: bounds::LOG_LINES + 1, most });
        }
        // Several threads decode, and this one adds.
        let read = parallel::map(&batch, Decoder::default, |decoder, (_, line)| decoder.read_line(line.text()));
        for ((number, line), part) in batch.iter().zip(read) {
            if is_heading(line) {
                continue;
            }
            // Sums could overflow; those of the lines after it cannot.
            let is_within = |part: &Part<'_>| values + u128::from(part.counts.len()) <= bounds::SUM;
            match part.filter(is_within) {
                Some(part) => {
                    values += u128::from(part.counts.len());
                    each(part);
                }
                None => unreadable.get_or_insert(Unreadable { lines: 0, first: *number }).lines += 1,
            }
        }
    }
}

/// Comments, and the columns' names.
fn is_heading(line: &Line) -> bool {
    matches!(line.text(), [b'\n' | b'#' | b'"', ..])
}

/// Decodes lines of the log.
pub struct Decoder {
    inflater: Decompress,
    /// What a line has in Base64, and that without its compression.
    encoded: Vec<u8>,
    inflated: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflater: Decompress::new(true), encoded: Vec::new(), inflated: Vec::new() }
    }
}

impl Decoder {
    /// Reads a line, with its line break; `None` if it holds no histogram.
    pub fn read_line<'a>(&mut self, line: &'a [u8]) -> Option<Part<'a>> {
        // Each line by itself: the reader of the whole log ends at the first line that is damaged.
        let Some(Ok(LogEntry::Interval(interval))) = IntervalLogIterator::new(line).next() else { return None };
        let (trial, name) = place(interval.tag()?.as_str())?;
        self.encoded.clear();
        STANDARD.decode_vec(interval.encoded_histogram(), &mut self.encoded).ok()?;
        let counts = v2::decoded(v2::plain(&self.encoded, &mut self.inflater, &mut self.inflated)?)?;
        Some(Part { trial, name, counts })
    }
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
        let line = format!("Tag=t1.w0.accept_wait,0.000,1.000,1.000,{}\n", STANDARD.encode(encoded));
        Some(Decoder::default().read_line(line.as_bytes())?.counts.histogram())
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
        let long = Histogram::<u64>::new_with_bounds(1, 1 << 43, 3).unwrap();
        assert!(read(&encoded(&long, &mut V2Serializer::new())).is_none());
        let fine = Histogram::<u64>::new_with_bounds(1, 1_000, 4).unwrap();
        assert!(read(&encoded(&fine, &mut V2Serializer::new())).is_none());
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
