//! What a load replays: the starts of a trace, in a file without a name that loaders inherit and read a block at a time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{BufWriter, Write},
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    Arrival, Asked, SECOND_NS,
    sorter::{ENTRY, Entries, Sorted, decode, encode, unnamed_file},
    source::{Source, Summary},
};
use crate::format::seconds;

/// Connections that are read at a time: 12 kB.
const BLOCK: usize = 512;

/// The longest load, as that of any scenario.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The starts of the part of a trace that is replayed, once; times count from its beginning, at the speed asked for.
#[derive(Debug, Clone)]
pub struct Schedule {
    file: Arc<File>,
    count: u64,
    period_ns: u64,
    repeat: u64,
    /// How long the replayed part took in the trace.
    traced: Duration,
    /// Whether the trace says of each start how many requests it makes, and the fewest and the most that it says.
    has_requests: bool,
    requests: Option<(u32, u32)>,
    summary: Summary,
}

impl PartialEq for Schedule {
    /// Whether both were made by the same reading of the same trace.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
    }
}

/// A start that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When, from the beginning of the replay.
    pub at_ns: u64,
    /// Its requests; `None` if the trace doesn't say.
    pub requests: Option<u32>,
    /// How long it is to stay open after the last reply; `None` if the trace doesn't say.
    pub hold_ns: Option<u64>,
}

/// What a replay asks of the harness and the server.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Starts that are due.
    pub starts: u64,
    /// Their mean number per second.
    pub per_second: f64,
    /// The most in a second of the replay, counted from its beginning.
    pub most_in_a_second: u64,
    /// The most connections that are held at once, if none takes any time besides.
    pub most_held: u64,
    /// The most that are open at once, if each takes a second besides its hold.
    pub most_open: u64,
    /// The longest hold of all.
    pub longest_hold: Duration,
}

impl Schedule {
    /// Reads a trace. Fails with the file's name, what is wrong with which line, and the remedy.
    pub fn read(asked: &Asked) -> Result<Self> {
        let (sorted, summary) = Source::open(asked)?.sort(asked.max_malformed)?;
        Self::of(asked, &sorted, summary).with_context(|| asked.path.clone())
    }

    /// Selects and scales what is replayed of a trace.
    pub fn of(asked: &Asked, sorted: &Sorted, summary: Summary) -> Result<Self> {
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        let (from_ns, to_ns) = (nanoseconds(asked.from), asked.to.map(nanoseconds));
        let file = unnamed_file()?;
        let mut out = BufWriter::with_capacity(1 << 16, &file);
        let (mut origin_ns, mut count) = (None, 0_u64);
        let (mut first_ns, mut last_ns) = (0, 0);
        let (mut is_cut, mut has_requests, mut requests) = (false, true, None);
        let mut end_ns = 0;
        for arrival in sorted.merge()? {
            let arrival = arrival.context("reading a temporary file")?;
            let offset_ns = arrival.at_ns.saturating_sub(*origin_ns.get_or_insert(arrival.at_ns));
            end_ns = offset_ns;
            if to_ns.is_some_and(|to_ns| offset_ns >= to_ns) {
                is_cut = true;
                break;
            }
            if offset_ns < from_ns {
                continue;
            }
            let at_ns = offset_ns - from_ns;
            if count == 0 {
                first_ns = at_ns;
            }
            (last_ns, count) = (at_ns, count + 1);
            has_requests &= arrival.requests.is_some();
            if let Some(own) = arrival.requests {
                let (least, most) = requests.unwrap_or((own, own));
                requests = Some((own.min(least), own.max(most)));
            }
            let at_ns = (at_ns as f64 / asked.speed) as i64;
            out.write_all(&encode(Arrival { at_ns, ..arrival })).context("writing a temporary file")?;
        }
        out.flush().context("writing a temporary file")?;
        drop(out);
        if count == 0 {
            let to = asked.to.map_or_else(|| "the end".to_owned(), seconds);
            let length = seconds(Duration::from_nanos(end_ns.unsigned_abs()));
            bail!("has no start from {} to {to}: its starts are within {length} of the first", seconds(asked.from));
        }
        // Beyond the last start, a trace goes on for as long as the mean gap between two, so that its rate is that of its starts.
        let gap_ns = match (last_ns - first_ns) as f64 / (count - 1).max(1) as f64 {
            gap_ns if gap_ns >= 1.0 => gap_ns,
            _ => SECOND_NS as f64,
        };
        let traced_ns = match to_ns {
            Some(to_ns) if is_cut => (to_ns - from_ns) as f64,
            _ => last_ns as f64 + gap_ns,
        };
        let period_ns = traced_ns / asked.speed;
        let all_ns = period_ns * asked.repeat as f64;
        if all_ns > LONGEST.as_nanos() as f64 {
            bail!(
                "takes {} to replay, and a load lasts 30 days at most: replay a part of it, faster, or less often",
                seconds(Duration::try_from_secs_f64(all_ns / 1e9).unwrap_or(Duration::MAX))
            );
        }
        Ok(Self {
            file: Arc::new(file),
            count,
            period_ns: (period_ns.ceil() as u64).max(1),
            repeat: asked.repeat,
            traced: Duration::from_nanos(traced_ns as u64),
            has_requests,
            requests,
            summary,
        })
    }

