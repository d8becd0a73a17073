//! What a loader that died left out of its account: the starts that it would still have made, and what was in progress.

use super::{
    pacer::{Pacer, Part, Transports},
    report::LoaderReport,
    session::{Hold, is_to_be_held_at},
};
use crate::{
    ipc::control::Window,
    record::{Cause, Counts},
    scenario::{App, Load, Mode, Protocol, Scenario, Transport},
    sys::clock,
};

/// A loader that died, or had to be killed.
pub struct Dead<'a> {
    pub scenario: &'a Scenario,
    /// Its population.
    pub load: &'a Load,
    pub part: Part,
    pub window: Window,
    pub seed: u64,
    pub repetition: usize,
    /// From when on nothing was due, because the user interrupted the load.
    pub interrupted_ns: Option<u64>,
}

/// Starts of the measured window that were due.
#[derive(Debug, Default)]
struct Due {
    connections: u64,
    flows: u64,
    /// Connections among them that were to be held when the follow-up was due.
    held: u64,
    /// The requests that the connections were to make, and the flows.
    requests: u64,
    of_flows: u64,
}

impl Due {
    fn add(&mut self, transport: Transport, is_held: bool, requests: u64) {
        match transport {
            Transport::Tcp => {
                self.connections += 1;
                self.held += u64::from(is_held);
                self.requests += requests;
            }
            Transport::Udp => {
                self.flows += 1;
                self.of_flows += requests;
            }
        }
    }

    fn all(&self) -> u64 {
        self.connections + self.flows
    }
}

