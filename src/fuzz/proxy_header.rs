//! The PROXY protocol header that clients and proxies send to our own server.

use super::pieces;
use crate::ipc::proxy_header::{BINARY_LIMIT_BYTES, Header, Read, TEXT_LIMIT_BYTES, Template, Version, read};

/// What a client sends first on a connection, preceded by how it is cut into pieces.
pub fn header(input: &[u8]) {
    let Some((seed, bytes)) = input.split_first() else { return };
    let whole = read(bytes);
    let (mut arrived, mut in_pieces) = (0, Read::Partial);
    for piece in pieces(bytes, *seed) {
        arrived += piece.len();
        in_pieces = read(&bytes[..arrived]);
        if in_pieces != Read::Partial {
            break;
        }
    }
    assert_eq!(in_pieces, whole, "pieces mean what the whole means");
    match whole {
        // What is still waited for is bounded.
        Read::Partial => assert!(bytes.len() < BINARY_LIMIT_BYTES),
        Read::Whole(Header { version, length, ends }) => {
            let limit = if version == Version::Text { TEXT_LIMIT_BYTES } else { BINARY_LIMIT_BYTES };
            assert!(length <= bytes.len() && length <= limit);
            assert_eq!(read(&bytes[..length]), whole, "what follows changes nothing");
            let Some(ends) = ends else { return };
            for version in Version::ALL {
                let mut written = Vec::new();
                Template::new(version, ends.client.ip(), ends.server).write(ends.client.port(), &mut written);
                let Read::Whole(again) = read(&written) else { panic!("{}", written.escape_ascii()) };
                assert_eq!((again.version, again.length), (version, written.len()));
                assert!(again.ends.is_some_and(|again| again.is(&ends)), "{again:?} is not {ends:?}");
            }
        }
        Read::Absent | Read::Bad => {}
    }
}
