//! The PostgreSQL server of this process.
//!
//! [`server`] decides once per process and says on stderr what it decided. In this order:
//!
//! 1. a container, when a Docker engine answers and has the image or can pull it
//!    (`RUNLEDGER_TEST_PG_IMAGE`, `postgres:17-alpine` unless set; `just image` makes one without
//!    a registry);
//! 2. the server at `RUNLEDGER_TEST_DATABASE_URL`, whose user may create databases;
//! 3. a server started from the binaries of this machine (`PG_BIN`, the newest of
//!    `/usr/lib/postgresql/*/bin`, or PATH).
//!
//! `RUNLEDGER_TEST_PG=docker|url|local` leaves only that one. Where none can be had, tests are
//! skipped with a line that names the ways to get one, and fail when `CI=true`.
//!
//! [`durable_server`] is for those who measure: its commits are on a disk. It is the second or the third of these.
//!
//! A server that was started here ends with this process, however it ends (see `reaper`).

mod choice;
mod container;
mod databases;
mod lent;
mod local;
mod reaper;
mod server;

pub use container::{Container, container, lasting_container};
pub(crate) use lent::Lent;
pub use server::{Server, durable_server, server};
