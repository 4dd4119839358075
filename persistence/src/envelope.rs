//! One line of a file of ours: the envelope first, then the payload.
//!
//! The fields stand in this order: `v` (the version of the format), `seq`, `run_id`, `type`, `end`, `crc` and
//! `payload`. The checksum is CRC-32 (as of gzip) of the line without its eight digits and the `\n`.
//! Everything but the payload is known without parsing it.

use runledger_core::{Error, RunId};
use serde::Serialize;

/// The largest number of an event, or of anything else that is counted on.
pub(crate) const LARGEST: u64 = i64::MAX as u64;

/// Digits of the checksum.
const DIGITS: usize = 8;

/// Everything of a record that is known without parsing its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) version: u64,
    pub(crate) seq: u64,
    pub(crate) run_id: Option<RunId>,
    pub(crate) event_type: String,
    /// Whether it is the last of its commit.
    pub(crate) end: bool,
    pub(crate) payload: &'a [u8],
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not one whole record.
    Shape,
    /// Its checksum is that of another.
    Checksum,
}

impl Fault {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Shape => "is not a whole record",
            Self::Checksum => "has a wrong checksum",
        }
    }
}

impl<'a> Envelope<'a> {
    /// Reads the envelope of a line, given without its `\n`.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        Self::parts(line).ok_or(Fault::Shape)?
    }

    fn parts(line: &'a [u8]) -> Option<Result<Self, Fault>> {
        let (version, rest) = number(line.strip_prefix(b"{\"v\":")?)?;
        // No store gave a larger one, and none is to follow it.
        let (seq, rest) = number(rest.strip_prefix(b",\"seq\":")?).filter(|(seq, _)| *seq <= LARGEST)?;
        let rest = rest.strip_prefix(b",\"run_id\":")?;
        let (run_id, rest) = match rest.strip_prefix(b"null") {
            Some(rest) => (None, rest),
            None => {
                let (text, rest) = string(rest)?;
                (Some(RunId::new(text).ok()?), rest)
            }
        };
        let (event_type, rest) = string(rest.strip_prefix(b",\"type\":")?)?;
        let rest = rest.strip_prefix(b",\"end\":")?;
        let (end, rest) = match rest.strip_prefix(b"true") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_prefix(b"false")?),
        };
        let rest = rest.strip_prefix(b",\"crc\":\"")?;
        let place = line.len() - rest.len();
        let (digits, rest) = rest.split_at_checked(DIGITS)?;
        let payload = rest.strip_prefix(b"\",\"payload\":")?.strip_suffix(b"}")?;
        if digits != checksum(line, place)?.as_bytes() {
            return Some(Err(Fault::Checksum));
        }
        Some(Ok(Self { version, seq, run_id, event_type, end, payload }))
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn string(text: &[u8]) -> Option<(String, &[u8])> {
    let mut escaped = false;
    let inside = text.strip_prefix(b"\"")?;
    let end = inside.iter().position(|b| {
        let closes = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        closes
    })?;
    let (whole, rest) = text.split_at_checked(end + 2)?;
    Some((serde_json::from_slice(whole).ok()?, rest))
}

/// CRC-32 of a record without the digits at `place`.
fn checksum(line: &[u8], place: usize) -> Option<String> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(line.get(..place)?);
    hasher.update(line.get(place + DIGITS..)?);
    Some(format!("{:08x}", hasher.finalize()))
}

/// Adds a line.
pub(crate) fn push<T: Serialize>(
    lines: &mut Vec<u8>,
    version: u64,
    seq: u64,
    run: Option<&RunId>,
    event_type: &str,
    end: bool,
    payload: &T,
) -> Result<(), Error> {
    let start = lines.len();
    lines.extend_from_slice(format!("{{\"v\":{version},\"seq\":{seq},\"run_id\":").as_bytes());
    encode(lines, &run)?;
    lines.extend_from_slice(b",\"type\":");
    encode(lines, event_type)?;
    lines.extend_from_slice(format!(",\"end\":{end},\"crc\":\"").as_bytes());
    let place = lines.len();
    lines.extend_from_slice(&[b'0'; DIGITS]);
    lines.extend_from_slice(b"\",\"payload\":");
    encode(lines, payload)?;
    lines.push(b'}');
    let digits = lines.get(start..).and_then(|line| checksum(line, place - start));
    if let (Some(digits), Some(space)) = (digits, lines.get_mut(place..place + DIGITS)) {
        space.copy_from_slice(digits.as_bytes());
    }
    lines.push(b'\n');
    Ok(())
}

fn encode<T: Serialize + ?Sized>(lines: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    serde_json::to_writer(lines, value)
        .map_err(|error| Error::Backend { operation: "to encode a record", source: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_not_looked_at() {
        let mut line = Vec::new();
        push(&mut line, 1, 7, None, "note", true, &()).unwrap();
        let place = line.windows(7).position(|part| part == b"\"crc\":\"").unwrap() + 7;
        line.truncate(place + DIGITS);
        line.extend_from_slice(b"\",\"payload\":what is this}");
        let digits = checksum(&line, place).unwrap();
        line[place..place + DIGITS].copy_from_slice(digits.as_bytes());
        assert_eq!(Envelope::parse(&line).unwrap().payload, b"what is this");
    }
}
