//! The most that is read of files that may come from anybody: all of these are well beyond what a run writes, and keep a reader's
//! memory within a few gigabytes.

/// Bytes of a scenario, of `host.json`, and of a calibration.
pub const TEXT_BYTES: u64 = 16 << 20;

/// Bytes of `trials.jsonl`.
pub const TRIALS_BYTES: u64 = 1 << 30;

/// Bytes of `histograms.hlog`, which is read line by line.
pub const LOG_BYTES: u64 = 16 << 30;

/// Bytes of a line of `trials.jsonl`. A trial of 512 workers with all of its samples takes about 10 MB.
pub const TRIAL_BYTES: usize = 64 << 20;

/// Bytes of a line of `histograms.hlog`: a histogram with three digits up to a minute takes at most a few hundred kilobytes.
pub const HISTOGRAM_BYTES: usize = 4 << 20;

/// Lines of `histograms.hlog`.
pub const LOG_LINES: usize = 1 << 24;

/// Bytes of a histogram that was compressed.
pub const INFLATED_BYTES: u64 = 4 << 20;

/// Lines of `trials.jsonl`.
pub const TRIALS: usize = 1 << 20;

/// Members of a subject, by their numbers: some figures have a place for each up to the highest.
pub const MEMBERS: usize = 1 << 16;

/// Hosts of a job, by their ranks: tables have a row for each.
pub const HOSTS: usize = 1 << 12;

/// Populations of a load, each with metrics of its own.
pub const POPULATIONS: usize = 64;

/// JSON objects of all trials together. A trial has 40 to 300.
pub const OBJECTS: u64 = 1 << 23;

/// JSON lists and values of all trials together. A trial has 500 to 3,000.
pub const VALUES: u64 = 1 << 27;

/// The sum of all whole numbers of a record, seeds excepted, and of all counts of its histograms. Below, no sum of them overflows.
pub const SUM: u128 = 1 << 62;
