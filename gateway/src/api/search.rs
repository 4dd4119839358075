//! Finding what was said and what tools returned.

use axum::Json;
use axum::extract::State;
use runledger_core::view::search::SearchQuery;
use runledger_core::{ItemKind, OwnerId, SearchFilter, SearchPage, ThreadId, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::list_range;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Query, visibility};
use crate::problem::Problem;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(search))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// What to look for: words that a text must all have, `"a phrase"`, `begin*`, `-without`.
    q: String,
    /// Only texts of this thread.
    thread_id: Option<ThreadId>,
    /// Only texts of items of these kinds, with commas: `user_message,agent_message`.
    kinds: Option<String>,
    /// Only texts of this time or later.
    from: Option<Timestamp>,
    /// Only texts from before this time.
    before: Option<Timestamp>,
    /// Whether texts of hidden runs are among them: superseded ones, and those rolled back.
    include_hidden: Option<bool>,
    /// For the system: only texts of this owner.
    owner: Option<OwnerId>,
    /// Where the previous page ended: its `next_cursor`.
    cursor: Option<String>,
    /// Texts at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Finds what was said and what tools returned, newest first.
///
/// What was written since the last search is indexed first, as far as that is quick; `behind` says what is left.
/// A page may have fewer texts than were asked for and yet not be the last: `has_more` says so. In a snippet `marks`
/// are the places of what was found, in characters.
#[utoipa::path(
    get,
    path = "/search",
    tag = "search",
    operation_id = "search",
    params(Wanted),
    responses((status = 200, description = "A page of texts.", body = SearchPage))
)]
async fn search(
    State(app): State<App>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Result<Json<SearchPage>, Problem> {
    let query = SearchQuery::parse(&wanted.q)
        .map_err(|error| Problem { field: Some("q".to_owned()), ..Problem::from(error) })?;
    let filter = SearchFilter {
        thread_id: wanted.thread_id,
        kinds: wanted.kinds.as_deref().map(kinds).transpose()?.unwrap_or_default(),
        created_from: wanted.from,
        created_before: wanted.before,
        visibility: visibility(wanted.include_hidden),
    };
    let range = list_range(wanted.limit, wanted.cursor.as_deref())?;
    let scope = caller.of_owner(wanted.owner)?;
    Ok(Json(app.ledger.search(&scope, &query, &filter, &range).await?))
}

fn kinds(text: &str) -> Result<Vec<ItemKind>, Problem> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| match ItemKind::from_stored(word) {
            ItemKind::Unknown(word) => Err(Problem::invalid(
                "kinds",
                format_args!("has {word:?}, which is no kind; user_message is one"),
            )),
            known => Ok(known),
        })
        .collect()
}
