//! Messages from a child to its parent over a pipe.
//!
//! Each is a kind (`u8`), a name (`u8` length and UTF-8), a payload length (`u32`, little endian) and the payload:
//! JSON, a histogram in HdrHistogram V2 form, or the text of an error. A child sends any number and then closes.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use anyhow::{Context, Result, bail};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    format, json,
    record::{Counts, v2},
};

/// Limit on a message's size. A histogram of the range used here takes at most 230 kB, a report with its series less.
const PAYLOAD_LIMIT: u32 = 64 << 20;

const JSON: u8 = 1;
const HISTOGRAM: u8 = 2;
const ERROR: u8 = 3;

/// The child's side of the pipe.
#[derive(Debug)]
pub struct Sender<W: Write> {
    pipe: W,
}

impl<W: Write> Sender<W> {
    /// A sender over a pipe.
    pub fn new(pipe: W) -> Self {
        Self { pipe }
    }

    /// Sends the report.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.send(JSON, "", json::line(value)?.as_bytes())
    }

    /// Sends one histogram under a name.
    pub fn histogram(&mut self, name: &str, values: &Counts) -> Result<()> {
        self.send(HISTOGRAM, name, &v2::encoded(values))
    }

    /// Sends why there is no report.
    pub fn error(&mut self, error: &anyhow::Error) -> Result<()> {
        self.send(ERROR, "", format::causes(error).as_bytes())
    }

    fn send(&mut self, kind: u8, name: &str, payload: &[u8]) -> Result<()> {
        if payload.len() as u64 > u64::from(PAYLOAD_LIMIT) {
            bail!("a message of {} bytes is over the limit of {PAYLOAD_LIMIT}", payload.len());
        }
        let mut frame = Vec::with_capacity(payload.len() + name.len() + 6);
        frame.push(kind);
        frame.push(u8::try_from(name.len()).context("a message name over 255 bytes")?);
        frame.extend_from_slice(name.as_bytes());
        frame.extend_from_slice(&u32::try_from(payload.len()).context("a message over 4 GiB")?.to_le_bytes());
        frame.extend_from_slice(payload);
        self.pipe.write_all(&frame).context("writing to the parent's pipe")
    }
}

/// Everything that a child sent.
#[derive(Debug)]
pub struct Message<T> {
    /// The report.
    pub report: Option<T>,
    /// Its histograms by name.
    pub histograms: BTreeMap<String, Counts>,
    /// Why there is no report, or what is wrong with the bytes.
    pub error: Option<String>,
}

/// Collects a child's bytes until its pipe ends.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Inbox {
    /// Reads what the pipe holds now. `Ok(true)` at its end.
    pub fn read_from(&mut self, pipe: &mut impl Read) -> io::Result<bool> {
        let mut chunk = [0; 65_536];
        match pipe.read(&mut chunk) {
            Ok(0) => Ok(true),
            Ok(length) => {
                self.bytes.extend_from_slice(&chunk[..length]);
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Decodes what the child sent, as far as it arrived.
    pub fn open<T: DeserializeOwned>(&self) -> Message<T> {
        let mut message = Message { report: None, histograms: BTreeMap::new(), error: None };
        let mut bytes = &self.bytes[..];
        while !bytes.is_empty() && message.error.is_none() {
            message.error = message.take(&mut bytes).err().map(|error| format::causes(&error));
        }
        message
    }
}

impl<T: DeserializeOwned> Message<T> {
    fn take(&mut self, bytes: &mut &[u8]) -> Result<()> {
        let (kind, name, payload) = frame(bytes).context("its message is cut short or malformed")?;
        match kind {
            JSON => self.report = Some(json::read(payload).context("decoding its report")?),
            HISTOGRAM => {
                self.histograms.insert(name.to_owned(), decoded(name, payload)?);
            }
            ERROR => bail!("{}", String::from_utf8_lossy(payload)),
            kind => bail!("a message of unknown kind {kind}"),
        }
        Ok(())
    }
}

/// The histogram of this name, of which messages carry the uncompressed form. One whose header promises more than its bytes hold is
/// refused.
pub fn decoded(name: &str, bytes: &[u8]) -> Result<Counts> {
    v2::decoded(bytes).with_context(|| format!("histogram {name} is not what its header says"))
}

fn frame<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a str, &'a [u8])> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let (name, rest) = rest.split_at_checked(usize::from(head[1]))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    if length > PAYLOAD_LIMIT {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    *bytes = rest;
    Some((head[0], std::str::from_utf8(name).ok()?, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(send: impl FnOnce(&mut Sender<&mut Vec<u8>>)) -> Inbox {
        let mut bytes = Vec::new();
        send(&mut Sender::new(&mut bytes));
        Inbox { bytes }
    }

    fn none() -> Counts {
        Counts::new(1, 60_000_000_000, 3).unwrap()
    }

    #[test]
    fn a_report_and_its_histograms_arrive() {
        let mut histogram = none();
        histogram.extend([(1_234, 5)].into_iter());
        let inbox = sent(|sender| {
            sender.histogram("connect", &histogram).unwrap();
            sender.json(&vec![1, 2, 3]).unwrap();
        });
        let message = inbox.open::<Vec<u32>>();
        assert_eq!((message.report, message.error), (Some(vec![1, 2, 3]), None));
        assert_eq!(message.histograms["connect"], histogram);
    }

    #[test]
    fn an_error_is_passed_on_and_silence_is_not_an_error() {
        let message = sent(|sender| sender.error(&anyhow::anyhow!("no descriptors")).unwrap()).open::<()>();
        assert_eq!((message.report, message.error.as_deref()), (None, Some("no descriptors")));
        let message = Inbox::default().open::<()>();
        assert_eq!((message.report, message.error), (None, None));
    }

    #[test]
    fn a_histogram_longer_than_its_message_is_refused() {
        let mut inbox = sent(|sender| sender.histogram("connect", &none()).unwrap());
        // The length in the histogram's own header, behind the frame's and the cookie.
        let at = 2 + "connect".len() + 4 + 4;
        inbox.bytes[at] = 0x41;
        let message = inbox.open::<()>();
        assert!(message.histograms.is_empty() && message.error.unwrap().contains("histogram connect"));
    }

    #[test]
    fn complete_parts_of_a_truncated_message_are_kept() {
        let mut inbox = sent(|sender| {
            sender.histogram("connect", &none()).unwrap();
            sender.json(&"whole").unwrap();
        });
        inbox.bytes.pop();
        let message = inbox.open::<String>();
        assert!(message.report.is_none() && message.error.unwrap().contains("cut short"));
        assert!(message.histograms.contains_key("connect"));
    }
}
