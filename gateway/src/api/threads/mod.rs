//! Threads: made, looked for, edited, archived, forked, deleted.

mod create;
mod edit;
mod life;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use runledger_core::{
    AssistantId, Decimal, ErrorKind, InteractionFilter, InteractionStatus, ListRange, MetadataMatch,
    MetadataValue, RawJson, Scope, Thread, ThreadFilter, ThreadStatus,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{bare_list, list_range, rows_of};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, ThreadPath};
use crate::problem::Problem;
use crate::wire::{WireThread, thread_pin};

/// How many pages of a search are read at most to fill one of the answer's.
const SEARCH_PAGES: usize = 4;

/// The most open questions that a thread shows.
const QUESTIONS: u32 = 100;

pub(super) use life::require_system;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create::create_thread))
        .routes(routes!(search_threads))
        .routes(routes!(get_thread, edit::update_thread, edit::delete_thread))
        .routes(routes!(life::archive_thread))
        .routes(routes!(life::unarchive_thread))
        .routes(routes!(life::set_thread_owner))
        .routes(routes!(life::fork_thread))
        .routes(routes!(life::list_child_threads))
        .routes(routes!(life::list_deletions))
}

/// What was done, in words, and what went with it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Removed {
    /// Always true.
    success: bool,
    /// What was done.
    message: String,
    /// How many rows went.
    deleted: runledger_core::Deleted,
}

impl Removed {
    pub(super) fn new(message: String, deleted: runledger_core::Deleted) -> Json<Self> {
        Json(Self { success: true, message, deleted })
    }
}

/// A thread as it is answered, without its questions.
fn shown(app: &App, thread: Thread) -> WireThread {
    WireThread::new(thread, Vec::new(), &app.options.redacted_keys)
}

/// A thread as it is answered, with what was asked of a person.
async fn shown_whole(app: &App, scope: &Scope, thread: Thread) -> Result<Json<WireThread>, Problem> {
    let filter = InteractionFilter {
        thread_id: Some(thread.thread_id.clone()),
        status: Some(InteractionStatus::Open),
    };
    let open = match app.ledger.interactions().list(scope, &filter, &ListRange::newest(QUESTIONS)).await {
        Ok(page) => page.items,
        // Where nobody can be asked, nothing is open.
        Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    Ok(Json(WireThread::new(thread, open, &app.options.redacted_keys)))
}

/// A thread.
#[utoipa::path(
    get, path = "/threads/{thread_id}", tag = "threads", operation_id = "get_thread",
    params(ThreadPath),
    responses((status = 200, description = "The thread", body = WireThread)),
)]
async fn get_thread(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
) -> Result<Json<WireThread>, Problem> {
    let thread = app.ledger.threads().get(&caller.scope, &path.thread_id).await?;
    shown_whole(&app, &caller.scope, thread).await
}

/// Which threads to look for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchThreads {
    /// What their metadata must have, at the top level: null, truth values, whole numbers and text, each of
    /// exactly that type.
    #[schema(value_type = Option<Object>)]
    metadata: Option<RawJson>,
    /// Only those with this status.
    #[schema(examples("idle", "busy", "interrupted", "error"))]
    status: Option<String>,
    /// Only those made for this agent definition.
    assistant_id: Option<AssistantId>,
    /// Only those that are pinned, or only those that are not.
    pinned: Option<bool>,
    /// Rows at most.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Where the previous page ended: its header `X-Next-Cursor`.
    cursor: Option<String>,
    /// Rows to leave out; with the limit at most 1,000, and without a cursor. A cursor goes further, and skips no
    /// row that is new meanwhile.
    #[schema(minimum = 0, maximum = 999)]
    offset: Option<u32>,
}

