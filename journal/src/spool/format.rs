//! Every line of a spool file.
//!
//! A file is lines of JSON, each ended by `\n` and by nothing else. The envelope comes first:
//!
//! ```text
//! {"v":1,"crc":"5f0c1a2b","n":4,"batch":2,"end":true,"epoch":3,"ordinal":17,"type":"event","payload":{...}}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `v` | the version of this format |
//! | `crc` | CRC-32 of `v` and of all that follows the comma after `crc`, as 8 hexadecimal digits |
//! | `n` | the line's number in the file, from 0 |
//! | `batch` | the number of its batch; batch 0 is the head |
//! | `end` | whether it is the last line of its batch |
//! | `epoch`, `ordinal` | the journal's mark: that of an event is its own, that of another line is the next event's |
//! | `type` | `head`, `event`, `usage`, `progress` or `finish` |
//!
//! A batch is synced to the disk before the next one is begun, so a file that broke off can be
//! damaged in its last batch only. Payloads are the text of their JSON document inside a string:
//! they come back byte for byte, whatever white space they hold.

use std::io::{self, BufRead, Read as _};

use runledger_core::{EventDraft, RunProgress};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::line::{EventLine, FinishLine, Finished, Head, ProgressLine, UsageLine};
use crate::queue::{Batch, Size};
use crate::sender::{Ending, Piece};

/// The version that is written.
const VERSION: u32 = 1;

/// No line is longer: the largest payload, each byte escaped, and an envelope.
const MAX_LINE_BYTES: u64 = 512 * 1024 * 1024;

/// A place between two batches of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// In bytes.
    pub(super) offset: u64,
    /// The number of the next line.
    pub(super) line: u64,
    /// The number of the next batch.
    pub(super) batch: u64,
    /// The number of the next event in the run's journal.
    pub(super) ordinal: u64,
    /// Whether the run has ended before.
    pub(super) late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Head,
    Event,
    Usage,
    Progress,
    Finish,
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    n: u64,
    batch: u64,
    end: bool,
    epoch: u64,
    ordinal: u64,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Writes the lines of one batch.
struct Lines {
    at: Cursor,
    epoch: u64,
    bytes: Vec<u8>,
}

impl Lines {
    fn add<T: Serialize>(&mut self, kind: Kind, payload: &T, end: bool) -> io::Result<()> {
        let payload = serde_json::value::to_raw_value(payload)?;
        let envelope = Envelope {
            n: self.at.line,
            batch: self.at.batch,
            end,
            epoch: self.epoch,
            ordinal: self.at.ordinal,
            kind,
            payload: &payload,
        };
        let text = serde_json::to_string(&envelope)?;
        let body = text.get(1..).unwrap_or_default();
        let crc = checksum(&VERSION.to_string(), body.as_bytes());
        self.bytes.extend_from_slice(format!("{{\"v\":{VERSION},\"crc\":\"{crc:08x}\",").as_bytes());
        self.bytes.extend_from_slice(body.as_bytes());
        self.bytes.push(b'\n');
        self.at.line += 1;
        self.at.ordinal += u64::from(kind == Kind::Event);
        Ok(())
    }

    fn done(mut self) -> (Vec<u8>, Cursor) {
        self.at.batch += 1;
        self.at.offset += self.bytes.len() as u64;
        (self.bytes, self.at)
    }
}

