//! Sessions without sockets: what they do on each event, and what they record.

use super::*;
use crate::ipc::control::Loss;
use crate::record::{Followed, Statuses};
use crate::{
    ipc::{
        connection_id::ConnectionId,
        ledger::{Entry, Journey},
        proxy_header::{self, Header, Version},
        receipt::{Told, Tuple},
    },
    load::{
        engine::{Kind, Taken},
        fakes::{FakeObserver, TARGET, client_of, rebound_of, recorded, reply, reply_told, scenario, shared},
        report::LoaderReport,
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
    let session = Session::new(transport, own_end, start, scenario.loads[0].requests, true);
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

    fn report(&self) -> LoaderReport {
        LoaderReport::read(&self.shared.account)
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
    let report = one.report();
    assert_eq!((report.established, report.replies, report.verified, report.completed), (1, 1, 1, 1));
    assert_eq!((report.unserved, report.misdelivered), (0, 0));
}

#[test]
fn a_reply_may_come_in_pieces() {
    let mut one = One::established("");
    let bytes = one.reply(0);
    assert_eq!(one.event(Kind::Received(&bytes[..5]), 120), Action::Continue);
    assert_eq!(one.event(Kind::Received(&bytes[5..63]), 130), Action::Continue);
    assert_eq!(one.event(Kind::Received(&bytes[63..]), 140), Action::Complete);
    assert!(one.session.reading.is_none());
    assert_eq!(one.recorded("response"), (1, 50));
}

#[test]
fn bytes_that_answer_no_request_end_the_connection() {
    let unasked = Action::Fail(Step::Receive, Cause::Unasked);
    // After a reply, which counts.
    let mut one = One::established("");
    let bytes = [one.reply(0), vec![0]].concat();
    assert_eq!(one.event(Kind::Received(&bytes), 120), unasked);
    assert_eq!((one.report().replies, one.recorded("response").0), (1, 1));
    // Before any request was sent; and while the connection is held.
    let mut one = One::established("[load]\nhold = \"1us\"");
    let bytes = one.reply(0);
    assert_eq!(one.event(Kind::Early(&bytes), 120), unasked);
    assert_eq!(one.report().replies, 0);
    assert_eq!(one.answer(130), Action::Wait(Wait::Hold));
    assert_eq!(one.event(Kind::Received(&bytes), 140), unasked);
}

#[test]
fn a_connection_listens_before_the_measurement_and_others_if_the_server_spoke() {
    let next = |one: &mut One, measured| {
        let start = Start { intended_ns: 90, connect_ns: 100 };
        one.session = Session::new(Transport::Tcp, (0, one.session.port), start, 1, measured);
        one.session.on_started(&mut one.shared)
    };
    let asks = Action::Send(None);
    for (measured, in_trial, first) in [(false, false, Action::Continue), (true, false, asks), (false, true, asks)] {
        let mut one = one(Transport::Tcp, "[server]\napp = \"http\"");
        one.trial.has_ledger.set(in_trial);
        assert_eq!(next(&mut one, measured), first);
        if first == asks {
            continue;
        }
        assert_eq!(one.event(Kind::Connected, 110), Action::Wait(Wait::Unasked));
        assert_eq!(one.event(Kind::Received(b"\r\n"), 115), Action::Continue);
        assert_eq!((one.session.step(), one.session.unanswered()), (Step::Receive, 1));
        // The others don't wait for it.
        let first = std::mem::replace(
            &mut one.session,
            Session::new(Transport::Tcp, (0, 1), Start { intended_ns: 90, connect_ns: 100 }, 1, false),
        );
        assert_eq!(one.session.on_started(&mut one.shared), asks);
        one.session = first;
        assert_eq!(one.event(Kind::Received(KEEP), 120), Action::Fail(Step::Receive, Cause::Unasked));
        assert_eq!(next(&mut one, true), Action::Continue);
        assert_eq!(one.event(Kind::Connected, 110), Action::Wait(Wait::Unasked));
        assert_eq!(one.session.on_silence(&mut one.shared, 160), Action::Send(Some(Wait::Reply)));
        one.session.on_taken(&mut one.shared, Taken::All);
        assert_eq!(one.event(Kind::Received(KEEP), 170), Action::Complete);
    }
}

#[test]
fn http_replies_are_counted_by_status_and_all_of_them_are_replies() {
    let mut one = One::established("[server]\napp = \"http\"\n[load]\nrequests = 6");
    for status in [200, 204, 301, 404, 503] {
        let reply = format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\n\r\n");
        assert_eq!(one.event(Kind::Received(reply.as_bytes()), 120), Action::Send(Some(Wait::Reply)), "{status}");
        one.session.on_taken(&mut one.shared, Taken::All);
    }
    // Line breaks after a reply belong to nothing.
    assert_eq!(one.event(Kind::Received(b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n\r\n"), 130), Action::Complete);
    let statuses = Statuses { successful: 2, redirected: 1, client_errors: 1, server_errors: 2 };
    assert_eq!((one.report().statuses, one.report().replies), (Some(statuses), 6));
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
        ("fin", Kind::Received(b"more"), Action::Fail(Step::Receive, Cause::Unasked)),
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
        assert_eq!((one.report().completed, one.report().unserved), (0, 1));
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
        assert_eq!((action, early.report().established), (Action::Fail(step, cause), established));
        // While the handshake is waited for.
        let mut waiting = one(Transport::Tcp, "");
        waiting.session.on_started(&mut waiting.shared);
        waiting.session.on_taken(&mut waiting.shared, Taken::Nothing);
        let action = waiting.event(Kind::Ended(step, cause), 120);
        let failed_at = if established == 1 { Step::Send } else { Step::Connect };
        assert_eq!((action, waiting.report().established), (Action::Fail(failed_at, cause), established));
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
    assert_eq!(one.report().established, 0);
    assert_eq!(one.event(Kind::Connected, 120), Action::Wait(Wait::Reply));
    assert_eq!(one.answer(200), Action::Complete);
}

#[test]
fn another_connections_reply_is_misdelivered() {
    let nobodys = client_of(7);
    for (in_trial, bytes) in [
        (false, reply(0, 99, 130, client_of(0))),
        (false, reply(0, 99, 130, nobodys)),
        (true, reply(0, 1, 130, nobodys)),
        (false, reply(0, 1, 99, client_of(0))),
    ] {
        let mut one = One::established("");
        one.trial.has_ledger.set(in_trial);
        let action = one.event(Kind::Received(&bytes), 200);
        assert_eq!(action, Action::Fail(Step::Receive, Cause::BadReply));
        assert_eq!((one.report().misdelivered, one.recorded("response")), (1, (0, 0)));
    }
}

#[test]
fn a_header_goes_before_the_first_request_and_its_receipts_must_repeat_it() {
    for (version, length) in [(Version::Text, 43), (Version::Binary, 28)] {
        let text = format!("load.requests = 2\nload.proxy_protocol = {}", version.number());
        let mut one = one(Transport::Tcp, &text);
        assert_eq!(one.session.on_started(&mut one.shared), Action::Send(None));
        let proxy_header::Read::Whole(header) = proxy_header::read(&one.shared.out) else { panic!() };
        let ends = Tuple { client: client_of(0), server: TARGET };
        assert_eq!(header, Header { version, length, ends: Some(ends) });
        // The request follows.
        assert_eq!(one.shared.out.len() - length, 64);
        one.session.on_taken(&mut one.shared, Taken::All);
        one.event(Kind::Connected, 110);
        let bytes = reply_told((0, one.session.nonce, 130), client_of(0), Told::Own(version));
        assert_eq!(one.event(Kind::Received(&bytes), 140), Action::Send(Some(Wait::Reply)));
        assert_eq!((one.shared.out.len(), one.report().verified), (64, 1), "one header for each connection");
        // A connection that listens sends it beforehand: a server that expects it does not speak earlier.
        let mut listens = super::tests::one(Transport::Tcp, &format!("server.app = \"http\"\n{text}"));
        let start = Start { intended_ns: 90, connect_ns: 100 };
        listens.session = Session::new(Transport::Tcp, (0, 1), start, 2, false);
        assert_eq!(listens.session.on_started(&mut listens.shared), Action::Continue);
        assert_eq!(listens.event(Kind::Connected, 110), Action::Send(Some(Wait::Unasked)));
        assert!(matches!(proxy_header::read(&listens.shared.out), proxy_header::Read::Whole(_)));
        listens.session.on_taken(&mut listens.shared, Taken::All);
        assert_eq!(listens.session.on_silence(&mut listens.shared, 160), Action::Send(Some(Wait::Reply)));
        assert!(listens.shared.out.starts_with(b"GET / HTTP/1.1\r\n"), "{}", listens.shared.out.escape_ascii());
    }
    // A server that has not read the header, or another one, or one without ends; and one that has read what nobody has sent.
    for (sent, told, in_trial) in [
        (2, Told::Nothing, true),
        (2, Told::Nothing, false),
        (2, Told::Own(Version::Text), false),
        (2, Told::Unnamed(Version::Binary), false),
        (2, Told::Another(Version::Binary), true),
        (0, Told::Own(Version::Binary), true),
        (0, Told::Own(Version::Binary), false),
    ] {
        let mut one = One::established(&format!("load.proxy_protocol = {sent}"));
        one.trial.has_ledger.set(in_trial);
        let bytes = reply_told((0, 1, 130), client_of(0), told);
        let action = one.event(Kind::Received(&bytes), 200);
        assert_eq!(action, Action::Fail(Step::Receive, Cause::BadReply), "{told:?}");
        assert_eq!((one.report().misdelivered, one.report().proxied), (1, 0));
    }
    // A proxy has told the server whose connection it passes on, or that of somebody else.
    for (sent, client, named) in [(0, client_of(0), 1), (2, client_of(0), 1), (0, client_of(7), 0)] {
        let mut one = One::established(&format!("load.proxy_protocol = {sent}"));
        let bytes = reply_told((0, 1, 130), client, Told::Another(Version::Text));
        assert_eq!(one.event(Kind::Received(&bytes), 200), Action::Complete);
        let report = one.report();
        assert_eq!((report.verified, report.proxied, report.named, report.misdelivered), (1, 1, named, 0));
        assert_eq!(one.recorded("w0.accept_wait").0, 0, "its accept is the proxy's");
    }
}

#[test]
fn replies_that_others_touched_are_told_apart_from_misdelivered_ones() {
    let short = "[server]\nrequest_bytes = 20\nreply_bytes = 20";
    let (whose, echo) =
        (reply(0, 1, 130, client_of(7)), [1, 0, 0, 0].iter().chain(&[0; 60]).copied().collect::<Vec<u8>>());
    for (text, bytes, verified, proxied) in
        [("", &whose[..], 1, 1), (short, &whose[..20], 1, 1), ("", &echo[..], 0, 0), (short, &echo[..20], 0, 0)]
    {
        let mut one = One::established(text);
        assert_eq!(one.event(Kind::Received(bytes), 200), Action::Complete, "{text}");
        let report = one.report();
        assert_eq!((report.replies, report.verified, report.proxied, report.misdelivered), (1, verified, proxied, 0));
        assert_eq!((one.recorded("response").0, one.recorded("w0.accept_wait").0), (1, 0));
    }
}

#[test]
fn a_reply_from_another_host_is_checked_and_its_time_is_not() {
    let (this, echo) = (client_of(0), [1, 0, 0, 0].iter().chain(&[0; 60]).copied().collect());
    for (bytes, answered) in [
        // Whatever the other host's clock says.
        (reply(1, 1, 130, this), Some(1)),
        (reply(0, 1, 5, this), Some(0)),
        (reply(1, 1, u64::MAX / 2, this), Some(1)),
        // The trial's own server has no third worker, answers only what was asked, and always with a receipt.
        (reply(2, 1, 130, this), None),
        (reply(1, 1, 130, client_of(7)), None),
        (reply(1, 99, 130, this), None),
        (echo, None),
    ] {
        let mut one = One::established("[server]\nworkers = 2");
        one.trial.has_ledger.set(true);
        one.trial.is_elsewhere.set(true);
        one.trial.journey.set(Some(Journey { accept_ns: 130, ..Journey::default() }));
        one.trial.stamp.set(Some(120));
        let failed = Action::Fail(Step::Receive, Cause::BadReply);
        assert_eq!(one.event(Kind::Received(&bytes), 200), answered.map_or(failed, |_| Action::Complete));
        let (report, good) = (one.report(), u64::from(answered.is_some()));
        assert_eq!((report.misdelivered, report.stamps_impossible), (1 - good, 0));
        assert_eq!((one.recorded("response").0, one.session.first_worker()), (good, answered));
        assert_eq!((one.recorded("w1.accept_wait"), one.session.staged), ((0, 0), false));
    }
}

#[test]
fn stamps_not_between_connect_and_accept_are_doubted() {
    let journey = Journey { woke_ns: 125, returned_ns: 130, accept_ns: 130, read_ns: 150, replied_ns: 170 };
    for (stamp_ns, staged, impossible, doubted) in
        [(Some(105), true, 0, false), (None, true, 0, false), (Some(99), false, 1, false), (Some(131), false, 0, true)]
    {
        let mut one = One::established("");
        one.trial.has_ledger.set(true);
        one.trial.journey.set(Some(journey));
        one.trial.stamp.set(stamp_ns);
        assert_eq!(one.answer(200), Action::Complete);
        assert_eq!(one.report().stamps_impossible, impossible);
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
    one.trial.journey.set(Some(Journey {
        woke_ns: 125,
        returned_ns: 130,
        accept_ns: 130,
        read_ns: 150,
        replied_ns: 170,
    }));
    assert_eq!(one.answer(200), Action::Wait(Wait::Hold));
    one.shared.ended(&mut one.session, Ok(()), 1_250);
    assert_eq!(one.recorded("w1.stage_close"), (1, 50));
}

#[test]
fn a_wait_that_an_event_prolonged_is_recorded_as_stranded() {
    for (over_ns, stranded) in [(100, 0), (101, 1), (130, 1), (131, 0), (0, 0)] {
        let mut one = One::established(
            "[server]\nstrategy = \"reuseport\"\nworkers = 2\n[[event]]\nkind = \"stall\"\nworker = 1\nat = \"500ms\"\nfor = \"1s\"",
        );
        one.trial.event_over_ns.set(over_ns);
        assert_eq!(one.answer(200), Action::Complete);
        assert_eq!(one.recorded("e0-0.stranded_wait").0, stranded, "{over_ns}");
    }
}

#[test]
fn what_the_server_refused_or_ended_is_attributed() {
    let reset = Cause::Errno(libc::ECONNRESET);
    for (ledger, accepted, cause, loss) in [
        (true, false, reset, Some(Loss::ResetInQueue)),
        (true, true, reset, Some(Loss::Cut)),
        (true, true, Cause::Truncated, Some(Loss::Cut)),
        (false, false, Cause::EndOfFile, Some(Loss::Cut)),
        (true, true, Cause::TIMED_OUT, None),
        (true, true, Cause::Deadline, None),
    ] {
        let mut one = One::established("");
        one.trial.has_ledger.set(ledger);
        one.trial.accept.set(accepted.then_some(Entry { worker: 0, accept_ns: 130 }));
        one.shared.ended(&mut one.session, Err((Step::Receive, cause)), 300);
        let expected: Vec<_> = loss.into_iter().map(|loss| (loss, one.session.connect_ns(), 300)).collect();
        assert_eq!(*one.trial.lost.borrow(), expected, "{cause:?}");
    }
    let mut one = One::established("");
    one.trial.has_ledger.set(true);
    one.trial.accept.set(Some(Entry { worker: 0, accept_ns: 130 }));
    one.trial.is_shed.set(true);
    one.shared.ended(&mut one.session, Err((Step::Receive, reset)), 300);
    assert!(one.trial.lost.borrow().is_empty(), "for want of a descriptor");
}

#[test]
fn the_close_is_the_reply_of_app_close_if_a_worker_accepted() {
    let entry = Entry { worker: 1, accept_ns: 130 };
    for (ledger, elsewhere, accept, action, waits) in [
        (true, false, Some(entry), Action::Complete, (1, 30)),
        (true, false, None, Action::Fail(Step::Receive, Cause::EndOfFile), (0, 0)),
        (false, false, None, Action::Complete, (0, 0)),
        // Another host's accepts are not known here.
        (true, true, None, Action::Complete, (0, 0)),
    ] {
        let mut one = one(Transport::Tcp, "[server]\napp = \"close\"");
        one.trial.has_ledger.set(ledger);
        one.trial.is_elsewhere.set(elsewhere);
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
    let flows = one.report().flows;
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
        let flows = one.report().flows;
        assert_eq!((flows.sticky, flows.moved, &flows.by_worker[..]), (sticky, moved, &[0, 1][..]));
    }
}

#[test]
fn a_flow_of_a_trace_that_ends_before_it_changes_its_port_has_one() {
    // The scenario has 3 requests for flows of which a trace says nothing, and this one has a single one.
    let mut one = one(Transport::Udp, "protocol = \"udp\"\n[load]\nrequests = 3\nrebind_after = 2");
    one.session.requests_left = 1;
    assert_eq!(one.session.on_started(&mut one.shared), Action::Send(Some(Wait::Reply)));
    assert_eq!(one.report().flows.rebound, 0);
}

#[test]
fn a_flow_that_changes_its_port_stays_or_moves() {
    for (workers, [stayed, moved]) in [([1, 1, 1], [1, 0]), ([1, 0, 1], [0, 1]), ([0, 0, 1], [1, 0])] {
        let mut one = flow("[load]\nrequests = 3\nrebind_after = 1");
        let mut client = client_of(0);
        for (number, worker) in workers.into_iter().enumerate() {
            let bytes = reply(worker, one.session.nonce, 200, client);
            let action = one.event(Kind::Received(&bytes), 200);
            // Before the second request, and no other.
            assert_eq!(matches!(action, Action::Rebind(_)), number == 0, "{action:?}");
            if number == 0 {
                client = rebound_of(0);
                one.session.on_rebound(&mut one.shared, client.port());
                assert_eq!(one.shared.former_port(&one.session), Some(client_of(0).port()));
            }
            one.session.on_taken(&mut one.shared, Taken::All);
        }
        one.shared.ended(&mut one.session, Ok(()), 300);
        let flows = one.report().flows;
        assert_eq!((flows.rebound, flows.after_rebinding), (1, Followed { stayed, moved }), "{workers:?}");
        assert_eq!(flows.after_reload, Followed::default());
    }
}

#[test]
fn a_flow_is_asked_after_a_reload_who_has_it() {
    // The second request is made before the new workers take over, and the third after that.
    for (workers, [stayed, moved]) in [([1, 1, 1], [1, 0]), ([1, 1, 0], [0, 1]), ([1, 0, 0], [1, 0])] {
        let mut one = flow("[load]\nrequests = 4");
        for (number, worker) in workers.into_iter().enumerate() {
            one.trial.reloads.set(u64::from(number > 0));
            let bytes = reply(worker, one.session.nonce, 200, client_of(0));
            assert_eq!(one.event(Kind::Received(&bytes), 200), Action::Send(Some(Wait::Reply)));
            one.session.on_taken(&mut one.shared, Taken::All);
        }
        assert_eq!(one.report().flows.after_reload, Followed { stayed, moved }, "{workers:?}");
    }
}

#[test]
fn what_new_workers_answer_before_they_take_over_does_not_make_them_the_old() {
    // Workers 0 and 1 are there from the start, a reload brings 2 and 3. Their replies, with the reloads there had been when the flow asked.
    for (replies, [stayed, moved]) in [
        // By the hash, in time for the new sockets and after.
        (&[(0, 0), (2, 0), (2, 1), (2, 1)][..], [0, 1]),
        // A shared socket, from which both take for a while.
        (&[(0, 0), (2, 0), (1, 0), (2, 1)], [0, 1]),
        // By its id.
        (&[(0, 0), (0, 0), (0, 1), (2, 1)], [1, 0]),
        (&[(1, 0), (2, 0), (1, 1), (2, 1)], [1, 0]),
        // Nobody answered it before.
        (&[(2, 0), (2, 0), (2, 1), (2, 1)], [0, 0]),
    ] {
        let mut one = flow(
            "server.workers = 2\nload.requests = 5\n[[event]]\nkind = \"reload\"\nhow = \"reopen\"\nat = \"300ms\"",
        );
        for (place, (worker, _)) in replies.iter().enumerate() {
            // The next request goes out with the reply.
            one.trial.reloads.set(replies.get(place + 1).map_or(0, |(_, reloads)| *reloads));
            let bytes = reply(*worker, one.session.nonce, 200, client_of(0));
            assert_eq!(one.event(Kind::Received(&bytes), 200), Action::Send(Some(Wait::Reply)));
            one.session.on_taken(&mut one.shared, Taken::All);
        }
        assert_eq!(one.report().flows.after_reload, Followed { stayed, moved }, "{replies:?}");
    }
}

#[test]
fn a_flow_takes_the_id_that_a_worker_gives_it() {
    let mut one = flow("[load]\nrequests = 3");
    let own = ConnectionId::in_request(&one.shared.out).unwrap();
    assert_eq!(own.socket(), None);
    let theirs = ConnectionId::of_server(1, client_of(0).port(), own);
    let mut bytes = reply(1, one.session.nonce, 200, client_of(0));
    theirs.put_into_reply(&mut bytes);
    assert_eq!(one.event(Kind::Received(&bytes), 200), Action::Send(Some(Wait::Reply)));
    assert_eq!(ConnectionId::in_request(&one.shared.out), Some(theirs));
    one.session.on_taken(&mut one.shared, Taken::All);
    // A worker that names none leaves it.
    let bytes = reply(1, one.session.nonce, 210, client_of(0));
    one.event(Kind::Received(&bytes), 210);
    assert_eq!(ConnectionId::in_request(&one.shared.out), Some(theirs));
}

#[test]
fn a_flow_to_another_host_has_a_worker_and_no_receive_wait() {
    for (worker, expected) in [(1, Action::Complete), (2, Action::Fail(Step::Receive, Cause::BadReply))] {
        let mut one = flow("[server]\nworkers = 2");
        one.trial.has_ledger.set(true);
        one.trial.is_elsewhere.set(true);
        // Received before it was sent, by that host's clock.
        let bytes = reply(worker, one.session.nonce, 5, client_of(0));
        assert_eq!(one.event(Kind::Received(&bytes), 190), expected);
        one.shared.ended(&mut one.session, Ok(()), 190);
        assert_eq!(one.report().flows.by_worker, [0, u64::from(worker == 1)]);
        assert_eq!(one.recorded("w1.receive_wait"), (0, 0));
    }
}

const KEEP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const PIPE: Cause = Cause::Errno(libc::EPIPE);

/// What is left of a measured connection's requests.
fn rest(since_ns: u64, requests: u32) -> Action {
    Action::Renew(Rest { since_ns, requests, measured: true, hold: Hold::OfPolicy })
}

fn http(requests: u32) -> One {
    One::established(&format!("[server]\napp = \"http\"\n[load]\nrequests = {requests}"))
}

#[test]
fn what_a_server_leaves_unasked_goes_on_another_connection() {
    // An announced close: the next request is due now.
    let mut one = http(3);
    assert_eq!(one.event(Kind::Received(CLOSE), 200), rest(200, 2));
    assert_eq!((one.report().replies, one.report().retried), (1, 0));
    one.shared.renewed(&mut one.session, 200);
    assert_eq!((one.report().completed, one.report().measured_completed), (1, 0));
    // As the last reply, it is just the end.
    assert_eq!(http(1).event(Kind::Received(CLOSE), 200), Action::Complete);
    // A body that the close ends.
    let mut one = http(2);
    assert_eq!(one.event(Kind::Received(b"HTTP/1.1 200 OK\r\n\r\nabc"), 150), Action::Continue);
    assert_eq!(one.event(Kind::Ended(Step::Receive, Cause::EndOfFile), 200), rest(200, 1));
}

#[test]
fn a_request_that_met_a_closing_server_is_made_again_unless_part_of_its_reply_came() {
    let eof = Kind::Ended(Step::Receive, Cause::EndOfFile);
    for end in [eof, Kind::Ended(Step::Receive, RESET), Kind::Ended(Step::Send, PIPE)] {
        let mut one = http(3);
        assert_eq!(one.event(Kind::Received(KEEP), 200), Action::Send(Some(Wait::Reply)));
        one.session.on_taken(&mut one.shared, Taken::All);
        // It has been due since the reply before it.
        assert_eq!(one.event(end, 300), rest(200, 2));
        assert_eq!(one.report().retried, 1);
    }
    let mut one = http(3);
    one.event(Kind::Received(KEEP), 200);
    assert_eq!(one.session.on_send_failed(&mut one.shared, PIPE, 300), rest(200, 2));

    // The first request of a connection: this server does not answer.
    let failed = Action::Fail(Step::Receive, Cause::EndOfFile);
    let eof = || Kind::Ended(Step::Receive, Cause::EndOfFile);
    assert_eq!(http(3).event(eof(), 300), failed);
    let mut one = http(3);
    one.event(Kind::Received(KEEP), 200);
    one.session.on_taken(&mut one.shared, Taken::All);
    assert_eq!(one.event(Kind::Received(b"HTTP/1.1 2"), 250), Action::Continue);
    assert_eq!(one.event(eof(), 300), Action::Fail(Step::Receive, Cause::Truncated));
    // A worker of the trial closes only if something happened to it.
    let mut one = One::established("[load]\nrequests = 3");
    one.trial.has_ledger.set(true);
    assert_eq!(one.answer(200), Action::Send(Some(Wait::Reply)));
    one.session.on_taken(&mut one.shared, Taken::All);
    assert_eq!(one.event(eof(), 300), failed);
}

#[test]
fn another_programs_server_may_close_a_held_connection() {
    for (ours, action) in [(false, Action::Complete), (true, Action::Fail(Step::Close, Cause::EndOfFile))] {
        let mut one = One::established("[load]\nhold = \"1us\"");
        one.trial.has_ledger.set(ours);
        assert_eq!(one.answer(200), Action::Wait(Wait::Hold));
        assert_eq!(one.event(Kind::Ended(Step::Receive, Cause::EndOfFile), 300), action);
    }
}

#[test]
fn any_server_may_close_a_kept_connection_after_a_reply() {
    const RESET: Cause = Cause::Errno(libc::ECONNRESET);
    for ours in [false, true] {
        let kept = || {
            let mut one = One::established("[load]\nmode = \"kept\"\nconcurrency = 1\nrequest_rate = 10");
            one.trial.has_ledger.set(ours);
            assert_eq!(one.answer(200), Action::Idle);
            one
        };
        assert_eq!(kept().event(Kind::Ended(Step::Receive, Cause::EndOfFile), 300), Action::Complete);
        assert_eq!(kept().event(Kind::Ended(Step::Receive, RESET), 300), Action::Fail(Step::Close, RESET));
    }
    // With a request on its way, a worker of the trial has left that unanswered.
    let mut one = One::established("[load]\nmode = \"kept\"\nconcurrency = 1\nrequest_rate = 10");
    one.trial.has_ledger.set(true);
    assert_eq!(one.answer(200), Action::Idle);
    assert_eq!(one.session.on_due(&mut one.shared, 300, true, 300), Action::Send(Some(Wait::Reply)));
    one.session.on_taken(&mut one.shared, Taken::All);
    let failed = Action::Fail(Step::Receive, Cause::EndOfFile);
    assert_eq!(one.event(Kind::Ended(Step::Receive, Cause::EndOfFile), 310), failed);
}

#[test]
fn a_silent_connection_is_held_and_nothing_is_expected() {
    let silent = |hold: &str| {
        let mut one = one(Transport::Tcp, &format!("[server]\napp = \"connect\"\n[load]\nhold = \"{hold}\""));
        assert_eq!(one.session.on_started(&mut one.shared), Action::Continue);
        one
    };
    let entry = Entry { worker: 1, accept_ns: 130 };
    // What the server says is heard once, and ignored.
    let mut held = silent("1us");
    held.trial.has_ledger.set(true);
    held.trial.accept.set(Some(entry));
    assert_eq!(held.event(Kind::Connected, 110), Action::Wait(Wait::Hold));
    for bytes in [&b"220 hi"[..], b"more"] {
        assert_eq!(held.event(Kind::Received(bytes), 120), Action::Continue);
    }
    assert_eq!((held.session.hold_until_ns(), held.session.on_hold_over()), (1_110, Action::Complete));
    held.shared.ended(&mut held.session, Ok(()), 1_110);
    assert_eq!((held.recorded("connect"), held.recorded("w1.accept_wait")), ((1, 10), (1, 30)));
    assert_eq!((held.recorded("response").0, held.recorded("service").0), (0, 0));
    let report = held.report();
    assert_eq!((report.completed, report.unserved, report.replies, report.lost), (1, 0, 0, Default::default()));
    assert_eq!(report.unexpected().unwrap().first, "220 hi");
    assert_eq!(report.unexpected, 1);
    // One that nobody accepts has a wait that is lost; whether another server has is not known.
    for (has_ledger, lost) in [(true, 1), (false, 0)] {
        let mut queued = silent("1us");
        queued.trial.has_ledger.set(has_ledger);
        queued.event(Kind::Connected, 110);
        queued.shared.ended(&mut queued.session, Ok(()), 1_110);
        let report = queued.report();
        assert_eq!((report.completed, report.unserved, report.lost.waits, report.lost.responses), (1, 1, lost, 0));
    }
    // Without a hold it closes at once, and no accept is waited for.
    let mut short = silent("0s");
    short.trial.has_ledger.set(true);
    assert_eq!(short.event(Kind::Connected, 110), Action::Complete);
    short.shared.ended(&mut short.session, Ok(()), 110);
    assert_eq!((short.report().unserved, short.report().lost.waits), (1, 0));
    // A PROXY protocol header is all that it sends.
    let mut headed = one(Transport::Tcp, "[server]\napp = \"connect\"\n[load]\nhold = \"1us\"\nproxy_protocol = 1");
    assert_eq!(headed.session.on_started(&mut headed.shared), Action::Continue);
    assert_eq!(headed.event(Kind::Connected, 110), Action::Send(Some(Wait::Hold)));
    assert!(headed.shared.out.starts_with(b"PROXY TCP4 ") && headed.shared.out.ends_with(b"\r\n"));
    headed.session.on_taken(&mut headed.shared, Taken::All);
    assert_eq!(headed.session.on_hold_over(), Action::Complete);
    // One that never comes about has lost its wait all the same.
    let mut never = silent("0s");
    never.shared.ended(&mut never.session, Err((Step::Connect, Cause::TIMED_OUT)), 110);
    assert_eq!((never.report().lost.connects, never.report().lost.waits, never.report().lost.responses), (1, 1, 0));
}

#[test]
fn a_server_that_closes_a_silent_connection_has_hung_up() {
    for (cause, counted) in [(Cause::EndOfFile, Cause::HungUp), (RESET, RESET)] {
        for connects in [true, false] {
            let mut one = one(Transport::Tcp, "[server]\napp = \"connect\"\n[load]\nhold = \"1s\"");
            one.trial.has_ledger.set(true);
            if connects {
                one.event(Kind::Connected, 110);
            }
            assert_eq!(one.event(Kind::Ended(Step::Receive, cause), 120), Action::Fail(Step::Close, counted));
            one.shared.ended(&mut one.session, Err((Step::Close, counted)), 120);
            let report = one.report();
            assert_eq!((report.established, report.lost.waits, report.lost.responses), (1, 1, 0));
            // An event may have cost it.
            assert_eq!(*one.trial.lost.borrow(), [(Loss::ResetInQueue, 100, 120)]);
        }
    }
}

#[test]
fn a_greeting_is_waited_for_and_another_reply_is_shown() {
    let app = "network = \"host\"\n[server]\nsubject = \"running\"\napp = \"line\"\n[load]\n";
    let mut greeted = one(Transport::Tcp, &format!("{app}expect = '220'"));
    assert_eq!(greeted.session.on_started(&mut greeted.shared), Action::Continue);
    assert_eq!(greeted.event(Kind::Connected, 110), Action::Send(Some(Wait::Reply)));
    assert_eq!(greeted.shared.out, b"");
    greeted.session.on_taken(&mut greeted.shared, Taken::All);
    assert_eq!(greeted.event(Kind::Received(b"220 "), 120), Action::Continue);
    assert_eq!(greeted.event(Kind::Received(b"hi\r\n"), 130), Action::Complete);
    assert_eq!((greeted.recorded("response"), greeted.report().unexpected), ((1, 40), 0));
    let mut asked = one(Transport::Tcp, &format!("{app}expect = '+PONG'\nsend = 'PING\\r\\n'"));
    assert_eq!(asked.session.on_started(&mut asked.shared), Action::Send(None));
    assert_eq!(asked.shared.out, b"PING\r\n");
    asked.session.on_taken(&mut asked.shared, Taken::All);
    assert_eq!(asked.event(Kind::Connected, 110), Action::Wait(Wait::Reply));
    let failed = Action::Fail(Step::Receive, Cause::Mismatch);
    assert_eq!(asked.event(Kind::Received(b"-ERR no\r\n"), 120), failed);
    let unexpected = asked.report().unexpected().unwrap();
    assert_eq!((unexpected.count, &unexpected.first[..]), (1, r"-ERR no\r\n"));
    assert_eq!((asked.report().replies, asked.recorded("response").0), (0, 0));
}
