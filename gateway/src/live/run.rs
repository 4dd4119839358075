//! The stream of a run: what is stored of it, what follows, and its end.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream;
use runledger_core::{
    Event, EventFilter, Heard, Ledger, ONCE_TERMINAL, Result as LedgerResult, Run, RunId, RunStatus, Scope,
    SeqRange, TailItem, TerminalStatus, ThreadId,
};

use super::audience::Audience;
use super::frame::{self, Frame, Gap, LogFrame, RunEnd};
use super::position::{After, LastEventId, Position};
use super::scene::{Follower, Next, Scene, heard};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::problem::Problem;

/// How many events of a run that has ended are read at once.
const PAGE: u32 = 200;

/// How long to wait for a ledger that cannot say how a run stands: first, and at most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follow a run from its first event to its end. A queued run is waited for.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/runs/{run_id}/stream",
    operation_id = "stream_run",
    tag = "live",
    params(
        ("thread_id" = ThreadId, Path, description = "The thread."),
        ("run_id" = RunId, Path, description = "The run."),
        After,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last id that was seen; comes before `after_seq`."),
    ),
    responses(
        (status = 200, description = "Server-sent events; the last is `end`.",
            content_type = "text/event-stream", body = LogFrame),
        (status = "4XX", description = "What is wrong with the request.",
            content_type = "application/problem+json", body = Problem),
        (status = "5XX", description = "The ledger cannot answer now.",
            content_type = "application/problem+json", body = Problem),
    ),
)]
pub(super) async fn stream_run(
    State(app): State<App>,
    audience: Audience,
    Path((thread, run)): Path<(ThreadId, RunId)>,
    Query(asked): Query<After>,
    seen: LastEventId,
) -> Result<Response, Problem> {
    stream(&app, audience, thread, run, Position::new(seen, asked)).await
}

/// Follow a run that is known by its id alone, from its first event to its end.
#[utoipa::path(
    get,
    path = "/runs/{run_id}/stream",
    operation_id = "stream_run_of_any_thread",
    tag = "live",
    params(
        ("run_id" = RunId, Path, description = "The run; of several, the newest."),
        After,
        ("Last-Event-ID" = Option<u64>, Header, description = "The last id that was seen; comes before `after_seq`."),
    ),
    responses(
        (status = 200, description = "Server-sent events; the last is `end`.",
            content_type = "text/event-stream", body = LogFrame),
        (status = "4XX", description = "What is wrong with the request.",
            content_type = "application/problem+json", body = Problem),
        (status = "5XX", description = "The ledger cannot answer now.",
            content_type = "application/problem+json", body = Problem),
    ),
)]
pub(super) async fn stream_run_of_any_thread(
    State(app): State<App>,
    audience: Audience,
    Path(run): Path<RunId>,
    Query(asked): Query<After>,
    seen: LastEventId,
) -> Result<Response, Problem> {
    let Run { thread_id, run_id, .. } = app.ledger.runs().find(&audience.scope, &run).await?;
    stream(&app, audience, thread_id, run_id, Position::new(seen, asked)).await
}

async fn stream(
    app: &App,
    audience: Audience,
    thread: ThreadId,
    run: RunId,
    position: Position,
) -> Result<Response, Problem> {
    let scope = audience.scope.clone();
    // The end of the log before the run: a run that has no event then has none up to there.
    let scene = Scene::open(&app.ledger, &scope, &thread).await?;
    let stored = app.ledger.runs().get(&scope, &thread, &run).await?;
    let first = stored.first_seq.map_or(scene.last_seq, |first| first.saturating_sub(1));
    // What came since the end was looked up is part of the log, too.
    let last_seq = scene.last_seq.max(stored.last_seq.unwrap_or(0));
    let after = position.in_log_until(last_seq)?.unwrap_or(first);
    let stored_is_queued = stored.status == RunStatus::Queued;
    let source = if stored.status.is_terminal() {
        Source::Ended(Box::new(Replay::new(stored, after)))
    } else {
        Source::Live(scene.follow(&app.ledger, &scope, &thread, after, app.options.poll))
    };
    let reader = RunReader {
        ledger: app.ledger.clone(),
        scope,
        thread,
        run,
        source,
        ready: VecDeque::new(),
        queued: stored_is_queued.then_some(app.options.heartbeat),
    };
    let frames = stream::unfold(reader, |mut reader| async move { Some((reader.next().await?, reader)) });
    Ok(frame::response(frames.boxed(), None, audience, &app.options))
}

struct RunReader {
    ledger: Ledger,
    scope: Scope,
    thread: ThreadId,
    run: RunId,
    source: Source,
    ready: VecDeque<Frame>,
    /// While it has no event: how often to ask whether it is still there, for its deletion leaves no trace.
    queued: Option<Duration>,
}

enum Source {
    Live(Follower),
    Ended(Box<Replay>),
    Over,
}

