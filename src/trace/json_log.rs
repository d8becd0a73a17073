//! Access logs of JSON, an object on each line, with the names of nginx's variables as keys.

use serde::Deserialize;

use super::{
    access_log::{Client, Logged},
    log_format::{request_time, whole},
    times,
};
use crate::json;

/// The keys that say something about connections; their values may be quoted or not, as `log_format` writes them.
#[derive(Debug, Deserialize)]
struct Object {
    msec: Option<Word>,
    time_iso8601: Option<Word>,
    time_local: Option<Word>,
    request_time: Option<Word>,
    remote_addr: Option<Word>,
    remote_port: Option<Word>,
    connection: Option<Word>,
    connection_requests: Option<Word>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Text(String),
    Number(serde_json::Number),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// What a line says. The error completes the sentence that begins with the line.
pub(super) fn parse(line: &[u8]) -> Result<Logged, &'static str> {
    let object: Object =
        json::read(line).map_err(|_| "is not a JSON object with texts and numbers for nginx's variables")?;
    // With `escape=json`, nginx writes nothing where a variable has no value.
    let text = |word: &Option<Word>| word.as_ref().map(Word::text).filter(|text| !text.is_empty());
    let number = |word: &Option<Word>, problem| match text(word) {
        Some(text) => whole(text.as_bytes()).map(Some).ok_or(problem),
        None => Ok(None),
    };
    let end = if let Some(msec) = text(&object.msec) {
        times::seconds(msec.as_bytes()).ok_or("has no `msec` like 971211336.123")?
    } else if let Some(time) = text(&object.time_iso8601) {
        times::iso8601(time.as_bytes()).ok_or("has no `time_iso8601` like 2000-10-10T13:55:36-07:00")?
    } else if let Some(time) = text(&object.time_local) {
        times::common_log(time.as_bytes()).ok_or("has no `time_local` like 10/Oct/2000:13:55:36 -0700")?
    } else {
        return Err("has none of the keys `msec`, `time_iso8601` and `time_local`");
    };
    let took_ns = text(&object.request_time).map_or(Ok(None), |time| request_time(time.as_bytes()))?;
    let serial = number(&object.connection, "has no number of a connection in `connection`")?;
    let port = number(&object.remote_port, "has no client's port in `remote_port`")?;
    let client = match (serial, text(&object.remote_addr), port) {
        (Some(serial), ..) => Some(Client::Serial(serial)),
        (None, Some(address), Some(port)) => Some(Client::of_end(address.as_bytes(), port)),
        _ => None,
    };
    let ordinal = number(&object.connection_requests, "has no number of a request in `connection_requests`")?;
    Ok(Logged { end, took_ns, client, ordinal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::SECOND_NS;

    #[test]
    fn objects_with_quoted_and_bare_values_are_read() {
        let logged = parse(
            br#"{"msec": "1700000000.250", "request_time": 0.25, "remote_addr": "::1", "remote_port": "5000", "x": [1]}"#,
        )
        .unwrap();
        assert_eq!((logged.end.ns, logged.took_ns), (1_700_000_000 * SECOND_NS + 250_000_000, Some(250_000_000)));
        assert_eq!(logged.client, Some(Client::of_end(b"::1", 5_000)));
        let logged = parse(br#"{"time_iso8601":"2023-11-14T22:13:20+00:00","connection":7,"connection_requests":"2"}"#);
        let logged = logged.unwrap();
        assert!(logged.end.is_whole);
        assert_eq!((logged.client, logged.ordinal), (Some(Client::Serial(7)), Some(2)));
        let bare =
            parse(br#"{"msec": 1.5, "request_time": "", "remote_addr": "unix:", "remote_port": "", "connection": ""}"#);
        assert_eq!(bare.map(|logged| (logged.took_ns, logged.client)), Ok((None, None)));
        for wrong in [&b"{"[..], b"[]", b"{}", b"{\"msec\": \"x\"}", b"{\"msec\": 1.5, \"remote_port\": \"x\"}"] {
            assert!(parse(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }
}
