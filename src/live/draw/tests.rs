use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::{
    context::{Role, Waits},
    ipc::control::{Control, ListenerSeen, LoaderCount, LoaderKept, Recording, Window},
    live::{
        model::Model,
        pace::{Expected, Pace, Trials},
        seen::{PortsSeen, Seen, WorkerSeen},
    },
    load::Sizing,
    record::{Outcome, TrialRecord, Verdict, VerdictName},
    scenario::{Plan, Protocol, Source},
    sys::clock,
    trial::{Job, Stage, View, WaitSeen},
};

const SCENARIO: &str = r#"
    name = "tail"
    question = "At which service time does a shared queue beat one queue per worker, and at which does it lose?"
    repetitions = 2
    [load]
    warmup = "300ms"
    duration = "3s"
    [matrix]
    server.strategy = ["reuseport", "shared-epoll-exclusive"]
"#;

fn plan(text: &str) -> Plan {
    Plan::read(&Source { name: "test.toml", text }, &[]).unwrap()
}

fn job(plan: &Plan, number: usize) -> Job<'_> {
    static SIZING: LazyLock<Sizing> =
        LazyLock::new(|| Sizing { hosts: 1, of_loads: vec![1], connections: 64, files_each: 64, files_limit: 1_024 });
    Job {
        plan,
        trial: plan.trials[number],
        sizing: &SIZING,
        searched: None,
        stamps_allowed: true,
        recording: Recording::On,
        place: None,
        seen: None,
        allow_remote: false,
        role: Role::default(),
        hosts: None,
    }
}

fn pace(trials: Trials, count: usize) -> Pace {
    let cells = vec![(count, Some(Duration::from_secs(3)))];
    let mut pace = Pace::start(Expected { trials, cells, following: None });
    pace.begin(0);
    pace
}

fn seen(workers: usize) -> Seen {
    let worker = |number: usize| WorkerSeen {
        accepted: 3_000 + number as u64,
        datagrams: 0,
        open: 7,
        listener: Some(ListenerSeen { inode: 1 + number as u64, length: 12, limit: 4_096, drops: 0 }),
    };
    Seen {
        stage: Stage::Measuring,
        elapsed: Duration::from_millis(1_200),
        protocol: Protocol::Tcp,
        waits: Some(WaitSeen { bound: true, p50_ns: 148_000, p99_ns: 1_050_000 }),
        workers: (0..workers).map(worker).collect(),
        attempted: 6_100,
        established: 6_050,
        completed: 6_000,
        failed: 0,
        sent: 0,
        dropped: 0,
        ports: None,
    }
}

/// A model in the middle of a trial.
fn model(plan: &Plan, seen: Seen) -> Model {
    let mut model = Model::new();
    model.begin(job(plan, 0));
    model.place(&pace(Trials::AtMost, 12));
    model.saw(seen, Instant::now());
    model
}

fn record(job: Job<'_>) -> TrialRecord {
    let mut record = crate::trial::begun(job, SystemTime::UNIX_EPOCH);
    record.outcome = Outcome::Valid;
    record.rates.accepted_per_s = Some(6_123.0);
    record.connections.accepted = Some(6_000);
    record
}

fn verdict(name: VerdictName, detail: &str) -> Verdict {
    Verdict { name, detail: detail.to_owned(), invalidates: name.invalidates() }
}

fn rendered(model: &Model, width: u16, height: u16) -> String {
    text_of(width, height, |frame| draw(frame, model, Palette::without_colours()))
}

/// What is drawn on a screen of this size, as text.
pub(super) fn text_of(width: u16, height: u16, draw: impl FnOnce(&mut Frame<'_>)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(draw).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

pub(super) fn demand(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "lacks {text:?}:\n{screen}");
    }
}

/// What is shown at every size from the smallest.
const ESSENTIAL: [&str; 20] = [
    "listenbench  tail",
    "trial 0 (1 of at most 12), at most 37s left",
    "At which service time does a shared queue beat",
    "repetition 0",
    "measuring",
    "1.2 s of 3.3 s, 2.1 s left",
    "accepts/s 5,001",
    "accept wait p50 ≤ 148 µs",
    "p99 ≤ 1.05 ms",
    "failed 0",
    "attempted 6,100",
    "established 6,050",
    "completed 6,000",
    "open 14",
    "dropped 0",
    "share",
    "queue / limit",
    "12 / 4,096",
    "50.0 %",
    "q quits and keeps finished trials",
];

