//! Loads that replay a trace. What a trace asks for is known once it has been read, which [`Plan::read_traces`] does before the first trial.

use std::time::Duration;

use super::{
    Plan, Scenario, ScenarioError,
    keys::{self, AnyKey},
    load::{Around, CloseBy, Load},
    schedule::{Arrivals, ArrivalsName, Bound, Mode, ModeName},
    settings::Settings,
};
use crate::{
    format::{causes, exact, plural},
    sys::clock,
    trace::{Asked, FormatAsked, Schedule},
};

/// The trace that a population replays.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// Which, and how.
    pub asked: Asked,
    /// What was read of it.
    schedule: Option<Schedule>,
}

/// Whether a scenario leaves it to traces when its load ends.
pub(super) fn ends_load(settings: &Settings<'_>) -> bool {
    let replays = |settings: &Settings<'_>| {
        settings.peek(keys::LOAD_MODE) == ModeName::Open && settings.peek(keys::LOAD_ARRIVALS) == ArrivalsName::Trace
    };
    !settings.is_set(keys::LOAD_DURATION)
        && !settings.is_set(keys::LOAD_CONNECTIONS)
        && settings.of_loads().iter().any(|(_, settings)| replays(settings))
}

impl Replay {
    pub(super) fn read(settings: &Settings<'_>, around: Around<'_>) -> Self {
        let path = settings.get(keys::LOAD_TRACE);
        if path.is_none() {
            let problem = "is missing: name the file whose connections are to be replayed, such as \"access.log\"";
            settings.conflict(keys::LOAD_TRACE, &[keys::LOAD_ARRIVALS], problem);
        }
        let format = FormatAsked::read(&settings.get(keys::LOAD_TRACE_FORMAT)).unwrap_or_else(|problem| {
            settings.conflict(keys::LOAD_TRACE_FORMAT, &[], problem);
            FormatAsked::Auto
        });
        let (from, to) = (settings.get(keys::LOAD_TRACE_FROM), settings.get(keys::LOAD_TRACE_TO));
        if let Some(to) = to.filter(|to| *to <= from) {
            let problem = format!("must be after load.trace_from, {}, and {} is not", exact(from), exact(to));
            settings.conflict(keys::LOAD_TRACE_TO, &[keys::LOAD_TRACE_FROM], problem);
        }
        if matches!(around.span.bound, Bound::Connections(_)) {
            let problem = "excludes load.arrivals = \"trace\", whose connections end with the trace: set load.trace_to or load.duration";
            settings.conflict(keys::LOAD_CONNECTIONS, &[keys::LOAD_ARRIVALS], problem);
        }
        Self {
            asked: Asked {
                path: path.unwrap_or_default().into_owned(),
                format,
                speed: settings.get(keys::LOAD_TRACE_SPEED),
                from,
                to,
                repeat: settings.get(keys::LOAD_TRACE_REPEAT),
                max_malformed: settings.get(keys::LOAD_TRACE_MAX_MALFORMED),
            },
            schedule: None,
        }
    }

    /// What is to be replayed.
    ///
    /// # Panics
    ///
    /// If the plan's traces have not been read.
    pub fn schedule(&self) -> &Schedule {
        self.schedule.as_ref().expect("traces are read before trials")
    }
}

/// A key's path, and what is wrong with its value.
type Refusal = (String, String);

impl Plan {
    /// Reads the traces that its loads replay, each once, and fits the trials' length to them.
    pub fn read_traces(&mut self) -> Result<(), ScenarioError> {
        let mut known: Vec<(Asked, Schedule)> = Vec::new();
        for number in 0..self.cells.len() {
            let mut scenario = self.cells[number].scenario.clone();
            if scenario.loads.iter().all(|load| load.replay.is_none()) {
                continue;
            }
            let fitted = scenario.read_traces(&mut known).and_then(|()| scenario.fit_to_traces());
            let cell = &mut self.cells[number];
            cell.scenario = scenario;
            fitted.map_err(|(path, problem)| self.refused_of_cell(number, &path, problem))?;
        }
        self.check_requests()
    }

    /// Refuses `load.requests` where a trace says of every connection in every cell how many it makes; but not its default, which a record has in
    /// any case.
    fn check_requests(&self) -> Result<(), ScenarioError> {
        let loads = || self.cells.iter().flat_map(|cell| &cell.scenario.loads);
        let is_of_trace = |load: &Load| {
            load.requests == 0 || load.replay.as_ref().is_some_and(|replay| replay.schedule().has_requests())
        };
        for load in loads().filter(|load| load.replay.is_some()) {
            let path = load.path(keys::LOAD_REQUESTS);
            let same = || loads().filter(|other| other.name == load.name);
            if self.sets(&path) && same().any(|load| load.requests > 1) && same().all(is_of_trace) {
                let problem = format!(
                    "has no effect: {} says how many requests each connection makes; remove it",
                    load.replay.as_ref().map_or("", |replay| &replay.asked.path)
                );
                return Err(self.refused(&path, problem));
            }
        }
        Ok(())
    }
}

