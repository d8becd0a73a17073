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
fn populations_are_told_apart() {
    let both = "[[load]]\nname = \"kept\"\n[[load]]\nname = \"storm\"\n";
    let more = |keys: &str| format!("{both}{keys}");
    for (text, expected) in [
        ("[[load]]\nrate = 5", "test.toml:1: this [[load]] has no name: write name = …"),
        ("[[load]]\nname = 5", "test.toml:2: this [[load]] must have a string as its name"),
        ("[[load]]\nname = \"rate\"", "test.toml:2: this [[load]] is called \"rate\" like a key or table"),
        ("[[load]]\nname = \"load\"", "test.toml:2: this [[load]] is called \"load\" like a key or table"),
        ("[[load]]\nname = \"A b\"", "test.toml:2: this [[load]] must have a name of at most 30 lowercase letters"),
        ("load = []", "test.toml:1: `load` must have 1 to 64 tables [[load]], not 0"),
        ("load = [5]", "test.toml:1: `load` must be a table or a list of tables: write [load] or [[load]]"),
        (
            &format!("{both}[[load]]\nname = \"kept\""),
            "test.toml:6: this [[load]] is called \"kept\" like the one on line 2",
        ),
        (&more("rat = 5"), "test.toml:5: unknown key `load.storm.rat`…did you mean `load.storm.rate`?"),
        (&more("concurrency = 0"), "test.toml:5: `load.storm.concurrency`: must be an integer from 1"),
        (
            &more("rate = 5"),
            "test.toml:5: `load.storm.rate` has no effect with `load.storm.mode = \"closed\"`; set `load.storm.mode = \"open\"`",
        ),
        (&more("connections = 5"), "test.toml:5: `load.connections`: counts the connections of one population"),
        (&more("end = \"9s\""), "test.toml:5: `load.storm.end`: is after the end of the load, 1s"),
        (&more("start = \"1s\""), "test.toml:5: `load.storm.start`: is not before its end, 1s"),
        (&more("end = \"5ms\"\nstart = \"5ms\""), "test.toml:6: `load.storm.start`: is not before its end, 5ms"),
        (
            &more("close_by = \"server\""),
            "test.toml:5: `load.storm.close_by`: differs from that of population \"kept\"",
        ),
        (&more("sockets = \"recycled\""), "test.toml:5: `load.storm.sockets`…set load.storm.close_how = \"rst\""),
        (
            &more("[matrix]\nload.rate = [1, 2]"),
            "test.toml:6: `load.rate`: each population has its own: write `load.kept.rate` or `load.storm.rate`",
        ),
        (
            &more("[matrix]\nload.stom.hold = [\"1s\"]"),
            "test.toml:6: `load.stom.hold`: this scenario has no population \"stom\": write `load.kept.hold` or",
        ),
        (
            &more("[search]\nmetric = \"response_p99\"\nlimit = \"1ms\""),
            "test.toml:5: `search.variable`: `load.rate`: each population has its own: write `load.kept.rate` or",
        ),
        ("[load.kept]\nrate = 5", "test.toml:2: `load.kept.rate`: this scenario has no [[load]] with name = \"kept\""),
        ("[load]\nend = \"5ms\"\nconnections = 5", "test.toml:2: `load.end`: excludes `load.connections`"),
        (
            &more("mode = \"kept\"\nrequests = 5"),
            "test.toml:6: `load.storm.requests` has no effect with `load.storm.mode = \"kept\"`",
        ),
        (
            &more("mode = \"kept\"\nrate = 5"),
            "test.toml:6: `load.storm.rate` has no effect with `load.storm.mode = \"kept\"`",
        ),
        (
            "[load]\nrequest_rate = 5",
            "test.toml:2: `load.request_rate` has no effect in a closed loop; set `load.mode = \"kept\"`",
        ),
        (
            "[[load]]\nname = \"one\"\nmode = \"kept\"\nclose_by = \"server\"",
            "test.toml:3: `load.one.mode`: \"kept\" connections stay open until the client closes them: set load.one.close_by",
        ),
        ("protocol = \"udp\"\nload.mode = \"kept\"", "test.toml:2: `load.mode`: \"kept\" is about connections"),
        (
            "server.app = \"close\"\nload.mode = \"kept\"",
            "test.toml:2: `load.mode`: \"kept\" connections send requests",
        ),
        (
            "protocol = \"udp\"\nload.proxy_protocol = 2",
            "test.toml:2: `load.proxy_protocol`: is about connections, and protocol = \"udp\" has none: set it to 0",
        ),
        ("load.proxy_protocol = 3", "test.toml:1: `load.proxy_protocol`: must be an integer from 0 to 2, not 3"),
        (
            "server.app = \"close\"\n[[load]]\nname = \"one\"\n[[load]]\nname = \"two\"\nproxy_protocol = 1",
            "test.toml:6: `load.two.proxy_protocol`: differs from that of population \"one\", and with server.app = \"close\"",
        ),
        (
            "server.request_bytes = 5\n[[load]]\nname = \"one\"\nproxy_protocol = 2\n[[load]]\nname = \"two\"\nproxy_protocol = 0",
            "test.toml:7: `load.two.proxy_protocol`: differs from that of population \"one\", and the server cannot tell all requests of 5 \
             bytes from the beginning of a header: set both alike, or raise server.request_bytes to 6",
        ),
        (
            "server.subject = \"command\"\nserver.command = \"x\"\nserver.backend_proxy_protocol = true",
            "test.toml:3: `server.backend_proxy_protocol` has no effect with `server.backend = false`; set `server.backend = true`",
        ),
        (
            "protocol = \"tcp+udp\"\nload.udp_share = 1\nload.proxy_protocol = 1",
            "test.toml:3: `load.proxy_protocol` has no effect with `load.udp_share = 1`, which leaves no connections; lower that",
        ),
        (
            "protocol = \"tcp+udp\"\nload.udp_share = 1\nload.close_how = \"rst\"",
            "test.toml:3: `load.close_how` has no effect with `load.udp_share = 1`, which leaves no connections; lower that",
        ),
        (
            "protocol = \"tcp+udp\"\n[[load]]\nname = \"one\"\nudp_share = 0\nproxy_protocol = 2\n[[load]]\nname = \"two\"\n\
             udp_share = 1.0\nproxy_protocol = 2",
            "test.toml:9: `load.two.proxy_protocol` has no effect with `load.two.udp_share = 1`",
        ),
        (
            "server.app = \"connect\"\nload.hold = \"1s\"\nload.follow_up = \"100ms\"",
            "test.toml:3: `load.follow_up` has no effect with `server.app = \"connect\"`",
        ),
        (
            "server.bind = \"127.0.0.1\"\nserver.v6only = true",
            "test.toml:2: `server.v6only` has no effect without a listener on `::`; add that to `server.bind`, or remove it",
        ),
        (
            "server.app = \"connect\"\nload.mode = \"kept\"",
            "test.toml:2: `load.mode`: \"kept\" connections send requests, and those of server.app = \"connect\" say nothing",
        ),
        (
            "load.connections = 5\nload.mode = \"kept\"",
            "test.toml:2: `load.mode`: \"kept\" connections stay open until the load's end",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    assert_lines(
        &more("duration = \"1s\""),
        &["load.kept.duration=2s"],
        &["--set load.kept.duration=2s: `load.kept.duration` holds for all populations: write `load.duration`"],
    );
    let twice = "[[load]]\nname = \"a\"\nduration = \"1s\"\n[[load]]\nname = \"b\"\nduration = \"1s\"";
    assert_lines(twice, &[], &["test.toml:6: `load.duration` is set twice, first on line 3"]);
}

#[test]
fn what_line_and_connect_exchange_makes_sense() {
    let line = "network = \"host\"\nserver.subject = \"running\"\nserver.app = \"line\"\n[load]\n";
    for (load, expected) in [
        ("expect = ''", None),
        ("expect = '+PONG\\r\\n'\nsend = 'PING\\r\\n'\nrequests = 3", None),
        ("expect = '220-a\\n220 b\\n'\nlast_line = '220 '", None),
        ("", Some("test.toml:3: `load.expect`: is missing: say how a correct reply begins")),
        ("expect = 'a\\q'", Some("test.toml:5: `load.expect`: `\\q` is not an escape")),
        (
            "expect = 'a\\nb'",
            Some("test.toml:5: `load.expect`: goes on after its line 1, which ends the reply: set load.last_line"),
        ),
        ("expect = 'a\\n220 b\\nc'\nlast_line = '220 '", Some("test.toml:5: `load.expect`: goes on after its line 2")),
        (
            "expect = 'abc'\nreply_bytes = 2",
            Some("test.toml:5: `load.expect`: is 3 bytes long, and a reply has load.reply_bytes = 2"),
        ),
        (
            "expect = 'a'\nreply_bytes = 2\nlast_line = 'b'",
            Some("test.toml:7: `load.last_line`: excludes load.reply_bytes"),
        ),
        ("expect = 'a'\nrequests = 2", Some("test.toml:6: `load.send`: is empty, so that the server speaks first")),
        ("expect = 'a'\nmode = \"kept\"", Some("test.toml:6: `load.send`: is empty, so that the server speaks first")),
        (
            "expect = 'a'\nquickack = false",
            Some("test.toml:6: `load.quickack`: the client of server.app = \"line\" sends nothing"),
        ),
        ("expect = 'a'\npath = \"/\"", Some("test.toml:6: `load.path` has no effect with `server.app = \"line\"`")),
    ] {
        assert_lines(&format!("{line}{load}"), &[], expected.as_slice());
    }
    for (text, expected) in [
        (
            "server.app = \"line\"\nload.expect = ''",
            "test.toml:1: `server.app`: listenbench's own server has no answers to \"line\": use",
        ),
        ("load.send = 'a'", "test.toml:1: `load.send` has no effect with `server.app = \"echo\"`"),
        (
            "server.app = \"connect\"\nload.close_by = \"server\"",
            "test.toml:2: `load.close_by`: with server.app = \"connect\" the client closes",
        ),
        (
            "server.app = \"connect\"\nload.requests = 2",
            "test.toml:2: `load.requests` has no effect with `server.app = \"connect\"`",
        ),
        (
            "server.app = \"connect\"\nload.reply_timeout = \"1s\"",
            "test.toml:2: `load.reply_timeout` has no effect with",
        ),
        (
            "server.app = \"connect\"\nload.proxy_protocol = 2",
            "test.toml:2: `load.proxy_protocol`: has the client send a header, and with server.app = \"connect\" and load.hold = \"0s\"",
        ),
        ("protocol = \"udp\"\nserver.engine = \"uring\"", "test.toml:2: `server.engine` has no effect with"),
        (
            "server.engine = \"uring\"\nserver.strategy = \"shared-epoll-exclusive\"",
            "test.toml:1: `server.engine`: \"uring\" waits in a ring",
        ),
        ("server.engine = \"epoll\"", "test.toml:1: `server.engine`: must be one of"),
        ("server.app = \"connect\"\nserver.fastopen = 5", "test.toml:2: `server.fastopen` has no effect with"),
        (
            "server.app = \"connect\"\nload.quickack = false",
            "test.toml:2: `load.quickack`: the client of server.app = \"connect\" sends nothing",
        ),
        (
            "protocol = \"udp\"\nserver.app = \"connect\"",
            "test.toml:2: `server.app`: datagrams (`protocol`) require app \"echo\"",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
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
        ("[[fault]]\nat = \"1ms\"", "test.toml:1: unknown key `fault`; did you mean `[[event]]`?"),
        ("[[evnt]]", "test.toml:1: unknown key `evnt`; did you mean `[[event]]`?"),
        ("\n[serach]", "test.toml:2: unknown key `serach`…did you mean `[search]`?"),
        ("[server.strategyy]", "test.toml:1: unknown key `server.strategyy`…did you mean `server.strategy`?"),
        ("[server]\nworker = {}", "test.toml:2: unknown key `server.worker`…did you mean `server.workers`?"),
        ("[[server.nonsense]]", "test.toml:1: unknown key `server.nonsense`"),
        ("server.nonsense.deep = {}", "test.toml:1: unknown key `server.nonsense`"),
        ("[matrix.nonsense]", "test.toml:1: unknown key `nonsense`"),
        ("[matrix]\nnonsense = {}", "test.toml:2: unknown key `nonsense`"),
        ("[matrix]\nserver.worker = [1, 2]", "test.toml:2: unknown key `server.worker`…did you mean `server.workers`?"),
        ("[[event]]\nat = \"1ms\"\nnonsense = {}", "test.toml:3: unknown key `event.0.nonsense`"),
        ("\"\" = 1", "test.toml:1: unknown key ``"),
        ("\"a\\nb\" = 1", "test.toml:1: unknown key `a\\nb`"),
        ("workers = 1", "test.toml:1: unknown key `workers`…did you mean `server.workers`?"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    for (set, expected) in [
        ("nonsense={}", "--set nonsense={}: unknown key `nonsense`"),
        ("fault.0.at=1ms", "--set fault.0.at=1ms: unknown key `fault.0.at`; did you mean `[[event]]`?"),
        ("server.worker=", "--set server.worker=: unknown key `server.worker`…did you mean `server.workers`?"),
        ("serach=[]", "--set serach=[]: unknown key `serach`…did you mean `[search]`?"),
        ("event.at=1ms", "--set event.at=1ms: `event.at`: events are counted from 0: write `event.0.at`"),
        ("nonsense", "--set nonsense: expects key=value"),
    ] {
        assert_lines("", &[set], &[expected]);
    }
}

#[test]
fn a_wrong_structure_is_named_with_its_line() {
    for (text, expected) in [
        ("\n[[event]]", "test.toml:2: `event.0.at` is missing…empty"),
        ("event = []\nserver = 5", "test.toml:2: `server` is a table"),
        ("event = 1", "test.toml:1: `event` must be a list of tables"),
        ("event = [1]", "test.toml:1: `event` must be a list of tables"),
        ("[event]\nat = \"1ms\"", "test.toml:1: `event` must be a list of tables"),
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
            "test.toml:2: `server.strategy`: has no value \"reusport\"; did you mean \"reuseport\"?",
        ),
        (
            "[load]\narrivals = 1",
            "test.toml:2: `load.arrivals`: must be one of \"constant\", \"poisson\", \"burst\", \"ramp\", \"mmpp\", \"rates\", \"trace\", not 1",
        ),
        ("[server]\naccept_batch = \"all\"", "test.toml:2: `server.accept_batch`…from 1 to 4294967295…\"drain\""),
        ("[server]\npin = [0, 0]", "test.toml:2: `server.pin`: lists 0 twice"),
        ("[server]\npin = []", "test.toml:2: `server.pin`: is an empty list"),
        ("[server]\npin = \"pair\"", "test.toml:2: `server.pin`: must be one of \"none\", \"spread\" or a list"),
        (
            "name = \"..\"",
            "test.toml:1: `name`: must begin with a letter, a digit or `_`, since it names a folder, not \"..\"",
        ),
        (
            "name = \"-x\"",
            "test.toml:1: `name`: must begin with a letter, a digit or `_`, since it names a folder, not \"-x\"",
        ),
        ("name = \"a/b\"", "test.toml:1: `name`: must consist of letters…folder, not \"a/b\""),
        (
            "address = \"localhost\"",
            "test.toml:1: `address`: must be an IP address or a Unix socket (\"unix:…\") in quotes, not \"localhost\"",
        ),
        ("[sysctl]\nsomaxconn = true", "test.toml:2: `sysctl.somaxconn`: must be an integer or a string, not true"),
        ("[sysctl]\nx = {}", "test.toml:2: `sysctl.x`: must be an integer or a string, not an empty table"),
        ("[sysctl.somaxconn]", "test.toml:1: `sysctl.somaxconn`: must be an integer or a string, not an empty table"),
        ("[matrix.server]", "test.toml:1: `matrix.server` must be a list of values, not an empty table"),
        (
            "[matrix]\nsysctl.tcp_tw_reuse = {}",
            "test.toml:2: `matrix.sysctl.tcp_tw_reuse` must be a list of values, not an empty table",
        ),
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
    assert_lines("repetitions = 3", &["stop.difference=0.1"], &[]);
    assert_lines("stop = { difference = 0.1 }", &["repetitions=3"], &[]);
    // Of two overrides, neither is left out.
    for overrides in [["repetitions=3", "stop.difference=0.1"], ["stop.difference=0.1", "repetitions=3"]] {
        let expected = "--set repetitions=3: `repetitions` has no effect with [stop], which decides it";
        assert_lines("", &overrides, &[expected]);
    }
    for overrides in [["load.connections=5", "load.duration=1s"], ["load.duration=1s", "load.connections=5"]] {
        let expected = "--set load.connections=5: `load.connections`: excludes `load.duration`";
        assert_lines("", &overrides, &[expected]);
    }
}

/// Rates that change, times of thought and lifetimes: each key has its own arrivals or time.
#[test]
fn keys_of_changing_rates_and_of_times_name_what_they_are_for() {
    let open = |keys: &str| format!("[load]\nmode = \"open\"\n{keys}");
    let kept = |keys: &str| format!("[load]\nmode = \"kept\"\n{keys}");
    for (text, expected) in [
        (
            open("arrivals = \"ramp\"\nrate = 5"),
            "test.toml:4: `load.rate` has no effect with `load.arrivals = \"ramp\"`; set",
        ),
        (
            open("rate_to = 5"),
            "test.toml:3: `load.rate_to` has no effect with `load.arrivals = \"poisson\"`; set `load.arrivals = \"ramp\"`",
        ),
        (open("dwell_low = \"1s\""), "test.toml:3: `load.dwell_low` has no effect…set `load.arrivals = \"mmpp\"`"),
        (open("rates_speed = 60"), "test.toml:3: `load.rates_speed` has no effect…set `load.arrivals = \"rates\"`"),
        (open("arrivals = \"ramp\"\nrate_to = 0"), "test.toml:4: `load.rate_to`: is 0, as load.rate_from is"),
        (
            open("arrivals = \"ramp\"\nconnections = 5"),
            "test.toml:3: `load.arrivals`: \"ramp\" is about rates over the load's time, which load.connections leaves open",
        ),
        (
            open("arrivals = \"mmpp\"\nrate_low = 9000"),
            "test.toml:4: `load.rate_low`: is above load.rate_high, 5500: exchange the two",
        ),
        (
            open("arrivals = \"mmpp\"\ndwell_low = \"1us\""),
            "test.toml:4: `load.dwell_low`: must be a duration 1ms–1day",
        ),
        (open("arrivals = \"rates\""), "test.toml:3: `load.rates`: is missing: name a CSV file"),
        (open("arrivals = \"rates\"\nrates = \"\""), "test.toml:4: `load.rates`: is an empty string: name a CSV file"),
        (open("arrivals = \"rates\"\nrates = [[0, 5], [0, 6]]"), "test.toml:4: `load.rates`: row 2: times must ascend"),
        (open("arrivals = \"rates\"\nrates = [5, 6]"), "test.toml:4: `load.rates`: row 1 must be a time and a rate"),
        (
            open("arrivals = \"rates\"\nrates = [[0, 0], [60, 5]]"),
            "test.toml:4: `load.rates`: has no rate above 0 before the load ends: raise load.rates_speed",
        ),
        (
            open("arrivals = \"rates\"\nrates = [[0, 5], [1, 0]]\nwarmup = \"1s\""),
            "test.toml:4: `load.rates`: has no rate above 0 in the measured time: shorten load.warmup",
        ),
        (
            open("arrivals = \"rates\"\n[matrix]\nload.rates = [[[0, 5]], [[0, 6]]]"),
            "test.toml:5: `matrix.load.rates` is one table and cannot be swept: give each table a [[variant]]",
        ),
        (
            "[[load]]\nname = \"a\"\nmode = \"open\"\narrivals = \"trace\"\ntrace = \"a.csv\"\n[[load]]\nname = \"b\"\nmode = \"open\"\n\
             arrivals = \"ramp\""
                .to_owned(),
            "test.toml:9: `load.b.arrivals`: \"ramp\" is about rates over the load's time, which the trace of another population leaves open",
        ),
        (open("arrivals = \"trace\"\ntrace = \"-\""), "test.toml:4: `load.trace`: `-` is standard input"),
        (
            "[matrix]\nload.rates = [[[0, 5]], [[0, 6]]]".to_owned(),
            "test.toml:2: `matrix.load.rates` is one table and cannot be swept: give each table a [[variant]]",
        ),
        (kept("arrivals = \"mmpp\""), "test.toml:3: `load.arrivals`: \"mmpp\" is about when connections start"),
        (
            kept("think_time = \"1s\"\nrequest_rate = 5"),
            "test.toml:4: `load.request_rate` has no effect with `load.think_time`, by which requests follow from replies",
        ),
        (
            kept("think_time = \"1s\"\narrivals = \"burst\""),
            "test.toml:4: `load.arrivals` has no effect with `load.think_time`",
        ),
        (kept("think_shape = 2"), "test.toml:3: `load.think_shape` has no effect without `load.think_time`; remove it"),
        (
            kept("lifetime_distribution = \"fixed\""),
            "test.toml:3: `load.lifetime_distribution` has no effect without `load.lifetime`; remove it",
        ),
        (
            kept("think_time = \"1s\"\nthink_shape = 2"),
            "test.toml:4: `load.think_shape` has no effect with `load.think_distribution = \"exponential\"`; set",
        ),
        (
            kept("lifetime = \"1s\"\nlifetime_distribution = \"pareto\"\nlifetime_shape = 1"),
            "test.toml:5: `load.lifetime_shape`: must be at least 1.2 for \"pareto\", not 1: most of the mean",
        ),
        (
            kept("think_time = \"1s\"\nthink_distribution = \"lognormal\"\nthink_shape = 3"),
            "test.toml:5: `load.think_shape`: must be at most 2.5 for \"lognormal\", not 3: most of the mean",
        ),
        (
            open("lifetime = \"1s\""),
            "test.toml:3: `load.lifetime` has no effect in an open loop; set `load.mode = \"kept\"`",
        ),
    ] {
        assert_lines(&text, &[], &[expected]);
    }
    let rates = open("arrivals = \"rates\"\nrates = [[0, 5], [60, 6]]\nduration = \"2m\"");
    assert_lines(&rates, &[], &[]);
    assert_lines(&rates, &["load.rates=[[0, 7]]"], &[]);
    let both = "[[load]]\nname = \"day\"\nmode = \"open\"\narrivals = \"rates\"\nrates = \"none.csv\"\n";
    assert_lines(both, &[], &["test.toml:5: `load.day.rates`: none.csv: No such file or directory"]);
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
        (
            "[load]\nrate = 10",
            "test.toml:2: `load.rate` has no effect in a closed loop; set `load.mode = \"open\"`, or remove it",
        ),
        (
            "[load]\nmode = \"open\"\nconcurrency = 3",
            "test.toml:3: `load.concurrency` has no effect in an open loop; set `load.mode = \"closed\"`",
        ),
        (
            "[server]\napp = \"close\"\n[load]\nrequests = 3",
            "test.toml:4: `load.requests` has no effect with `server.app = \"close\"`; set `server.app = \"echo\"`",
        ),
        (
            "[server]\nservice_time_long = \"5ms\"",
            "test.toml:2: `server.service_time_long` has no effect with `server.service_distribution = \"fixed\"`; set \
             `server.service_distribution = \"bimodal\"`",
        ),
        (
            "[ports]\nsteps = 20",
            "test.toml:2: `ports.steps` has no effect with `kind = \"listen\"`; set `kind = \"ports\"`",
        ),
        (
            "[server]\nhermes_hang = \"5ms\"",
            "test.toml:2: `server.hermes_hang` has no effect…set `server.strategy = \"reuseport-hermes\"`",
        ),
        ("network = \"host\"\n[sysctl]\nsomaxconn = 1", "test.toml:3: `sysctl.somaxconn`…host"),
        (
            "protocol = \"udp\"\n[server]\nrequest_bytes = 65508",
            "test.toml:3: `server.request_bytes`…4 to 65507…datagrams",
        ),
        (
            "network = \"host\"\naddress = \"198.18.0.1\"\nprotocol = \"udp\"\n[server]\nreply_bytes = 65",
            "test.toml:5: `server.reply_bytes`…198.18.0.1:7000…server.larger_datagrams = true",
        ),
        ("[server]\nreply_bytes = 15", "test.toml:2: `server.reply_bytes`…16 to 65536…\"echo\""),
        (
            "[server]\nstrategy = \"reuseport-hermes\"\nworkers = 65",
            "test.toml:2: `server.strategy`…64…`server.workers`",
        ),
        (
            "[server]\nstrategy = \"reuseport-hermes\"\nworkers = 128\nlisteners = 65",
            "test.toml:2: `server.strategy`…64 listeners, not 65",
        ),
        (
            "[server]\nlisteners = 3",
            "test.toml:2: `server.listeners`: must be at most 2…not 3: lower it, or raise `server.workers`",
        ),
        ("[server]\nlisteners = 0", "test.toml:2: `server.listeners`: must be an integer from 1 to 512…\"per-worker\""),
        (
            "[server]\nstrategy = \"shared-epoll\"\nlisteners = 2",
            "test.toml:3: `server.listeners` has no effect with `server.strategy = \"shared-epoll\"`; set `server.strategy = \"reuseport\"`",
        ),
        (
            "[server]\nstrategy = \"reuseport-uring\"\nwake = \"edge\"",
            "test.toml:3: `server.wake` has no effect with `server.strategy = \"reuseport-uring\"`; set `server.strategy = \"reuseport\"`",
        ),
        (
            "[server]\naccept_later = \"5ms\"",
            "test.toml:2: `server.accept_later` has no effect with `server.strategy = \"reuseport\"`; set `server.strategy = \"shared-epoll\"`",
        ),
        (
            "[server]\nstrategy = \"dispatcher\"\nbalance = \"least\"",
            "test.toml:3: `server.balance` has no effect with `server.strategy = \"dispatcher\"`",
        ),
        (
            "[server]\nstrategy = \"shared-threads\"\n[[event]]\nkind = \"kill\"\nat = \"1ms\"",
            "test.toml:4: `event.0.kind`: a signal reaches all workers of \"shared-threads\"…\"burn\"",
        ),
        (
            "protocol = \"udp\"\n[server]\nstrategy = \"shared-threads\"",
            "test.toml:3: `server.strategy`: \"shared-threads\" cannot receive datagrams",
        ),
        ("[server]\nwake = \"level-triggered\"", "test.toml:2: `server.wake`: must be…\"exclusive\""),
        (
            "protocol = \"udp\"\n[server]\nwake = \"uring\"",
            "test.toml:3: `server.wake`: does not work for datagrams…exclusive",
        ),
        ("\n[stop]\nmax_repetitions = 9", "test.toml:2: `stop.difference`: is missing"),
        (
            "repetitions = 5\n[stop]\ndifference = 0.1",
            "test.toml:1: `repetitions` has no effect with [stop], which decides it: use `stop.min_repetitions`",
        ),
        (
            "[stop]\nrelative_error = 0.1\ndifference = 0.1",
            "test.toml:2: `stop.relative_error`: ends a run, and so does `stop.difference`",
        ),
        (
            "[stop]\ndifference = 0.1\nmax_repetitions = 4",
            "test.toml:3: `stop.max_repetitions`: 4 is below `stop.min_repetitions`, 5",
        ),
        ("\n[search]\nmetric = \"x\"", "test.toml:2: `search.limit`: is missing"),
        ("[[event]]\nworker = 0\n\n[[event]]\nat = \"1ms\"", "test.toml:1: `event.0.at`: is missing"),
        ("[[event]]\nat = \"1ms\"\nworker = 7", "test.toml:3: `event.0.worker`: there is no worker 7"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}

/// The start of a scenario whose server is a command.
const COMMAND: &str = "server.subject = \"command\"\nserver.command = \"nginx -p {dir}\"\n";

#[test]
fn a_foreign_server_has_its_own_keys_and_limits() {
    let command = |more: &str| format!("{COMMAND}{more}");
    for (text, expected) in [
        ("server.subject = \"command\"".to_owned(), "test.toml:1: `server.command`: is missing"),
        ("server.subject = \"running\"".to_owned(), "test.toml:1: `server.subject`…set network = \"host\""),
        (command("protocol = \"udp\""), "test.toml:3: `protocol`: datagrams require server.subject = \"own\""),
        (command("load.pin = \"pair\""), "test.toml:3: `load.pin`…set server.subject = \"own\""),
        (command("server.backend = true"), "test.toml:3: `server.backend`…says {backend}"),
        (command("server.files.x = \"{backend}\""), "test.toml:3: `server.backend`…requires server.backend = true"),
        (command("server.files.nginx.conf = \"\""), "test.toml:3: `server.files`…in quotes: \"nginx.conf\""),
        (command("server.files = { \"../x\" = \"\" }"), "test.toml:3: `server.files`: \"../x\" must be a path below"),
        (command("server.files = { a = \"\", \"a/b\" = \"\" }"), "test.toml:3: `server.files`: \"a\" cannot be both"),
        (command("server.files = { a = 1 }"), "test.toml:3: `server.files`: the contents of \"a\" must be a string"),
        (command("server.files = \"/nowhere\""), "test.toml:3: `server.files`: /nowhere: No such file"),
        (command("server.files = \"\""), "test.toml:3: `server.files`: is an empty string"),
        (command("server.stop_signal = \"BYE\""), "test.toml:3: `server.stop_signal`…such as \"SIGTERM\""),
        (
            command("server.backlog = 5"),
            "test.toml:3: `server.backlog` has no effect with `server.subject = \"command\"`",
        ),
        (command("stamps = \"both\""), "test.toml:3: `stamps` has no effect with `server.subject = \"command\"`"),
        (command("server.reply_bytes = 0"), "test.toml:3: `server.reply_bytes`…from 1 to"),
        ("server.command = \"nginx 'x\"".to_owned(), "test.toml:1: `server.command`…left open"),
        ("server.command = \" \"".to_owned(), "test.toml:1: `server.command`: names no program"),
        ("server.command = [\"a\", 1]".to_owned(), "test.toml:1: `server.command`: must be a command in quotes"),
        (
            "server.command = \"nginx\"".to_owned(),
            "test.toml:1: `server.command` has no effect with `server.subject = \"own\"`; set `server.subject = \"command\"`",
        ),
    ] {
        assert_lines(&text, &[], &[expected]);
    }
    assert_lines(&command("server.workers = 4\nserver.files = { x = \"{workers}\" }"), &[], &[]);
    assert_lines(&command("server.backend = true\nserver.files = { x = \"{backend}\" }\nserver.backlog = 5"), &[], &[]);
}

const VARIANTS: &str = r#"
repetitions = 3
server.workers = 4

[[variant]]
name = "ours"
server.strategy = "reuseport"

[[variant]]
name = "nginx 1"
[variant.server]
subject = "command"
command = "nginx -p {dir}"
"#;

#[test]
fn a_variant_is_named_with_its_lines() {
    for (text, expected) in [
        ("variant = 1", "test.toml:1: `variant` must be a list of tables: write [[variant]]"),
        ("[variant]\nname = \"x\"", "test.toml:1: `variant` must be a list of tables"),
        ("\n[[variant]]\nserver.workers = 3", "test.toml:2: this variant has no name"),
        ("[[variant]]\nname = \"\"", "test.toml:2: this variant has an empty name"),
        ("[[variant]]\nname = \" x\"", "test.toml:2: this variant must have a name without"),
        ("[[variant]]\nname = 7", "test.toml:2: this variant must have a string as its name"),
        (
            "[[variant]]\nname = \"x\"\n[[variant]]\nname = \"x\"",
            "test.toml:4: this variant is called \"x\" like the one on line 1",
        ),
        ("[[variant]]\nname = \"x\"\nserver.worker = 3", "test.toml:3: unknown key `server.worker`"),
        ("[[variant]]\nname = \"x\"\nserver.workers = 0", "test.toml:3: `server.workers`: must be an integer from 1"),
        ("[[variant]]\nname = \"x\"\nseed = 3", "test.toml:3: `seed` applies to the whole scenario and cannot differ"),
        ("[[variant]]\nname = \"x\"\nserver.workers = [1, 2]", "test.toml:3: `server.workers` must have one value"),
        (
            "[[variant]]\nname = \"x\"\nserver.workers = 1\n[matrix]\nserver.workers = [1]",
            "test.toml:3: `server.workers` is set both in a [[variant]] and to a list on line 5",
        ),
        (
            "[[variant]]\nname = \"x\"\nload.rate = 5.0\n[[variant]]\nname = \"y\"",
            "test.toml:3: `load.rate` has no effect in a closed loop; set `load.mode = \"open\"`",
        ),
        (
            "server.workers = 9\n[[variant]]\nname = \"x\"\nserver.workers = 3",
            "test.toml:1: `server.workers` has no effect: every [[variant]] replaces it",
        ),
        (
            "load.rate = 9\n[[variant]]\nname = \"x\"\n[[variant]]\nname = \"y\"\nserver.workers = 3",
            "test.toml:1: `load.rate` has no effect in a closed loop; set",
        ),
        (
            "server.service_time_long = \"1ms\"\n[[variant]]\nname = \"x\"\n[[variant]]\nname = \"y\"\n\
             server.subject = \"command\"\nserver.command = \"x\"",
            "test.toml:1: `server.service_time_long` has no effect in any variant, for different reasons",
        ),
        ("[[variant]]\nname = \"x\"\n[[variant.event]]\nworker = 1", "test.toml:3: `event.0.at`: is missing"),
        ("[[variant]]\nname = \"x\"\n[[variant.event]]", "test.toml:3: `event.0.at` is missing…empty"),
        ("[[variant]]\nname = \"x\"\nevent = 1", "test.toml:3: `event` must be a list of tables"),
        (
            "compare = [\"server.strategy\"]\n[[variant]]\nname = \"x\"\nserver.strategy = \"reuseport\"",
            "test.toml:1: `compare`: `server.strategy` is not swept; this scenario sweeps `variant`: name what competes, or remove it (`--set compare=` does)",
        ),
        (
            "[search]\nmetric = \"x\"\nlimit = 1\n[[variant]]\nname = \"x\"\nload.mode = \"open\"\nload.rate = 5",
            "test.toml:1: `search.variable`: `load.rate` is set in a [[variant]]",
        ),
        (
            "[[variant]]\nname = \"x\"\nserver.files = \"/nowhere\"\nserver.subject = \"command\"\nserver.command = \"x\"",
            "test.toml:3: `server.files`: /nowhere: No such file",
        ),
        ("[matrix]\nvariant = [\"x\"]", "test.toml:2: `variant`: variants are tables: write [[variant]]"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    for (set, expected) in [
        ("variant=nginx", "--set variant=nginx: unknown variant \"nginx\"; this scenario has \"ours\", \"nginx 1\""),
        ("variant=[ours, x]", "--set variant=[ours, x]: unknown variant \"x\""),
        ("variant=[]", "--set variant=[]: is an empty list"),
        ("variant.0.server.workers=1", "--set variant.0.server.workers=1: unknown key"),
    ] {
        assert_lines(VARIANTS, &[set], &[expected]);
    }
    assert_lines("", &["variant=x"], &["--set variant=x: this scenario has no [[variant]]"]);
    // What only some variants use has an effect, also if others are chosen.
    assert_lines(VARIANTS, &[], &[]);
    assert_lines(VARIANTS, &["variant=nginx 1"], &[]);
    assert_lines(VARIANTS, &["variant=[\"nginx 1\", ours]"], &[]);
    // An override is for what runs.
    assert_lines(VARIANTS, &["server.backlog=5"], &[]);
    assert_lines(
        VARIANTS,
        &["server.backlog=5", "variant=nginx 1"],
        &["--set server.backlog=5: `server.backlog` has no effect with `server.subject = \"command\"`; set"],
    );
}

/// A list sweeps a key that takes single values, in its own table as in [matrix].
#[test]
fn a_list_sweeps() {
    for (text, expected) in [
        ("server.workers = [1, 0]", "test.toml:1: `server.workers`: must be an integer from 1 to 512, not 0"),
        ("server.workers = [2, 2]", "test.toml:1: `server.workers` lists 2 twice"),
        ("server.workers = []", "test.toml:1: `server.workers` is an empty list"),
        ("seed = [1, 2]", "test.toml:1: `seed`: `seed` applies to the whole scenario"),
        ("server.files = [\"a\", \"b\"]", "test.toml:1: `server.files` is one set of files"),
        (
            "server.workers = [1, 2]\n[matrix]\nserver.workers = [3]",
            "test.toml:3: `server.workers` is swept twice: keep one",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}

/// The cause named is one that the scenario has, and the remedy is enough.
#[test]
fn what_makes_a_key_idle_is_true() {
    for (text, expected) in [
        (
            "protocol = \"udp\"\nload.close_how = \"rst\"",
            "test.toml:2: `load.close_how` has no effect with `protocol = \"udp\"`; set `protocol = \"tcp\"`, or",
        ),
        (
            "protocol = \"udp\"\nserver.backlog = 5",
            "test.toml:2: `server.backlog` has no effect with `protocol = \"udp\"`; set `protocol = \"tcp\"`",
        ),
        (
            "protocol = \"udp\"\nprobe = \"counts\"",
            "test.toml:2: `probe` has no effect with `protocol = \"udp\"`; set `protocol = \"tcp\"`",
        ),
        (
            "kind = \"ports\"\nserver.backlog = 5",
            "test.toml:2: `server.backlog` has no effect with `kind = \"ports\"`; set `kind = \"listen\"`",
        ),
        (
            "server.backend_workers = 2\nserver.subject = \"command\"\nserver.command = \"x\"",
            "test.toml:1: `server.backend_workers` has no effect with `server.backend = false`; set `server.backend = true`",
        ),
        (
            "network = \"host\"\nserver.subject = \"running\"\nserver.ready_within = \"3s\"",
            "test.toml:3: `server.ready_within` has no effect with `server.subject = \"running\"`; set `server.subject = \"command\"`",
        ),
        (
            "server.workers = 2\nserver.subject = \"command\"\nserver.command = \"x\"",
            "test.toml:1: `server.workers` has no effect: neither `server.command` nor a file",
        ),
        (
            "server.service_time_long = \"1ms\"\nserver.subject = \"command\"\nserver.command = \"x\"",
            "test.toml:1: `server.service_time_long` has no effect with `server.subject = \"command\"` and with \
             `server.service_distribution = \"fixed\"`; set `server.subject = \"own\"` and \
             `server.service_distribution = \"bimodal\"`, or",
        ),
        (
            "server.subject = \"command\"\nserver.command = \"x\"\nload.close_by = \"server\"\nload.close_how = \"rst\"",
            "test.toml:4: `load.close_how` has no effect with `load.close_by = \"server\"`; set `load.close_by = \"client\"`",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
    }
    // A key that is itself wrong must not be blamed for another having no effect.
    let wrong_besides = "protocol = \"udp\"\nload.close_how = \"rst\"\naddress = \"198.18.9.1\"";
    let causes = [
        "test.toml:2: `load.close_how` has no effect with `protocol = \"udp\"`; set `protocol = \"tcp\"`, or",
        "test.toml:3: `address`: 198.18.9.1 is not a loopback address",
    ];
    assert_lines(wrong_besides, &[], &causes);
    let event = "server.subject = \"command\"\nserver.command = \"x\"\n[[event]]\nat = \"1ms\"";
    assert_lines(
        event,
        &[],
        &["test.toml:3: `event.0.kind`: \"stall\" is for listenbench's own server…\"signal\" or \"exec\""],
    );
}

/// The event's own keys decide, and a kind that does not suit the server is one mistake however many keys the event has.
#[test]
fn keys_of_an_event_that_do_not_fit_together_name_the_one_that_decides() {
    let others = "server.subject = \"command\"\nserver.command = \"x\"\n";
    for (text, expected) in [
        (
            "[[event]]\nat = \"1ms\"\nkind = \"reload\"\ngap = \"10ms\"",
            "test.toml:4: `event.0.gap` has no effect with `event.0.how = \"inherit\"`; set `event.0.how = \"restart\"`, or remove it",
        ),
        (
            "[[event]]\nat = \"1ms\"\nkind = \"stall\"\nhow = \"reopen\"",
            "test.toml:4: `event.0.how` has no effect with `event.0.kind = \"stall\"`; set `event.0.kind = \"reload\"`, or remove it",
        ),
        (
            "[[event]]\nat = \"1ms\"\nkind = \"none\"\n[[event]]\nat = \"1ms\"\ndrain = \"1s\"",
            "test.toml:6: `event.1.drain` has no effect with `event.1.kind = \"stall\"`; set `event.1.kind = \"leave\"`, or remove it",
        ),
        (
            "[[event]]\nat = \"1ms\"\ncommand = \"x\"",
            "test.toml:3: `event.0.command` has no effect with `event.0.kind = \"stall\"`; remove it",
        ),
        (
            "[[event]]\nat = \"1ms\"\nkind = \"exec\"\ncommand = \"x\"",
            "test.toml:3: `event.0.kind`: \"exec\" is for another server; with `server.subject = \"own\"`, use \"stall\", \"burn\", …\"reload\"",
        ),
        (
            "[[event]]\nat = \"1ms\"\n[matrix]\nevent.0.kind = [\"none\", \"signal\"]",
            "test.toml:4: `event.0.kind`: \"signal\" is for another server",
        ),
        ("[[event]]\nkind = \"reload\"\nevery = \"100ms\"", "test.toml:1: `event.0.at`: is missing"),
        ("[[event]]\nkind = \"burn\"\nat = \"1ms\"\nevery = \"1ms\"", "test.toml:2: `event.0.for`: is missing"),
        (
            "[[event]]\nkind = \"burn\"\nat = \"1ms\"\nevery = \"10ms\"\nfor = \"20ms\"",
            "test.toml:4: `event.0.every`: repeats the event before it is over: lengthen it, or shorten `for`",
        ),
        ("[[event]]\nat = \"1ms\"\nevery = \"10ms\"", "test.toml:3: `event.0.every`: repeats a stall…set `for`"),
        (
            "[[event]]\nkind = \"kill\"\nat = \"1ms\"\nevery = \"10ms\"",
            "test.toml:4: `event.0.every`: repeats what can happen to a worker only once",
        ),
        (
            "[[event]]\nat = \"1ms\"\n[[event]]\nkind = \"burn\"\nfor = \"1ms\"\nat = \"2ms\"",
            "test.toml:6: `event.1.at`: overlaps `event.0`, of the same worker",
        ),
        (
            &format!("{others}[[event]]\nkind = \"join\"\nat = \"1ms\"\nevery = \"1ms\""),
            "test.toml:4: `event.0.kind`: \"join\" is for listenbench's own server; with `server.subject = \"command\"`, use \"signal\" or \"exec\"",
        ),
        (
            &format!("{others}[[event]]\nkind = \"exec\"\nat = \"1ms\"\ncommand = \"x\"\nsignal = \"HUP\""),
            "test.toml:7: `event.0.signal` has no effect with `event.0.kind = \"exec\"`; set `event.0.kind = \"signal\"`, or remove it",
        ),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}

#[test]
fn an_http_request_is_what_http_allows() {
    let http = "server.app = \"http\"\n[load]\n";
    for (text, expected) in [
        ("method = \"get\"", "test.toml:3: `load.method`: must be a method in capitals"),
        ("method = \"CONNECT\"", "test.toml:3: `load.method`…tunnel"),
        ("host = \"a b\"", "test.toml:3: `load.host`…visible ASCII"),
        ("headers = { Host = \"x\" }", "test.toml:3: `load.headers`: leave out Host: load.host sets it"),
        ("headers = { content-length = \"1\" }", "test.toml:3: `load.headers`…load.body"),
        ("headers = { X-NONCE = \"1\" }", "test.toml:3: `load.headers`: leave out X-NONCE: each request has its own"),
        ("method = \"TRACE\"\nbody = \"x\"", "test.toml:4: `load.body`: a TRACE request has no body"),
        ("headers = { \"a b\" = \"1\" }", "test.toml:3: `load.headers`: \"a b\" is not the name of a header"),
        ("headers = { A = \"1\", a = \"2\" }", "test.toml:3: `load.headers`: lists a twice"),
        ("headers = { A = \"x\\r\\ny\" }", "test.toml:3: `load.headers`: the value of A"),
        ("headers = \"A: b\"", "test.toml:3: `load.headers`: must be a table"),
    ] {
        assert_lines(&format!("{http}{text}"), &[], &[expected]);
    }
    assert_lines(
        "[load]\nmethod = \"POST\"",
        &[],
        &["test.toml:2: `load.method` has no effect with `server.app = \"echo\"`; set `server.app = \"http\"`"],
    );
    let body = |bytes: usize| format!("{http}body = \"{}\"", "x".repeat(bytes));
    assert_lines(&body(65_536), &[], &[]);
    assert_lines(&body(65_537), &[], &["test.toml:3: `load.body`: must be at most 65536 bytes long"]);
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
        ("[[event]]\nat = \"1 parsec\"", "test.toml:2: `event.0.at`"),
        ("[[event]]\natt = \"1ms\"", "test.toml:2: unknown key `event.0.att`…did you mean `event.at`?"),
    ] {
        assert_lines(text, &[], &[expected]);
    }
}
