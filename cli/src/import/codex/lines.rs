//! The lines of a rollout, plain or compressed, read one at a time.
//!
//! A line ends with a line feed and with nothing else: rollouts hold U+2028 and its kin as they are. Offsets
//! count bytes of the plain text, so that they are the same when Codex has compressed the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

/// The longest line that is read whole: what a store takes as one payload, and something for what is around it.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;

/// One line.
#[derive(Debug)]
pub(crate) struct RawLine {
    /// Where it begins.
    pub(crate) at: u64,
    /// Where the next one begins.
    pub(crate) to: u64,
    /// Its bytes, without the line feed; `None` where there are more than are read.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Whether a line feed ends it.
    pub(crate) is_whole: bool,
}

/// A file that is being read.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    at: u64,
}

impl Lines {
    /// Opens a file where a line begins. Of a compressed one everything before is decoded and dropped.
    pub(crate) fn open(file: &Path, at: u64) -> io::Result<Self> {
        let mut opened = File::open(file)?;
        if is_compressed(file) {
            let mut decoder = StreamingDecoder::new(BufReader::new(opened)).map_err(io::Error::other)?;
            let skipped = io::copy(&mut decoder.by_ref().take(at), &mut io::sink())?;
            let reader = Box::new(BufReader::with_capacity(1 << 16, decoder));
            return if skipped == at { Ok(Self { reader, at }) } else { Err(ended(at)) };
        }
        if opened.metadata()?.len() < at {
            return Err(ended(at));
        }
        opened.seek(SeekFrom::Start(at))?;
        Ok(Self { reader: Box::new(BufReader::with_capacity(1 << 16, opened)), at })
    }

    /// The next line, or `None` at the end.
    pub(crate) fn read(&mut self) -> io::Result<Option<RawLine>> {
        let (at, mut bytes, mut is_whole) = (self.at, Some(Vec::new()), false);
        while !is_whole {
            let found = self.reader.fill_buf()?;
            if found.is_empty() {
                break;
            }
            let end = found.iter().position(|byte| *byte == b'\n');
            is_whole = end.is_some();
            let part = found.get(..end.unwrap_or(found.len())).unwrap_or_default();
            let taken = part.len() + usize::from(is_whole);
            if let Some(line) = &mut bytes {
                if line.len() + part.len() > MAX_LINE_BYTES {
                    bytes = None;
                } else {
                    line.extend_from_slice(part);
                }
            }
            self.reader.consume(taken);
            self.at += taken as u64;
        }
        if self.at == at {
            return Ok(None);
        }
        Ok(Some(RawLine { at, to: self.at, bytes, is_whole }))
    }
}

fn ended(at: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("it has fewer than the {at} bytes that were imported"),
    )
}

/// Whether the file's name says that it is compressed.
pub(crate) fn is_compressed(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "zst")
}

/// Bytes as text that says which they are: what is UTF-8 stands as it is, but for a backslash, which is
/// doubled, and a NUL, which no database takes; any other byte is `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\0' => out.push_str("\\x00"),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn only_a_line_feed_ends_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl");
        std::fs::write(&file, "a\u{2028}b\r\n\n\u{85}torn").unwrap();
        let mut lines = Lines::open(&file, 0).unwrap();
        let mut told = Vec::new();
        while let Some(line) = lines.read().unwrap() {
            told.push((line.at, line.to, String::from_utf8(line.bytes.unwrap()).unwrap(), line.is_whole));
        }
        let expected = [
            (0, 7, "a\u{2028}b\r".to_owned(), true),
            (7, 8, String::new(), true),
            (8, 14, "\u{85}torn".to_owned(), false),
        ];
        assert_eq!(told, expected);
        assert_eq!(Lines::open(&file, 8).unwrap().read().unwrap().unwrap().to, 14);
        assert!(Lines::open(&file, 15).is_err());
    }

    #[test]
    fn escaped_bytes_can_be_told() {
        assert_eq!(escape(b"a\\\x00\xff\xc3\xbc\xc3"), "a\\\\\\x00\\xff\u{fc}\\xc3");
    }
}
