//! `listenbench load` against other programs' servers, well-behaved or not, through both engines.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use serde_json::{Value, json};

use crate::common::{Bench, Server, assert_code, number, stderr, words};

tests! {
    nothing [
        replies_are_read_as_the_protocol_says,
        requests_are_what_the_scenario_says,
        replies_without_end_cost_their_connection_only,
        bytes_without_end_after_a_reply_are_not_waited_for,
        replies_are_counted_by_status,
        requests_go_on_when_a_server_closes,
        an_unanswered_request_is_made_again_only_after_a_reply,
        a_reply_without_a_receipt_accuses_nobody,
        a_proxy_is_named_as_one,
        the_target_is_not_connected_to_beforehand,
        a_load_needs_no_workers,
    ]
}

const ENGINES: [&str; 2] = ["--set=load.engine=mio", "--set=load.engine=uring"];

/// A server with a thread for each connection, and the number of its connections.
struct Other {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
}

impl Other {
    fn new(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = Self { address: listener.local_addr().unwrap(), accepted: Arc::default() };
        let (accepted, serve) = (Arc::clone(&other.accepted), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming() {
                accepted.fetch_add(1, Relaxed);
                let serve = Arc::clone(&serve);
                // A client that resets its connection ends the thread.
                thread::spawn(move || serve(stream.unwrap()));
            }
        });
        other
    }

    /// One that answers each request with the next of some replies, and closes after the last.
    fn replying(replies: &'static [&'static str]) -> Self {
        Self::new(move |mut stream| {
            replies.iter().try_for_each(|reply| {
                asked(&mut stream)?;
                stream.write_all(reply.as_bytes())
            })
        })
    }

    /// The trial of a load on it, whose exit code must be `code`.
    fn load(&self, bench: &Bench, engine: &str, code: i32) -> Value {
        bench.load(&format!("http://{}", self.address), &[engine], code)
    }
}

/// Waits for a request.
fn asked(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 4_096])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn counts(trial: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| number(&trial["connections"][name])).collect()
}

fn errors(trial: &Value) -> Vec<(String, u64)> {
    let errors = trial["connections"]["errors"].as_array().unwrap().iter();
    errors.map(|error| (error["errno"].as_str().unwrap().to_owned(), number(&error["count"]))).collect()
}

fn replies_are_read_as_the_protocol_says() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let bench = Bench::new("[load]\nconnections = 8\nrequests = 3\nconcurrency = 4\nreply_timeout = \"20s\"");
    let headers: String = (0..70).map(|number| format!("X-H{number}: v\r\n")).collect();
    for reply in [
        OK.to_owned(),
        format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nhi"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2;x=y\r\nhi\r\n0\r\nX-A: b\r\n\r\n"
            .to_owned(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{}", "x".repeat(3_000_000)),
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n".to_owned(),
    ] {
        let start = reply[..reply.len().min(80)].to_owned();
        let other = Other::new(move |mut stream| {
            loop {
                asked(&mut stream)?;
                stream.write_all(reply.as_bytes())?;
            }
        });
        for engine in ENGINES {
            let result = other.load(&bench, engine, 0);
            assert_eq!(
                counts(&result, &["attempted", "completed", "replies"]),
                [8, 8, 24],
                "{engine} {start}: {result}"
            );
        }
    }
    // Bytes that answer nothing, and a protocol that nobody asked for.
    for (reply, errno) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi!", "UNASKED"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP101"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "BADREPLY"),
    ] {
        let other = Other::new(move |mut stream| {
            asked(&mut stream)?;
            stream.write_all(reply.as_bytes())?;
            asked(&mut stream)
        });
        for engine in ENGINES {
            let result = other.load(&bench, engine, 3);
            assert_eq!(
                (counts(&result, &["completed"]), errors(&result)),
                (vec![0], vec![(errno.to_owned(), 8)]),
                "{engine}"
            );
        }
    }
}

