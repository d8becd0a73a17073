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

/// Longer lines are skipped: a histogram with three digits up to a minute takes at most a few hundred kilobytes.
const LINE_LIMIT: usize = 4 << 20;

/// Reads a record's histograms of some metrics and calls `each` for every trial and metric, merged over workers or loaders, in the
/// log's order. Only one trial's histograms are in memory at a time. Skips lines that are not histograms, such as an incomplete last
/// one: `trials.jsonl` does not depend on them.
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
            // Cannot fail: all histograms have the same bounds.
            Some(histogram) => drop(histogram.add(part)),
        }
    }
    if let (Some(ended), histograms) = current {
        histograms.into_iter().for_each(|(metric, histogram)| each(ended, &metric, histogram));
    }
    Ok(())
}

/// Splits `t7.w0.accept_wait` into 7 and `accept_wait`.
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
