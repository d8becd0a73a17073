//! Lists of netfilter's objects: nfnetlink, `struct nfgenmsg` of include/uapi/linux/netfilter/nfnetlink.h.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Bytes of struct nlmsghdr, of struct nfgenmsg, and of struct nlattr.
const HEADER: usize = 16;
const GENERAL: usize = 4;
const ATTRIBUTE: usize = 4;

/// What every list may contain: an error, and its end.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Marks of an attribute's type that are no part of its number (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const MARKS: u16 = 0xc000;

/// The most that the kernel sends at once.
const ANSWER_BYTES: usize = 1 << 16;

/// Lists that change while they are read are read again, this many times in all.
const ATTEMPTS: usize = 5;

/// A kind of object: `NFNL_SUBSYS_…`, and the subsystem's number of the message that asks for a list.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub subsystem: u8,
    pub message: u8,
}

/// One of the objects listed.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// `NFPROTO_…`.
    pub family: u8,
    attributes: &'a [u8],
}

impl<'a> Object<'a> {
    /// Its attributes, by type and content.
    pub fn attributes(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        attributes(self.attributes)
    }
}

/// The netfilter of the network namespace that it was opened in.
#[derive(Debug)]
pub struct Netfilter {
    socket: Socket,
}

impl Netfilter {
    /// That of the calling process's network namespace. Fails on a kernel without netfilter.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Reads the list of a kind of object, of one family or (0) of all, and adds each object to what `begin` returns. Begins anew if
    /// the list changes meanwhile, as far as the subsystem notices.
    ///
    /// Fails with EPERM without CAP_NET_ADMIN in the network namespace, with another errno if the kernel lacks the subsystem, and with
    /// EINTR if the list does not cease to change.
    pub fn list<T>(
        &self,
        kind: Kind,
        family: u8,
        begin: impl Fn() -> T,
        mut add: impl FnMut(&mut T, Object<'_>),
    ) -> io::Result<T> {
        let mut answer = vec![0; ANSWER_BYTES];
        for _ in 0..ATTEMPTS {
            self.socket.send(&request(kind, family), 0)?;
            let (mut all, mut torn) = (begin(), false);
            loop {
                let length = self.socket.recv(&mut &mut answer[..], 0)?;
                let piece = each_in(&answer[..length], |object| add(&mut all, object))?;
                torn |= piece.torn;
                if piece.last {
                    break;
                }
            }
            if !torn {
                return Ok(all);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// Asks for a list.
fn request(kind: Kind, family: u8) -> [u8; HEADER + GENERAL] {
    let mut bytes = [0; HEADER + GENERAL];
    bytes[0..4].copy_from_slice(&((HEADER + GENERAL) as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&(u16::from(kind.subsystem) << 8 | u16::from(kind.message)).to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes[HEADER] = family;
    bytes
}

/// What a piece of a list says of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Piece {
    /// Whether it is the last.
    pub last: bool,
    /// Whether objects may be missing, or listed twice.
    pub torn: bool,
}

/// Visits every object of a piece of a list. Fails with the error that the kernel reports, if any.
pub fn each_in(answer: &[u8], mut visit: impl FnMut(Object<'_>)) -> io::Result<Piece> {
    let mut rest = answer;
    let mut piece = Piece::default();
    while !rest.is_empty() {
        let [length, kind, flags] = [number(rest, 0..4)?, number(rest, 4..6)?, number(rest, 6..8)?];
        let length = length as usize;
        let body = rest.get(HEADER..length).ok_or(io::ErrorKind::InvalidData)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        piece.torn |= flags as u16 & NLM_F_DUMP_INTR != 0;
        match kind as u16 {
            // The end has a code, too, with which a list that could not be begun ends.
            end @ (NLMSG_ERROR | NLMSG_DONE) => {
                let code = number(body, 0..4).unwrap_or(0) as i32;
                if code < 0 {
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                piece.last = true;
                if end == NLMSG_DONE {
                    return Ok(piece);
                }
            }
            _ => {
                let (general, attributes) = body.split_at_checked(GENERAL).ok_or(io::ErrorKind::InvalidData)?;
                visit(Object { family: general[0], attributes });
            }
        }
    }
    Ok(piece)
}

/// A number in the machine's byte order.
fn number(bytes: &[u8], place: std::ops::Range<usize>) -> io::Result<u32> {
    match bytes.get(place) {
        Some([a, b]) => Ok(u16::from_ne_bytes([*a, *b]).into()),
        Some([a, b, c, d]) => Ok(u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The attributes in an object or in another attribute, by type and content. What follows one that is cut off is left out.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [length, kind] = [number(rest, 0..2).ok()?, number(rest, 2..4).ok()?];
        let content = rest.get(ATTRIBUTE..length as usize)?;
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
        Some((kind as u16 & !MARKS, content))
    })
}

/// The content of the first attribute of a type.
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, content)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend([0; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn families(answer: &[u8]) -> io::Result<(Piece, Vec<u8>)> {
        let mut families = Vec::new();
        let piece = each_in(answer, |object| families.push(object.family))?;
        Ok((piece, families))
    }

    #[test]
    fn a_list_ends_where_the_kernel_says() {
        let objects = [message(0x0a03, 0, &[2, 0, 0, 0]), message(0x0a03, 0, &[10, 0, 0, 0])].concat();
        assert_eq!(families(&objects).unwrap(), (Piece::default(), vec![2, 10]));
        let ended = [objects.clone(), message(NLMSG_DONE, 0, &[0; 4])].concat();
        assert_eq!(families(&ended).unwrap(), (Piece { last: true, torn: false }, vec![2, 10]));
        let changed = [objects, message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4])].concat();
        assert!(families(&changed).unwrap().0.torn);
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let refused = families(&message(kind, 0, &(-libc::EPERM).to_ne_bytes())).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
        // Shorter than its own header, cut off, and without a family.
        for wrong in [&[0; 16][..], &message(0x0a03, 0, &[2, 0, 0, 0])[..18], &message(0x0a03, 0, &[])] {
            assert!(families(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn attributes_are_padded_and_marked() {
        let bytes = [&5_u16.to_ne_bytes()[..], &0x8001_u16.to_ne_bytes(), &[7, 0, 0, 0]].concat();
        let two = [&bytes[..], &4_u16.to_ne_bytes(), &2_u16.to_ne_bytes()].concat();
        assert_eq!(attributes(&two).collect::<Vec<_>>(), [(1, &[7][..]), (2, &[])]);
        assert_eq!((attribute(&two, 1), attribute(&two, 3)), (Some(&[7][..]), None));
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0, "cut off");
    }
}