impl Dead<'_> {
    /// Counts as lost whatever was due of this loader and left no value in its histograms. One that reached its end has done so itself.
    pub fn complete(&self, report: &mut LoaderReport, histograms: &[(String, Counts)]) {
        let ended = report.errors.iter().any(|error| error.errno == Cause::Interrupted);
        if ended || report.schedule.is_some() {
            return;
        }
        let scenario = self.scenario;
        if matches!(self.load.mode, Mode::Kept { .. }) {
            return self.complete_kept(report, histograms);
        }
        let (due, never) = self.due(report);
        let is_silent = scenario.server.app == App::Connect;
        let of = |is_meant: &dyn Fn(&str) -> bool| {
            histograms.iter().filter(|(name, _)| is_meant(name)).map(|(_, values)| values.len()).sum::<u64>()
        };
        let of_flows = if scenario.protocol == Protocol::Both { "udp_response" } else { "response" };
        let waits = of(&|name| name.ends_with(".accept_wait") || name.ends_with(".accept_wait_bound"));
        let follow_ups = of(&|name| name == "follow_up");
        let lost = &mut report.lost;
        lost.starts = due.all().saturating_sub(of(&|name| name == "send_lag"));
        // A connection that continues another has a connect time and an accept wait too, so that the difference may say too little.
        let connects = due.connections.saturating_sub(of(&|name| name == "connect"));
        lost.connects = connects.max(lost.connects + never.connections);
        if self.load.security.is_some() {
            let handshakes = due.connections.saturating_sub(of(&|name| name == "tls"));
            lost.handshakes = handshakes.max(lost.handshakes + never.connections);
        }
        // One that says nothing and closes at once sees no accept.
        let no_waits = is_silent && self.load.hold.is_zero();
        let waits = if no_waits { lost.connects } else { due.connections.saturating_sub(waits) };
        lost.waits = waits.max(lost.waits + never.connections);
        if due.connections > 0 {
            lost.responses = due.requests.saturating_sub(of(&|name| name == "response"));
        }
        if due.flows > 0 {
            lost.flow_responses = due.of_flows.saturating_sub(of(&|name| name == of_flows));
        }
        lost.follow_ups = due.held.saturating_sub(follow_ups).max(lost.follow_ups + never.held);
        report.measured_planned = due.all();
    }

    /// The same of kept connections: requests were due on them.
    fn complete_kept(&self, report: &mut LoaderReport, histograms: &[(String, Counts)]) {
        let part = (self.load, self.scenario.span.bound);
        let mut pacer = Pacer::new(part, self.window, self.part, self.seed, self.repetition);
        let mut due: Vec<u64> = std::iter::from_fn(|| pacer.kept().take_any())
            .filter(|at_ns| self.window.measures(*at_ns))
            .filter(|at_ns| self.interrupted_ns.is_none_or(|interrupted_ns| *at_ns < interrupted_ns))
            .collect();
        due.sort_unstable();
        let of =
            |name: &str| histograms.iter().filter(|(other, _)| other == name).map(|(_, all)| all.len()).sum::<u64>();
        let all = due.len().max(report.measured_planned as usize) as u64;
        report.lost.starts = all.saturating_sub(of("send_lag"));
        report.lost.responses = all.saturating_sub(of("response"));
        report.measured_planned = all;
        if !self.load.mode.has_schedule() {
            // Of clients that think, only the first requests are known to have been due.
            return;
        }
        report.measured_first_ns = due.first().copied().unwrap_or(report.measured_first_ns);
        report.measured_last_ns = due.last().copied().unwrap_or(report.measured_last_ns);
    }

    /// The requests of a connection that is to make so many. App `close` answers one that is never made.
    fn requests(&self, requests: u32) -> u64 {
        if self.scenario.server.app == App::Connect { 0 } else { u64::from(requests.max(1)) }
    }

    /// What was due in all, and of it, what never began. Enters when the first and the last were due.
    fn due(&self, report: &mut LoaderReport) -> (Due, Due) {
        let (load, window) = (self.load, self.window);
        let mut transports = Transports::of(load);
        let (mut due, mut never) = (Due::default(), Due::default());
        let mut pacer = Pacer::new((load, self.scenario.span.bound), window, self.part, self.seed, self.repetition);
        if !pacer.has_schedule() {
            // Nothing is due before something ends: what it had begun was all, and of that, the last were measured.
            let begun = report.attempted.saturating_sub(report.reconnected);
            let before = begun.saturating_sub(report.measured_planned);
            for _ in 0..before {
                transports.next();
            }
            let requests = self.requests(load.requests);
            (before..begun).for_each(|_| due.add(transports.next(), false, requests));
            // When they began is not known: those in progress were to be held, if any.
            due.held = if load.follow_up.is_some() { report.in_flight() } else { 0 };
            return (due, never);
        }
        let follow_up_ns = load.follow_up.map(|after| window.start_ns + clock::nanoseconds(after));
        let hold_ns = clock::nanoseconds(load.hold);
        while let Some(planned) = pacer.take_planned() {
            let at_ns = planned.at_ns;
            let (requests, hold) = planned.task((load.requests, load.close_by));
            let hold_ns = match hold {
                Hold::OfPolicy => hold_ns,
                Hold::Own(own_ns) => own_ns,
            };
            let transport = transports.next();
            let has_begun = due.all() < report.measured_planned;
            let was_due = has_begun || self.interrupted_ns.is_none_or(|interrupted_ns| at_ns < interrupted_ns);
            if !(window.measures(at_ns) && was_due) {
                continue;
            }
            let is_held = follow_up_ns.is_some_and(|follow_up_ns| is_to_be_held_at(follow_up_ns, at_ns, hold_ns));
            if due.all() == 0 {
                report.measured_first_ns = at_ns;
            }
            report.measured_last_ns = at_ns;
            if !has_begun {
                never.add(transport, is_held, self.requests(requests));
            }
            due.add(transport, is_held, self.requests(requests));
        }
        (due, never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::{counts, fakes::scenario, report::Lost},
        record::{ErrorCount, Step},
    };

    const MS: u64 = 1_000_000;

    /// Completes the report of the second of two loaders, with so many values in each of its histograms.
    fn completed(
        load: &str,
        interrupted_ns: Option<u64>,
        mut report: LoaderReport,
        values: &[(&str, u64)],
    ) -> LoaderReport {
        let window = Window { start_ns: 0, measure_from_ns: 0, measure_to_ns: 1_000 * MS, deadline_ns: u64::MAX };
        let part = Part { loader: 1, loaders: 2 };
        let histograms = values.iter().map(|(name, count)| ((*name).to_owned(), counts([(1_000, *count)].into_iter())));
        let scenario = scenario(load);
        let dead = Dead {
            scenario: &scenario,
            load: &scenario.loads[0],
            part,
            window,
            seed: 1,
            repetition: 0,
            interrupted_ns,
        };
        dead.complete(&mut report, &histograms.collect::<Vec<_>>());
        report
    }

    /// Half of what is due at 100 per second for a second.
    const OPEN: &str = "[load]\nmode = \"open\"\narrivals = \"constant\"\nrate = 100\nduration = \"1s\"\n";

    #[test]
    fn what_a_dead_loader_never_began_and_what_it_had_in_progress_are_lost() {
        // One is connecting, and one waits for its reply.
        let begun = || LoaderReport { attempted: 20, completed: 18, measured_planned: 20, ..LoaderReport::default() };
        let values =
            [("send_lag", 20), ("connect", 19), ("w0.accept_wait", 10), ("w1.accept_wait", 8), ("response", 18)];
        let report = completed(OPEN, None, begun(), &values);
        let lost = Lost { starts: 30, connects: 31, waits: 32, responses: 32, ..Lost::default() };
        assert_eq!((report.measured_planned, report.lost), (50, lost));
        assert_eq!((report.measured_first_ns, report.measured_last_ns), (10 * MS, 990 * MS));
        // From the user's interruption on, nothing was due.
        let report = completed(OPEN, Some(500 * MS), begun(), &values);
        assert_eq!((report.measured_planned, report.lost.starts), (25, 5));
    }

    #[test]
    fn what_was_due_on_a_dead_loader_s_kept_connections_is_lost() {
        // One of three connections is the second loader's.
        let kept =
            "[load]\nmode = \"kept\"\narrivals = \"constant\"\nconcurrency = 3\nrequest_rate = 100\nduration = \"1s\"";
        let begun = || LoaderReport { attempted: 1, measured_planned: 20, ..LoaderReport::default() };
        let values = [("send_lag", 20), ("response", 19)];
        let report = completed(kept, None, begun(), &values);
        assert_eq!((report.measured_planned, report.lost.starts, report.lost.responses), (100, 80, 81));
        let report = completed(kept, Some(500 * MS), begun(), &values);
        assert_eq!((report.measured_planned, report.lost.responses), (50, 31));
    }

    #[test]
    fn flows_and_follow_ups_are_lost_too() {
        let both = format!("protocol = \"tcp+udp\"\n{OPEN}requests = 2\nudp_share = 0.5\nclose_how = \"rst\"");
        let report = completed(&both, None, LoaderReport::default(), &[]);
        let lost = Lost { starts: 50, connects: 25, waits: 25, responses: 50, flow_responses: 50, ..Lost::default() };
        assert_eq!(report.lost, lost);
        // Those that are due from 310 to 500 ms.
        let held = format!("{OPEN}hold = \"200ms\"\nfollow_up = \"500ms\"");
        assert_eq!(completed(&held, None, LoaderReport::default(), &[]).lost.follow_ups, 10);
    }

    #[test]
    fn handshakes_are_lost_too() {
        let begun = || LoaderReport { attempted: 20, completed: 17, measured_planned: 20, ..LoaderReport::default() };
        let values = [("send_lag", 20), ("connect", 19), ("tls", 18), ("w0.accept_wait", 17), ("response", 17)];
        let lost = completed(&format!("server.app = \"https\"\n{OPEN}"), None, begun(), &values).lost;
        assert_eq!((lost.connects, lost.handshakes, lost.responses), (31, 32, 33));
    }

    #[test]
    fn a_closed_loop_has_no_more_due_than_it_began() {
        let begun = LoaderReport { attempted: 12, completed: 8, measured_planned: 10, ..LoaderReport::default() };
        let values = [("send_lag", 10), ("connect", 9), ("w0.accept_wait", 7), ("response", 6)];
        let report = completed("[load]\nconcurrency = 4\nduration = \"1s\"", None, begun, &values);
        assert_eq!(report.measured_planned, 10);
        assert_eq!(report.lost, Lost { connects: 1, waits: 3, responses: 4, ..Lost::default() });
    }

    #[test]
    fn a_loader_that_had_ended_its_load_has_counted_for_itself() {
        let interrupted = ErrorCount { phase: Step::Receive, errno: Cause::Interrupted, count: 2 };
        for ended in [
            LoaderReport { schedule: Some(1), ..LoaderReport::default() },
            LoaderReport { errors: vec![interrupted], ..LoaderReport::default() },
        ] {
            assert_eq!(completed(OPEN, None, ended, &[]).lost, Lost::default());
        }
    }
}