/// Look for threads.
///
/// The pinned first, then those that were updated last. A page may have fewer rows than the limit and still go on: the
/// header `X-Next-Cursor` says so.
#[utoipa::path(
    post, path = "/threads/search", tag = "threads", operation_id = "search_threads",
    request_body = SearchThreads,
    responses(
        (status = 200, description = "The threads", body = Vec<WireThread>,
            headers(("x-next-cursor" = Option<String>, description = "Where the next page starts, if there is one"))),
    ),
)]
async fn search_threads(
    State(app): State<App>,
    caller: Caller,
    Body(search): Body<SearchThreads>,
) -> Result<Response, Problem> {
    let limit = rows_of(search.limit)?;
    let skipped = search.offset.unwrap_or(0);
    if skipped > 0 && search.cursor.is_some() {
        return Err(Problem::invalid("offset", "is given beside cursor, which is where to go on"));
    }
    let wanted = limit.saturating_add(skipped);
    if wanted > runledger_core::MAX_LIMIT {
        let reason = format!("is {skipped}; with the limit at most 1000, beyond that go on by cursor");
        return Err(Problem::invalid("offset", reason));
    }
    let mut range = list_range(Some(wanted), search.cursor.as_deref())?;
    let filter = search.filter()?;
    let mut threads = Vec::new();
    let mut next = None;
    for _ in 0..SEARCH_PAGES {
        let page = app.ledger.threads().list(&caller.scope, &filter, &range).await?;
        threads.extend(page.items);
        next = page.next_cursor;
        let have = u32::try_from(threads.len()).unwrap_or(u32::MAX);
        if next.is_none() || have >= wanted {
            break;
        }
        range = ListRange { limit: wanted - have, cursor: next.clone() };
    }
    if next.is_some() && threads.len() < skipped as usize {
        let reason = format!(
            "is {skipped}, and of the threads that one search looks at {} are such; leave it out, and go on by cursor",
            threads.len()
        );
        return Err(Problem::invalid("offset", reason));
    }
    let shown = threads.into_iter().skip(skipped as usize).map(|thread| shown(&app, thread));
    Ok(bare_list(&shown.collect::<Vec<_>>(), next.as_ref()))
}

impl SearchThreads {
    fn filter(self) -> Result<ThreadFilter, Problem> {
        let status = self.status.map(|status| ThreadStatus::parse("status", &status)).transpose()?;
        let (metadata, pinned) = match self.metadata {
            Some(metadata) => thread_pin::taken_out(&metadata)?,
            None => (RawJson::empty_object(), None),
        };
        let filter = ThreadFilter {
            status,
            assistant_id: self.assistant_id,
            pinned: self.pinned.or(pinned),
            metadata: matches(&metadata)?,
            ..ThreadFilter::default()
        };
        Ok(filter)
    }
}

/// What metadata must have, by a document that has it.
fn matches(metadata: &RawJson) -> Result<Vec<MetadataMatch>, Problem> {
    let wanted: std::collections::BTreeMap<String, RawJson> = super::params::read(metadata)
        .map_err(|problem| Problem { field: Some("metadata".to_owned()), ..problem })?;
    wanted
        .into_iter()
        .map(|(key, value)| {
            let refused = || {
                let reason = "is matched with null, true, false, a whole number or text";
                Problem::invalid(&format!("metadata.{key}"), reason)
            };
            let value = match value.as_str() {
                "null" => MetadataValue::Null,
                "true" => MetadataValue::Bool(true),
                "false" => MetadataValue::Bool(false),
                text if text.starts_with('"') => MetadataValue::Text(value.decode().map_err(|_| refused())?),
                number => MetadataValue::Number(whole(number).ok_or_else(refused)?),
            };
            Ok(MetadataMatch { key, value })
        })
        .collect()
}

/// A whole number, however it is spelled.
fn whole(number: &str) -> Option<i64> {
    let mut read = Decimal::parse(number)?;
    let is_negative = std::mem::take(&mut read.is_negative);
    let whole = i64::try_from(read.whole()?).ok()?;
    Some(if is_negative { -whole } else { whole })
}
