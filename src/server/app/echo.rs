//! `echo`: requests and replies of fixed size. A request begins with the client's nonce, a reply with a receipt. Of datagrams, both have a
//! connection id behind that.

use super::{Caller, Protocol, Take};
use crate::ipc::receipt::Receipt;

pub(super) struct Echo {
    pub request_bytes: usize,
    pub reply_bytes: usize,
}

impl Protocol for Echo {
    fn take(&mut self, input: &[u8], caller: &Caller, _last: bool, reply: &mut Vec<u8>) -> Take {
        let (Some(request), Some(nonce)) = (input.get(..self.request_bytes), input.first_chunk::<4>()) else {
            return Take::Partial;
        };
        reply.resize(self.reply_bytes, 0);
        Receipt::new(caller.worker, u32::from_le_bytes(*nonce), caller.accept_ns, caller.ends()).write(reply);
        if let Some(id) = caller.id {
            id.put_into_reply(reply);
        }
        Take::Request { length: request.len(), close: false }
    }
}
