//! Reads `histograms.hlog`: chosen metrics, trial by trial.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};

use super::reader::{HISTOGRAMS, ReadError};

/// A line longer than this is no histogram of ours: three digits up to a minute take a few hundred kilobytes at most.
const LINE_LIMIT: usize = 4 << 20;

/// Reads the histograms of some metrics of a record, and hands each trial's on, merged over its workers or loaders, in the order of
/// the log: no more than one trial's are in memory at a time. Lines that are no histogram, such as a last one that was cut off,
/// are passed over: what stands in `trials.jsonl` stands on its own.
pub fn for_each_trial(
    folder: &Path,
    metrics: &[&str],
    mut each: impl FnMut(usize, &str, Histogram<u64>),
) -> Result<(), ReadError> {
    let path = folder.join(HISTOGRAMS);
    let log = fs::read(&path).map_err(|error| ReadError::File { path, error })?;
    let mut deserializer = Deserializer::new();
    let mut current: (Option<usize>, BTreeMap<String, Histogram<u64>>) = Default::default();
    for entry in IntervalLogIterator::new(&log).flatten() {
        let LogEntry::Interval(interval) = entry else { continue };
        let Some((trial, metric)) = interval.tag().and_then(|tag| place(tag.as_str())) else { continue };
        let encoded = interval.encoded_histogram();
        if !metrics.contains(&metric) || encoded.len() > LINE_LIMIT {
            continue;
        }
        let Ok(bytes) = STANDARD.decode(encoded) else { continue };
        let Ok(part) = deserializer.deserialize::<u64, _>(&mut &bytes[..]) else { continue };
        if let (Some(ended), histograms) = &mut current
            && *ended != trial
        {
            std::mem::take(histograms).into_iter().for_each(|(metric, histogram)| each(*ended, &metric, histogram));
        }
        current.0 = Some(trial);
        match current.1.get_mut(metric) {
            None => drop(current.1.insert(metric.to_owned(), part)),
            // All have the same bounds.
            Some(histogram) => drop(histogram.add(part)),
        }
    }
    if let (Some(ended), histograms) = current {
        histograms.into_iter().for_each(|(metric, histogram)| each(ended, &metric, histogram));
    }
    Ok(())
}

/// `t7.w0.accept_wait` as (7, `accept_wait`).
fn place(tag: &str) -> Option<(usize, &str)> {
    let mut parts = tag.splitn(3, '.');
    let trial = parts.next()?.strip_prefix('t')?.parse().ok()?;
    parts.next()?;
    Some((trial, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_trial_and_metric() {
        assert_eq!(place("t7.w0.accept_wait"), Some((7, "accept_wait")));
        assert_eq!(place("t12.l3.stage_queue"), Some((12, "stage_queue")));
        for wrong in ["", "7.w0.x", "t7.w0", "tx.w0.y"] {
            assert_eq!(place(wrong), None);
        }
    }
}
