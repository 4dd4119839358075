//! The write path: everything that appends goes through a lane.
//!
//! A lane is a task with one connection of its own and a queue; that of a SQLite file has a thread,
//! too. It takes what waits, commits it as one transaction and answers each caller after the commit;
//! nothing waits for a timer, and a lone commit goes at once. Because the task is nobody's future, a caller that goes away cannot leave a
//! transaction open, and a commit that was handed in is stored or refused whether or not somebody
//! still listens.
//!
//! | module | holds |
//! |---|---|
//! | `lanes` | the queues, and handing in |
//! | `lane` | one lane's work: groups, retries, answers |
//! | `connection` | opening a lane's connection, and checkpoints of SQLite |
//! | `file` | the connection that writes plain groups to a SQLite file |
//! | `decide` | the judgement of a commit, pure |
//! | `load` | reading what commits are judged by |
//! | `hot` | the one call that writes heads, events, items, usage and runs' growth |
//! | `steps` | the rows that are written rarely |
//! | `rows`, `statement` | rows as values, SQL text with values |
//!
//! There are two ways to store a group. A lane remembers the heads it wrote last, judges plain
//! commits by those, and writes in one call that is guarded by them. Whatever that cannot answer (a
//! head that changed, a key that is taken, an admission, any refusal) goes the locked way: the heads
//! are locked and read, everything is judged anew, and only then written. Both use the same
//! judgement and the same statements, so the first is only a shorter way to the same end.
//!
//! A thread whose rows somebody else has locked for long is put aside: its commits wait, those of the
//! lane's other threads do not.

mod connection;
mod decide;
mod file;
mod hot;
mod lane;
mod lanes;
mod load;
mod rows;
mod statement;
mod steps;

pub(crate) use connection::Opener;
pub(crate) use lane::{LOCK_WAIT, backoff};
pub(crate) use lanes::Lanes;
