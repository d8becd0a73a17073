//! Keys of events. Each `[[event]]` is an instance: `event.0.at` is the first one's `event.at`.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{
    SERVER_WORKERS,
    domain::{Choice, Integer, Optional, OrWord, POSITIVE_SPAN, SPAN, Span, choice, integer, or_word},
    keys,
    server::{Command, SignalName},
};
use crate::record::{EventKind, ReloadHow};

keys! { EVENT:
    EVENT_KIND: OrWord<Choice<EventKind>> = "event.kind", or_word("none", choice()), Some(EventKind::Stall),
        "Our own server: `stall`: stop the worker (SIGSTOP). `burn`: make it burn CPU without serving anyone. `kill`: SIGKILL. \
         `join`: one more worker starts to accept. `leave`: the worker stops accepting, serves the connections it has open, and exits. \
         `reload`: new workers replace all of them. Another server: `signal`: send it one. `exec`: run a command. `none`: nothing, for \
         sweeps.";
    EVENT_WORKER: Integer<usize> = "event.worker", integer(0, SERVER_WORKERS.max() - 1), 0,
        "`stall`, `burn`, `kill`, `leave`: the worker's number, from 0.";
    EVENT_AT: Optional<Span> = "event.at", Optional(SPAN), None,
        "When the event starts, from the trial's start. Required.";
    EVENT_EVERY: Optional<Span> = "event.every", Optional(POSITIVE_SPAN), None,
        "Repeats the event at this interval until the load ends. Requires a load whose end is known.";
    EVENT_FOR: Optional<Span> = "event.for", Optional(POSITIVE_SPAN), None,
        "`stall`, `burn`: how long it lasts. Required for `burn`; without it, a stall lasts until the trial ends.";
    EVENT_DRAIN: Span = "event.drain", SPAN, Duration::from_secs(5),
        "`leave`, `reload`: how long workers may go on serving the connections they have open. What is still open after that is cut off.";
    EVENT_HOW: Choice<ReloadHow> = "event.how", choice(), ReloadHow::Inherit,
        "`reload`: how new workers get their listeners. `inherit`: they are passed on. `reopen`: new ones join the old ones' \
         SO_REUSEPORT group, and the old ones are closed. `restart`: the old ones are closed, and new ones opened after a gap.";
    EVENT_GAP: Span = "event.gap", SPAN, Duration::from_millis(100),
        "`restart`: the time from the last close to the first new listener.";
    EVENT_SIGNAL: SignalName = "event.signal", SignalName, Signal::SIGHUP,
        "`signal`: the signal. It goes to the server's main process: the program that was started, the daemon it left behind, or what an \
         `exec` has put in its place. Of several processes without a parent among the server's, that is the youngest; with \
         `server.subject = \"running\"`, the oldest.";
    EVENT_COMMAND: Optional<Command> = "event.command", Optional(Command), None,
        "`exec`: the command, split into words as a shell would, but run without one. The placeholders of \
         `server.command` work here, too, and `{pid}` is the process that would get a signal. The command runs in the server's folder, and its \
         output is kept with the server's. It may keep running and be the server from then on. Only with `server.subject = \"command\"`.";
}
