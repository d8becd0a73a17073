//! Looks as lines, for pipes and logs.

use std::collections::BTreeSet;

use anyhow::Result;

use super::super::{note, say};
use crate::{
    format::{counted, duration, percent, plural, rate, thousands},
    observe::processes::is_stopped,
    record::{Verdict, VerdictName},
    report::terminal,
    watch::{ListenerLook, Look, MemberLook},
};

/// Prints looks, and what is wrong when it first shows.
#[derive(Default)]
pub(super) struct Lines {
    /// What cannot be known, and has been said.
    missing: BTreeSet<String>,
    /// Verdicts that have been printed, by name and listener: their numbers grow.
    printed: BTreeSet<String>,
    /// Looks that have been printed.
    shown: u64,
}

impl Lines {
    pub(super) fn show(&mut self, look: &Look) -> Result<()> {
        self.note_missing(look);
        say(format_args!("after {:.1} s: {}", look.elapsed_s, head(look)))?;
        if let (0, Some(rules)) = (self.shown, &look.packet_filter) {
            say(format_args!("  packet filter: {rules}"))?;
        }
        if look.listeners.is_empty() {
            say("  nothing listens here")?;
        }
        for listener in &look.listeners {
            let queue = format!("queue {} of", thousands(listener.queue() as f64));
            let peak = format!(", peak {}", thousands(f64::from(listener.queue_peak())));
            list(listener, &queue, &peak)?;
        }
        for verdict in &look.verdicts {
            if self.printed.insert(key(verdict)) {
                say(format_args!("  ! {verdict}"))?;
            }
        }
        self.shown += 1;
        Ok(())
    }

    /// Prints the whole, unless the only look was just that, and the verdicts with what they mean, each kind explained once.
    pub(super) fn conclude(&mut self, whole: &Look) -> Result<()> {
        self.note_missing(whole);
        if self.shown != 1 {
            say(format_args!("in all {:.1} s: {}", whole.elapsed_s, head(whole)))?;
            for listener in &whole.listeners {
                list(listener, &format!("queue at most {} of", thousands(f64::from(listener.queue_peak()))), "")?;
            }
        }
        let mut explained: BTreeSet<VerdictName> = BTreeSet::new();
        for verdict in &whole.verdicts {
            let text = if explained.insert(verdict.name) {
                verdict.name.explain(&verdict.detail)
            } else {
                verdict.to_string()
            };
            say(terminal::prose(&text))?;
        }
        Ok(())
    }

    fn note_missing(&mut self, look: &Look) {
        for missing in &look.missing {
            if self.missing.insert(missing.clone()) {
                note(terminal::prose(missing));
            }
        }
    }
}

/// Prints a listener and its members.
fn list(listener: &ListenerLook, queue: &str, peak: &str) -> Result<()> {
    say(format_args!("  {}", of_listener(listener, queue, peak)))?;
    listener.members.iter().try_for_each(|member| say(format_args!("    {}", of_member(member))))
}

/// What a verdict is about: its name, and the beginning of its detail, which names the listener.
fn key(verdict: &Verdict) -> String {
    let about = verdict.detail.split_once(": ").map_or("", |(about, _)| about);
    format!("{} {about}", verdict.name)
}

/// `2 listeners; 3 SYNs sent again`.
fn head(look: &Look) -> String {
    let listeners = plural(look.listeners.len(), "listener");
    let retries = match look.syn_retries {
        0 => String::new(),
        1 => "; 1 SYN sent again".to_owned(),
        several => format!("; {several} SYNs sent again"),
    };
    let lost = match look.lost_events {
        None | Some(0) => String::new(),
        Some(lost) => {
            format!("; {} not recorded so far, so accepts may be too few", counted(lost, "event was", "events were"))
        }
    };
    let tracked = look.conntrack.map_or_else(String::new, |table| format!("; connection tracking: {table}"));
    format!("{listeners}{retries}{tracked}{lost}")
}

