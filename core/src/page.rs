//! Pages: keyset only, so that a page costs the same at the end of a log as at its start.
//!
//! A page of events also ends where their payloads have [`MAX_PAGE_BYTES`], and says that there is more.
//!
//! One rule for all stores: a limit of 0 is [`Error::InvalidInput`](crate::Error::InvalidInput),
//! a limit over [`MAX_LIMIT`] is capped. Pages of a log are always ascending.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, RunId, Thread, ThreadId, Timestamp};

/// The most rows in one page.
pub const MAX_LIMIT: u32 = 1_000;

/// Rows in a page when nothing was asked for.
pub const DEFAULT_LIMIT: u32 = 50;

/// The most bytes of payloads on one page of events, so that large ones do not make a page that nobody can hold. A
/// page has at least one row, however large.
pub const MAX_PAGE_BYTES: usize = 32 << 20;

/// The largest number a seq can have.
const MAX_SEQ: u64 = i64::MAX as u64;

fn checked_limit(limit: u32) -> Result<u32> {
    match limit {
        0 => Err(Error::invalid("limit", "is 0; ask for 1 to 1000 rows")),
        _ => Ok(limit.min(MAX_LIMIT)),
    }
}

/// Which part of a log to read. Both cursors are exclusive.
///
/// | cursors | page |
/// |---|---|
/// | `after_seq` | the first `limit` rows after it |
/// | `before_seq` | the last `limit` rows before it |
/// | neither | the last `limit` rows |
/// | both | the first `limit` rows of the window between them |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqRange {
    /// Rows at most; 0 is refused, over 1,000 is capped. A page of events may have fewer and say that there are more.
    pub limit: u32,
    /// Only rows with a smaller seq.
    pub before_seq: Option<u64>,
    /// Only rows with a larger seq.
    pub after_seq: Option<u64>,
}

impl Default for SeqRange {
    fn default() -> Self {
        Self::last(DEFAULT_LIMIT)
    }
}

impl SeqRange {
    /// The last `limit` rows.
    #[must_use]
    pub fn last(limit: u32) -> Self {
        Self { limit, before_seq: None, after_seq: None }
    }

    /// The first `limit` rows after `seq`; 0 starts at the beginning.
    #[must_use]
    pub fn after(seq: u64, limit: u32) -> Self {
        Self { limit, before_seq: None, after_seq: Some(seq) }
    }

    /// The last `limit` rows before `seq`.
    #[must_use]
    pub fn before(seq: u64, limit: u32) -> Self {
        Self { limit, before_seq: Some(seq), after_seq: None }
    }

    /// Checks the range and says how to read it.
    pub fn resolve(&self) -> Result<SeqScan> {
        Ok(SeqScan {
            limit: checked_limit(self.limit)?,
            // Seqs are stored as signed 64-bit integers; what is above them is past every end.
            after: self.after_seq.unwrap_or(0).min(MAX_SEQ),
            before: self.before_seq.unwrap_or(MAX_SEQ).min(MAX_SEQ),
            from_end: self.after_seq.is_none(),
        })
    }
}

/// A checked [`SeqRange`], for those who implement a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqScan {
    /// Rows in the page, 1 to 1,000. Read one more to know whether there are more.
    pub limit: u32,
    /// Rows have a seq larger than this.
    pub after: u64,
    /// Rows have a seq smaller than this.
    pub before: u64,
    /// Take the last rows of the range instead of the first.
    pub from_end: bool,
}

impl SeqScan {
    /// Makes the page of up to `limit + 1` rows read in scan order
    /// (descending where [`SeqScan::from_end`], else ascending).
    #[must_use]
    pub fn page<T>(&self, mut rows: Vec<T>) -> SeqPage<T> {
        let limit = self.limit as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        if self.from_end {
            rows.reverse();
        }
        SeqPage { items: rows, has_more }
    }

    /// The page before its first row, for rows that are read one by one.
    #[must_use]
    pub fn fill<T>(self) -> SeqFill<T> {
        SeqFill { scan: self, rows: Vec::new(), bytes: 0, has_more: false }
    }
}

/// A page that is filled in scan order, up to its limit of rows and to [`MAX_PAGE_BYTES`].
#[derive(Debug)]
pub struct SeqFill<T> {
    scan: SeqScan,
    rows: Vec<T>,
    bytes: usize,
    has_more: bool,
}

impl<T> SeqFill<T> {
    /// Takes the next row, whose payloads have so many bytes, if there is room for it. If not, that is what tells that
    /// there are further rows, and none has to be read any more: the answer is `false`.
    pub fn take(&mut self, row: T, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let has_room = self.rows.is_empty() || self.bytes <= MAX_PAGE_BYTES;
        if has_room && self.rows.len() < self.scan.limit as usize {
            self.rows.push(row);
            return true;
        }
        self.has_more = true;
        false
    }

