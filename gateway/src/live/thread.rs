//! The stream of a thread.

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream;
use runledger_core::{TailItem, ThreadId};

use super::audience::Audience;
use super::frame::{self, Frame, Gap, LogFrame};
use super::position::{After, LastEventId, Position};
use super::scene::{Next, Scene, heard};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::problem::Problem;

/// Follow a thread: every event that is stored from now on, and token deltas of this process.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/stream",
    operation_id = "stream_thread",
    tag = "live",
    params(
        ("thread_id" = ThreadId, Path, description = "The thread."),
        After,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last id that was seen; comes before `after_seq`."),
    ),
    responses(
        (status = 200, description = "Server-sent events, until the client leaves or the thread goes.",
            content_type = "text/event-stream", body = LogFrame),
        (status = "4XX", description = "What is wrong with the request.",
            content_type = "application/problem+json", body = Problem),
        (status = "5XX", description = "The ledger cannot answer now.",
            content_type = "application/problem+json", body = Problem),
    ),
)]
pub(super) async fn stream_thread(
    State(app): State<App>,
    audience: Audience,
    Path(thread): Path<ThreadId>,
    Query(asked): Query<After>,
    seen: LastEventId,
) -> Result<Response, Problem> {
    let scene = Scene::open(&app.ledger, &audience.scope, &thread).await?;
    let last_seq = scene.last_seq;
    let after = Position::new(seen, asked).in_log_until(last_seq)?.unwrap_or(last_seq);
    let follower = scene.follow(&app.ledger, &audience.scope, &thread, after, app.options.poll);
    let frames = stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Next::Item(TailItem::Event(event)) => Some((Frame::Event(event), Some(follower))),
            Next::Item(TailItem::Gap { from_seq, through_seq }) => {
                Some((Frame::Gap(Gap { from_seq, through_seq }), Some(follower)))
            }
            Next::Heard(said) => Some((heard(said), Some(follower))),
            Next::Failed(error) => Some((Frame::Error(error.into()), None)),
            Next::Over => None,
        }
    });
    Ok(frame::response(frames.boxed(), Some(after), audience, &app.options))
}