/// `127.0.0.1:80 (loopback only) nginx: 2,003 accepts/s, queue 3 of 511, peak 12, 14 open`.
fn of_listener(listener: &ListenerLook, queue: &str, peak: &str) -> String {
    let names = listener.names();
    let names = if names.is_empty() { String::new() } else { format!(" {}", names.join(", ")) };
    let device = listener.device.as_ref().map_or_else(String::new, |device| format!(" on {device}"));
    let accepts = listener.accepts_per_s.map_or_else(String::new, |accepts| format!("{} accepts/s, ", rate(accepts)));
    let sockets = match &listener.sockets[..] {
        [_] => String::new(),
        several => format!("{} sockets, ", several.len()),
    };
    let open = listener.open.map_or_else(String::new, |open| format!(", {} open", thousands(open as f64)));
    let drops = match listener.drops() {
        0 => String::new(),
        1 => ", 1 segment dropped".to_owned(),
        several => format!(", {} segments dropped", thousands(several as f64)),
    };
    format!(
        "{}{device} ({}){names}: {accepts}{sockets}{queue} {}{peak}{open}{drops}",
        listener.address,
        listener.reach.words(),
        thousands(f64::from(listener.limit()))
    )
}

/// `nginx 4711: 1,004 accepts/s, wait p50 12.3 µs, p99 240 µs, longest 1.20 ms; so far 2,003 accepts, 50.1 %, 0.31 EAGAIN per accept; 7
/// open`. What stands before "so far" is of the look's interval.
fn of_member(member: &MemberLook) -> String {
    let what = match member.state {
        None => " (ended)",
        Some(state) if is_stopped(state) => " (stopped)",
        Some(_) if member.supervises => " (supervises)",
        Some(_) => "",
    };
    let mut parts = Vec::new();
    if let (Some(accepts), Some(accepted)) = (member.accepts_per_s, member.accepted) {
        let wait = member.accept_wait.map(|wait| {
            let [p50, p99, max] = [wait.p50_ns, wait.p99_ns, wait.max_ns].map(|ns| duration(ns as f64));
            format!("wait p50 {p50}, p99 {p99}, longest {max}")
        });
        let so_far = format!("so far {}", counted(accepted, "accept", "accepts"));
        let eagain = member.eagain_per_accept.map(|eagain| format!("{eagain:.2} EAGAIN per accept"));
        let join = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        parts.push(join(vec![Some(format!("{} accepts/s", rate(accepts))), wait]));
        parts.push(join(vec![Some(so_far), member.share.map(percent), eagain]));
    }
    parts.extend(member.open.map(|open| format!("{} open", thousands(open as f64))));
    let thread = if member.tid == member.pid { String::new() } else { format!(" thread {}", member.tid) };
    let colon = if parts.is_empty() { "" } else { ": " };
    format!("{} {}{thread}{what}{colon}{}", member.comm, member.pid, parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::WaitEnd, watch::WaitLook};

    #[test]
    fn a_line_tells_the_interval_from_the_whole() {
        let busy = MemberLook {
            pid: 12,
            tid: 12,
            comm: "nginx".to_owned(),
            state: Some('S'),
            supervises: false,
            accepted: Some(2_003),
            accepts_per_s: Some(1_004.0),
            share: Some(0.501),
            accept_wait: Some(WaitLook { p50_ns: 12_300, p99_ns: 240_000, max_ns: 1_200_000, ends: WaitEnd::Accept }),
            unstamped: Some(0),
            eagain_per_accept: Some(0.31),
            open: Some(7),
        };
        assert_eq!(
            of_member(&busy),
            "nginx 12: 1,004 accepts/s, wait p50 12.3 µs, p99 240 µs, longest 1.20 ms; so far 2,003 accepts, 50.1 %, 0.31 EAGAIN per \
             accept; 7 open"
        );
        let idle = MemberLook { accepts_per_s: Some(0.0), accept_wait: None, tid: 14, ..busy };
        assert_eq!(
            of_member(&idle),
            "nginx 12 thread 14: 0 accepts/s; so far 2,003 accepts, 50.1 %, 0.31 EAGAIN per accept; 7 open"
        );
        let none = MemberLook { accepted: Some(0), share: None, eagain_per_accept: None, tid: 12, ..idle };
        let master = MemberLook { supervises: true, open: Some(0), ..none.clone() };
        assert_eq!(of_member(&master), "nginx 12 (supervises): 0 accepts/s; so far 0 accepts; 0 open");
        let uncounted = MemberLook { accepted: None, accepts_per_s: None, ..master };
        assert_eq!(of_member(&uncounted), "nginx 12 (supervises): 0 open");
        let gone = MemberLook { open: None, ..uncounted };
        assert_eq!(of_member(&gone), "nginx 12 (supervises)");
        let of = |state| of_member(&MemberLook { state, ..none.clone() });
        assert!(of(Some('T')).starts_with("nginx 12 (stopped): 0 "));
        assert!(of(None).starts_with("nginx 12 (ended): 0 "));
    }
}