impl Scenario {
    fn read_traces(&mut self, known: &mut Vec<(Asked, Schedule)>) -> Result<(), Refusal> {
        for load in &mut self.loads {
            let path = load.path(keys::LOAD_TRACE).into_owned();
            let Some(replay) = &mut load.replay else { continue };
            let schedule = match known.iter().find(|(asked, _)| *asked == replay.asked) {
                Some((_, schedule)) => schedule.clone(),
                None => {
                    let schedule = Schedule::read(&replay.asked).map_err(|error| (path, causes(&error)))?;
                    known.push((replay.asked.clone(), schedule.clone()));
                    schedule
                }
            };
            replay.schedule = Some(schedule);
        }
        Ok(())
    }

    /// Ends the load with its traces unless the scenario says when it ends, and sizes it by them.
    fn fit_to_traces(&mut self) -> Result<(), Refusal> {
        let refuse = |key: &dyn AnyKey, problem: String| Err((key.path().to_owned(), problem));
        let is_automatic = self.deadline == Load::longest_deadline(&self.loads, self.span);
        let warmup = self.span.warmup;
        if self.span.until_traces_end {
            let ends = self.loads.iter().filter_map(|load| {
                let end = load.start + load.replay.as_ref()?.schedule().length();
                Some(load.end.map_or(end, |at| at.min(end)))
            });
            let length = ends.max().unwrap_or_default();
            if warmup >= length {
                return refuse(keys::LOAD_WARMUP, format!("is not before the end of the trace, {}", exact(length)));
            }
            self.span.until_traces_end = false;
            self.span.bound = Bound::Duration(length - warmup);
            for load in &self.loads {
                if let Some(end) = load.end.filter(|end| *end > length) {
                    let path = load.path(keys::LOAD_END).into_owned();
                    return Err((path, format!("{} is after the end of the trace, {}", exact(end), exact(length))));
                }
                if load.start >= length {
                    let path = load.path(keys::LOAD_START).into_owned();
                    return Err((path, format!("is not before the end of the trace, {}", exact(length))));
                }
            }
            if let Some(event) = self.events.iter().find(|event| event.at >= length) {
                let path = format!("event.{}.at", event.number);
                return Err((path, format!("is not before the end of the trace, {}", exact(length))));
            }
        }
        let length = warmup + self.span.measured();
        for load in &mut self.loads {
            load.fit_to_trace(length, warmup)?;
        }
        if is_automatic {
            self.deadline = Load::longest_deadline(&self.loads, self.span);
        }
        if self.deadline <= length {
            let problem =
                format!("{} ends the trial before its {} of load are over", exact(self.deadline), exact(length));
            return refuse(keys::DEADLINE, problem);
        }
        Ok(())
    }
}

impl Load {
    /// Enters what its trace asks for in a load of this length.
    fn fit_to_trace(&mut self, length: Duration, warmup: Duration) -> Result<(), Refusal> {
        let Some(replay) = &self.replay else { return Ok(()) };
        let schedule = replay.schedule();
        let until_ns = clock::nanoseconds(self.end.unwrap_or(length).saturating_sub(self.start));
        let figures = schedule.figures(until_ns, clock::nanoseconds(self.hold));
        if figures.starts == 0 {
            let problem = format!("{} has no start before the end of the load", replay.asked.path);
            return Err((self.path(keys::LOAD_TRACE).into_owned(), problem));
        }
        let most = schedule.requests().map_or(0, |(_, most)| most);
        let most = if schedule.has_requests() { most } else { most.max(self.requests) };
        if let Some(problem) =
            self.never_rebinds(most, &format!("the most requests of a flow in {}", replay.asked.path))
        {
            return Err((self.path(keys::LOAD_REBIND_AFTER).into_owned(), format!("{problem}; lower it")));
        }
        let warmup_ns = clock::nanoseconds(warmup.saturating_sub(self.start));
        // If the file cannot be read, that is met again.
        let in_warmup = schedule.starts_before(warmup_ns);
        if warmup_ns < until_ns && in_warmup.is_ok_and(|starts| starts >= figures.starts) {
            let problem = format!("{} has starts during the warm-up only: shorten load.warmup", replay.asked.path);
            return Err((self.path(keys::LOAD_TRACE).into_owned(), problem));
        }
        if self.close_by == CloseBy::Server && self.requests > 0 {
            let differ =
                schedule.requests().is_some_and(|(least, most)| (least, most) != (self.requests, self.requests));
            let what = match (differ, schedule.summary().findings.has_holds) {
                (true, _) => "how many requests each connection makes",
                (false, true) => "how long each connection is held",
                (false, false) => "",
            };
            if !what.is_empty() {
                let problem = format!(
                    "\"server\" has the server decide when a connection ends, and {} says {what}: set it to \"client\"",
                    replay.asked.path
                );
                return Err((self.path(keys::LOAD_CLOSE_BY).into_owned(), problem));
            }
        }
        if let Mode::Open { arrivals: arrivals @ Arrivals::Trace(_), .. } = &mut self.mode {
            *arrivals = Arrivals::Trace(figures);
        }
        Ok(())
    }

