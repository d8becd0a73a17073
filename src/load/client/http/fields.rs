//! The head of a response: its status line, and the few header fields that decide where the response ends and whether the connection
//! serves another. Every byte is looked at once and none is kept, but for the beginning of a name or of a list's member.

use crate::ipc::receipt::{RECEIPT_BYTES, Receipt};

/// Every name, coding and option that matters fits, and the hexadecimal digits of a receipt and of any length.
const TEXT_BYTES: usize = 2 * RECEIPT_BYTES;
/// What a status line begins with: `#` is a digit.
const STATUS_LINE: &[u8; 12] = b"HTTP/1.# ###";

/// What matters in a response's head.
#[derive(Debug, Default)]
pub(super) struct Head {
    status: u16,
    version_1_0: bool,
    length: Length,
    coding: Coding,
    keep_alive: bool,
    close: bool,
    receipt: Option<Receipt>,
    /// How many bytes of [`STATUS_LINE`] there were.
    status_line_bytes: usize,
    /// The field that is being read, until a line begins that doesn't continue it.
    field: Option<Field>,
    text: Text,
    quoted: Quoted,
}

/// What follows a response's head (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Following {
    /// Nothing: the response is whole.
    Nothing,
    /// The next response, as this was an interim one.
    Response,
    /// Another protocol.
    Upgrade,
    /// So many bytes.
    Body(u64),
    Chunks,
    /// A body that the connection's end ends.
    UntilClose,
    /// Nobody can tell.
    Unknown,
}

/// The value of Content-Length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Bytes(u64),
    /// Malformed, too large, or contradictory.
    Invalid,
}

/// The value of Transfer-Encoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    /// The last coding is `chunked`.
    Chunked,
    /// The last coding is another.
    Other,
}

/// A header field that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    ContentLength,
    TransferEncoding,
    Connection,
    Receipt,
    Other,
}

/// Where in a quoted string a value is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Quoted {
    #[default]
    No,
    Yes,
    /// After a backslash.
    Escaped,
}

/// The beginning of a name or of a list's member.
#[derive(Debug, Clone, Copy, Default)]
struct Text {
    bytes: [u8; TEXT_BYTES],
    length: usize,
    /// Whether white space follows, which counts only if something else follows that.
    gap: bool,
}

