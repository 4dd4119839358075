//! Logs and runs as streams of server-sent events.
//!
//! | event | id | data |
//! |---|---|---|
//! | `event` | its seq | the event |
//! | `gap` | `through_seq` | numbers that were deleted before they could be sent |
//! | `delta` | | a piece of an item that is being made: not stored, from this process only |
//! | `lagged` | | how many deltas were left out here, for the reader did not keep up |
//! | `step` | its index | a step of an agent run |
//! | `end` | | why the stream of a run or of an agent run is over |
//! | `error` | | a problem, after which the stream is over: also that its caller is let in no more, looked at with each heartbeat |
//!
//! An id is where to go on: a client that lost its connection sends the last one it saw as `Last-Event-ID` and is
//! sent what follows, from the store, without a gap and without repetition. The stream of a thread begins with an id
//! of its own, for what is new is another place each time. A client closes at `end`; one that comes again is told the
//! end again.
//!
//! A stream reads on when its client has taken what was sent, so it holds one page of a log, or the steps that an
//! agent run is stored with, and a bounded number of deltas, however slow the client is.

mod agent_run;
mod audience;
mod frame;
mod position;
mod run;
mod scene;
mod thread;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(thread::stream_thread))
        .routes(routes!(run::stream_run))
        .routes(routes!(run::stream_run_of_any_thread))
        .routes(routes!(agent_run::stream_agent_run))
}

#[cfg(test)]
mod tests;
