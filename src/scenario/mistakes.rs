//! Tests of what a scenario gets wrong: each mistake is named with its line and key, and all of them at once.

use super::{Plan, Source};

/// The lines of the error; none where the scenario is accepted.
fn errors(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    match Plan::read(&Source { name: "test.toml", text }, &overrides) {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[track_caller]
fn assert_lines(text: &str, overrides: &[&str], expected: &[&str]) {
    let lines = errors(text, overrides);
    assert_eq!(lines.len(), expected.len(), "{text:?}: {lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        let parts = expected.split('…');
        assert!(parts.clone().all(|part| line.contains(part)), "{text:?}: {line:?} is not {expected:?}");
        assert!(line.starts_with(parts.clone().next().unwrap_or_default()), "{text:?}: {line:?} is not {expected:?}");
    }
}

#[test]
fn an_unknown_key_is_an_error_whatever_its_value() {
    for (text, expected) in [
        ("nonsense = 1", "test.toml:1: unknown key `nonsense`"),
        ("nonsense = {}", "test.toml:1: unknown key `nonsense`"),
        ("nonsense = []", "test.toml:1: unknown key `nonsense`"),
        ("nonsense = [{}]", "test.toml:1: unknown key `nonsense`"),
        ("[nonsense]", "test.toml:1: unknown key `nonsense`"),
        ("[[nonsense]]", "test.toml:1: unknown key `nonsense`"),
        ("[nonsense.inner]", "test.toml:1: unknown key `nonsense`"),
        ("\n[serach]", "test.toml:2: unknown key `serach`…did you mean `[search]`?"),
        ("[server.strategyy]", "test.toml:1: unknown key `server.strategyy`…did you mean `server.strategy`?"),
        ("[server]\nworker = {}", "test.toml:2: unknown key `server.worker`…did you mean `server.workers`?"),
        ("[[server.nonsense]]", "test.toml:1: unknown key `server.nonsense`"),
        ("server.nonsense.deep = {}", "test.toml:1: unknown key `server.nonsense`"),
        ("[matrix.nonsense]", "test.toml:1: unknown key `nonsense`"),
        ("[matrix]\nnonsense = {}", "test.toml:2: unknown key `nonsense`"),
        ("[matrix]\nserver.worker = [1, 2]", "test.toml:2: unknown key `server.worker`…did you mean `server.workers`?"),
        ("[[fault]]\nat = \"1ms\"\nnonsense = {}", "test.toml:3: unknown key `fault.0.nonsense`"),
        ("\"\" = 1", "test.toml:1: unknown key ``"),
        ("\"a\\nb\" = 1", "test.toml:1: unknown key `a\\nb`"),
        ("workers = 1", "test.toml:1: unknown key `workers`…did you mean `server.workers`?"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    for (set, expected) in [
        ("nonsense={}", "--set nonsense={}: unknown key `nonsense`"),
        ("server.worker=", "--set server.worker=: unknown key `server.worker`…did you mean `server.workers`?"),
        ("serach=[]", "--set serach=[]: unknown key `serach`…did you mean `[search]`?"),
        ("fault.at=1ms", "--set fault.at=1ms: `fault.at`: faults are counted from 0: write `fault.0.at`"),
        ("nonsense", "--set nonsense: expects key=value"),
    ] {
        assert_lines("", &[set], &[expected]);
    }
}

#[test]
fn a_wrong_structure_is_named_with_its_line() {
    for (text, expected) in [
        ("\n[[fault]]", "test.toml:2: `fault.0.at` is missing…empty"),
        ("fault = []\nserver = 5", "test.toml:2: `server` is a table"),
        ("fault = 1", "test.toml:1: `fault` must be a list of tables"),
        ("fault = [1]", "test.toml:1: `fault` must be a list of tables"),
        ("[fault]\nat = \"1ms\"", "test.toml:1: `fault` must be a list of tables"),
        ("matrix = 1", "test.toml:1: `matrix` must be a table of lists"),
        ("[[matrix]]", "test.toml:1: `matrix` must be a table of lists"),
        ("[[server]]\nworkers = 1", "test.toml:1: `server` is a table"),
        ("[server]\nworkers = {}", "test.toml:2: `server.workers`: must be an integer from 1 to 512, not {}"),
        ("[matrix]\nserver.workers = 1", "test.toml:2: `matrix.server.workers` must be a list"),
        ("[matrix]\nserver.workers = []", "test.toml:2: `matrix.server.workers` is an empty list"),
        ("[matrix]\nserver.workers = [1,\n2,\n1]", "test.toml:4: `matrix.server.workers` lists 1 twice"),
        ("[matrix]\nseed = [1, 2]", "test.toml:2: `matrix.seed`…whole scenario"),
        ("seed = 1\nseed = 2", "test.toml:2: not TOML: duplicate key"),
        ("[server]\n[load]\n[server]", "test.toml:3: not TOML: duplicate key"),
        ("[server]\nworkers = 1\n[matrix]\nserver.workers = [2]", "test.toml:2: `server.workers` is set both"),
        (
            "\"server.workers\" = 1\n[server]\nworkers = 2",
            "test.toml:3: `server.workers` is set twice, first on line 1",
        ),
        ("\n\nseed = ", "test.toml:3: not TOML"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_is_allowed() {
    for (text, expected) in [
        ("[server]\nworkers = \"two\"", "test.toml:2: `server.workers`: must be an integer from 1 to 512, not \"two\""),
        ("[server]\nworkers = 2.0", "test.toml:2: `server.workers`: must be an integer from 1 to 512, not 2.0"),
        ("[server]\nworkers = 0", "test.toml:2: `server.workers`: must be an integer from 1 to 512, not 0"),
        ("[server]\nworkers = 513", "test.toml:2: `server.workers`: must be an integer from 1 to 512, not 513"),
        ("seed = 99999999999999999999", "test.toml:1: `seed`"),
        ("[load]\nrate = 1e9", "test.toml:2: `load.rate`: must be a number from 0.001 to 10000000, not 1"),
        ("[load]\nrate = nan", "test.toml:2: `load.rate`: must be a number from 0.001 to 10000000, not nan"),
        ("[load]\nburst_size = 0", "test.toml:2: `load.burst_size`: must be an integer from 1 to 1000000, not 0"),
        ("[load]\nduration = 5", "test.toml:2: `load.duration`: must be a duration in quotes…not 5"),
        ("[load]\nduration = \"0s\"", "test.toml:2: `load.duration`: must be a duration > 0, not \"0s\""),
        ("[load]\nduration = \"1 parsec\"", "test.toml:2: `load.duration`: \"1 parsec\" is not a duration"),
        ("[load]\nduration = \"31days\"", "test.toml:2: `load.duration`: \"31days\" is longer than 30 days"),
        ("queue_interval = \"1500us\"", "test.toml:1: `queue_interval`…1ms–100ms, whole milliseconds, not \"1500us\""),
        ("queue_interval = \"101ms\"", "test.toml:1: `queue_interval`…1ms–100ms, whole milliseconds, not \"101ms\""),
        ("[server]\ndefer_accept = \"5ms\"", "test.toml:2: `server.defer_accept`…whole seconds, not \"5ms\""),
        ("[server]\nnodelay = 1", "test.toml:2: `server.nodelay`: must be true or false, not 1"),
        (
            "[server]\nstrategy = \"reusport\"",
            "test.toml:2: `server.strategy`: must be one of…\"reuseport\"…\"reusport\"",
        ),
        (
            "[load]\narrivals = 1",
            "test.toml:2: `load.arrivals`: must be one of \"constant\", \"poisson\", \"burst\", not 1",
        ),
        ("[server]\naccept_batch = \"all\"", "test.toml:2: `server.accept_batch`…from 1 to 4294967295…\"drain\""),
        ("[server]\npin = [0, 0]", "test.toml:2: `server.pin`: lists 0 twice"),
        ("[server]\npin = []", "test.toml:2: `server.pin`: is an empty list"),
        ("[server]\npin = \"pair\"", "test.toml:2: `server.pin`: must be one of \"none\", \"spread\" or a list"),
        ("name = \"a/b\"", "test.toml:1: `name`: must consist of letters…folder, not \"a/b\""),
        ("address = \"localhost\"", "test.toml:1: `address`: must be an IP address in quotes, not \"localhost\""),
        ("[sysctl]\nsomaxconn = true", "test.toml:2: `sysctl.somaxconn`: must be an integer or a string, not true"),
        (
            "[matrix]\nserver.workers = [\n1,\n0,\n]",
            "test.toml:4: `server.workers`: must be an integer from 1 to 512, not 0",
        ),
        (
            "[matrix]\nserver.workers = [[1, 2]]",
            "test.toml:2: `server.workers`: must be an integer from 1 to 512, not [1, 2]",
        ),
        (
            "[search]\nmetric = \"x\"\nlimit = 1\nhighest = 1e8",
            "test.toml:4: `search.highest`: must be a number from 0.001 to",
        ),
        (
            "[search]\nmetric = \"x\"\nlimit = 1\nvariable = \"port\"",
            "test.toml:4: `search.variable`: must be one of \"load.rate\"",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    for (set, expected) in [
        ("server.workers=0", "--set server.workers=0: `server.workers`: must be an integer from 1 to 512, not 0"),
        (
            "server.workers=[1, 0]",
            "--set server.workers=[1, 0]: `server.workers`: must be an integer from 1 to 512, not 0",
        ),
        ("server.workers=[1, 1]", "--set server.workers=[1, 1]: `server.workers` lists 1 twice"),
        ("seed=[1, 2]", "--set seed=[1, 2]: `seed`: `seed` applies to the whole scenario"),
        ("server=1", "--set server=1: `server` is a table"),
    ] {
        assert_lines("", &[set], &[expected]);
    }
    // What an override replaces is not judged.
    assert_lines("[server]\nworkers = 0", &["server.workers=1"], &[]);
}

/// Keys that exclude or require each other name the remedy, on the line of the key.
#[test]
fn keys_that_do_not_fit_together_name_both() {
    for (text, expected) in [
        ("[load]\nconnections = 5\nduration = \"1s\"", "test.toml:2: `load.connections`: excludes `load.duration`"),
        ("address = \"198.18.0.1\"", "test.toml:1: `address`…loopback…veth"),
        ("network = \"veth\"\naddress = \"127.0.0.1\"", "test.toml:2: `address`…unicast…netns"),
        ("network = \"veth\"\naddress = \"0.0.0.1\"", "test.toml:2: `address`…0.0.0.0"),
        ("network = \"veth\"\naddress = \"255.255.255.254\"", "test.toml:2: `address`…255.255.255.255"),
        ("network = \"veth\"\naddress = \"fe80::1\"", "test.toml:2: `address`…fe80::1"),
        ("network = \"veth\"\naddress = \"::ffff:1.2.3.4\"", "test.toml:2: `address`…1.2.3.4"),
        ("[load]\nrate = 10", "test.toml:2: `load.rate` has no effect"),
        ("[server]\napp = \"close\"\n[load]\nrequests = 3", "test.toml:4: `load.requests` has no effect"),
        ("network = \"host\"\n[sysctl]\nsomaxconn = 1", "test.toml:3: `sysctl.somaxconn`…host"),
        (
            "protocol = \"udp\"\n[server]\nrequest_bytes = 65508",
            "test.toml:3: `server.request_bytes`…4 to 65507…datagrams",
        ),
        ("[server]\nreply_bytes = 15", "test.toml:2: `server.reply_bytes`…16 to 65536…\"echo\""),
        (
            "[server]\nstrategy = \"reuseport-hermes\"\nworkers = 65",
            "test.toml:2: `server.strategy`…64…`server.workers`",
        ),
        ("\n[stop]\nmax_repetitions = 9", "test.toml:2: `stop.relative_error`: is missing"),
        ("\n[search]\nmetric = \"x\"", "test.toml:2: `search.limit`: is missing"),
        ("[[fault]]\nworker = 0\n\n[[fault]]\nat = \"1ms\"", "test.toml:1: `fault.0.at`: is missing"),
        ("[[fault]]\nat = \"1ms\"\nworker = 7", "test.toml:3: `fault.0.worker`: there is no worker 7"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}

#[test]
fn all_mistakes_are_reported_at_once_each_on_its_line() {
    let text = r#"
question = """
What is wrong
with this?
"""
seed = -1
nonsense = {}

[server]
workers = 0
pin = [
    0,
    1,
]
strategyy = "reuseport"

[load]
connections = 5
duration = "1s"

[serach]

[matrix]
server.app = ["echo", "ecco"]
load.requests = [1, 0]
"#;
    let expected = [
        "test.toml:6: `seed`",
        "test.toml:7: unknown key `nonsense`",
        "test.toml:10: `server.workers`",
        "test.toml:15: unknown key `server.strategyy`",
        "test.toml:18: `load.connections`: excludes",
        "test.toml:21: unknown key `serach`",
        "test.toml:24: `server.app`",
        "test.toml:25: `load.requests`",
        "--set load.loaders=0: `load.loaders`",
        "--set nope=1: unknown key `nope`",
    ];
    assert_lines(text, &["load.loaders=0", "nope=1"], &expected);
    // What every cell gets wrong is said once.
    let text = "[matrix]\nserver.workers = [1, 2, 3]\n[load]\nconnections = 1\nduration = \"1s\"";
    assert_lines(text, &[], &["test.toml:4: `load.connections`: excludes"]);
}

/// A mistake is not blamed on keys that are right: what depends on a wrong value is left open.
#[test]
fn a_wrong_value_brings_no_further_complaints() {
    for (text, expected) in [
        ("[load]\nmode = \"opn\"\nrate = 5.0", "test.toml:2: `load.mode`"),
        ("[server]\napp = \"clse\"\n[load]\nclose_by = \"client\"", "test.toml:2: `server.app`"),
        ("[load]\nmod = \"open\"\nrate = 5.0", "test.toml:2: unknown key `load.mod`"),
        ("[search]\nmetric = \"x\"\nlimt = 5", "test.toml:3: unknown key `search.limt`"),
        ("[[fault]]\nat = \"1 parsec\"", "test.toml:2: `fault.0.at`"),
        ("[[fault]]\natt = \"1ms\"", "test.toml:2: unknown key `fault.0.att`…did you mean `fault.at`?"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}
