//! The stream of an agent run: its steps as they happen, and whether its transcript was stored.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use runledger_core::{AgentRunId, AgentStep, Ledger, Result as LedgerResult, Scope};
use serde::Deserialize;
use utoipa::IntoParams;

use super::audience::Audience;
use super::frame::{self, AgentRunEnd, Frame, StepFrame};
use super::position::LastEventId;
use crate::app::App;
use crate::extract::{Path, Query};
use crate::problem::Problem;

/// How often the transcript is tried to be stored before the stream says that it is not, and the pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AfterStep {
    /// Send the steps that follow this one; all of them without.
    after_index: Option<u64>,
}

/// Follow the steps of an agent run to its end. The last frame says whether the transcript is stored with it.
#[utoipa::path(
    get,
    path = "/agent-runs/{agent_run_id}/stream",
    operation_id = "stream_agent_run",
    tag = "live",
    params(
        ("agent_run_id" = AgentRunId, Path, description = "The agent run."),
        AfterStep,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last id that was seen; comes before `after_index`."),
    ),
    responses(
        (status = 200, description = "Server-sent events; the last is `end`.",
            content_type = "text/event-stream", body = StepFrame),
        (status = "4XX", description = "What is wrong with the request.",
            content_type = "application/problem+json", body = Problem),
        (status = "5XX", description = "The ledger cannot answer now.",
            content_type = "application/problem+json", body = Problem),
    ),
)]
pub(super) async fn stream_agent_run(
    State(app): State<App>,
    audience: Audience,
    Path(agent_run): Path<AgentRunId>,
    Query(AfterStep { after_index }): Query<AfterStep>,
    LastEventId(seen): LastEventId,
) -> Result<Response, Problem> {
    let App { ledger, options, .. } = app;
    let scope = audience.scope.clone();
    let after = seen.or(after_index);
    let standing = ledger.agent_runs().standing(&scope, &agent_run).await?;
    if let (Some(after), Some(steps)) = (after, standing.steps)
        && after >= steps
    {
        let field = if seen.is_some() { "Last-Event-ID" } else { "after_index" };
        return Err(Problem::invalid(field, format!("is {after}, and the agent run has {steps} steps")));
    }
    let steps = ledger.follow_steps(&scope, &agent_run, after, options.poll).await?;
    let reader = StepReader { ledger, scope, agent_run, steps: Some(steps) };
    let frames = stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) });
    Ok(frame::response(frames.boxed(), None, audience, &options))
}

struct StepReader {
    ledger: Ledger,
    scope: Scope,
    agent_run: AgentRunId,
    /// `None` once the stream is over.
    steps: Option<BoxStream<'static, LedgerResult<AgentStep>>>,
}

impl StepReader {
    async fn next(&mut self) -> Option<Frame> {
        let step = self.steps.as_mut()?.next().await;
        let end = match step {
            Some(Ok(step)) => return Some(Frame::Step(step)),
            Some(Err(error)) => Err(error),
            None => self.end().await,
        };
        self.steps = None;
        Some(end.map_or_else(|error| Frame::Error(error.into()), Frame::AgentRunEnd))
    }

    /// Sees to it that the transcript is stored: whoever ended the run does so as well, and it is done once.
    async fn end(&mut self) -> LedgerResult<AgentRunEnd> {
        let mut tried = 1;
        let folded = loop {
            match self.ledger.fold_agent_run(&self.scope, &self.agent_run).await {
                Err(error) if error.is_retryable() && tried < TRIES => {
                    tokio::time::sleep(PAUSE * tried).await;
                    tried += 1;
                }
                folded => break folded,
            }
        };
        let standing = self.ledger.agent_runs().standing(&self.scope, &self.agent_run).await?;
        let persisted = standing.is_folded();
        let reason = || match folded {
            Ok(_) => "its transcript is in the log only".to_owned(),
            Err(error) => error.to_string(),
        };
        Ok(AgentRunEnd {
            agent_run_id: self.agent_run.clone(),
            status: standing.summary.status,
            persisted,
            reason: if persisted { None } else { Some(reason()) },
        })
    }
}