/// The bytes are not a response's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Head {
    /// Reads a byte of the status line up to the status. Returns whether that is over.
    pub fn status_line(&mut self, byte: u8) -> Result<bool, Malformed> {
        let at = self.status_line_bytes;
        let Some(expected) = STATUS_LINE.get(at) else {
            // The reason may be missing, but not the space before one.
            return if byte == b' ' { Ok(true) } else { Err(Malformed) };
        };
        match (expected, byte) {
            (b'#', b'0'..=b'9') if at < 8 => self.version_1_0 = byte == b'0',
            (b'#', b'0'..=b'9') => self.status = self.status * 10 + u16::from(byte - b'0'),
            (expected, byte) if *expected == byte && byte != b'#' => {}
            _ => return Err(Malformed),
        }
        self.status_line_bytes += 1;
        Ok(false)
    }

    /// Whether nothing of the status line has been read.
    pub fn is_empty(&self) -> bool {
        self.status_line_bytes == 0
    }

    /// Whether the status has been read.
    pub fn has_status(&self) -> bool {
        self.status_line_bytes == STATUS_LINE.len()
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn receipt(&self) -> Option<Receipt> {
        self.receipt
    }

    /// Reads the first byte of a line, after which [`Self::name`] or [`Self::value`] goes on. Returns whether it begins another field.
    pub fn line(&mut self, byte: u8) -> Result<bool, Malformed> {
        if matches!(byte, b' ' | b'\t') {
            // A line break before white space is white space (RFC 9112, section 5.2).
            self.text.gap = true;
            return if self.field.is_some() { Ok(false) } else { Err(Malformed) };
        }
        self.end_field();
        self.text = Text::default();
        Ok(true)
    }

    /// Reads what of the bytes belongs to a field's name, and returns their number.
    pub fn name_bytes(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
        self.text.append(&bytes[..length]);
        length
    }

    /// Reads a byte of a field's name. Returns whether that is over.
    pub fn name(&mut self, byte: u8) -> Result<bool, Malformed> {
        if byte != b':' {
            return if is_token(byte) {
                self.text.push(byte);
                Ok(false)
            } else {
                Err(Malformed)
            };
        }
        let name = self.text.get().unwrap_or_default();
        if self.text.length == 0 {
            return Err(Malformed);
        }
        self.field = Some(match () {
            () if name.eq_ignore_ascii_case(b"content-length") => Field::ContentLength,
            () if name.eq_ignore_ascii_case(b"transfer-encoding") => Field::TransferEncoding,
            () if name.eq_ignore_ascii_case(b"connection") => Field::Connection,
            () if name.eq_ignore_ascii_case(b"x-receipt") => Field::Receipt,
            () => Field::Other,
        });
        self.text = Text::default();
        self.quoted = Quoted::No;
        Ok(true)
    }

    /// Whether the value of the current field matters.
    pub fn value_matters(&self) -> bool {
        self.field.is_some_and(|field| field != Field::Other)
    }

    /// Reads a value that matters up to the end of its line, and returns the number of its bytes.
    pub fn value_bytes(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        for byte in &bytes[..length] {
            self.value(*byte);
        }
        length
    }

    /// Reads a byte of a value that matters: a list, if only of one member.
    pub fn value(&mut self, byte: u8) {
        let was = self.quoted;
        self.quoted = match (was, byte) {
            (Quoted::No, b'"') | (Quoted::Escaped, _) => Quoted::Yes,
            (Quoted::Yes, b'\\') => Quoted::Escaped,
            (Quoted::Yes, b'"') => Quoted::No,
            _ => was,
        };
        match byte {
            b',' if was == Quoted::No => self.end_member(),
            b' ' | b'\t' => self.text.gap = true,
            _ => {
                if self.field == Some(Field::ContentLength) {
                    self.text.drop_leading_zero();
                }
                self.text.push(byte);
            }
        }
    }

    fn end_member(&mut self) {
        let text = std::mem::take(&mut self.text);
        if text.length == 0 {
            return;
        }
        let member = text.get().unwrap_or_default();
        match self.field {
            Some(Field::ContentLength) => {
                // The same length several times is the same as once (RFC 9110, section 8.6).
                self.length = match (self.length, decimal(member)) {
                    (Length::Absent, Some(bytes)) => Length::Bytes(bytes),
                    (Length::Bytes(before), Some(bytes)) if before == bytes => Length::Bytes(bytes),
                    _ => Length::Invalid,
                };
            }
            Some(Field::TransferEncoding) => {
                self.coding = if member.eq_ignore_ascii_case(b"chunked") { Coding::Chunked } else { Coding::Other };
            }
            Some(Field::Connection) => {
                self.close |= member.eq_ignore_ascii_case(b"close");
                self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive");
            }
            Some(Field::Receipt) => {
                // What else another program sends under this name is nothing to us.
                let mut receipt = [0; RECEIPT_BYTES];
                if hex::decode_to_slice(member, &mut receipt).is_ok() {
                    self.receipt = Some(Receipt::read_short(&receipt));
                }
            }
            Some(Field::Other) | None => {}
        }
    }

    fn end_field(&mut self) {
        self.end_member();
        match self.field.take() {
            Some(Field::ContentLength) if self.length == Length::Absent => self.length = Length::Invalid,
            Some(Field::TransferEncoding) if self.coding == Coding::Absent => self.coding = Coding::Other,
            _ => {}
        }
    }

    /// The head is over: decides what follows. `bodiless`: not a body, whatever the head says.
    pub fn end(&mut self, bodiless: bool) -> Following {
        self.end_field();
        match (self.status, self.coding, self.length) {
            (101, ..) => Following::Upgrade,
            (100..=199, ..) => Following::Response,
            (204 | 304, ..) => Following::Nothing,
            _ if bodiless => Following::Nothing,
            (_, Coding::Chunked, _) => Following::Chunks,
            (_, Coding::Other, _) => Following::UntilClose,
            (_, Coding::Absent, Length::Invalid) => Following::Unknown,
            (_, Coding::Absent, Length::Bytes(0)) => Following::Nothing,
            (_, Coding::Absent, Length::Bytes(bytes)) => Following::Body(bytes),
            (_, Coding::Absent, Length::Absent) => Following::UntilClose,
        }
    }

    /// Whether the connection serves no other request (RFC 9112, section 9.3). One whose response has two lengths, or an encoding that
    /// HTTP/1.0 does not have, is not trusted with another (section 6.3).
    pub fn closes(&self) -> bool {
        let doubtful = self.coding != Coding::Absent && (self.length != Length::Absent || self.version_1_0);
        self.close || doubtful || (self.version_1_0 && !self.keep_alive)
    }
}

impl Text {
    fn push(&mut self, byte: u8) {
        // White space within a member.
        if std::mem::take(&mut self.gap) && self.length > 0 {
            self.push(b' ');
        }
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = (self.length + 1).min(TEXT_BYTES + 1);
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let length = room.len().min(bytes.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.length = (self.length + bytes.len()).min(TEXT_BYTES + 1);
    }

    /// A number may have any number of zeros before it.
    fn drop_leading_zero(&mut self) {
        if self.get() == Some(b"0") && !self.gap {
            self.length = 0;
        }
    }

    /// The text; `None` if it is longer than any that matters.
    fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}

/// A number of digits only.
fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Whether a name may contain this byte (RFC 9110, section 5.6.2).
#[inline]
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let (mut token, mut byte) = ([false; 256], 0_u8);
        while byte < 128 {
            token[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < others.len() {
            token[others[at] as usize] = true;
            at += 1;
        }
        token
    };
    TOKEN[usize::from(byte)]
}
