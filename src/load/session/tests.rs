//! Sessions without sockets: what they do on each event, and what they record.

use super::*;
use crate::{
    ipc::{
        control::LoaderCount,
        ledger::{Entry, Journey},
    },
    load::{
        engine::{Kind, Taken},
        fakes::{FakeObserver, client_of, recorded, reply, scenario, shared},
    },
};

const RESET: Cause = Cause::Errno(libc::ECONNRESET);

/// One session, with what it shares.
struct One {
    shared: Shared<FakeObserver>,
    trial: FakeObserver,
    session: Session,
}

/// A session that was to start at 90 and called connect at 100.
fn one(transport: Transport, text: &str) -> One {
    let (scenario, trial) = (scenario(text), FakeObserver::default());
    let mut shared = shared(&scenario, trial.clone());
    let group = shared.ends.group_for(1);
    let own_end = shared.ends.number(&group, client_of(0));
    let start = Start { intended_ns: 90, connect_ns: 100 };
    let session = Session::new(transport, own_end, start, scenario.load.requests, true);
    One { shared, trial, session }
}

impl One {
    /// A connection that was established at 110, before its request went out.
    fn established(text: &str) -> Self {
        let mut one = one(Transport::Tcp, text);
        assert_eq!(one.session.on_started(&mut one.shared), Action::Send(None));
        one.session.on_taken(&mut one.shared, Taken::All);
        assert_eq!(one.event(Kind::Connected, 110), Action::Wait(Wait::Reply));
        one
    }

    fn event(&mut self, kind: Kind<'_>, now_ns: u64) -> Action {
        self.session.on_event(&mut self.shared, kind, now_ns)
    }

    /// A worker's reply to the current request, for a connection accepted at 130.
    fn reply(&self, worker: u16) -> Vec<u8> {
        reply(worker, self.session.nonce, 130, client_of(0))
    }

    fn answer(&mut self, now_ns: u64) -> Action {
        let bytes = self.reply(1);
        self.event(Kind::Received(&bytes), now_ns)
    }

    fn recorded(&self, name: &str) -> (u64, u64) {
        recorded(&self.shared.measures, name)
    }
}

#[test]
fn one_exchange_is_recorded_from_intent_and_from_the_connect_call() {
    let mut one = One::established("");
    assert_eq!(one.answer(190), Action::Complete);
    one.shared.ended(&mut one.session, Ok(()), 190);
    for (name, value_ns) in
        [("connect", 10), ("connect_from_intended", 20), ("response", 100), ("service", 90), ("w1.accept_wait", 30)]
    {
        assert_eq!(one.recorded(name), (1, value_ns), "{name}");
    }
    let report = &one.shared.report;
    assert_eq!((report.established, report.replies, report.verified, report.completed), (1, 1, 1, 1));
    assert_eq!((report.unserved, report.misdelivered), (0, 0));
    assert_eq!(one.trial.counts[LoaderCount::Completed as usize].get(), 1);
}

#[test]
fn a_reply_may_come_in_pieces() {
    let mut one = One::established("");
    let bytes = one.reply(0);
    assert_eq!(one.event(Kind::Received(&bytes[..5]), 120), Action::Continue);
    assert_eq!(one.event(Kind::Received(&bytes[5..63]), 130), Action::Continue);
    assert_eq!(one.event(Kind::Received(&bytes[63..]), 140), Action::Complete);
    assert!(one.session.input.is_none());
    assert_eq!(one.recorded("response"), (1, 50));
}

#[test]
fn excess_bytes_are_not_a_reply() {
    let mut one = One::established("");
    let bytes = [one.reply(0), vec![0]].concat();
    assert_eq!(one.event(Kind::Received(&bytes), 120), Action::Fail(Step::Receive, Cause::BadReply));
}

#[test]
fn further_requests_count_from_themselves() {
    let mut one = One::established("[load]\nrequests = 3");
    let mut nonces = vec![one.session.nonce];
    for now_ns in [1_000, 1_040] {
        assert_eq!(one.answer(now_ns), Action::Send(Some(Wait::Reply)));
        one.session.on_taken(&mut one.shared, Taken::All);
        nonces.push(one.session.nonce);
    }
    assert_eq!(one.answer(1_060), Action::Complete);
    assert_eq!(nonces, [1, 2, 3]);
    // 910, 40 and 20.
    assert_eq!(one.recorded("response"), (3, 910));
    assert_eq!(one.recorded("w1.accept_wait").0, 1);
}

#[test]
fn a_held_connection_answers_a_follow_up_and_completes_when_both_are_over() {
    let text = "[load]\nhold = \"1us\"\nfollow_up = \"500ns\"\nmode = \"open\"";
    let mut one = One::established(text);
    assert_eq!(one.answer(200), Action::Wait(Wait::Hold));
    assert_eq!((one.session.is_holding(), one.session.hold_until_ns()), (true, 1_200));
    one.shared.follow_up_ns = 500;
    assert_eq!(one.session.on_follow_up(&mut one.shared, 510), Action::Send(None));
    one.session.on_taken(&mut one.shared, Taken::All);
    assert!(one.session.awaits_follow_up());
    // Its place among those that are held is kept.
    assert_eq!(one.answer(700), Action::Continue);
    assert_eq!(one.recorded("follow_up"), (1, 200));
    assert_eq!(one.session.on_hold_over(), Action::Complete);

    let mut late = One::established(text);
    assert_eq!(late.answer(200), Action::Wait(Wait::Hold));
    late.session.on_follow_up(&mut late.shared, 510);
    assert_eq!(late.session.on_hold_over(), Action::Continue);
    assert_eq!(late.answer(1_300), Action::Complete);
}

