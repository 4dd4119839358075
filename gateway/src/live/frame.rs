//! What is sent on a stream, and the response that sends it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::sse::{self, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use runledger_core::{AgentRunId, AgentRunStatus, AgentStep, Event, LiveDelta, RunId, RunStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::audience::Audience;
use crate::app::Options;
use crate::problem::Problem;
use crate::wire::redacted_event;

/// Told to browsers: how long to wait before they connect again.
const RETRY: Duration = Duration::from_secs(1);

/// Numbers of a log that were deleted before they could be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Gap {
    /// The first missing number.
    pub(super) from_seq: u64,
    /// The last missing number.
    pub(super) through_seq: u64,
}

/// Deltas that were left out, for the reader did not keep up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Lagged {
    /// How many.
    pub(super) deltas: u64,
}

/// The end of a run's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RunEnd {
    /// The run.
    pub(super) run_id: RunId,
    /// How it ended.
    pub(super) status: RunStatus,
}

/// The end of an agent run's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct AgentRunEnd {
    /// The agent run.
    pub(super) agent_run_id: AgentRunId,
    /// How it ended.
    pub(super) status: AgentRunStatus,
    /// Whether its transcript is stored with it. Where it is not, it is read from the log, and stored later.
    pub(super) persisted: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// The data of a frame of a thread's or a run's stream, by its `event`: `event`, `delta`, `gap`, `lagged`, `end`
/// (runs only), `error`.
#[derive(ToSchema)]
#[schema(as = LogFrame)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's description of a stream; frames are written one by one")]
pub(super) enum LogFrame {
    Event(Box<Event>),
    Delta(LiveDelta),
    Gap(Gap),
    Lagged(Lagged),
    End(RunEnd),
    Error(Problem),
}

/// The data of a frame of an agent run's stream, by its `event`: `step`, `end`, `error`.
#[derive(ToSchema)]
#[schema(as = StepFrame)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's description of a stream; frames are written one by one")]
pub(super) enum StepFrame {
    Step(AgentStep),
    End(AgentRunEnd),
    Error(Problem),
}

/// What is sent at once.
#[derive(Debug)]
pub(super) enum Frame {
    Event(Box<Event>),
    Gap(Gap),
    Delta(Arc<LiveDelta>),
    Lagged(Lagged),
    RunEnd(RunEnd),
    Step(AgentStep),
    AgentRunEnd(AgentRunEnd),
    Error(Problem),
}

impl Frame {
    fn into_sse(self, options: &Options) -> sse::Event {
        match self {
            Self::Event(event) => {
                with_id("event", event.seq, &redacted_event(*event, &options.redacted_keys))
            }
            Self::Gap(gap) => with_id("gap", gap.through_seq, &gap),
            Self::Delta(delta) => named("delta", &*delta),
            Self::Lagged(lagged) => named("lagged", &lagged),
            Self::RunEnd(end) => named("end", &end),
            Self::Step(step) => with_id("step", step.index, &step),
            Self::AgentRunEnd(end) => named("end", &end),
            Self::Error(problem) => named("error", &problem),
        }
    }
}

fn named(name: &str, data: &impl Serialize) -> sse::Event {
    let event = sse::Event::default().event(name);
    // Records always have a JSON form.
    event.json_data(data).unwrap_or_else(|_| sse::Event::default().comment("a record without a JSON form"))
}

fn with_id(name: &str, id: u64, data: &impl Serialize) -> sse::Event {
    named(name, data).id(id.to_string())
}

/// The response that sends these frames: opened at once, with a comment whenever nothing happened for `heartbeat`, and as
/// long as they are for its audience.
///
/// A stream whose address does not say where it begins says so before its first frame: who loses the connection until
/// then comes again with that id, and not at what is the end by that time.
pub(super) fn response(
    frames: BoxStream<'static, Frame>,
    begins_after: Option<u64>,
    audience: Audience,
    options: &Arc<Options>,
) -> Response {
    let opened = sse::Event::default().retry(RETRY).comment("open");
    let opened = match begins_after {
        Some(seq) => opened.id(seq.to_string()),
        None => opened,
    };
    let events =
        stream::once(std::future::ready(opened)).chain(beating(frames, audience, Arc::clone(options)));
    let mut response = Sse::new(events.map(Ok::<_, Infallible>)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn beating(
    frames: BoxStream<'static, Frame>,
    audience: Audience,
    options: Arc<Options>,
) -> impl Stream<Item = sse::Event> + Send {
    stream::unfold(Some((frames, audience, options)), |open| async move {
        let (mut frames, mut audience, options) = open?;
        let next = tokio::time::timeout(options.heartbeat, frames.next()).await;
        if let Ok(None) = next {
            return None;
        }
        if let Some(problem) = audience.refusal(options.heartbeat).await {
            return Some((Frame::Error(problem).into_sse(&options), None));
        }
        let event = match next {
            Ok(frame) => frame?.into_sse(&options),
            Err(_) => sse::Event::default().comment("still here"),
        };
        Some((event, Some((frames, audience, options))))
    })
}
