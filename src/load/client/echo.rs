//! `echo`: requests and replies of fixed size. A nonce goes out, a receipt comes back.

use super::{Client, Reply};
use crate::ipc::receipt::Receipt;
use crate::record::Cause;

pub(super) struct Echo {
    request: Vec<u8>,
    reply_bytes: usize,
}

impl Echo {
    pub(super) fn new(request_bytes: usize, reply_bytes: usize) -> Self {
        Self { request: vec![0; request_bytes], reply_bytes }
    }
}

impl Client for Echo {
    fn ask(&mut self, nonce: u32, _last: bool, request: &mut Vec<u8>) {
        self.request[..4].copy_from_slice(&nonce.to_le_bytes());
        request.extend_from_slice(&self.request);
    }

    fn take(&mut self, input: &[u8], ended: bool) -> Reply {
        match input.get(..self.reply_bytes) {
            Some(reply) => Reply::Whole { length: reply.len(), receipt: Receipt::read(reply) },
            None if ended => Reply::Bad(Cause::EndOfFile),
            None => Reply::Partial,
        }
    }
}