    /// The page of what was taken.
    #[must_use]
    pub fn page(mut self) -> SeqPage<T> {
        if self.scan.from_end {
            self.rows.reverse();
        }
        SeqPage { items: self.rows, has_more: self.has_more }
    }
}

/// How a cursor says on which side of a list of threads it is.
const PINNED: &str = "pinned";
const NOT_PINNED: &str = "other";

fn invalid_cursor() -> Error {
    Error::invalid("cursor", "was not returned by this listing; leave it out to start anew")
}

/// Rows of a log in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SeqPage<T> {
    /// The rows, ascending by seq.
    pub items: Vec<T>,
    /// Whether the range has further rows on the side the page was not anchored to:
    /// later ones when it was read forward, earlier ones when it was read from the end.
    pub has_more: bool,
}

/// A position in a newest-first listing. Opaque; valid for the listing that returned it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// The position of the row with this time and id.
    #[must_use]
    pub fn at(time: Timestamp, id: &str) -> Self {
        Self(format!("{}:{id}", time.unix_micros()))
    }

    /// The position of a run: an id may be that of runs on several threads, so both are part of it.
    #[must_use]
    pub fn at_run(created_at: Timestamp, run: &RunId, thread: &ThreadId) -> Self {
        Self::at_pair(created_at, run.as_str(), thread.as_str())
    }

    /// The position of a thread in a list where pinned ones come first.
    #[must_use]
    pub fn at_thread(thread: &Thread) -> Self {
        Self::at_place(thread.pinned, thread.updated_at, &thread.thread_id)
    }

    /// The same by what such a list is ordered by, for those who implement a store.
    #[must_use]
    pub fn at_place(pinned: bool, updated_at: Timestamp, thread: &ThreadId) -> Self {
        Self::at_pair(updated_at, if pinned { PINNED } else { NOT_PINNED }, thread.as_str())
    }

    /// Whether the thread of a cursor of [`Cursor::at_thread`] is pinned, its time and its id, for those who
    /// implement a store.
    pub fn thread_position(&self) -> Result<(bool, Timestamp, &str)> {
        let (at, rank, thread) = self.pair_position()?;
        match rank {
            PINNED => Ok((true, at, thread)),
            NOT_PINNED => Ok((false, at, thread)),
            _ => Err(invalid_cursor()),
        }
    }

    /// The position of a row that two ids tell apart from others of its time.
    #[must_use]
    pub fn at_pair(at: Timestamp, first: &str, second: &str) -> Self {
        Self::at(at, &format!("{}:{first}{second}", first.len()))
    }

    /// The time and both ids of a cursor of [`Cursor::at_pair`], for those who implement a store.
    pub fn pair_position(&self) -> Result<(Timestamp, &str, &str)> {
        let (at, ids) = self.position()?;
        let (length, ids) = ids.split_once(':').ok_or_else(invalid_cursor)?;
        let length: usize = length.parse().map_err(|_| invalid_cursor())?;
        let (first, second) = ids.split_at_checked(length).ok_or_else(invalid_cursor)?;
        // What no id has, PostgreSQL does not even take.
        if first.is_empty() || second.is_empty() || ids.contains('\0') {
            return Err(invalid_cursor());
        }
        Ok((at, first, second))
    }

    /// The position of what is about a number of a thread's log: an event, a deletion.
    #[must_use]
    pub fn at_seq(at: Timestamp, thread: &ThreadId, seq: u64) -> Self {
        Self::at_pair(at, thread.as_str(), &seq.to_string())
    }

    /// The time, thread and number of a cursor of [`Cursor::at_seq`], for those who implement a store.
    pub fn seq_position(&self) -> Result<(Timestamp, &str, u64)> {
        let (at, thread, seq) = self.pair_position()?;
        Ok((at, thread, seq.parse().map_err(|_| invalid_cursor())?))
    }

    /// Takes a cursor that a listing returned earlier.
    pub fn parse(text: &str) -> Result<Self> {
        let cursor = Self(text.to_owned());
        cursor.position()?;
        Ok(cursor)
    }

    /// The time, run id and thread id of a cursor of [`Cursor::at_run`], for those who implement a store.
    pub fn run_position(&self) -> Result<(Timestamp, RunId, ThreadId)> {
        let (at, run, thread) = self.pair_position()?;
        match (RunId::new(run), ThreadId::new(thread)) {
            (Ok(run), Ok(thread)) => Ok((at, run, thread)),
            _ => Err(invalid_cursor()),
        }
    }

    /// The time and id of the row, for those who implement a store.
    pub fn position(&self) -> Result<(Timestamp, &str)> {
        let invalid = invalid_cursor;
        let (micros, id) = self.0.split_once(':').ok_or_else(invalid)?;
        let micros: i64 = micros.parse().map_err(|_| invalid())?;
        if id.is_empty() {
            return Err(invalid());
        }
        Ok((Timestamp::from_unix_micros(micros).map_err(|_| invalid())?, id))
    }

    /// The cursor as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which part of a newest-first listing to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRange {
    /// Rows at most; 0 is refused, over 1,000 is capped.
    pub limit: u32,
    /// Where the previous page ended; `None` starts at the newest.
    pub cursor: Option<Cursor>,
}