fn checksum(version: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(version.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The first batch of a file, and where the next one begins.
pub(super) fn encode_head(head: &Head, ordinal: u64) -> io::Result<(Vec<u8>, Cursor)> {
    let at = Cursor { ordinal, late: head.late, ..Cursor::default() };
    let mut lines = Lines { at, epoch: head.epoch, bytes: Vec::new() };
    lines.add(Kind::Head, head, true)?;
    Ok(lines.done())
}

/// A piece as a batch, and where the next one begins.
pub(super) fn encode(piece: &Piece, epoch: u64, at: Cursor) -> io::Result<(Vec<u8>, Cursor)> {
    let (batch, ending) = match piece {
        Piece::Batch(batch) => (batch, None),
        Piece::End(ending) => (&ending.batch, Some(&**ending)),
    };
    let Batch { events, usage, progress } = batch;
    let events: Vec<&EventDraft> = events.iter().chain(ending.map(|ending| &ending.terminal)).collect();
    let progressed = usize::from(!progress.is_empty());
    let mut left = events.len() + usage.len() + progressed + usize::from(ending.is_some());
    let mut last = || {
        left -= 1;
        left == 0
    };
    let mut lines = Lines { at, epoch, bytes: Vec::new() };
    for event in events {
        lines.add(Kind::Event, &EventLine::of(event), last())?;
    }
    for call in usage {
        lines.add(Kind::Usage, &UsageLine::of(call), last())?;
    }
    if progressed > 0 {
        let RunProgress { first_human_message, last_ai_message, model_name } = progress.clone();
        lines.add(
            Kind::Progress,
            &ProgressLine { first_human_message, last_ai_message, model_name },
            last(),
        )?;
    }
    if let Some(Ending { outcome, asks, at, .. }) = ending {
        let line = FinishLine::of(outcome, asks, *at);
        lines.add(Kind::Finish, &line, last())?;
    }
    let (bytes, mut at) = lines.done();
    at.late |= ending.is_some();
    Ok((bytes, at))
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// The batch that begins at this byte is not whole.
    #[error("the batch at byte {offset} is damaged: {reason}")]
    Damaged { offset: u64, reason: String },
    /// A newer version wrote it.
    #[error("has version {0}; this program reads {VERSION}")]
    Newer(u32),
}

enum BadLine {
    Io(io::Error),
    /// The file ends here.
    End,
    Newer(u32),
    Damaged(String),
}

/// Reads a file batch by batch.
#[derive(Debug)]
pub(super) struct Reader<R> {
    input: R,
    at: Cursor,
    epoch: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the head.
    pub(super) fn open(input: R) -> Result<(Head, Self), ReadError> {
        let mut reader = Self { input, at: Cursor::default(), epoch: 0, line: Vec::new() };
        let damaged = |reason| ReadError::Damaged { offset: 0, reason };
        let (mut head, end, epoch, ordinal): (Head, _, _, _) = match reader.next_line() {
            Ok(line) if line.kind == Kind::Head && line.end && line.n == 0 && line.batch == 0 => {
                let head = serde_json::from_str(line.payload.get());
                (
                    head.map_err(|error| damaged(format!("its head: {error}")))?,
                    line.end,
                    line.epoch,
                    line.ordinal,
                )
            }
            Ok(_) => return Err(damaged("it does not begin with a head".to_owned())),
            Err(BadLine::Io(error)) => return Err(error.into()),
            Err(BadLine::Newer(version)) => return Err(ReadError::Newer(version)),
            Err(BadLine::End) => return Err(damaged("it is empty".to_owned())),
            Err(BadLine::Damaged(reason)) => return Err(damaged(reason)),
        };
        head.epoch = epoch;
        reader.epoch = epoch;
        let offset = reader.line.len() as u64;
        reader.at = Cursor { offset, line: 1, batch: u64::from(end), ordinal, late: head.late };
        Ok((head, reader))
    }

    /// Goes on at a place of a file whose head was read before.
    pub(super) fn at(input: R, at: Cursor, epoch: u64) -> Self {
        Self { input, at, epoch, line: Vec::new() }
    }

    /// Where the next batch begins.
    pub(super) fn cursor(&self) -> Cursor {
        self.at
    }

    fn next_line(&mut self) -> Result<Envelope<'_>, BadLine> {
        self.line.clear();
        let read = self.input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line);
        if read.map_err(BadLine::Io)? == 0 {
            return Err(BadLine::End);
        }
        open_line(&self.line)
    }

    /// The next whole batch; `None` where the file ends after the one before.
    pub(super) fn batch(&mut self) -> Result<Option<Piece>, ReadError> {
        let begin = self.at;
        let damaged = |reason| ReadError::Damaged { offset: begin.offset, reason };
        let (mut at, epoch) = (begin, self.epoch);
        let mut batch = Batch::default();
        let mut finish = None;
        loop {
            let line = match self.next_line() {
                Ok(line) => line,
                Err(BadLine::Io(error)) => return Err(error.into()),
                Err(BadLine::End) if at == begin => return Ok(None),
                Err(BadLine::End) => return Err(damaged("its last line is missing".to_owned())),
                Err(BadLine::Newer(version)) => return Err(damaged(format!("a line has version {version}"))),
                Err(BadLine::Damaged(reason)) => return Err(damaged(reason)),
            };
            let found = (line.n, line.batch, line.epoch, line.ordinal);
            if found != (at.line, at.batch, epoch, at.ordinal) {
                return Err(damaged(format!("a line is missing or doubled before line {}", line.n)));
            }
            let (kind, end) = (line.kind, line.end);
            if end != (kind == Kind::Finish) && finish.is_some() {
                return Err(damaged("something follows the end of the run".to_owned()));
            }
            add_line(&line, &mut batch, &mut finish).map_err(damaged)?;
            at.line += 1;
            at.ordinal += u64::from(kind == Kind::Event);
            at.offset += self.line.len() as u64;
            if end {
                break;
            }
        }
        at.batch += 1;
        let piece = match finish {
            None => Piece::Batch(batch),
            Some(Finished { outcome, asks, at: finished_at }) => {
                at.late = true;
                let Some(terminal) = batch.events.pop() else {
                    return Err(damaged("the end of the run has no event".to_owned()));
                };
                Piece::End(Box::new(Ending { batch, terminal, outcome, asks, at: finished_at }))
            }
        };
        self.at = at;
        Ok(Some(piece))
    }

    /// After damage: whether a later batch is there, so that it is not the torn end of the file.
    pub(super) fn goes_on(&mut self) -> io::Result<bool> {
        let damaged = self.at.batch;
        loop {
            match self.next_line() {
                Ok(line) if line.batch > damaged => return Ok(true),
                Ok(_) | Err(BadLine::Damaged(_) | BadLine::Newer(_)) => {}
                Err(BadLine::End) => return Ok(false),
                Err(BadLine::Io(error)) => return Err(error),
            }
        }
    }
}