#[test]
fn the_essential_is_there_at_the_smallest_size_and_at_larger_ones() {
    let plan = plan(SCENARIO);
    let model = model(&plan, seen(2));
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let screen = rendered(&model, width, height);
        demand(&screen, &ESSENTIAL);
        let strategy = job(&plan, 0).cell().label();
        demand(&screen, &[&strategy, "no trial has ended yet", "accepts/s over this trial"]);
    }
    assert!(rendered(&model, 120, 40).contains("and at which does it lose?"));
}

#[test]
fn a_small_terminal_is_told_so() {
    let plan = plan(SCENARIO);
    let model = model(&plan, seen(2));
    for (width, height) in [(40, 10), (79, 24), (80, 23)] {
        let screen = rendered(&model, width, height).replace('\n', " ");
        demand(&screen, &["needs 80×24", &format!("{width}×{height}"), "1 of at most 12", "keeps finished"]);
    }
    // Even if nothing fits.
    for (width, height) in [(1, 1), (0, 0), (5, 2)] {
        rendered(&model, width, height);
    }
}

#[test]
fn workers_that_do_not_fit_are_counted() {
    let plan = plan(SCENARIO);
    let model = model(&plan, seen(64));
    let screen = rendered(&model, 80, 24);
    demand(&screen, &["and 58 more workers", "q quits", "── log"]);
    demand(&rendered(&model, 120, 90), &["    63  █"]);
}

#[test]
fn verdicts_say_what_they_are() {
    let plan = plan(SCENARIO);
    let mut model = model(&plan, seen(2));
    let mut valid = record(job(&plan, 0));
    valid.verdicts.push(verdict(VerdictName::SynRetries, "12 segments sent again, 12 of them SYNs"));
    model.end(job(&plan, 0), &valid);
    let mut invalid = record(job(&plan, 1));
    invalid.outcome = Outcome::Invalid;
    invalid.verdicts.push(verdict(VerdictName::ProcessDied, "worker 1 (pid 7): killed by SIGKILL"));
    model.end(job(&plan, 1), &invalid);
    model.log.add(crate::live::log::Mark::Note, "", "a block is repeated");
    let screen = rendered(&model, 80, 24);
    demand(
        &screen,
        &[
            "· trial 0: strategy=",
            "accepts/s 6,123",
            "! syn-retries: 12 segments sent again, 12 of them SYNs",
            "✗ trial 1 invalid: strategy=",
            "process-died: worker 1 (pid 7): killed",
            "by SIGKILL",
            "· a block is repeated",
        ],
    );
    assert!(screen.find("trial 0: s").unwrap() < screen.find("trial 1 invalid").unwrap(), "{screen}");
    // An invalid trial does not count in the medians.
    demand(&rendered(&model, 120, 40), &["medians so far", "valid  accepts/s", "1/1      6,123", "0/1          –"]);
}

#[test]
fn a_verdict_is_explained_once_and_named_each_time() {
    let plan = plan(SCENARIO);
    let mut model = model(&plan, seen(2));
    let detail =
        "send lag p99 3.100 ms at 400/s, over a tenth of the response p50 1.000 ms; the busiest loader used 4 % of it";
    for number in 0..2 {
        let mut record = record(job(&plan, number));
        record.verdicts.push(verdict(VerdictName::LoaderSaturated, detail));
        model.end(job(&plan, number), &record);
    }
    let screen = rendered(&model, 80, 24);
    assert_eq!(screen.matches("! loader-saturated: send lag p99 3.100 ms").count(), 2, "{screen}");
    assert_eq!(screen.matches("the busiest loader used 4 % of it").count(), 1, "{screen}");
}

#[test]
fn a_trial_of_so_many_connections_shows_how_many_are_begun() {
    let plan = plan("[load]\nconnections = 10000");
    demand(&rendered(&model(&plan, seen(2)), 80, 24), &["6,100 of 10,000 started"]);
    let all = Seen { attempted: 10_000, ..seen(2) };
    demand(&rendered(&model(&plan, all), 80, 24), &["6,000 of 10,000 ended"]);
}

