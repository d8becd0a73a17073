//! `close`: the client sends nothing and waits for the server to close.

use super::{Client, Reading, Reply, Whole};
use crate::record::Cause;

pub(super) struct Close;

impl Client for Close {
    fn ask(&mut self, _nonce: u32, _last: bool, _request: &mut Vec<u8>) {}

    fn take(&self, _reading: &mut Reading, _fresh: &[u8]) -> Reply {
        // Only another server sends bytes.
        Reply::Bad(Cause::BadReply)
    }

    fn end(&self, _reading: &Reading) -> Reply {
        Reply::Whole(Whole::default())
    }
}
