//! Every example in every command's help runs as it stands there.
//!
//! They run in a folder and a network namespace of their own, so that they find the files, records and servers that they name, on the
//! ports that they name. A wrapper in `PATH` shortens trials and observations; tools that are missing here are replaced by ones that
//! read what they are given.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::{
    common::{Bench, assert_code, stderr, stdout},
    help::commands,
    requires,
};

tests! {
    a_namespace [every_example_runs]
}

/// An example in a help: the command, and the remark that follows it after two spaces or more.
struct Example {
    command: String,
    remark: String,
}

/// The examples of a help.
fn examples(help: &str) -> Vec<Example> {
    let lines: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("Example")).skip(1).collect();
    let end = lines.iter().position(|line| line.trim().is_empty()).unwrap_or(lines.len());
    lines[..end]
        .iter()
        .map(|line| {
            assert!(line.starts_with("  "), "the example before {line:?} is wrapped, so nobody can copy it");
            let line = line.trim();
            let (command, remark) = line.split_once("  ").unwrap_or((line, ""));
            Example { command: command.trim().to_owned(), remark: remark.trim().to_owned() }
        })
        .collect()
}

/// A small scenario that suits every example that names a file.
const SCENARIO: &str = "repetitions = 1\n[server]\napp = \"http\"\n[load]\nmode = \"open\"\nrate = 100.0\nwarmup = \"10ms\"\nduration = \"100ms\"\n";

/// Shortens what it starts: trials, rounds and observations.
const WRAPPER: &str = r#"#!/bin/bash
arguments=() next=
for argument in "$@"; do
    case $next in
        --for) [ "$1" = new ] || argument=150ms ;;
        --rounds | --repetitions) argument=1 ;;
        --seconds) argument=0.05 ;;
    esac
    case $argument in repetitions=*) argument=repetitions=1 ;; esac
    next=$argument
    arguments+=("$argument")
done
given=" ${arguments[*]} "
add() { case $given in *"$1"*) ;; *) arguments+=("${@:2}") ;; esac; }
case $1 in
    run | load)
        add repetitions --set repetitions=1
        case $given in *" --for "*) ;; *) add load.duration --set load.duration=100ms ;; esac
        add load.warmup --set load.warmup=20ms ;;
    calibrate)
        add --rounds --rounds 1
        add --seconds --seconds 0.3 ;;
    observe)
        case $given in *" --for "*) ;; *) exec timeout --preserve-status 2 "$BINARY" "${arguments[@]}" ;; esac ;;
    serve)
        exec timeout --preserve-status 20 "$BINARY" "${arguments[@]}" ;;
esac
exec "$BINARY" "${arguments[@]}"
"#;

/// Runs the examples in the file `examples`, a line each with its remark after a tab, and prints each that fails.
// Programs in a script's background ignore SIGINT, so SIGTERM ends them.
const RUNNER: &str = r#"
ip link set lo up || exit 9
listens() { for _ in $(seq 200); do (: < "/dev/tcp/127.0.0.1/$1") 2>/dev/null && return; sleep 0.05; done; return 1; }
servers=()
for port in 8080 443 80 5672 8443 6379; do
    # Any server will do where Redis is not installed: another reply makes a trial invalid, which is allowed.
    if [ $port = 6379 ] && command -v redis-server >serve-$port; then
        redis-server --port $port --save '' >serve-$port 2>&1 &
    elif [ $port = 8443 ]; then
        "$BINARY" serve scenario.toml --set port=$port --set server.app=https >serve-$port 2>&1 &
    else
        "$BINARY" serve scenario.toml --set port=$port >serve-$port 2>&1 &
    fi
    servers+=($!)
    listens $port || { cat serve-$port; exit 9; }
done
"$BINARY" serve scenario.toml --set "address=unix:$PWD/gunicorn.sock" >serve-unix 2>&1 &
servers+=($!)
for _ in $(seq 200); do [ -S gunicorn.sock ] && break; sleep 0.05; done
export SERVER=${servers[0]}
for record in old new old-{1,2,3,4} new-{1,2,3,4} results/20260131T120000Z-quick; do
    "$BINARY" run my.toml --quiet --out "$record" >made 2>&1 || { code=$?; [ $code = 3 ] || { cat made; exit 9; }; }