#[test]
fn a_close_other_than_the_scenarios_fails_the_connection() {
    let reset = Kind::Ended(Step::Receive, RESET);
    for (how, end, action) in [
        ("fin", Kind::Ended(Step::Receive, Cause::EndOfFile), Action::Complete),
        ("fin", Kind::Ended(Step::Receive, RESET), Action::Fail(Step::Close, RESET)),
        ("rst", reset, Action::Complete),
        ("rst", Kind::Ended(Step::Receive, Cause::EndOfFile), Action::Fail(Step::Close, Cause::EndOfFile)),
        ("fin", Kind::Received(b"more"), Action::Fail(Step::Close, Cause::BadReply)),
    ] {
        let mut one = One::established(&format!("[load]\nclose_by = \"server\"\nclose_how = \"{how}\""));
        assert_eq!(one.answer(200), Action::Wait(Wait::Reply));
        assert_eq!(one.session.step(), Step::Close);
        assert_eq!(one.event(end, 300), action, "{how}");
    }
}

#[test]
fn a_server_that_closes_before_it_has_answered_fails_the_connection() {
    for (cause, sent) in [(Cause::EndOfFile, Taken::All), (RESET, Taken::All), (RESET, Taken::Part)] {
        let mut one = One::established("");
        one.session.on_taken(&mut one.shared, sent);
        let step = if sent == Taken::Part { Step::Send } else { Step::Receive };
        assert_eq!(one.event(Kind::Ended(Step::Receive, cause), 200), Action::Fail(step, cause));
        one.shared.ended(&mut one.session, Err((step, cause)), 200);
        assert_eq!((one.shared.report.completed, one.shared.report.unserved), (0, 1));
    }
}

#[test]
fn a_reset_connection_was_established_but_a_refused_one_was_not() {
    let refused = Cause::Errno(libc::ECONNREFUSED);
    for (cause, step, established) in [(RESET, Step::Receive, 1), (refused, Step::Connect, 0)] {
        // Before the first request is out.
        let mut early = one(Transport::Tcp, "");
        early.session.on_started(&mut early.shared);
        let action = early.session.on_send_failed(&mut early.shared, cause, 120);
        assert_eq!((action, early.shared.report.established), (Action::Fail(step, cause), established));
        // While the handshake is waited for.
        let mut waiting = one(Transport::Tcp, "");
        waiting.session.on_started(&mut waiting.shared);
        waiting.session.on_taken(&mut waiting.shared, Taken::Nothing);
        let action = waiting.event(Kind::Ended(step, cause), 120);
        let failed_at = if established == 1 { Step::Send } else { Step::Connect };
        assert_eq!((action, waiting.shared.report.established), (Action::Fail(failed_at, cause), established));
    }
}

#[test]
fn a_request_is_at_step_send_until_all_of_it_is_sent() {
    let mut one = One::established("");
    one.session.on_taken(&mut one.shared, Taken::Part);
    assert_eq!(one.session.step(), Step::Send);
    assert_eq!(one.event(Kind::Sent, 120), Action::Continue);
    assert_eq!(one.session.step(), Step::Receive);
}

#[test]
fn with_fast_open_the_request_goes_with_the_syn_once() {
    let mut one = one(Transport::Tcp, "[server]\nfastopen = 16");
    assert_eq!(one.session.on_started(&mut one.shared), Action::Continue);
    assert_eq!(one.event(Kind::FastOpen, 110), Action::Send(None));
    one.session.on_taken(&mut one.shared, Taken::All);
    assert_eq!(one.event(Kind::FastOpen, 115), Action::Continue);
    assert_eq!(one.shared.report.established, 0);
    assert_eq!(one.event(Kind::Connected, 120), Action::Wait(Wait::Reply));
    assert_eq!(one.answer(200), Action::Complete);
}

#[test]
fn another_connections_reply_is_misdelivered() {
    let nobodys = client_of(7);
    for bytes in [reply(0, 99, 130, client_of(0)), reply(0, 1, 130, nobodys), reply(0, 1, 99, client_of(0))] {
        let mut one = One::established("");
        let action = one.event(Kind::Received(&bytes), 200);
        assert_eq!(action, Action::Fail(Step::Receive, Cause::BadReply));
        assert_eq!((one.shared.report.misdelivered, one.recorded("response")), (1, (0, 0)));
    }
}

