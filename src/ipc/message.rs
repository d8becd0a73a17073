//! Messages from a child to its parent over a pipe.
//!
//! Each is a kind (`u8`), a name (`u8` length and UTF-8), a payload length (`u32`, little endian) and the payload:
//! JSON, a histogram in HdrHistogram V2 form, or the text of an error. A child sends any number and then closes.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use nix::unistd::getpid;
use serde::{Serialize, de::DeserializeOwned};

use crate::{record::Exit, sys::process};

/// No message is larger: a histogram of the range used here takes 230 kB at most, a report with its series less.
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

    /// Sends the report proper.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.send(JSON, "", &serde_json::to_vec(value)?)
    }

    /// Sends one histogram under a name.
    pub fn histogram(&mut self, name: &str, histogram: &Histogram<u64>) -> Result<()> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).context("encoding a histogram")?;
        self.send(HISTOGRAM, name, &bytes)
    }

    /// Sends why there is no report.
    pub fn error(&mut self, error: &anyhow::Error) -> Result<()> {
        self.send(ERROR, "", format!("{error:#}").as_bytes())
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

/// Runs a child's body with a sender over its pipe and returns the child's exit code. An error of the body is sent.
pub fn answer<W: Write>(pipe: W, body: impl FnOnce(&mut Sender<W>) -> Result<()>) -> i32 {
    let mut sender = Sender::new(pipe);
    let sent = body(&mut sender).or_else(|error| sender.error(&error));
    i32::from(sent.is_err())
}

/// Runs a body in a forked child and returns what it returns: for what would change the calling process, such as
/// entering a namespace. The caller must have one thread only.
pub fn ask_child<T: Serialize + DeserializeOwned>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut child = process::spawn(name, |pipe| answer(pipe, |sender| sender.json(&body()?))).context("forking")?;
    let mut inbox = Inbox::default();
    while !inbox.read_from(&mut child.pipe).context("reading a child's pipe")? {}
    let exit = Exit::from(process::wait(child.pid).status);
    inbox.open()?.map(|message| message.report).with_context(|| format!("{name} ended without an answer: {exit}"))
}

/// The same for a body that takes its time and forks: the child leads a process group of its own, and whatever happens, it is
/// gone afterwards with all its descendants, which the caller must have adopted ([`process::adopt_orphans`]). `None` when
/// `interrupted` was set meanwhile.
pub fn ask_group<T: Serialize + DeserializeOwned>(
    name: &str,
    at_most: Duration,
    interrupted: &AtomicBool,
    body: impl FnOnce() -> Result<T>,
) -> Result<Option<T>> {
    /// How often `interrupted` is looked at: a signal that comes just before the wait does not end it.
    const LOOK_AGAIN: Duration = Duration::from_millis(100);
    let mut child = process::spawn(name, |pipe| {
        // Here and in the parent, so that it is done before either goes on.
        process::lead_group(getpid());
        answer(pipe, |sender| sender.json(&body()?))
    })
    .context("forking")?;
    process::lead_group(child.pid);
    let mut inbox = Inbox::default();
    let patience = Instant::now() + at_most;
    let ended = loop {
        if interrupted.load(Relaxed) || Instant::now() > patience {
            process::kill_now(child.pid);
            break false;
        }
        if child.readable(LOOK_AGAIN) && inbox.read_from(&mut child.pipe).context("reading a child's pipe")? {
            break true;
        }
    };
    let exit = Exit::from(process::wait(child.pid).status);
    process::reap_group(child.pid);
    if !ended {
        return if interrupted.load(Relaxed) { Ok(None) } else { bail!("{name} had not ended after {at_most:?}") };
    }
    let answer = inbox.open()?.map(|message| message.report);
    answer.map(Some).with_context(|| format!("{name} ended without an answer: {exit}"))
}

/// All that a child sent.
#[derive(Debug)]
pub struct Message<T> {
    /// The report.
    pub report: T,
    /// Its histograms by name.
    pub histograms: BTreeMap<String, Histogram<u64>>,
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

    /// Takes the message apart. `Ok(None)` when the child sent nothing at all.
    ///
    /// Fails with the child's own error when it sent one, and on bytes that are no message.
    pub fn open<T: DeserializeOwned>(&self) -> Result<Option<Message<T>>> {
        let mut bytes = &self.bytes[..];
        let mut report = None;
        let mut histograms = BTreeMap::new();
        while !bytes.is_empty() {
            let (kind, name, payload) = frame(&mut bytes).context("a child's message is cut short or malformed")?;
            match kind {
                JSON => report = Some(serde_json::from_slice(payload).context("decoding a child's report")?),
                HISTOGRAM => {
                    let histogram = Deserializer::new()
                        .deserialize(&mut &payload[..])
                        .with_context(|| format!("decoding histogram {name}"))?;
                    histograms.insert(name.to_owned(), histogram);
                }
                ERROR => bail!("{}", String::from_utf8_lossy(payload)),
                kind => bail!("a child's message of unknown kind {kind}"),
            }
        }
        Ok(report.map(|report| Message { report, histograms }))
    }
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

    #[test]
    fn a_report_and_its_histograms_arrive() {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        histogram.record_n(1_234, 5).unwrap();
        let inbox = sent(|sender| {
            sender.histogram("connect", &histogram).unwrap();
            sender.json(&vec![1, 2, 3]).unwrap();
        });
        let message = inbox.open::<Vec<u32>>().unwrap().unwrap();
        assert_eq!(message.report, [1, 2, 3]);
        assert_eq!(message.histograms["connect"], histogram);
    }

    #[test]
    fn an_error_is_passed_on_and_silence_is_none() {
        let inbox = sent(|sender| sender.error(&anyhow::anyhow!("no descriptors")).unwrap());
        assert_eq!(inbox.open::<()>().unwrap_err().to_string(), "no descriptors");
        assert!(Inbox::default().open::<()>().unwrap().is_none());
    }

    #[test]
    fn a_message_cut_short_is_an_error() {
        let mut inbox = sent(|sender| sender.json(&"whole").unwrap());
        inbox.bytes.pop();
        assert!(inbox.open::<String>().is_err());
    }
}
