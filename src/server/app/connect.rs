//! `connect`: clients say nothing, and the worker keeps their connections until they close. What others send is read and dropped.

use super::{Caller, Protocol, Take};

pub(super) struct Connect;

impl Protocol for Connect {
    fn take(&mut self, _input: &[u8], _caller: &Caller, _last: bool, _reply: &mut Vec<u8>) -> Take {
        Take::Ignored
    }
}