impl Default for ListRange {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, cursor: None }
    }
}

impl ListRange {
    /// The newest `limit` rows.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self { limit, cursor: None }
    }

    /// The checked limit, 1 to 1,000.
    pub fn checked_limit(&self) -> Result<u32> {
        checked_limit(self.limit)
    }
}

/// Rows of a listing, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are further rows.
    pub has_more: bool,
    /// Where the next page starts; `Some` exactly when there are further rows.
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes the page of up to `limit + 1` rows read in order; `cursor_of` gives a row's position.
    #[must_use]
    pub fn from_rows(mut rows: Vec<T>, limit: u32, cursor_of: impl Fn(&T) -> Cursor) -> Self {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = if has_more { rows.last().map(cursor_of) } else { None };
        Self { items: rows, has_more, next_cursor }
    }

    /// Where the rows end only because no more were looked at, says that the listing goes on after `edge`.
    #[must_use]
    pub fn going_on_after(self, edge: Option<Cursor>) -> Self {
        match (self.next_cursor, edge) {
            (None, Some(edge)) => Self { items: self.items, has_more: true, next_cursor: Some(edge) },
            (next_cursor, _) => Self { next_cursor, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_limit_of_zero_is_refused_and_a_large_one_capped() {
        assert_eq!(SeqRange::last(0).resolve().unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(SeqRange::last(5_000).resolve().unwrap().limit, MAX_LIMIT);
        assert_eq!(ListRange::newest(0).checked_limit().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_page_is_filled_up_to_its_rows_and_its_bytes_and_is_never_empty() {
        let fill = |range: SeqRange, rows: &[usize]| {
            let mut page = range.resolve().unwrap().fill();
            let taken = rows.iter().take_while(|bytes| page.take(**bytes, **bytes)).count();
            let page = page.page();
            assert_eq!(page.items.len(), taken);
            (page.items, page.has_more)
        };
        let (half, all) = (MAX_PAGE_BYTES / 2, MAX_PAGE_BYTES);
        assert_eq!(fill(SeqRange::after(0, 2), &[1, 2]), (vec![1, 2], false));
        assert_eq!(fill(SeqRange::after(0, 2), &[1, 2, 3]), (vec![1, 2], true));
        assert_eq!(fill(SeqRange::last(9), &[half, half, 1]), (vec![half, half], true));
        assert_eq!(fill(SeqRange::last(9), &[1, all + 1, 2]), (vec![1], true));
        assert_eq!(fill(SeqRange::last(9), &[all + 1]), (vec![all + 1], false));
        assert_eq!(fill(SeqRange::last(9), &[all + 1, 1]), (vec![all + 1], true));
        assert_eq!(fill(SeqRange::before(9, 9), &[2, 1]), (vec![1, 2], false));
    }

    #[test]
    fn cursors_round_trip_and_foreign_text_is_refused() {
        let at = Timestamp::from_unix_micros(1_234_567).unwrap();
        let cursor = Cursor::at(at, "a:b");
        assert_eq!(Cursor::parse(cursor.as_str()).unwrap().position().unwrap(), (at, "a:b"));
        for text in ["", "x", "12", "12:", "x:id", "99999999999999999999:id"] {
            assert_eq!(Cursor::parse(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn cursors_of_threads_say_on_which_side_they_are() {
        let at = Timestamp::from_unix_micros(1_234_567).unwrap();
        for (rank, pinned) in [(PINNED, true), (NOT_PINNED, false)] {
            let cursor = Cursor::parse(Cursor::at_pair(at, rank, "1:t").as_str()).unwrap();
            assert_eq!(cursor.thread_position().unwrap(), (pinned, at, "1:t"));
        }
        for text in ["1:t1", "1:6:pinned", "1:5:pinnedt", "1:6:PINNEDt", "1:5:other", "1:1:rt"] {
            let error = Cursor::parse(text).unwrap().thread_position().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn cursors_of_runs_round_trip_and_others_are_refused() {
        let at = Timestamp::from_unix_micros(1_234_567).unwrap();
        let (run, thread) = (RunId::new("r:ü").unwrap(), ThreadId::new("1:t").unwrap());
        assert_eq!(Cursor::at_run(at, &run, &thread).run_position().unwrap(), (at, run, thread));
        for text in ["1:id", "1:2:r", "1:x:rt", "1:2:üt", "1:0:t", "1:9:rt", "1:1:r"] {
            let cursor = Cursor::parse(text).unwrap();
            assert!(cursor.run_position().is_ok() == (text == "1:2:üt"), "{text}");
        }
    }
}
