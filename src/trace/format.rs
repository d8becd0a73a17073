//! Which format a trace has.

use std::fmt;

use super::{json_log, log_format::LogFormat, pcap, pcapng, table};

/// The words that name a format.
pub const WORDS: [&str; 6] = ["auto", "access-log", "json", "csv", "pcap", "pcapng"];

/// A format as a user asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatAsked {
    /// Whichever the content shows.
    Auto,
    /// An access log of a usual layout.
    AccessLog,
    /// An access log of this layout.
    Layout(LogFormat),
    /// An access log of JSON.
    Json,
    /// A table.
    Csv,
    /// A capture of libpcap.
    Pcap,
    /// A capture of Wireshark.
    Pcapng,
}

impl FormatAsked {
    /// Reads a word, or a layout in the notation of nginx's `log_format`. The error completes the sentence that begins with it.
    pub fn read(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => Self::Auto,
            "access-log" => Self::AccessLog,
            "json" => Self::Json,
            "csv" => Self::Csv,
            "pcap" => Self::Pcap,
            "pcapng" => Self::Pcapng,
            layout if layout.contains('$') => Self::Layout(LogFormat::read(layout)?),
            _ => {
                return Err(format!(
                    "must be one of {}, or the `log_format` of an access log, such as '$remote_addr:$remote_port [$msec] $request_time'",
                    WORDS.map(|word| format!("\"{word}\"")).join(", ")
                ));
            }
        })
    }
}

/// The format of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    AccessLog(LogFormat),
    Json,
    Csv,
    Pcap,
    Pcapng,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessLog(layout) => write!(f, "access log: {layout}"),
            Self::Json => f.write_str("access log of JSON"),
            Self::Csv => f.write_str("CSV"),
            Self::Pcap => f.write_str("pcap"),
            Self::Pcapng => f.write_str("pcapng"),
        }
    }
}

/// Lines at the beginning by which a text is judged.
const JUDGED: usize = 200;

impl Format {
    /// The format of a trace that begins like this; `is_whole` if that is all of it. The error completes the sentence that begins with the
    /// file.
    pub fn of(asked: &FormatAsked, beginning: &[u8], is_whole: bool) -> Result<Self, String> {
        Ok(match asked {
            FormatAsked::Layout(layout) => Self::AccessLog(layout.clone()),
            FormatAsked::Json => Self::Json,
            FormatAsked::Csv => Self::Csv,
            FormatAsked::Pcap => Self::Pcap,
            FormatAsked::Pcapng => Self::Pcapng,
            FormatAsked::AccessLog => {
                Self::AccessLog(LogFormat::recognise(lines(beginning, is_whole)).ok_or_else(|| {
                    "has no line of a usual access log: give its `log_format` in place of \"access-log\"".to_owned()
                })?)
            }
            FormatAsked::Auto => return Self::recognise(beginning, is_whole),
        })
    }

    fn recognise(beginning: &[u8], is_whole: bool) -> Result<Self, String> {
        if pcap::begins(beginning) {
            return Ok(Self::Pcap);
        }
        if pcapng::begins(beginning) {
            return Ok(Self::Pcapng);
        }
        let lines = || lines(beginning, is_whole);
        let Some(first) = lines().next() else { return Err("is empty".to_owned()) };
        if table::is_header(first) {
            return Ok(Self::Csv);
        }
        let all = lines().count();
        let share = |is_one: &dyn Fn(&[u8]) -> bool| all > 0 && 2 * lines().filter(|line| is_one(line)).count() >= all;
        if share(&|line| json_log::parse(line).is_ok()) {
            return Ok(Self::Json);
        }
        if share(&table::is_row) {
            return Ok(Self::Csv);
        }
        LogFormat::recognise(lines()).map(Self::AccessLog).ok_or_else(|| {
            "has no format that is known here: an access log of nginx or Apache, a table (CSV) of times, or a capture (pcap, pcapng). For another \
             access log, give its `log_format`"
                .to_owned()
        })
    }
}

/// The first lines that are complete and not blank.
fn lines(beginning: &[u8], is_whole: bool) -> impl Iterator<Item = &[u8]> + Clone {
    let is_end = |at: &usize| !is_whole && !beginning[..*at].trim_ascii().is_empty();
    let end = beginning.iter().rposition(|byte| *byte == b'\n').filter(is_end);
    let all = beginning[..end.unwrap_or(beginning.len())].split(|byte| *byte == b'\n');
    all.map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty()).take(JUDGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_their_content() {
        let of = |text: &[u8]| Format::of(&FormatAsked::Auto, text, false).map(|format| format.to_string());
        for (text, expected) in [
            (&b"\xd4\xc3\xb2\xa1\x02\0"[..], "pcap"),
            (b"\x0a\x0d\x0d\x0a", "pcapng"),
            (b"time,requests\n", "CSV"),
            (b"0.5\n1.5,2\n", "CSV"),
            (b"{\"msec\": \"1.5\"}\n{\"msec\"", "access log of JSON"),
            (
                b"\n1.2.3.4 - - [14/Nov/2023:22:13:20 +0000] \"GET",
                "access log: $remote_addr $ident $remote_user [$time_local]",
            ),
            (b"1700000000.123 GET /\n", "access log: $msec"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(expected), "{}", String::from_utf8_lossy(text));
        }
        for (text, problem) in
            [(&b""[..], "is empty"), (b"\n \n", "is empty"), (b"hello\nworld\n", "no format that is known")]
        {
            assert!(of(text).unwrap_err().contains(problem));
        }
    }

    #[test]
    fn a_format_is_asked_for_by_a_word_or_a_layout() {
        for word in WORDS {
            assert!(FormatAsked::read(word).is_ok(), "{word}");
        }
        let Ok(FormatAsked::Layout(layout)) = FormatAsked::read("$msec $request_time") else { panic!() };
        assert_eq!(
            Format::of(&FormatAsked::Layout(layout), b"", true).unwrap().to_string(),
            "access log: $msec $request_time"
        );
        assert!(FormatAsked::read("xml").unwrap_err().contains("\"access-log\""));
        assert!(FormatAsked::read("$status").unwrap_err().contains("no time"));
        assert!(Format::of(&FormatAsked::AccessLog, b"0.5,1\n", true).unwrap_err().contains("log_format"));
    }
}
