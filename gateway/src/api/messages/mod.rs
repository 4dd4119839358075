//! Messages, as chat front ends show them.

mod feedback;
mod reasoning;
mod scan;

use axum::Json;
use axum::extract::State;
use runledger_core::{CallerKind, Event, RunId, Scope, ThreadId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::events::require_run;
use super::params::{BareRunPath, limit_of};
use super::runs::thread_of;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, RunPath, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireMessagePage, WireMessageRow};
use scan::{Scanned, Source, Window, scan};

/// The most messages in one page.
const MOST: u32 = 200;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_messages))
        .routes(routes!(page_messages))
        .routes(routes!(list_run_messages))
        .routes(routes!(list_bare_run_messages))
}

/// In which shape messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// As DeerFlow's event store gives them.
    #[default]
    DeerFlow,
    /// As the log has them.
    Canonical,
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MessagesQuery {
    /// Messages at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Only those before this seq; without a cursor the last ones.
    before_seq: Option<u64>,
    /// Only those after this seq, the first of them.
    after_seq: Option<u64>,
    /// In which shape: `deerflow` as its event store has them, `canonical` as the log has them.
    #[serde(default)]
    #[param(inline, default = "deerflow")]
    format: Format,
}

impl MessagesQuery {
    fn window(&self) -> Result<Window, Problem> {
        let limit = limit_of("limit", self.limit, 50, MOST)?;
        Ok(Window { limit: limit as usize, before_seq: self.before_seq, after_seq: self.after_seq })
    }
}

/// Whose messages a page has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Everybody's.
    All,
    /// Those of the lead agent's conversation.
    Conversation,
}

impl Shown {
    fn has(self, event: &Event) -> bool {
        let kind = event.caller.as_ref().map_or(CallerKind::LeadAgent, |caller| caller.kind());
        self == Self::All || kind == CallerKind::LeadAgent
    }
}

/// What a request for messages is about.
struct Asked<'a> {
    scope: &'a Scope,
    thread: &'a ThreadId,
    run: Option<&'a RunId>,
    shown: Shown,
    format: Format,
}

impl Asked<'_> {
    async fn page(&self, app: &App, window: Window) -> Result<WireMessagePage, Problem> {
        let keys = &app.options.redacted_keys;
        let source =
            Source { events: app.ledger.events(), scope: self.scope, thread: self.thread, run: self.run };
        let shape = |event: &Event| {
            if !self.shown.has(event) {
                return None;
            }
            match self.format {
                Format::DeerFlow => WireMessageRow::deerflow(event, None, keys),
                Format::Canonical => Some(WireMessageRow::canonical(event.clone(), keys)),
            }
        };
        let Scanned { mut rows, has_more, next_before_seq, next_after_seq } =
            scan(source, window, shape).await?;
        if self.format == Format::DeerFlow {
            let thoughts = reasoning::of(app, self, rows.iter().map(|(event, _)| event)).await?;
            for (event, row) in &mut rows {
                let thought = thoughts.get(&event.seq);
                if let Some(whole) =
                    thought.and_then(|thought| WireMessageRow::deerflow(event, Some(thought), keys))
                {
                    *row = whole;
                }
            }
        }
        let data = feedback::added(app, self.scope, self.thread, rows).await?;
        Ok(WireMessagePage { data, has_more, next_before_seq, next_after_seq })
    }
}

/// The messages of a thread.
///
/// Those of shown runs, of sub-agents and middleware too. `/messages/page` says whether there are more.
#[utoipa::path(
    get, path = "/threads/{thread_id}/messages", tag = "messages", operation_id = "list_messages",
    params(ThreadPath, MessagesQuery),
    responses((status = 200, description = "The messages, ascending", body = Vec<WireMessageRow>)),
)]
async fn list_messages(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<Vec<WireMessageRow>>, Problem> {
    let asked = Asked {
        scope: &caller.scope,
        thread: &path.thread_id,
        run: None,
        shown: Shown::All,
        format: query.format,
    };
    Ok(Json(asked.page(&app, query.window()?).await?.data))
}

/// A page of a thread's conversation, backwards from its end.
///
/// Hidden runs, middleware and sub-agents are left out. A page may have fewer messages than the limit, or none, and
/// still go on.
#[utoipa::path(
    get, path = "/threads/{thread_id}/messages/page", tag = "messages", operation_id = "page_messages",
    params(ThreadPath, MessagesQuery),
    responses((status = 200, description = "The messages, ascending", body = WireMessagePage)),
)]
async fn page_messages(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<WireMessagePage>, Problem> {
    if query.after_seq.is_some() {
        return Err(Problem::invalid("after_seq", "is given; a page goes backwards, by before_seq"));
    }
    let asked = Asked {
        scope: &caller.scope,
        thread: &path.thread_id,
        run: None,
        shown: Shown::Conversation,
        format: query.format,
    };
    Ok(Json(asked.page(&app, query.window()?).await?))
}

/// The messages of a run, also where it is hidden.
#[utoipa::path(
    get, path = "/threads/{thread_id}/runs/{run_id}/messages", tag = "messages",
    operation_id = "list_run_messages",
    params(RunPath, MessagesQuery),
    responses((status = 200, description = "The messages, ascending", body = WireMessagePage)),
)]
async fn list_run_messages(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<RunPath>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<WireMessagePage>, Problem> {
    require_run(&app, &caller.scope, &path.thread_id, &path.run_id).await?;
    of_run(&app, &caller.scope, &path.thread_id, &path.run_id, &query).await
}

/// The messages of a run, whatever thread it is on.
#[utoipa::path(
    get, path = "/runs/{run_id}/messages", tag = "messages", operation_id = "list_bare_run_messages",
    params(BareRunPath, MessagesQuery),
    responses((status = 200, description = "The messages, ascending", body = WireMessagePage)),
)]
async fn list_bare_run_messages(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<BareRunPath>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<WireMessagePage>, Problem> {
    let thread = thread_of(&app, &caller.scope, &path.run_id).await?;
    of_run(&app, &caller.scope, &thread, &path.run_id, &query).await
}

async fn of_run(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    run: &RunId,
    query: &MessagesQuery,
) -> Result<Json<WireMessagePage>, Problem> {
    let asked = Asked { scope, thread, run: Some(run), shown: Shown::All, format: query.format };
    Ok(Json(asked.page(app, query.window()?).await?))
}
