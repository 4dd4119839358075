//! The lines of a rollout, plain or compressed, read one at a time.
//!
//! A line ends with a line feed and with nothing else: rollouts hold U+2028 and its kin as they are. Offsets
//! count bytes of the plain text, so that they are the same when Codex has compressed the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

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
            let mut plain = Frames { source: BufReader::new(opened), decoder: FrameDecoder::new() };
            let skipped = io::copy(&mut plain.by_ref().take(at), &mut io::sink())?;
            let reader = Box::new(BufReader::with_capacity(1 << 16, plain));
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

/// The text of a compressed file: of all of its frames, for whoever appends to one, or compresses in pieces, leaves
/// several. What is no frame is an error.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame, past those that hold no text; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends amid a frame"));
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            // A decoder that has begun none is finished, too.
            if self.decoder.is_finished() && self.decoder.can_collect() == 0 && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() < out.len() && !self.decoder.is_finished() {
                let more = BlockDecodingStrategy::UptoBytes(out.len() - self.decoder.can_collect());
                self.decoder.decode_blocks(&mut self.source, more).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
        }
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

    /// The lines of a compressed file from a place on.
    fn plain(file: &Path, at: u64) -> io::Result<Vec<String>> {
        let (mut lines, mut told) = (Lines::open(file, at)?, Vec::new());
        while let Some(line) = lines.read()? {
            told.push(String::from_utf8(line.bytes.unwrap()).unwrap());
        }
        Ok(told)
    }

    #[test]
    fn every_frame_of_a_compressed_file_is_read() {
        use ruzstd::encoding::{CompressionLevel, compress_to_vec};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.jsonl.zst");
        let frame = |text: &str| compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
        let long = format!("{}\n", "x".repeat(300_000));
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let whole = [
            skipped.clone(),
            frame("one\ntw"),
            frame(""),
            skipped.clone(),
            frame("o\n"),
            frame(&long),
            frame("end\n"),
            skipped,
        ]
        .concat();
        std::fs::write(&file, &whole).unwrap();
        let expected = ["one", "two", long.trim_end(), "end"];
        assert_eq!(plain(&file, 0).unwrap(), expected);
        assert_eq!(plain(&file, 8).unwrap(), expected[2..]);
        assert_eq!(plain(&file, 8 + long.len() as u64 + 4).unwrap(), [] as [&str; 0]);
        assert!(plain(&file, 8 + long.len() as u64 + 5).is_err());
        // What is no frame is not passed over, and an end amid one is told.
        std::fs::write(&file, [&whole[..], b"{}\n"].concat()).unwrap();
        assert!(plain(&file, 0).is_err());
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        assert!(plain(&file, 0).is_err());
        std::fs::write(&file, b"").unwrap();
        assert_eq!(plain(&file, 0).unwrap(), [] as [&str; 0]);
    }

    #[test]
    fn escaped_bytes_can_be_told() {
        assert_eq!(escape(b"a\\\x00\xff\xc3\xbc\xc3"), "a\\\\\\x00\\xff\u{fc}\\xc3");
    }
}
