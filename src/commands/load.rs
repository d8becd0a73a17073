//! `listenbench load`: the short form of `run` for a server that is already running. The target and the options become values of the
//! scenario; everything else is `run`'s.

mod target;

use std::{borrow::Cow, net::SocketAddr};

use anyhow::{Result, bail};
use indexmap::IndexSet;
use toml::Value;

use super::{Ended, Usage, note, run, shorthands, sources};
use crate::{
    cli::{self, Host, Shorthand, Target},
    scenario::{
        App, Plan,
        keys::{self, AnyKey},
    },
    trial::hosts::Hosts,
};

/// What runs without a scenario.
const DEFAULT: (&str, &str) = ("load", include_str!("load/default.toml"));

/// Runs the command.
pub fn run(options: &cli::Load) -> Result<Ended> {
    run::lead(|hosts| run_on(options, hosts))
}

fn run_on(options: &cli::Load, hosts: Option<&Hosts>) -> Result<Ended> {
    let [scenario @ .., target] = &options.scenario_and_target[..] else { unreachable!("clap demands a target") };
    let target = target.parse().map_err(|problem| Usage(format!("{target}: {problem}")))?;
    let text = match scenario.first() {
        Some(name) => sources::text(name)?,
        None => sources::Text::of_binary(DEFAULT.0, DEFAULT.1),
    };
    let settings = Settings::new(&text, options, &target)?;
    let chosen =
        settings.overrides().and_then(|all| run::Chosen::read(text, all, options.recording.allow_remote, hosts));
    let given = given(options);
    let chosen = shorthands::as_typed(&given, &options.recording.overrides, chosen)?;
    run::execute(vec![chosen], false, &options.recording, hosts)
}

/// The options that stand for keys.
fn given(options: &cli::Load) -> Vec<Shorthand<'_>> {
    options.recording.shorthands.given().chain(options.app.given()).collect()
}

/// The address that a scenario for this target loads. Whether its packets may leave this machine is decided when it runs.
pub(super) fn address_of(target: &Target) -> Result<SocketAddr> {
    target::choose(target, true)
}

/// A value of the scenario, by its key.
type Setting = (&'static dyn AnyKey, Value);

/// What the command line makes of a scenario.
struct Settings<'a> {
    text: &'a sources::Text,
    options: &'a cli::Load,
    target: &'a Target,
    /// What follows from the target.
    of_target: Vec<Setting>,
}

impl<'a> Settings<'a> {
    /// Finds the target's address.
    fn new(text: &'a sources::Text, options: &'a cli::Load, target: &'a Target) -> Result<Self> {
        let of_target = target::settings(target, options.recording.allow_remote)?;
        let settings = Self { text, options, target, of_target };
        settings.refuse_repeated()?;
        settings.refuse_unspoken()?;
        Ok(settings)
    }

    /// Whether the user chose the scenario.
    fn has_scenario(&self) -> bool {
        self.options.scenario_and_target.len() > 1
    }

    /// Refuses `--set` and options for a key that the target decides.
    fn refuse_repeated(&self) -> Result<()> {
        let has_path = self.target.url.as_ref().is_some_and(|url| url.path.is_some());
        let path = has_path.then_some(keys::LOAD_PATH as &dyn AnyKey);
        for key in self.of_target.iter().map(|(key, _)| *key).chain(path) {
            let repeats = |set: &&String| shorthands::path_of(set) == key.path();
            if let Some(set) = self.options.recording.overrides.set.iter().find(repeats) {
                bail!(Usage(format!(
                    "--set {set}: `{}` follows from {}: leave one of the two out",
                    key.path(),
                    self.target
                )));
            }
            if let Some(one) = given(self.options).iter().find(|one| one.decides(key.path())) {
                bail!(Usage(format!(
                    "{}: `{}` follows from {}: leave the option out, or write tcp:// in place of the URL's scheme",
                    one.words(),
                    key.path(),
                    self.target
                )));
            }
        }
        Ok(())
    }

    /// Refuses to speak the default scenario's HTTP where the target is a mere connection.
    fn refuse_unspoken(&self) -> Result<()> {
        let app = keys::SERVER_APP.path();
        let sets = &self.options.recording.overrides.set;
        let says = self.has_scenario()
            || self.options.app.app.is_some()
            || sets.iter().any(|set| shorthands::path_of(set) == app);
        if self.target.is_bare && !says {
            bail!(Usage(format!(
                "{}: tcp:// leaves open what is spoken: add --app line with --send and --expect, --app connect, or a scenario",
                self.target
            )));
        }
        Ok(())
    }

