//! Traces: any bytes are a trace of some format, or refused; what is read of them is counted, and comes out in order.

use std::{io::Cursor, time::Duration};

use crate::trace::{Asked, FORMAT_WORDS, FormatAsked, Schedule, Source, survey};

/// The first byte chooses the format.
pub(super) fn any(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let layout = "$remote_addr:$remote_port [$msec] $request_time $connection/$connection_requests";
    let words: Vec<&str> = FORMAT_WORDS.into_iter().chain([layout]).collect();
    let format = FormatAsked::read(words[usize::from(*choice) % words.len()]).expect("words name formats");
    let asked = Asked {
        path: "trace".to_owned(),
        format,
        speed: 2.0,
        from: Duration::ZERO,
        to: None,
        repeat: 2,
        max_malformed: 1.0,
    };
    let Ok(source) = Source::of(&asked, "trace", Cursor::new(bytes.to_vec())) else { return };
    let Ok((sorted, summary)) = source.sort(asked.max_malformed) else { return };
    let findings = &summary.findings;
    assert!(findings.malformed + findings.others <= findings.lines, "{findings:?}");
    assert!(summary.connections > 0 && summary.connections <= findings.lines - findings.malformed - findings.others);
    assert!(findings.requests.is_none_or(|requests| requests > 0) || !findings.has_connections, "{findings:?}");
    let Ok(schedule) = Schedule::of(&asked, &sorted, summary) else { return };
    assert_eq!(schedule.starts(), 2 * schedule.starts_once());
    let starts: Vec<u64> = schedule.playback().map(|start| start.at_ns).collect();
    assert!(starts.is_sorted() && starts.len() as u64 == schedule.starts());
    let length_ns = schedule.length().as_nanos() as u64;
    assert!(starts.iter().all(|at_ns| *at_ns < length_ns), "every start is within the replay");
    assert_eq!(schedule.starts_before(length_ns).ok(), Some(schedule.starts()));
    let figures = schedule.figures(u64::MAX, 0);
    assert!(figures.starts == schedule.starts() && figures.most_open >= figures.most_held);
    let survey = survey(&schedule, 10);
    assert_eq!(survey.counts.iter().sum::<u64>(), schedule.starts_once());
}

/// The notation of a log's layout.
pub(super) fn layout(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let (layout, line) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(FormatAsked::Layout(layout)) = FormatAsked::read(layout) {
        let _ = layout.parse(line.as_bytes());
    }
}
