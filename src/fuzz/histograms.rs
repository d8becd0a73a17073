//! Lines of `histograms.hlog`.

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::record::histograms::Decoder;

/// A log's text; or a histogram's uncompressed bytes behind a byte 0, as the log's only line.
pub fn log(input: &[u8]) {
    let packed =
        input.strip_prefix(&[0]).map(|bytes| format!("Tag=t0.w0.accept_wait,0.0,1.0,1.0,{}\n", STANDARD.encode(bytes)));
    let log = packed.as_ref().map_or(input, |line| line.as_bytes());
    let mut decoder = Decoder::default();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let Some(part) = decoder.read_line(line) else { continue };
        let mut bytes = Vec::new();
        let histogram = part.counts.histogram();
        V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("what was read can be written");
        let again = Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]).expect("what was written can be read");
        assert_eq!((again.len(), again), (part.counts.len(), histogram));
        assert!(part.name.own.ends_with(part.name.metric));
    }
}
