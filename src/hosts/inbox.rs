//! Frames as they arrive, and how a connection breaks.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use thiserror::Error;

use super::frame::{self, Any};
use crate::ipc::family::Cut;

/// Why nothing came, or nothing went.
#[derive(Debug, Error)]
pub enum Broken {
    /// The connection has ended: the other host closed it, or cannot be reached.
    #[error("{0}")]
    Ended(String),
    /// It took too long, or the user interrupted it. The link is as it was, unless a message was being sent.
    #[error(transparent)]
    Cut(#[from] Cut),
    /// What came is not a message that fits here.
    #[error("{0}")]
    Garbled(String),
}

impl Broken {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Ended("its connection was reset".to_owned())
            }
            _ => Self::Ended(format!("its connection failed: {error}")),
        }
    }
}

/// Puts frames together. It never reads beyond the end of one: whoever reads next, perhaps in another process, begins with a whole one.
#[derive(Debug)]
pub struct Inbox {
    /// The most bytes of a payload.
    pub limit: usize,
    /// Bytes read so far.
    pub received: u64,
    /// The part of a frame that has arrived.
    arrived: Vec<u8>,
}

impl Inbox {
    /// An inbox for payloads of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, received: 0, arrived: Vec::new() }
    }

    /// The next frame of a connection; `None` if reading the rest of it would block.
    pub fn next<T: DeserializeOwned>(&mut self, from: &mut impl Read) -> Result<Option<Any<T>>, Broken> {
        let garbled = |error: anyhow::Error| Broken::Garbled(format!("{error:#}"));
        loop {
            let whole = match self.arrived.first_chunk() {
                None => frame::HEAD,
                Some(head) => frame::length(head, self.limit).map_err(garbled)?,
            };
            let have = self.arrived.len();
            if have >= frame::HEAD && have == whole {
                let frame = frame::decode(&self.arrived).map_err(garbled);
                self.arrived.clear();
                return frame.map(Some);
            }
            self.arrived.resize(whole, 0);
            let read = from.read(&mut self.arrived[have..]);
            self.arrived.truncate(have + read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) if have > 0 => return Err(Broken::Ended("it closed its connection within a message".to_owned())),
                Ok(0) => return Err(Broken::Ended("it closed its connection".to_owned())),
                Ok(length) => self.received += length as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Broken::of(&error)),
            }
        }
    }
}