#[test]
fn stamps_not_between_connect_and_accept_are_doubted() {
    let journey = Journey { woke_ns: 125, accept_ns: 130, read_ns: 150, replied_ns: 170 };
    for (stamp_ns, staged, impossible, doubted) in
        [(Some(105), true, 0, false), (None, true, 0, false), (Some(99), false, 1, false), (Some(131), false, 0, true)]
    {
        let mut one = One::established("");
        one.trial.has_ledger.set(true);
        one.trial.journey.set(Some(journey));
        one.trial.stamp.set(stamp_ns);
        assert_eq!(one.answer(200), Action::Complete);
        assert_eq!(one.shared.report.stamps_impossible, impossible);
        assert_eq!(one.shared.stamp_in_doubt, doubted);
        assert_eq!(one.session.staged, staged, "{stamp_ns:?}");
        let handshake = if stamp_ns == Some(105) { (1, 5) } else { (0, 0) };
        assert_eq!(one.recorded("w1.stage_handshake"), handshake);
    }
}

#[test]
fn the_last_stage_is_the_close_without_the_hold() {
    let mut one = One::established("[load]\nhold = \"1us\"");
    one.trial.has_ledger.set(true);
    one.trial.journey.set(Some(Journey { woke_ns: 125, accept_ns: 130, read_ns: 150, replied_ns: 170 }));
    assert_eq!(one.answer(200), Action::Wait(Wait::Hold));
    one.shared.ended(&mut one.session, Ok(()), 1_250);
    assert_eq!(one.recorded("w1.stage_close"), (1, 50));
}

#[test]
fn a_wait_that_a_fault_prolonged_is_recorded_as_stranded() {
    for (over_ns, stranded) in [(100, 0), (101, 1), (130, 1), (131, 0), (0, 0)] {
        let mut one = One::established(
            "[server]\nstrategy = \"reuseport\"\nworkers = 2\n[[fault]]\nkind = \"stall\"\nworker = 1\nat = \"500ms\"\nfor = \"1s\"",
        );
        one.trial.fault_over_ns.set(over_ns);
        assert_eq!(one.answer(200), Action::Complete);
        assert_eq!(one.recorded("f0.stranded_wait").0, stranded, "{over_ns}");
    }
}

#[test]
fn the_close_is_the_reply_of_app_close_if_a_worker_accepted() {
    let entry = Entry { worker: 1, accept_ns: 130 };
    for (ledger, accept, action, waits) in [
        (true, Some(entry), Action::Complete, (1, 30)),
        (true, None, Action::Fail(Step::Receive, Cause::EndOfFile), (0, 0)),
        (false, None, Action::Complete, (0, 0)),
    ] {
        let mut one = one(Transport::Tcp, "[server]\napp = \"close\"");
        one.trial.has_ledger.set(ledger);
        one.trial.accept.set(accept);
        assert_eq!(one.session.on_started(&mut one.shared), Action::Continue);
        assert_eq!(one.event(Kind::Connected, 110), Action::Send(Some(Wait::Reply)));
        assert!(one.shared.out.is_empty());
        assert_eq!(one.event(Kind::Ended(Step::Receive, Cause::EndOfFile), 150), action);
        assert_eq!(one.recorded("w1.accept_wait"), waits);
    }
}

/// A flow whose request went out at once.
fn flow(text: &str) -> One {
    let mut one = one(Transport::Udp, &format!("protocol = \"udp\"\n{text}"));
    assert_eq!(one.session.on_started(&mut one.shared), Action::Send(Some(Wait::Reply)));
    one.session.on_taken(&mut one.shared, Taken::All);
    one
}

#[test]
fn a_late_reply_to_an_earlier_flow_is_stale() {
    let mut one = flow("");
    let late = reply(0, 77, 120, client_of(0));
    assert_eq!(one.event(Kind::Received(&late), 140), Action::Continue);
    assert_eq!(one.answer(190), Action::Complete);
    let flows = &one.shared.report.flows;
    assert_eq!((flows.begun, flows.sent, flows.replies, flows.stale), (1, 1, 1, 1));
    assert_eq!(one.recorded("w1.receive_wait"), (1, 30));
    // An unanswered port, and an empty datagram.
    for (cause, counted) in [(Cause::EndOfFile, Cause::BadReply), (RESET, RESET)] {
        let action = flow("").event(Kind::Ended(Step::Receive, cause), 150);
        assert_eq!(action, Action::Fail(Step::Receive, counted));
    }
}

#[test]
fn a_flow_sticks_to_a_worker_or_moves() {
    for (workers, sticky, moved) in [([1, 1, 1], 1, 0), ([1, 0, 1], 0, 1)] {
        let mut one = flow("[load]\nrequests = 3");
        for (now_ns, worker) in (200..).step_by(10).zip(workers) {
            let bytes = reply(worker, one.session.nonce, now_ns, client_of(0));
            one.event(Kind::Received(&bytes), now_ns);
            one.session.on_taken(&mut one.shared, Taken::All);
        }
        one.shared.ended(&mut one.session, Ok(()), 300);
        let flows = &one.shared.report.flows;
        assert_eq!((flows.sticky, flows.moved, &flows.by_worker[..]), (sticky, moved, &[0, 1][..]));
    }
}