done
background=
while IFS=$'\t' read -r command remark; do
    command=${command//\/var\/lib\/node_exporter/.}
    command=${command//\/run\/gunicorn/$PWD/gunicorn}
    case $remark in
        'while `'*'` runs')
            beside=${remark#'while `'}
            (eval "exec ${beside%'` runs'}") >beside 2>&1 & background=$!
            listens 7000 || { echo "not up: $beside"; cat beside; } ;;
    esac
    case $command in
        'listenbench serve'*)
            (eval "exec $command") >served 2>&1 & background=$!
            listens 7000 || { echo "failed: $command"; cat served; }
            continue ;;
    esac
    timeout 100 bash -o pipefail -c "$command" >output 2>&1 </dev/null
    code=$?
    case $command in
        *compare*--fail-if*) allowed='0 3 4' ;;
        *doctor*) allowed='0 1 3' ;;
        # A busy machine may spoil a trial, and without root a command may lack what it needs; what was typed is right in both cases.
        'listenbench run'* | 'listenbench load'* | 'DIR='*) allowed='0 3' ;;
        sudo*) [ "$PRIVILEGED" = yes ] && allowed='0 3' || allowed='0 1 3' ;;
        *) allowed='0' ;;
    esac
    case " $allowed " in *" $code "*) ;; *) echo "exit $code: $command"; cat output ;; esac
    if [ -n "$background" ] && [ "${command#curl}" != "$command" -o -n "$remark" ]; then
        kill "$background" 2>/dev/null; wait "$background" 2>/dev/null; background=
    fi
done <examples
kill "${servers[@]}"
[ -z "$background" ] || kill "$background"
wait
echo finished
"#;

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The traces that examples name: logs of half an hour that begin with many requests, and a capture.
fn traces(bench: &Bench) {
    let seconds = || std::iter::repeat_n(0, 100).chain((1..1_800).step_by(20));
    let combined: String = seconds()
        .map(|second| {
            format!("192.0.2.1 - - [14/Nov/2023:22:{:02}:{:02} +0000] \"GET /\" 200 1\n", 10 + second / 60, second % 60)
        })
        .collect();
    let layout: String =
        seconds().map(|second| format!("192.0.2.1:5000 [{}.250] 0.010\n", 1_700_000_000 + second)).collect();
    for (name, text) in [("access.log", &combined), ("access.log.zst", &combined), ("app.log", &layout)] {
        fs::write(bench.path(name), text).unwrap();
    }
    // A section of pcapng, an interface of raw IP packets, and a SYN.
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    };
    let mut syn = [0_u8; 40];
    (syn[0], syn[9], syn[32], syn[33]) = (0x45, 6, 0x50, 2);
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let capture = [
        block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX])),
        block(1, &words(&[101, 0])),
        block(6, &[words(&[0, 0, 5, 40, 40]), syn.to_vec()].concat()),
    ];
    fs::write(bench.path("capture.pcapng"), capture.concat()).unwrap();
}

fn every_example_runs() {
    let bench = Bench::new(SCENARIO);
    for name in ["my.toml", "before.toml", "after.toml"] {
        fs::write(bench.path(name), SCENARIO).unwrap();
    }
    for folder in ["bin", "results", ".local/share/bash-completion/completions", ".config/fish/completions", ".zfunc"] {
        fs::create_dir_all(bench.path(folder)).unwrap();
    }
    traces(&bench);
    let program = |name: &str, text: &str| write_program(&bench.path("bin").join(name), text);
    program("listenbench", WRAPPER);
    program("sudo", "#!/bin/sh\nexec \"$@\"\n");
    program(
        "ip",
        "#!/bin/sh\n[ \"$1 $2\" = 'netns exec' ] || exec $(PATH=/usr/sbin:/sbin:/usr/bin:/bin command -v ip) \"$@\"\nshift 3\nexec \"$@\"\n",
    );
    program("pidof", "#!/bin/sh\necho $SERVER\n");
    // Whether it is installed or not, it unpacks what is not packed.
    program("zstdcat", "#!/bin/sh\nexec cat \"$@\"\n");
    program("less", "#!/bin/sh\ncat >/dev/null\n");
    for (tool, instead) in [("jq", "cat >/dev/null"), ("curl", "exit 0"), ("man", "cat >/dev/null")] {
        if !requires::on_path(tool) {
            program(tool, &format!("#!/bin/sh\n{instead}\n"));
        }
    }
    let mut lines = String::new();
    for command in commands(&bench) {
        let help = stdout(&bench.command(&[&command, "--help"]).output().unwrap());
        let examples = examples(&help);
        assert!(!examples.is_empty(), "{command}: {help}");
        for Example { command, remark } in examples {
            lines += &format!("{command}\t{remark}\n");
        }
    }
    fs::write(bench.path("examples"), &lines).unwrap();
    let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
    let unshare: &[&str] = if requires::root() { &["-n"] } else { &["-rn"] };
    let output = bench
        .command_of(Path::new("unshare"), unshare)
        .args(["bash", "-c", RUNNER])
        .env("PATH", path)
        .env("HOME", bench.folder.path())
        .env("BINARY", env!("CARGO_BIN_EXE_listenbench"))
        .env("PRIVILEGED", if requires::root() { "yes" } else { "no" })
        .output()
        .unwrap();
    assert_code(&output, 0);
    assert_eq!(stdout(&output), "finished\n", "{}\n{lines}", stderr(&output));
    bench.demand_nothing_left();
}