fn open_line(line: &[u8]) -> Result<Envelope<'_>, BadLine> {
    let damaged = |reason: &str| BadLine::Damaged(reason.to_owned());
    let Some(text) = line.strip_suffix(b"\n") else { return Err(damaged("its last line is cut")) };
    let text = std::str::from_utf8(text).map_err(|_| damaged("a line is not UTF-8"))?;
    let parts = || {
        let (version, rest) = text.strip_prefix("{\"v\":")?.split_once(",\"crc\":\"")?;
        let (crc, body) = rest.split_once("\",")?;
        Some((version, crc, body))
    };
    let (version, crc, body) = parts().ok_or_else(|| damaged("a line has no checksum"))?;
    if format!("{:08x}", checksum(version, body.as_bytes())) != crc {
        return Err(damaged("a checksum does not fit its line"));
    }
    match version.parse() {
        Ok(VERSION) => {}
        Ok(newer) => return Err(BadLine::Newer(newer)),
        Err(_) => return Err(damaged("a line has no version")),
    }
    serde_json::from_str(text).map_err(|error| BadLine::Damaged(format!("a line: {error}")))
}

fn add_line(line: &Envelope<'_>, batch: &mut Batch, finish: &mut Option<Finished>) -> Result<(), String> {
    let payload = line.payload.get();
    let wrong = |error: serde_json::Error| format!("line {}: {error}", line.n);
    match line.kind {
        Kind::Head => return Err("a second head".to_owned()),
        Kind::Event => {
            batch.events.push(serde_json::from_str::<EventLine<'_>>(payload).map_err(wrong)?.into_draft());
        }
        Kind::Usage => {
            batch.usage.push(serde_json::from_str::<UsageLine<'_>>(payload).map_err(wrong)?.into_draft());
        }
        Kind::Progress => {
            let ProgressLine { first_human_message, last_ai_message, model_name } =
                serde_json::from_str(payload).map_err(wrong)?;
            batch.progress = RunProgress { first_human_message, last_ai_message, model_name };
        }
        Kind::Finish => {
            *finish = Some(serde_json::from_str::<FinishLine<'_>>(payload).map_err(wrong)?.finished()?);
        }
    }
    Ok(())
}

impl Piece {
    pub(super) fn size(&self) -> Size {
        match self {
            Self::Batch(Batch { events, usage, progress }) => Size::of(events, usage, progress),
            Self::End(ending) => {
                let Batch { events, usage, progress } = &ending.batch;
                let mut size = Size::of(events, usage, progress);
                size += Size::of_event(&ending.terminal);
                size += Size::of_asks(&ending.asks);
                size
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use runledger_core::{
        Caller, Category, EventType, InteractionId, ItemId, ItemKind, ItemMark, ItemStatus, NewInteraction,
        Outcome, RawJson, RunId, SourceId, TaskId, ThreadId, Timestamp, TokenCounts, UsageDraft,
    };

    fn head() -> Head {
        Head {
            thread_id: ThreadId::new("t").unwrap(),
            run_id: RunId::new("r").unwrap(),
            owner_id: None,
            late: false,
            created_at: Timestamp::from_unix_micros(1).unwrap(),
            epoch: 7,
        }
    }

    /// An event with every field, its texts any text.
    fn event(content: &str, label: &str, whole: bool) -> EventDraft {
        let mut mark = ItemMark::new(
            ItemId::new("i").unwrap(),
            ItemKind::from_stored(label),
            ItemStatus::from_stored(label),
        );
        mark.parent_item_id = whole.then(|| ItemId::new("p").unwrap());
        EventDraft {
            caller: whole.then(|| Caller::from_stored(label)),
            task_id: whole.then(|| TaskId::new("task").unwrap()),
            item: whole.then_some(mark),
            once_key: whole.then(|| label.to_owned()),
            metadata: whole.then(|| RawJson::from_stored(content)),
            created_at: Timestamp::from_unix_micros(5).unwrap(),
            ..EventDraft::new(
                EventType::from_stored(label),
                Category::from_stored(label),
                RawJson::from_stored(content),
            )
        }
    }

    fn call(id: usize, raw: &str) -> UsageDraft {
        UsageDraft {
            raw: Some(RawJson::from_stored(raw)),
            cost_nanos: Some(id as u64),
            created_at: Timestamp::from_unix_micros(6).unwrap(),
            ..UsageDraft::new(SourceId::new(format!("s{id}")).unwrap(), TokenCounts::of(1, 2))
        }
    }

    /// As many questions as the text is long, up to two.
    fn asks(text: &str) -> Vec<NewInteraction> {
        let ask = |number: usize| NewInteraction {
            interaction_id: InteractionId::new(format!("q{number}")).unwrap(),
            kind: text.to_owned(),
            request: RawJson::from_stored(&format!("{{\n{text}\"}}")),
            item_id: (number > 0).then(|| ItemId::new("i").unwrap()),
        };
        (0..text.len().min(2)).map(ask).collect()
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let text = "(?s).{0,40}";
        let events = prop::collection::vec((text, "[a-z\n\\\\\"]{1,8}", any::<bool>()), 0..4);
        let piece = (events, 0..3_usize, prop::option::of(text)).prop_map(|(events, calls, said)| {
            let events: Vec<_> =
                events.iter().map(|(content, label, whole)| event(content, label, *whole)).collect();
            let usage = (0..calls).map(|id| call(id, "{\n}")).collect();
            let progress = RunProgress { last_ai_message: said, ..RunProgress::default() };
            Batch { events, usage, progress }
        });
        let ending = (any::<bool>(), "(?s).{0,20}").prop_map(|(ends, error)| (ends, error));
        (prop::collection::vec(piece, 1..5), ending).prop_map(|(batches, (ends, error))| {
            let mut pieces: Vec<Piece> =
                batches.into_iter().filter(|batch| !batch.is_empty()).map(Piece::Batch).collect();
            if ends {
                let ending = Ending {
                    batch: Batch::default(),
                    terminal: event("1", "run.failed", false),
                    asks: asks(&error),
                    outcome: Outcome::error(error),
                    at: Timestamp::from_unix_micros(9).unwrap(),
                };
                pieces.push(Piece::End(Box::new(ending)));
            }
            pieces
        })
    }

    fn written(pieces: &[Piece]) -> (Vec<u8>, Vec<Cursor>) {
        let (mut bytes, mut at) = encode_head(&head(), 3).unwrap();
        let mut places = vec![at];
        for piece in pieces {
            let (more, end) = encode(piece, 7, at).unwrap();
            bytes.extend(more);
            at = end;
            places.push(at);
        }
        (bytes, places)
    }

    /// What can be read, and why no more.
    fn read(bytes: &[u8]) -> (Vec<Piece>, Vec<Cursor>, Option<ReadError>) {
        let mut reader = match Reader::open(bytes) {
            Ok((_, reader)) => reader,
            Err(error) => return (Vec::new(), Vec::new(), Some(error)),
        };
        let (mut pieces, mut places) = (Vec::new(), vec![reader.cursor()]);
        loop {
            match reader.batch() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => return (pieces, places, None),
                Err(error) => return (pieces, places, Some(error)),
            }
            places.push(reader.cursor());
        }
    }

    #[test]
    fn a_line_looks_like_this() {
        let piece =
            Piece::Batch(Batch { events: vec![event("{\"a\": 1}", "note", false)], ..Batch::default() });
        let (bytes, _) = written(&[piece]);
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn what_is_written_is_read_byte_for_byte_and_from_any_place(pieces in pieces()) {
            let (bytes, places) = written(&pieces);
            let (back, seen, error) = read(&bytes);
            prop_assert!(error.is_none());
            prop_assert_eq!(&back, &pieces);
            prop_assert_eq!(&seen, &places);
            for (index, place) in places.iter().enumerate() {
                let mut reader = Reader::at(&bytes[place.offset as usize..], *place, 7);
                let next = reader.batch().unwrap();
                prop_assert_eq!(next.as_ref(), pieces.get(index));
            }
        }

        #[test]
        fn a_changed_byte_or_an_end_torn_off_gives_a_beginning_of_what_was_written(
            pieces in pieces(), at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<bool>()
        ) {
            let (mut bytes, _) = written(&pieces);
            let at = at.index(bytes.len());
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << bit;
            }
            let (back, places, error) = read(&bytes);
            prop_assert!(pieces.starts_with(&back));
            prop_assert!(back.len() < pieces.len() || pieces.is_empty() || cut);
            prop_assert!(error.is_some() || places.last().unwrap().offset as usize == bytes.len());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(read(&bytes).2.is_some());
        }
    }
}