#[test]
fn what_goes_wrong_is_said_when_it_begins() {
    let plan = plan(SCENARIO);
    let mut model = model(&plan, seen(2));
    model.saw(Seen { failed: 3, dropped: 5, ..seen(2) }, Instant::now());
    model.saw(Seen { failed: 9, dropped: 9, ..seen(2) }, Instant::now());
    let screen = rendered(&model, 80, 24);
    demand(
        &screen,
        &["! trial 0: connections fail: 3 after 1.2 s", "! trial 0: listeners drop segments", "failed 9", "dropped 9"],
    );
    assert_eq!(screen.matches("connections fail").count(), 1, "{screen}");
}

#[test]
fn a_fill_of_ports_shows_how_full_they_are() {
    let plan = plan("name = \"fill\"\nkind = \"ports\"");
    let ports = PortsSeen { open: 7_058, capacity: 28_232, wall: false };
    let mut model = model(&plan, Seen { stage: Stage::Filling, ports: Some(ports), waits: None, ..seen(0) });
    demand(&rendered(&model, 80, 24), &["filling", "7,058 of 28,232 ports open", "fill 25.0 %", "wall not reached"]);
    let full = PortsSeen { open: 28_232, wall: true, ..ports };
    model.saw(Seen { stage: Stage::Closing, ports: Some(full), ..seen(0) }, Instant::now());
    demand(&rendered(&model, 80, 24), &["wall reached", "no port is left"]);
}

#[test]
fn datagrams_have_their_own_words() {
    let plan = plan(SCENARIO);
    let mut seen = Seen { protocol: Protocol::Udp, sent: 4_711, ..seen(2) };
    for worker in &mut seen.workers {
        *worker = WorkerSeen { datagrams: 2_000, listener: None, ..WorkerSeen::default() };
    }
    demand(
        &rendered(&model(&plan, seen), 80, 24),
        &["datagrams/s", "receive wait p50 ≤ 148 µs", "sent 4,711", "flows 6,100"],
    );
}

#[test]
fn of_another_server_the_loaders_side_is_shown() {
    let screen = rendered(&model(&plan(SCENARIO), seen(0)), 80, 24);
    demand(&screen, &["connections/s 5,042", "established 6,050", "completed 6,000", "failed 0"]);
    // Below the question and the cell.
    let figures = || screen.lines().skip(3);
    for absent in ["accept wait", "open 0", "share"] {
        assert!(figures().all(|line| !line.contains(absent)), "{absent}: {screen}");
    }
}

/// The same, read through a trial's shared memory.
#[test]
fn looks_read_the_shared_memory() {
    let plan = plan(SCENARIO);
    let control = Arc::new(Control::new(2, 1, 0).unwrap());
    let now_ns = clock::monotonic_ns();
    let window = Window {
        start_ns: now_ns - 400_000_000,
        measure_from_ns: now_ns - 100_000_000,
        measure_to_ns: u64::MAX,
        deadline_ns: u64::MAX,
    };
    control.open(window);
    for worker in 0..2 {
        control.meter(worker, window).add(crate::ipc::control::Count::Accepted, 500);
        control.saw_listener(worker, ListenerSeen { inode: 9, length: 3, limit: 128, drops: 2 });
    }
    for _ in 0..4 {
        control.account(0).keep(LoaderKept::AcceptWait, 1_000_000);
        control.add_loader(0, LoaderCount::Failed, 1);
    }
    let view =
        View { control: &control, fill: None, waits: Waits { exact: false, bound: true }, protocol: Protocol::Tcp };
    let mut model = Model::new();
    model.begin(job(&plan, 0));
    model.tick(job(&plan, 0), &view, &pace(Trials::Exactly, 4));
    demand(
        &rendered(&model, 80, 24),
        // Two workers that share a listener share its drops.
        &["(1 of 4)", "measuring", "p99 ≤ 1.00 ms", "failed 4", "shared queue / limit", "3 / 128", "dropped 2"],
    );
}