    /// All values that override the scenario's, as `key=value`.
    fn overrides(&self) -> Result<Vec<String>> {
        let recording = &self.options.recording;
        let mut overrides = recording.overrides.all();
        overrides.extend(self.of_target.iter().map(shown));
        let given = given(self.options);
        let overrides_of_options = shorthands::settings(&given, &recording.overrides)?;
        shorthands::fit(&given, self.text, &overrides)?;
        overrides.extend(overrides_of_options);
        let useless = Plan::of_no_use_to_running(&self.text.source(), &overrides)?;
        // What the default scenario says, nobody asked for.
        if !useless.paths.is_empty() && self.has_scenario() {
            let all: Vec<String> = useless.paths.iter().map(|path| format!("`{path}`")).collect();
            note(format_args!(
                "{}: left out, as it has no effect on {}: {}",
                self.text.name,
                self.target,
                all.join(", ")
            ));
        }
        overrides.extend(useless.paths.iter().map(|path| format!("{path}=")));
        if useless.question {
            // One server cannot answer what was asked of several.
            let default = Plan::read(&sources::Text::of_binary(DEFAULT.0, DEFAULT.1).source(), &[])?;
            overrides.push(shown(&(keys::QUESTION, Value::from(default.whole.question))));
        }
        let plan = Plan::read(&self.text.source(), &overrides)?;
        // Clients that say nothing get no response.
        let is_silent = plan.cells.iter().all(|cell| cell.scenario.server.app == App::Connect);
        let sets_answers = overrides.iter().any(|set| shorthands::path_of(set) == keys::ANSWERS.path());
        if is_silent && !self.has_scenario() && !sets_answers {
            overrides.push(format!("{}=[\"connect_p99\", \"accept_wait_p99\", \"imbalance\"]", keys::ANSWERS.path()));
        }
        overrides.extend(self.request(&plan));
        Ok(overrides)
    }

    /// What HTTP requests take from the target: the path of a URL, and the host unless the scenario names one.
    fn request(&self, plan: &Plan) -> Vec<String> {
        let target = self.target;
        let scenarios = || plan.cells.iter().map(|cell| &cell.scenario);
        let of_each = |key: &dyn AnyKey| -> IndexSet<Cow<'static, str>> {
            scenarios().flat_map(|scenario| &scenario.loads).map(|load| load.path(key)).collect()
        };
        let mut settings: Vec<String> = Vec::new();
        if let Some(path) = target.url.as_ref().and_then(|url| url.path.as_ref()) {
            for load in scenarios().flat_map(|scenario| &scenario.loads) {
                let set = load.path(keys::LOAD_PATH);
                if plan.sets(&set) && load.http.path != *path {
                    note(format_args!("{}: the URL's path, {path}, replaces `{set}`", self.text.name));
                }
            }
            let value = Value::from(path.as_str());
            settings.extend(of_each(keys::LOAD_PATH).iter().map(|set| format!("{set}={value}")));
        }
        let is_http = scenarios().any(|scenario| scenario.server.app.is_http());
        if let Some(host) = target.authority().filter(|_| is_http).map(Value::from) {
            let unset = of_each(keys::LOAD_HOST).into_iter().filter(|set| !plan.sets(set));
            settings.extend(unset.map(|set| format!("{set}={host}")));
        }
        let is_secured = scenarios().any(|scenario| scenario.server.app.is_secured());
        if let (Host::Name(name), true) = (&target.host, is_secured) {
            let name = Value::from(name.as_str());
            let unset = of_each(keys::LOAD_SERVER_NAME).into_iter().filter(|set| !plan.sets(set));
            settings.extend(unset.map(|set| format!("{set}={name}")));
        }
        settings
    }
}