    /// Starts in all, repetitions included.
    pub fn starts(&self) -> u64 {
        self.count.saturating_mul(self.repeat)
    }

    /// Starts of one repetition.
    #[cfg(any(test, fuzzing))]
    pub fn starts_once(&self) -> u64 {
        self.count
    }

    /// How long the replay takes, repetitions included.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.period_ns.saturating_mul(self.repeat))
    }

    /// How long one repetition takes.
    pub fn period(&self) -> Duration {
        Duration::from_nanos(self.period_ns)
    }

    /// How long the replayed part took in the trace.
    pub fn traced(&self) -> Duration {
        self.traced
    }

    /// Whether the trace says of each connection how many requests it made.
    pub fn has_requests(&self) -> bool {
        self.has_requests
    }

    /// The fewest and the most requests of a connection, as far as the trace says.
    pub fn requests(&self) -> Option<(u32, u32)> {
        self.requests
    }

    /// What the trace was.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Its starts, in order.
    pub fn playback(&self) -> Playback {
        Playback {
            entries: Entries::new(self.file.clone(), 0..self.count, BLOCK),
            count: self.count,
            period_ns: self.period_ns,
            left: self.repeat.saturating_sub(1),
            round_ns: 0,
        }
    }

    /// The starts of the first repetition.
    pub fn first_repetition(&self) -> Playback {
        Playback { left: 0, ..self.playback() }
    }

    /// How many starts are due before an instant, from the beginning of the replay.
    pub fn starts_before(&self, at_ns: u64) -> Result<u64> {
        let rounds = (at_ns / self.period_ns).min(self.repeat);
        let whole = rounds.saturating_mul(self.count);
        if rounds == self.repeat {
            return Ok(whole);
        }
        let within_ns = at_ns % self.period_ns;
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut entry = [0; ENTRY];
            self.file.read_exact_at(&mut entry, middle * ENTRY as u64).context("reading a temporary file")?;
            if decode(&entry).at_ns.unsigned_abs() < within_ns { low = middle + 1 } else { high = middle }
        }
        Ok(whole + low)
    }

    /// What the starts before an instant ask for, if those of which the trace doesn't say it are held for so long.
    pub fn figures(&self, until_ns: u64, default_hold_ns: u64) -> Figures {
        let second_ns = SECOND_NS as u64;
        let mut figures = Figures::default();
        let (mut held, mut open) = (Peak::default(), Peak::default());
        let (mut second, mut in_second) = (0, 0_u64);
        let mut longest_ns = 0;
        let mut walked = 0_u64;
        let length_ns = until_ns.min(self.period_ns.saturating_mul(self.repeat));
        for start in self.playback() {
            // Later repetitions only add to what is still open from earlier ones.
            let is_steady = start.at_ns > (2 * self.period_ns).saturating_add(longest_ns).saturating_add(second_ns);
            if start.at_ns >= until_ns || is_steady {
                break;
            }
            walked += 1;
            let hold_ns = start.hold_ns.unwrap_or(default_hold_ns);
            longest_ns = longest_ns.max(hold_ns);
            if hold_ns > 0 {
                held.add(start.at_ns, hold_ns);
            }
            open.add(start.at_ns, hold_ns.saturating_add(second_ns));
            if start.at_ns / second_ns != second {
                (second, in_second) = (start.at_ns / second_ns, 0);
            }
            in_second += 1;
            figures.most_in_a_second = figures.most_in_a_second.max(in_second);
        }
        figures.starts = self.starts_before(until_ns).unwrap_or(walked);
        figures.per_second = figures.starts as f64 * 1e9 / length_ns.max(1) as f64;
        (figures.most_held, figures.most_open) = (held.most, open.most);
        figures.longest_hold = Duration::from_nanos(longest_ns);
        figures
    }
}

