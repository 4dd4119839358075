//! Turns: the runs of a thread, with what was said or with their items.

use axum::Json;
use axum::extract::State;
use runledger_core::{Cursor, ListOrder, MAX_LIMIT, MAX_TURNS, RunId, TurnQuery, TurnStart, TurnView};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::items::First;
use super::params::limit_of;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, ThreadPath, visibility};
use crate::problem::Problem;
use crate::wire::WireTurnPage;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// How much of a turn is told.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum View {
    /// The run alone.
    NotLoaded,
    /// What the person said first, and the agent's final message.
    #[default]
    Summary,
    /// Its items from the first on.
    Full,
}

impl From<View> for TurnView {
    fn from(view: View) -> Self {
        match view {
            View::NotLoaded => Self::NotLoaded,
            View::Summary => Self::Summary,
            View::Full => Self::Full,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this run, whether it is hidden or not.
    run_id: Option<RunId>,
    /// How much of each: `summary` unless another is asked for.
    #[param(inline)]
    view: Option<View>,
    /// Which come first: the newest, unless the oldest are asked for.
    #[param(inline)]
    order: Option<First>,
    /// Go on after a page: its `next_cursor`.
    cursor: Option<String>,
    /// Go back from a page: its `previous_cursor`.
    before_cursor: Option<String>,
    /// Whether hidden runs are among them.
    include_hidden: Option<bool>,
    /// Turns at most.
    #[param(minimum = 1, maximum = 100, default = 25)]
    limit: Option<u32>,
    /// Of the full view: items of each turn at most, and no more than 1000 in all.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    items: Option<u32>,
}

impl ListQuery {
    fn into_query(self) -> Result<TurnQuery, Problem> {
        let start = match (&self.cursor, &self.before_cursor) {
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("before_cursor", "is given beside cursor; give one of them"));
            }
            (Some(cursor), None) => TurnStart::After(Cursor::parse(cursor)?),
            (None, Some(cursor)) => TurnStart::Before(Cursor::parse(cursor)?),
            (None, None) => TurnStart::First,
        };
        let unasked = TurnQuery::default();
        Ok(TurnQuery {
            run_id: self.run_id,
            view: self.view.unwrap_or_default().into(),
            visibility: visibility(self.include_hidden),
            order: self.order.map_or(unasked.order, ListOrder::from),
            start,
            limit: limit_of("limit", self.limit, unasked.limit, MAX_TURNS)?,
            items: limit_of("items", self.items, unasked.items, MAX_LIMIT)?,
        })
    }
}

/// The turns of a thread.
///
/// In summary a turn has what the person said first and the agent's final message. Both cursors are there
/// wherever a page has turns: a later page may have grown meanwhile.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/turns",
    tag = "turns",
    operation_id = "list_turns",
    params(ThreadPath, ListQuery),
    responses((status = 200, description = "A page of them.", body = WireTurnPage))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<WireTurnPage>, Problem> {
    let page = app.ledger.items().turns(&caller.scope, &path.thread_id, &query.into_query()?).await?;
    Ok(Json(WireTurnPage::new(page, &app.options.redacted_keys)))
}