/// A setting as `--set` takes it.
fn shown((key, value): &Setting) -> String {
    format!("{}={value}", key.path())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        scenario::{Bound, Mode, Network, UnderTest},
    };

    /// The plan that a command line makes of a scenario.
    fn plan(text: &'static str, arguments: &[&str]) -> Result<Plan> {
        let all = ["listenbench", "load", "test.toml"].iter().chain(arguments);
        let Command::Load(options) = Cli::try_parse_from(all)?.command else { panic!("not `load`") };
        let text = sources::Text::of_binary("test.toml", text);
        let target = options.scenario_and_target[1].parse().map_err(Usage)?;
        let overrides = Settings::new(&text, &options, &target)?.overrides()?;
        Ok(Plan::read(&text.source(), &overrides)?)
    }

    fn error(text: &'static str, arguments: &[&str]) -> String {
        format!("{:#}", plan(text, arguments).unwrap_err())
    }

    #[test]
    fn the_default_fits_every_target() {
        for target in ["127.0.0.1:80", "http://127.0.0.1:80/x", "http://127.0.0.1", "[::1]:80"] {
            let plan = plan(DEFAULT.1, &[target]).unwrap();
            let [cell] = &plan.cells[..] else { panic!("{target}") };
            assert_eq!((&plan.whole.name[..], plan.trials.len()), ("load", 5));
            assert!(cell.scenario.subject == UnderTest::Running && cell.scenario.network == Network::Host);
        }
    }

    #[test]
    fn a_url_is_what_requests_ask_for() {
        let http = |text, arguments: &[&str]| plan(text, arguments).unwrap().cells[0].scenario.loads[0].http.clone();
        let plain = http("", &["http://127.0.0.1:8080/a?b=c"]);
        assert_eq!((&plain.path[..], plain.host.as_deref()), ("/a?b=c", Some("127.0.0.1:8080")));
        assert_eq!(http("", &["http://127.0.0.1"]).host.as_deref(), Some("127.0.0.1"));
        // What the URL leaves open, the scenario decides.
        let text = "server.app = \"http\"\nload.path = \"/y\"\nload.host = \"www.example\"";
        let named = http(text, &["http://127.0.0.1:80"]);
        assert_eq!((&named.path[..], named.host.as_deref()), ("/y", Some("www.example")));
        assert_eq!(http(text, &["http://127.0.0.1:80/x"]).path, "/x");
        assert_eq!(http(text, &["127.0.0.1:80"]).path, "/y");
        let app = |arguments: &[&str]| plan("", arguments).unwrap().cells[0].scenario.server.app.name();
        assert_eq!((app(&["127.0.0.1:80"]), app(&["http://127.0.0.1:80"])), ("echo", "http"));
    }

    #[test]
    fn a_mere_connection_says_what_the_options_say() {
        let line = |arguments: &[&str]| plan(DEFAULT.1, arguments).unwrap().cells[0].scenario.loads[0].line.clone();
        let ping = line(&["tcp://127.0.0.1:6379", "--app", "line", "--send", "PING\\r\\n", "--expect", "+PONG"]);
        assert_eq!((&ping.send[..], &ping.expect[..]), (&b"PING\r\n"[..], &b"+PONG"[..]));
        // A text may begin or look like anything else.
        let odd = line(&["127.0.0.1:80", "--app=line", "--send", "-1,2", "--expect", "7"]);
        assert_eq!((&odd.send[..], &odd.expect[..]), (&b"-1,2"[..], &b"7"[..]));
        let says = error(DEFAULT.1, &["127.0.0.1:80", "--send", "x"]);
        assert!(says.contains("`load.send` has no effect with `server.app = \"http\"`"), "{says}");
        let says = error(DEFAULT.1, &["127.0.0.1:80", "--app=line", "--send", "a\\q"]);
        assert!(says.contains("`load.send`: `\\q` is not an escape"), "{says}");
        assert!(error(DEFAULT.1, &["127.0.0.1:80", "--app=line"]).contains("`load.expect`: is missing"));
        let command = ["listenbench", "load", "tcp://127.0.0.1:80"];
        let Command::Load(options) = Cli::try_parse_from(command).unwrap().command else { panic!("not `load`") };
        let text = sources::Text::of_binary(DEFAULT.0, DEFAULT.1);
        let target = options.scenario_and_target[0].parse().unwrap();
        let says = Settings::new(&text, &options, &target).err().unwrap().to_string();
        assert!(says.contains("tcp:// leaves open what is spoken: add --app line"), "{says}");
    }

    #[test]
    fn options_set_the_load_and_what_it_makes_idle_is_left_out() {
        let load = |text, arguments: &[&str]| plan(text, arguments).unwrap().cells[0].scenario.clone();
        let open = "repetitions = 1\n[load]\nmode = \"open\"\nrate = 5.0\narrivals = \"constant\"\nduration = \"1s\"";
        assert_eq!(load(open, &["127.0.0.1:80", "--concurrency", "7"]).loads[0].mode, Mode::Closed { concurrency: 7 });
        let closed = "repetitions = 1\nload.concurrency = 9\nload.connections = 4";
        let Mode::Open { arrivals, .. } = &load(closed, &["127.0.0.1:80", "--rate", "2000"]).loads[0].mode else {
            panic!()
        };
        assert_eq!(arrivals.per_second(), 2_000.0);
        assert_eq!(
            load(closed, &["127.0.0.1:80", "--for", "10s"]).span.bound,
            Bound::Duration(Duration::from_secs(10))
        );
        assert_eq!(load(open, &["127.0.0.1:80", "--connections", "12"]).span.bound, Bound::Connections(12));
        // Each trial is measured for that long.
        let repeated = &["127.0.0.1:80", "--for", "10s", "--repetitions", "4"];
        assert_eq!(load(open, repeated).span.bound, Bound::Duration(Duration::from_secs(10)));
        let rates = plan(open, &["127.0.0.1:80", "--rate=5,6,7"]).unwrap();
        assert_eq!((rates.cells.len(), rates.trials.len()), (3, 3));
        let all = plan(open, &["127.0.0.1:80", "--repetitions=4", "--set=load.rate=[5,6]"]).unwrap();
        assert_eq!((all.cells.len(), all.trials.len()), (2, 8));
    }

    #[test]
    fn what_concerns_our_own_server_is_left_out_of_the_scenario() {
        let own = "compare = [\"server.strategy\"]\nnetwork = \"veth\"\naddress = \"198.18.0.1\"\nstamps = \"both\"\n\
                   [server]\nbacklog = 5\nservice_time = \"1ms\"\n[sysctl]\nsomaxconn = 9\n\
                   [[event]]\nat = \"1ms\"\nworker = 0\n\
                   [matrix]\nserver.strategy = [\"shared-epoll\", \"reuseport\"]\nload.requests = [1, 2]";
        let plan_of = plan(own, &["127.0.0.1:80"]).unwrap();
        assert_eq!(plan_of.cells.len(), 2);
        assert_eq!(plan_of.cells[0].scenario.address, "127.0.0.1:80".parse().unwrap());
        // A question about what was varied is not asked of a single server.
        let question = |text, arguments: &[&str]| plan(text, arguments).unwrap().whole.question;
        let asked = "question = \"Which strategy?\"\nmatrix.server.strategy = [\"shared-epoll\", \"reuseport\"]";
        assert!(question(asked, &["127.0.0.1:80"]).starts_with("How long do this server's clients wait"));
        assert_eq!(question(asked, &["127.0.0.1:80", "--set=question=Why?"]), "Why?");
        let kept = "question = \"How slow?\"\nserver.backlog = 5\nmatrix.load.requests = [1, 2]";
        assert_eq!(question(kept, &["127.0.0.1:80"]), "How slow?");
        // On the command line it is a mistake.
        let says = error(own, &["127.0.0.1:80", "--set", "server.backlog=7"]);
        assert!(says.contains("--set server.backlog=7: `server.backlog` has no effect"), "{says}");
        assert!(error("[server]\nbaclog = 5", &["127.0.0.1:80"]).contains("unknown key `server.baclog`"));
    }

    #[test]
    fn nothing_is_set_twice() {
        for (arguments, says) in [
            (&["127.0.0.1:80", "--set", "port=81"][..], "--set port=81: `port` follows from 127.0.0.1:80"),
            (&["127.0.0.1:80", "--set", "server.subject=own"], "`server.subject` follows from 127.0.0.1:80"),
            (&["127.0.0.1:80", "--set", "network=netns"], "`network` follows from 127.0.0.1:80"),
            (&["http://127.0.0.1/x", "--set", "load.path=/y"], "`load.path` follows from http://127.0.0.1/x"),
            (&["http://127.0.0.1", "--set", "server.app=echo"], "`server.app` follows from http://127.0.0.1"),
            (&["http://127.0.0.1", "--app=line"], "--app line: `server.app` follows from http://127.0.0.1"),
            (&["127.0.0.1:80", "--app=line", "--set=server.app=echo"], "--app decides `server.app`"),
            (&["127.0.0.1:80", "--rate=5", "--set", "load.rate=6"], "--set load.rate=6: --rate decides `load.rate`"),
            (&["127.0.0.1:80", "--rate=5", "--set", "load.mode=closed"], "--rate decides `load.mode`"),
            (&["127.0.0.1:80", "--for=5s", "--set", "load.duration=6s"], "--for decides `load.duration`"),
            (&["127.0.0.1:80", "--for=5s", "--connections=6"], "cannot be used with"),
            (&["127.0.0.1:80", "--rate=5", "--concurrency=6"], "cannot be used with"),
            (&["127.0.0.1:80", "--for=5s", "--set", "load.connections=6"], "--for decides `load.connections`"),
            (&["127.0.0.1:80", "--seed=5", "--set", "seed=6"], "--seed decides `seed`"),
            (&["127.0.0.1:80", "--rate=0"], "load.rate"),
            (&["127.0.0.1:0"], "`0` is not a port"),
            (&["https://127.0.0.1", "--set", "server.app=http"], "`server.app` follows from https://127.0.0.1"),
        ] {
            let error = error("", arguments);
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
        assert!(error("kind = \"ports\"", &["127.0.0.1:80"]).contains("`kind`"));
    }
}
