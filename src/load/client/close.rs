//! `close`: the client sends nothing and waits for the server to close.

use super::{Client, Reply};
use crate::record::Cause;

pub(super) struct Close;

impl Client for Close {
    fn ask(&mut self, _nonce: u32, _last: bool, _request: &mut Vec<u8>) {}

    fn take(&mut self, input: &[u8], ended: bool) -> Reply {
        match (input.is_empty(), ended) {
            (true, true) => Reply::Whole { length: 0, receipt: None },
            (true, false) => Reply::Partial,
            // Only another server sends bytes.
            (false, _) => Reply::Bad(Cause::BadReply),
        }
    }
}