/// The most of what begins in order of time and lasts for a while.
#[derive(Debug, Default)]
struct Peak {
    ends: BinaryHeap<Reverse<u64>>,
    most: u64,
}

impl Peak {
    fn add(&mut self, at_ns: u64, lasts_ns: u64) {
        while self.ends.peek().is_some_and(|Reverse(end_ns)| *end_ns <= at_ns) {
            self.ends.pop();
        }
        self.ends.push(Reverse(at_ns.saturating_add(lasts_ns)));
        self.most = self.most.max(self.ends.len() as u64);
    }
}

/// The starts of a schedule, repetition after repetition. It allocates nothing once it is made.
#[derive(Debug)]
pub struct Playback {
    entries: Entries,
    /// Starts of a repetition, and how long it takes.
    count: u64,
    period_ns: u64,
    /// Repetitions after this one.
    left: u64,
    /// When this one began.
    round_ns: u64,
}

impl Iterator for Playback {
    type Item = Start;

    /// # Panics
    ///
    /// If the file cannot be read. It has no name, so nothing but a failing disk keeps it from being read.
    fn next(&mut self) -> Option<Start> {
        let next = match self.entries.next() {
            None if self.left > 0 => {
                self.left -= 1;
                self.round_ns += self.period_ns;
                self.entries.begin_again(0..self.count);
                self.entries.next()
            }
            other => other,
        };
        let Arrival { at_ns, requests, hold_ns } =
            next?.expect("the schedule of a trace, a temporary file, can be read");
        Some(Start { at_ns: self.round_ns + at_ns.unsigned_abs(), requests, hold_ns })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::trace::{FormatAsked, source::asked_of};

    /// The schedule of a table of times.
    pub fn schedule(table: &str, change: impl Fn(&mut Asked)) -> Result<Schedule> {
        let mut asked = asked_of("t", FormatAsked::Csv);
        change(&mut asked);
        let (sorted, summary) = Source::of(&asked, "t", Cursor::new(table.to_owned().into_bytes()))?.sort(0.01)?;
        Schedule::of(&asked, &sorted, summary)
    }

    fn times_ms(schedule: &Schedule) -> Vec<u64> {
        schedule.playback().map(|start| start.at_ns / 1_000_000).collect()
    }

    #[test]
    fn starts_count_from_the_first_and_a_mean_gap_follows_the_last() {
        let all = schedule("103\n101\n100\n102\n", |_| {}).unwrap();
        assert_eq!(times_ms(&all), [0, 1_000, 2_000, 3_000]);
        assert_eq!((all.starts(), all.length(), all.traced()), (4, Duration::from_secs(4), Duration::from_secs(4)));
        let once = schedule("7\n", |_| {}).unwrap();
        assert_eq!((times_ms(&once), once.length()), (vec![0], Duration::from_secs(1)));
        assert_eq!(schedule("7\n7\n", |_| {}).unwrap().length(), Duration::from_secs(1));
    }

    #[test]
    fn a_part_is_selected_sped_up_and_repeated() {
        let part = schedule("10\n11\n12\n13\n14\n", |asked| {
            asked.from = Duration::from_millis(500);
            asked.to = Some(Duration::from_secs(3));
            asked.speed = 2.0;
            asked.repeat = 3;
        });
        let part = part.unwrap();
        assert_eq!(times_ms(&part), [250, 750, 1_500, 2_000, 2_750, 3_250]);
        assert_eq!((part.period(), part.length()), (Duration::from_millis(1_250), Duration::from_millis(3_750)));
        assert_eq!(part.traced(), Duration::from_millis(2_500));
        for (ms, expected) in [(0, 0), (250, 0), (251, 1), (1_000, 2), (1_500, 2), (1_501, 3), (3_749, 6), (9_999, 6)] {
            assert_eq!(part.starts_before(ms * 1_000_000).unwrap(), expected, "{ms}");
        }
        let none = schedule("10\n11\n", |asked| asked.from = Duration::from_secs(5)).unwrap_err().to_string();
        assert!(none.contains("no start from 5") && none.contains("within 1"), "{none}");
        let endless = schedule("10\n11\n", |asked| asked.repeat = 1 << 40).unwrap_err().to_string();
        assert!(endless.contains("30 days"), "{endless}");
    }

    #[test]
    fn figures_are_those_of_the_starts_that_are_due() {
        let table = "0,1,10\n0.1,2,0.5\n0.2\n5\n5.5\n5.9\n9\n";
        let all = schedule(table, |_| {}).unwrap();
        assert!(!all.has_requests());
        let figures = all.figures(u64::MAX, 0);
        assert_eq!((figures.starts, figures.most_held, figures.longest_hold), (7, 2, Duration::from_secs(10)));
        assert_eq!((figures.most_in_a_second, figures.most_open), (3, 4));
        let figures = all.figures(4_000_000_000, 20_000_000_000);
        assert_eq!((figures.starts, figures.most_held), (3, 3));
        assert!((figures.per_second - 0.75).abs() < 1e-9);
        // Of less than a second, all starts are in one.
        let short = schedule("0\n0.000001\n", |_| {}).unwrap().figures(u64::MAX, 0);
        assert_eq!((short.most_in_a_second, short.per_second), (2, 1e6));
        // Held for longer than a repetition takes, connections of several are open at once.
        let repeated = schedule("0\n1\n", |asked| asked.repeat = 100).unwrap();
        assert_eq!(repeated.figures(u64::MAX, 5_000_000_000).most_held, 5);
    }

    #[test]
    fn the_log_of_a_poisson_schedule_has_its_gaps_again() {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut at_s = 0.0;
        let table: String = (0..5_000)
            .map(|_| {
                at_s += -(1.0 - rng.random::<f64>()).ln() / 200.0;
                format!("{at_s:.9}\n")
            })
            .collect();
        let all = schedule(&table, |_| {}).unwrap();
        let starts: Vec<u64> = all.playback().map(|start| start.at_ns).collect();
        let mut gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect();
        gaps.sort_by(f64::total_cmp);
        // Kolmogorov–Smirnov: the largest distance from 1 − e^(−λt) is below 1.63 / √n in 99 of 100 samples.
        let n = gaps.len() as f64;
        let distance = gaps.iter().enumerate().map(|(k, gap)| {
            let expected = 1.0 - (-200.0 * gap).exp();
            (expected - k as f64 / n).abs().max((expected - (k + 1) as f64 / n).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 1.63 / n.sqrt(), "{distance}");
    }
}
