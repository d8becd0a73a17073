//! What children send to their parent.

use super::pieces;
use crate::{
    ipc::message::{Inbox, Message, Sender},
    record::v2,
    server::WorkerSetUp,
};

/// A child's messages, preceded by how they are cut into pieces.
pub fn from_child(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else { return };
    let open = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut inbox = Inbox::default();
        for mut piece in pieces {
            while !piece.is_empty() {
                inbox.read_from(&mut piece).expect("bytes in memory can be read");
            }
        }
        inbox.open::<WorkerSetUp>()
    };
    let whole = open(&mut std::iter::once(bytes));
    let cut = open(&mut pieces(bytes, *seed));
    assert_eq!(shown(&cut), shown(&whole));
    // What arrived can be sent on.
    let mut sent = Vec::new();
    let mut sender = Sender::new(&mut sent);
    for (name, histogram) in &whole.histograms {
        sender.histogram(name, histogram).expect("a histogram that arrived");
    }
    if let Some(report) = &whole.report {
        sender.json(report).expect("a report that arrived");
    }
    let again = open(&mut std::iter::once(&sent[..]));
    assert_eq!(shown(&again), shown(&Message { error: None, ..whole }));
}

/// The report as JSON, the histograms by name in their wire format, the error.
type Shown<'a> = (Option<String>, Vec<(&'a str, Vec<u8>)>, Option<&'a str>);

fn shown(message: &Message<WorkerSetUp>) -> Shown<'_> {
    let report = message.report.as_ref().map(|report| serde_json::to_string(report).expect("JSON"));
    let encoded = message.histograms.iter().map(|(name, histogram)| (&name[..], v2::encoded(histogram)));
    (report, encoded.collect(), message.error.as_deref())
}
