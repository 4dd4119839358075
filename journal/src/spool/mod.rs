//! The spool: where a run's records wait on the disk for a database that is away.
//!
//! A journal whose [`Overflow`](crate::Overflow) names a folder begins a file there when a commit
//! waits too long or memory is half full. From then on everything goes through the file, in order,
//! until the database has all of it; then the file is removed and the journal writes directly again.
//! A process that dies leaves its file, and [`recover`] stores what is in it: each event once,
//! whatever was stored before, by the journal's marks.
//!
//! | ending | what it is | who ends it |
//! |---|---|---|
//! | `.spool` | waits to be stored; locked while its journal lives | its journal, or [`recover`] |
//! | `.fenced` | refused: the run was taken away, had ended otherwise, or is gone from its thread | [`recover_fenced`] |
//! | `.corrupt` | cannot be read from some line on | a person |
//! | `.new` | was being begun when its process died; holds nothing | [`recover`] |

mod file;
mod format;
mod line;
mod list;
mod log;
mod recover;

pub(crate) use file::{CORRUPT, FENCED, Spool};
pub(crate) use format::{Cursor, ReadError};
pub(crate) use line::Head;
pub(crate) use list::is_there;
pub use list::{ListedSpool, SpoolState, list};
pub use recover::{FENCED_EVENT, Recovered, Recovery, RecoveryReport, recover, recover_fenced};