impl RunReader {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            let frame = match &mut self.source {
                Source::Over => return None,
                Source::Live(follower) => {
                    let next = match self.queued {
                        None => Some(follower.next().await),
                        Some(pause) => tokio::time::timeout(pause, follower.next()).await.ok(),
                    };
                    match next {
                        Some(next) => self.take(next).await,
                        None => self.look().await,
                    }
                }
                Source::Ended(replay) => match replay.next(&self.ledger, &self.scope).await {
                    Ok(Some(item)) => Some(sent(item)),
                    Ok(None) => {
                        let status = replay.run.status.clone();
                        Some(self.end(status))
                    }
                    Err(error) => Some(self.fail(error)),
                },
            };
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// What of it is the run's.
    async fn take(&mut self, next: Next) -> Option<Frame> {
        match next {
            Next::Item(TailItem::Event(event)) if event.run_id.as_ref() == Some(&self.run) => {
                self.queued = None;
                if event.once_key.as_deref() == Some(ONCE_TERMINAL) {
                    let status = self.status(&event).await;
                    let end = self.end(status);
                    self.ready.push_back(end);
                }
                Some(Frame::Event(event))
            }
            Next::Item(TailItem::Event(_)) => None,
            Next::Item(TailItem::Gap { from_seq, .. }) => self.missed(from_seq).await,
            Next::Heard(Heard::Delta(delta)) if delta.run_id != self.run => None,
            Next::Heard(said) => Some(heard(said)),
            Next::Failed(error) => Some(self.fail(error)),
            Next::Over => {
                self.source = Source::Over;
                None
            }
        }
    }

    /// Events that are gone are the run's only where it has ended since: nothing is deleted of one that goes on.
    async fn missed(&mut self, from_seq: u64) -> Option<Frame> {
        let mut pause = PAUSE;
        loop {
            match self.ledger.runs().get(&self.scope, &self.thread, &self.run).await {
                Ok(run) if run.status.is_terminal() => {
                    self.source = Source::Ended(Box::new(Replay::new(run, from_seq.saturating_sub(1))));
                    return None;
                }
                Ok(_) => return None,
                // Nothing tells of the end again if it was among them: it is asked for until there is an answer.
                Err(error) if error.is_retryable() && !self.ledger.events().signal().is_closed() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Some(self.fail(error)),
            }
        }
    }

    /// Whether the run is still there to be waited for.
    async fn look(&mut self) -> Option<Frame> {
        match self.ledger.runs().get(&self.scope, &self.thread, &self.run).await {
            Err(error) if !error.is_retryable() => Some(self.fail(error)),
            // What it stored is told by the log.
            _ => None,
        }
    }

    /// How the run ended: as it is stored, or as its last event says where it is gone already.
    async fn status(&mut self, terminal: &Event) -> RunStatus {
        match self.ledger.runs().get(&self.scope, &self.thread, &self.run).await {
            Ok(run) if run.status.is_terminal() => run.status,
            _ => status_of(terminal),
        }
    }

    fn end(&mut self, status: RunStatus) -> Frame {
        self.source = Source::Over;
        Frame::RunEnd(RunEnd { run_id: self.run.clone(), status })
    }

    fn fail(&mut self, error: runledger_core::Error) -> Frame {
        self.source = Source::Over;
        Frame::Error(error.into())
    }
}

fn status_of(terminal: &Event) -> RunStatus {
    use TerminalStatus::{BudgetExhausted, Error, Interrupted, Success, Timeout};
    [Success, Timeout, Interrupted, BudgetExhausted]
        .into_iter()
        .find(|status| status.event_type() == terminal.event_type.as_str())
        .unwrap_or(Error)
        .status()
}

fn sent(item: TailItem) -> Frame {
    match item {
        TailItem::Event(event) => Frame::Event(event),
        TailItem::Gap { from_seq, through_seq } => Frame::Gap(Gap { from_seq, through_seq }),
    }
}

/// What is stored of a run that has ended, in pages: records that came after its end, too.
struct Replay {
    run: Run,
    after: u64,
    ready: VecDeque<TailItem>,
    has_more: bool,
}

impl Replay {
    fn new(run: Run, after: u64) -> Self {
        Self { run, after, ready: VecDeque::new(), has_more: true }
    }

    async fn next(&mut self, ledger: &Ledger, scope: &Scope) -> LedgerResult<Option<TailItem>> {
        while self.ready.is_empty() && self.has_more {
            self.read(ledger, scope).await?;
        }
        Ok(self.ready.pop_front())
    }

    async fn read(&mut self, ledger: &Ledger, scope: &Scope) -> LedgerResult<()> {
        let filter = EventFilter::of_run(self.run.run_id.clone());
        let range = SeqRange::after(self.after, PAGE);
        let page = ledger.events().list_events(scope, &self.run.thread_id, &filter, &range).await?;
        for event in page.items {
            // Retention takes the events of a run together, so what is missing is its beginning or all of it.
            if self.run.first_seq.is_some_and(|first| first > self.after && first < event.seq) {
                self.skip(event.seq - 1);
            }
            self.after = event.seq;
            self.ready.push_back(TailItem::Event(Box::new(event)));
        }
        self.has_more = page.has_more;
        if let Some(last) = self.run.last_seq.filter(|last| !page.has_more && *last > self.after) {
            self.skip(last);
        }
        Ok(())
    }

    fn skip(&mut self, through_seq: u64) {
        let from_seq = self.run.first_seq.unwrap_or(1).max(self.after + 1);
        self.ready.push_back(TailItem::Gap { from_seq, through_seq });
        self.after = through_seq;
    }
}