    /// What of its trace the clients of this app make no use of, in words.
    pub fn left_out(&self) -> Option<&'static str> {
        let schedule = self.replay.as_ref()?.schedule();
        let requests = self.requests == 0 && schedule.requests().is_some();
        let holds = self.close_by == CloseBy::Server && schedule.summary().findings.has_holds;
        match (requests, holds) {
            (true, true) => Some("requests and holds"),
            (true, false) => Some("requests"),
            (false, true) => Some("holds"),
            (false, false) => None,
        }
    }

    /// What it replays, in words: `access.log: 1,000 starts in 60 s, 2 × as fast`.
    pub fn replayed(&self) -> Option<String> {
        let replay = self.replay.as_ref()?;
        let Mode::Open { arrivals: Arrivals::Trace(figures), .. } = self.mode else { return None };
        let schedule = replay.schedule();
        let speed = if (replay.asked.speed - 1.0).abs() < f64::EPSILON {
            String::new()
        } else {
            format!(", {} × as fast", replay.asked.speed)
        };
        let repeat =
            if replay.asked.repeat > 1 { format!(", {} repetitions", replay.asked.repeat) } else { String::new() };
        let without = self.left_out().map_or_else(String::new, |what| format!(", without its {what}"));
        Some(format!(
            "replays {} ({}): {} in {}{speed}{repeat}{without}",
            replay.asked.path,
            schedule.summary().format,
            plural(usize::try_from(figures.starts).unwrap_or(usize::MAX), "start"),
            exact(schedule.length())
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::scenario::Source;

    fn planned(folder: &Path, log: &str, load: &str) -> Result<Plan, String> {
        let path = folder.join("trace.csv");
        fs::write(&path, log).unwrap();
        let text = format!("[load]\nmode = \"open\"\narrivals = \"trace\"\ntrace = \"{}\"\n{load}", path.display());
        let mut plan = Plan::read(&Source { name: "t.toml", text: &text }, &[]).map_err(|error| error.to_string())?;
        plan.read_traces().map_err(|error| error.to_string())?;
        Ok(plan)
    }

    const LOG: &str = "time,requests\n0,1\n1,2\n2,1\n3,1\n";

    #[test]
    fn a_load_ends_with_its_trace_unless_it_says_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        for (load, measured_ms, starts) in [
            ("", 4_000, 4),
            ("trace_speed = 2", 2_000, 4),
            ("trace_repeat = 3", 12_000, 12),
            ("trace_to = \"2s\"", 2_000, 2),
            ("trace_from = \"1500ms\"", 2_500, 2),
            ("duration = \"1500ms\"", 1_500, 2),
            ("warmup = \"1s\"", 3_000, 4),
            ("end = \"1500ms\"", 1_500, 2),
            ("start = \"500ms\"", 4_500, 4),
        ] {
            let plan = planned(folder.path(), LOG, load).unwrap_or_else(|error| panic!("{load}: {error}"));
            let scenario = &plan.cells[0].scenario;
            assert_eq!(scenario.span.measured(), Duration::from_millis(measured_ms), "{load}");
            let Mode::Open { arrivals: Arrivals::Trace(figures), .. } = scenario.loads[0].mode else { panic!() };
            assert_eq!(figures.starts, starts, "{load}");
            assert!(scenario.deadline > scenario.span.measured());
        }
    }

    #[test]
    fn what_an_app_cannot_use_of_a_trace_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let log = "time,requests,hold\n0,1,0.5\n1,2,1\n";
        for (app, left_out) in [("echo", None), ("connect", Some("requests")), ("close", Some("requests and holds"))] {
            let plan = planned(folder.path(), log, &format!("[server]\napp = \"{app}\"")).unwrap();
            let load = &plan.cells[0].scenario.loads[0];
            assert_eq!(load.left_out(), left_out, "{app}");
            let words = load.replayed().unwrap();
            assert!(left_out.is_none_or(|what| words.ends_with(&format!(", without its {what}"))), "{words}");
        }
    }

    #[test]
    fn paths_are_relative_to_what_names_them_and_recorded_in_full() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("trace.csv"), LOG).unwrap();
        let source = folder.path().join("t.toml").display().to_string();
        let text =
            "[load]\nmode = \"open\"\narrivals = \"trace\"\n[matrix]\nload.trace = [\"trace.csv\", \"./trace.csv\"]";
        let mut plan = Plan::read(&Source { name: &source, text }, &[]).unwrap();
        plan.read_traces().unwrap();
        let full = folder.path().join("trace.csv").display().to_string();
        let paths = plan.cells.iter().map(|cell| cell.scenario.loads[0].replay.as_ref().unwrap().asked.path.clone());
        assert_eq!(paths.collect::<Vec<_>>(), [full.clone(), full]);
        let text = "[load]\nmode = \"open\"\narrivals = \"trace\"";
        let plan = Plan::read(&Source { name: &source, text }, &["load.trace=trace.csv".to_owned()]).unwrap();
        let here = std::env::current_dir().unwrap().join("trace.csv").display().to_string();
        assert_eq!(plan.cells[0].scenario.loads[0].replay.as_ref().unwrap().asked.path, here);
    }

    #[test]
    fn what_a_trace_contradicts_is_refused_with_the_key() {
        let folder = tempfile::tempdir().unwrap();
        for (load, problem) in [
            ("requests = 2", "t.toml:5: `load.requests`: has no effect: "),
            ("close_by = \"server\"", "t.toml:5: `load.close_by`: \"server\" has the server decide"),
            ("warmup = \"4s\"", "t.toml:5: `load.warmup`: is not before the end of the trace, 4"),
            ("end = \"5s\"", "`load.end`: 5"),
            ("trace_to = \"1s\"\ntrace_from = \"1s\"", "`load.trace_to`: must be after"),
            ("trace_from = \"10s\"", "t.toml:4: `load.trace`: "),
            ("trace_format = \"pcap\"", "does not begin like a capture"),
            ("trace_format = \"$status\"", "`load.trace_format`: has no time"),
            ("trace_format = \"xml\"", "`load.trace_format`: must be"),
            ("warmup = \"3500ms\"", "t.toml:4: `load.trace`: "),
            ("connections = 3", "`load.connections`: excludes"),
            ("rate = 3", "`load.rate` has no effect"),
        ] {
            let error = planned(folder.path(), LOG, load).err().unwrap_or_else(|| panic!("{load}"));
            assert!(error.contains(problem), "{load}: {error}");
        }
        let rebound = |after: u32, log: &str| {
            fs::write(folder.path().join("trace.csv"), log).unwrap();
            let text = format!(
                "protocol = \"udp\"\n[load]\nmode = \"open\"\narrivals = \"trace\"\ntrace = \"{}\"\nrebind_after = {after}",
                folder.path().join("trace.csv").display()
            );
            let mut plan =
                Plan::read(&Source { name: "t.toml", text: &text }, &[]).map_err(|error| error.to_string())?;
            plan.read_traces().map_err(|error| error.to_string())
        };
        assert_eq!(rebound(1, LOG), Ok(()));
        let late = rebound(2, LOG).unwrap_err();
        assert!(
            late.contains("t.toml:6: `load.rebind_after`: must be less than the most requests of a flow in"),
            "{late}"
        );
        let malformed = planned(folder.path(), "0\nx\n", "").unwrap_err();
        assert!(
            malformed.contains("trace.csv: 1 of 2 lines cannot be read") && malformed.contains("line 2: has no time"),
            "{malformed}"
        );
        assert!(planned(folder.path(), "0\nx\n", "trace_max_malformed = 0.5").is_ok());
        let mode = "[load]\nmode = \"kept\"\narrivals = \"trace\"";
        let error = Plan::read(&Source { name: "t", text: mode }, &[]).unwrap_err().to_string();
        assert!(error.contains("`load.arrivals`: \"trace\" is about when connections start"), "{error}");
        let missing = Plan::read(&Source { name: "t", text: "[load]\nmode = \"open\"\narrivals = \"trace\"" }, &[]);
        assert!(missing.unwrap_err().to_string().contains("`load.trace`: is missing"));
    }
}
