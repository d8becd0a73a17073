//! `echo`: requests and replies of fixed size. A nonce goes out, a receipt comes back.

use super::{Client, Reading, Reply, Whole};
use crate::{
    ipc::{
        connection_id::{self, ConnectionId},
        receipt::{FULL_RECEIPT_BYTES, Receipt},
    },
    record::Cause,
};

pub(super) struct Echo {
    request: Vec<u8>,
    reply_bytes: usize,
}

/// How far a reply has been read.
#[derive(Debug)]
pub(super) struct Progress {
    /// Its beginning, which may hold a receipt, and a connection id behind it.
    start: [u8; connection_id::REPLY_BYTES],
    received_bytes: usize,
}

impl Default for Progress {
    fn default() -> Self {
        Self { start: [0; connection_id::REPLY_BYTES], received_bytes: 0 }
    }
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

    fn take(&self, reading: &mut Reading, fresh: &[u8]) -> Reply {
        let Progress { start, received_bytes } = &mut reading.echo;
        let used = fresh.len().min(self.reply_bytes - *received_bytes);
        if let Some(room) = start.get_mut(*received_bytes..) {
            let length = room.len().min(used);
            room[..length].copy_from_slice(&fresh[..length]);
        }
        *received_bytes += used;
        if *received_bytes < self.reply_bytes {
            return Reply::Partial;
        }
        let receipt = Receipt::read(&start[..self.reply_bytes.min(FULL_RECEIPT_BYTES)]);
        let room = &start[..self.reply_bytes.min(connection_id::REPLY_BYTES)];
        // Without a receipt, the bytes behind it are another program's.
        let id = receipt.and_then(|_| ConnectionId::in_reply(room));
        Reply::Whole(Whole { used, receipt, id, ..Whole::default() })
    }

    fn end(&self, _reading: &Reading) -> Reply {
        Reply::Bad(Cause::EndOfFile)
    }
}