/// Method, path, host, headers and body; a reply to HEAD has no body, whatever it says.
fn requests_are_what_the_scenario_says() {
    let common = "[server]\napp = \"http\"\n[load]\nconnections = 3\nrequests = 2\nconcurrency = 1\n";
    let body = "x".repeat(40_000);
    for (keys, head, body, reply) in [
        (
            "method = \"HEAD\"\npath = \"/a?b=c\"\nhost = \"www.example\"",
            "HEAD /a?b=c HTTP/1.1\r\nHost: www.example\r\nUser-Agent: listenbench\r\nX-Nonce: ",
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            &format!(
                "method = \"PUT\"\nhost = \"h\"\nbody = \"{body}\"\nheaders = {{ Accept = \"a, b\", User-Agent = \"u\" }}"
            ),
            "PUT / HTTP/1.1\r\nHost: h\r\nAccept: a, b\r\nUser-Agent: u\r\nContent-Length: 40000\r\nX-Nonce: ",
            &body,
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        (
            "method = \"POST\"\nhost = \"h\"",
            "POST / HTTP/1.1\r\nHost: h\r\nUser-Agent: listenbench\r\nContent-Length: 0\r\nX-Nonce: ",
            "",
            "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        let bench = Bench::new(&format!("{common}{keys}"));
        let (head, body) = (head.to_owned(), body.to_owned());
        let other = Other::new(move |mut stream| {
            loop {
                // The nonce, two line breaks, the body.
                let mut request = vec![0; head.len() + 8 + 4 + body.len()];
                stream.read_exact(&mut request)?;
                let text = String::from_utf8(request).unwrap();
                if !(text.starts_with(&head) && text.ends_with(&format!("\r\n\r\n{body}"))) {
                    eprintln!("{text}");
                    return Ok(());
                }
                stream.write_all(reply.as_bytes())?;
            }
        });
        for engine in ENGINES {
            let result = other.load(&bench, engine, 0);
            assert_eq!(counts(&result, &["attempted", "completed", "replies"]), [3, 3, 6], "{engine} {reply}");
        }
    }
}

/// Each ends with an error or a time-out, and the others' figures are kept.
fn replies_without_end_cost_their_connection_only() {
    let bench = Bench::new("[load]\nconnections = 4\nconcurrency = 4\nreply_timeout = \"3s\"");
    for (head, piece, errno) in [
        ("HTTP/1.1 200 OK\r\nA: ", "a", "OVERLONG"),
        ("HTTP/1.1 200 OK\r\n", "A: b\r\n", "OVERLONG"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", "OVERLONG"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x", "OVERLONG"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", "OVERLONG"),
        ("HTTP/1.1 200 OK\r\n\r\n", "x", "ETIMEDOUT"),
    ] {
        let served = AtomicU64::new(0);
        let other = Other::new(move |mut stream| {
            asked(&mut stream)?;
            if served.fetch_add(1, Relaxed).is_multiple_of(2) {
                return stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .and_then(|()| asked(&mut stream));
            }
            let endless = piece.repeat(4_096);
            stream.write_all(head.as_bytes())?;
            loop {
                stream.write_all(endless.as_bytes())?;
            }
        });
        for engine in ENGINES {
            let result = other.load(&bench, engine, 3);
            assert_eq!(
                (counts(&result, &["completed"]), errors(&result)),
                (vec![2], vec![(errno.to_owned(), 2)]),
                "{engine} {head}"
            );
        }
    }
}

/// Unless HTTP says that they mean nothing, which the time-out ends.
fn bytes_without_end_after_a_reply_are_not_waited_for() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (app, reply, piece, error) in [
        ("http", OK, "x", ("receive", "UNASKED")),
        ("http", OK, "\r\n", ("close", "ETIMEDOUT")),
        ("echo", "", "x", ("receive", "UNASKED")),
        ("close", "", "x", ("receive", "BADREPLY")),
    ] {
        let bench = Bench::new(&format!(
            "[server]\napp = \"{app}\"\n[load]\nconnections = 4\nconcurrency = 4\nclose_by = \"server\"\nreply_timeout = \"500ms\""
        ));
        let other = Other::new(move |mut stream| {
            if app != "close" {
                asked(&mut stream)?;
            }
            stream.write_all(reply.as_bytes())?;
            let endless = piece.repeat(4_096);
            loop {
                stream.write_all(endless.as_bytes())?;
            }
        });
        for engine in ENGINES {
            let result = bench.load(&other.address.to_string(), &[engine], 3);
            let [failed] = &result["connections"]["errors"].as_array().unwrap()[..] else { panic!("{app}: {result}") };
            let (phase, errno) = error;
            assert_eq!(*failed, json!({ "phase": phase, "errno": errno, "count": 4 }), "{engine} {app}");
            assert_eq!(counts(&result, &["attempted", "completed"]), [4, 0], "{engine} {app}");
        }
    }
}

fn replies_are_counted_by_status() {
    let bench = Bench::new("[load]\nconnections = 5\nrequests = 5\nconcurrency = 1");
    let other = Other::replying(&[
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ]);
    for engine in ENGINES {
        let result = other.load(&bench, engine, 0);
        assert_eq!(counts(&result, &["completed", "replies", "reconnected"]), [5, 25, 0]);
        assert_eq!(result["connections"]["statuses"], json!({ "2xx": 5, "3xx": 5, "4xx": 5, "5xx": 10 }));
    }
    let (_, shown) = bench.load_and_report(&format!("http://{}", other.address), &[], 0);
    assert!(words(&shown).contains("15 of 25 replies: 2xx ×5, 3xx ×5, 4xx ×5, 5xx ×10"), "{shown}");
}

/// Eight requests of each of ten connections, on connections that carry three each: announced, or met by the next request.
fn requests_go_on_when_a_server_closes() {
    const KEEP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let bench = Bench::new("[load]\nconnections = 10\nrequests = 8\nconcurrency = 4");
    for (last, retried) in [(CLOSE, 0), (KEEP, 20), ("HTTP/1.1 200 OK\r\n\r\nuntil the close", 0)] {
        let other = Other::new(move |mut stream| {
            [KEEP, KEEP, last].iter().try_for_each(|reply| {
                asked(&mut stream)?;
                stream.write_all(reply.as_bytes())
            })
        });
        for engine in ENGINES {
            let before = other.accepted.load(Relaxed);
            let result = other.load(&bench, engine, 0);
            let names = ["attempted", "established", "completed", "reconnected", "replies", "retried"];
            assert_eq!(counts(&result, &names), [30, 30, 30, 20, 80, retried], "{engine} {last}: {result}");
            assert_eq!(other.accepted.load(Relaxed) - before, 30);
            assert_eq!(number(&result["latency_ns"]["response"]["count"]), 80);
            assert!(result["rates"]["requests_per_s"].as_f64().unwrap() > 0.0);
        }
    }
}

/// Otherwise a server that answers nothing would be asked for ever.
fn an_unanswered_request_is_made_again_only_after_a_reply() {
    let bench = Bench::new("[load]\nconnections = 6\nrequests = 8\nconcurrency = 2");
    let (silent, torn) = (Other::new(|mut stream| asked(&mut stream)), Other::replying(&["HTTP/1.1 200"]));
    for engine in ENGINES {
        for (other, errno) in [(&silent, "EOF"), (&torn, "TRUNCATED")] {
            let result = other.load(&bench, engine, 3);
            assert_eq!(counts(&result, &["attempted", "completed", "reconnected"]), [6, 0, 0], "{result}");
            assert_eq!(errors(&result), [(errno.to_owned(), 6)]);
        }
    }
}

fn a_reply_without_a_receipt_accuses_nobody() {
    let echo = Other::new(|mut stream| {
        let mut bytes = [0; 4_096];
        loop {
            let length = stream.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            stream.write_all(&bytes[..length])?;
        }
    });
    let target = echo.address.to_string();
    // With and without room for a 4-tuple.
    for bytes in [64, 20] {
        let bench = Bench::new(&format!(
            "[server]\nrequest_bytes = {bytes}\nreply_bytes = {bytes}\n[load]\nconnections = 20\nrequests = 3\nconcurrency = 4"
        ));
        for engine in ENGINES {
            let (result, shown) = bench.load_and_report(&target, &[engine], 0);
            assert!(shown.contains("60 replies had no receipt") && !shown.contains("misdelivered"), "{shown}");
            let names = ["completed", "replies", "verified", "misdelivered", "proxied"];
            assert_eq!(counts(&result, &names), [20, 60, 0, 0, 0], "{result}");
        }
    }
}

/// A proxy's connections have 4-tuples of their own.
fn a_proxy_is_named_as_one() {
    for app in ["echo", "http"] {
        let bench =
            Bench::new(&format!("[server]\napp = \"{app}\"\n[load]\nconnections = 15\nrequests = 2\nconcurrency = 3"));
        let server = Server::start(&bench, &[]);
        let behind = SocketAddr::from(([127, 0, 0, 1], server.port));
        let proxy = Other::new(move |mut client| {
            let mut server = TcpStream::connect(behind)?;
            let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
            thread::spawn(move || io::copy(&mut from, &mut to));
            io::copy(&mut client, &mut server).map(drop)
        });
        let target = proxy.address.to_string();
        for engine in ENGINES {
            let (result, shown) = bench.load_and_report(&target, &[engine], 0);
            assert!(shown.contains("4-tuple"), "{shown}");
            let names = ["completed", "replies", "verified", "misdelivered", "proxied"];
            assert_eq!(counts(&result, &names), [15, 30, 30, 0, 30], "{result}");
            assert_eq!(
                result["receipts"],
                Value::Null,
                "the server behind it accepts the proxy's connections, not the clients'"
            );
        }
    }
}

/// The server sees as many connections as were attempted; its queue is looked at from outside.
fn the_target_is_not_connected_to_beforehand() {
    let bench = Bench::new("[load]\nconnections = 12\nconcurrency = 3");
    let other = Other::replying(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
    let result = other.load(&bench, ENGINES[0], 0);
    assert_eq!((counts(&result, &["attempted"]), other.accepted.load(Relaxed)), (vec![12], 12));
    let [listener] = &result["listeners"].as_array().unwrap()[..] else { panic!("{result}") };
    // 128 is the backlog of Rust's listeners.
    assert_eq!((number(&listener["queue_limit"]), number(&listener["queue"]["drops"])), (128, 0));
    // A full queue that nobody empties drops every SYN and its retries.
    let bench = Bench::new(
        "[load]\nconnections = 5\nconcurrency = 5\nconnect_timeout = \"1500ms\"\nreply_timeout = \"1500ms\"",
    );
    for engine in ENGINES {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(1).unwrap();
        let full = Other { address: listener.local_addr().unwrap().as_socket().unwrap(), accepted: Arc::default() };
        // The second load finds it full, with drops that are not its own.
        for established in [2, 0] {
            let result = full.load(&bench, engine, 3);
            let (refused, retries) = (5 - established, number(&result["connections"]["syn_retries"]));
            let names = ["established", "completed", "syn_retried"];
            assert_eq!(counts(&result, &names), [established, 0, refused], "{result}");
            assert!(retries >= refused, "{result}");
            let listener = &result["listeners"][0];
            assert_eq!((number(&listener["queue_peak"]), number(&listener["queue_limit"])), (2, 1), "{listener}");
            assert_eq!(number(&listener["queue"]["drops"]), refused + retries, "{listener}");
            assert!(listener["queue"]["full_share"].as_f64().unwrap() > 0.0, "{listener}");
        }
    }
}

/// The keys of a server that is not there limit nothing.
fn a_load_needs_no_workers() {
    let bench =
        Bench::new("[server]\napp = \"http\"\nworkers = 1\n[load]\nconnections = 100\nconcurrency = 100\nloaders = 4");
    let other = Other::replying(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
    let few_files = |command: &str| {
        let script = format!("ulimit -n 100; exec {} {command}", env!("CARGO_BIN_EXE_listenbench"));
        Command::new("sh").args(["-c", &script]).current_dir(bench.folder.path()).output().unwrap()
    };
    let run = few_files("run scenario.toml");
    assert_code(&run, 1);
    assert!(stderr(&run).contains("`server.workers` to 5"), "{}", stderr(&run));
    let load = few_files(&format!("load scenario.toml {} --repetitions=1 --out out", other.address));
    assert_code(&load, 0);
    assert_eq!(counts(&bench.read_trials()[0], &["completed"]), [100]);
}
