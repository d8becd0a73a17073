//! `connect`: the client says nothing, and nothing is expected.

use super::{Client, Reading, Reply};
use crate::record::Cause;

pub(super) struct Connect;

impl Client for Connect {
    fn ask(&mut self, _nonce: u32, _last: bool, _request: &mut Vec<u8>) {}

    fn take(&self, _reading: &mut Reading, _fresh: &[u8]) -> Reply {
        Reply::Bad(Cause::Unasked)
    }

    fn end(&self, _reading: &Reading) -> Reply {
        Reply::Bad(Cause::HungUp)
    }
}
