//! The pages for people: what agents did, rendered on the server and readable without scripts.
//!
//! A page asks the ledger for a bounded part of what there is and links to the rest, so a thread of any length
//! opens at once. All text of others goes through [`text::Shown`]; nothing of it becomes markup. There is no inline
//! script and no inline style, so that the Content-Security-Policy can forbid both.
//!
//! | where | what |
//! |---|---|
//! | `viewer` | who looks, refusals, and the parameters of pages |
//! | `frame`, `assets` | what is around each page: head, navigation, headers, style and script |
//! | `link`, `format`, `text`, `prose` | addresses, numbers and times, text of others, simple formatting |
//! | `turn`, `item`, `call` | what happened, by turns and items |
//! | `runs`, `threads`, `thread`, `run`, `agent_runs`, `usage`, `search` | a page each |
//! | `chart` | bars as SVG |

mod agent_runs;
mod assets;
mod call;
mod chart;
mod format;
mod frame;
mod item;
pub(crate) mod link;
mod prose;
mod run;
mod runs;
mod search;
mod text;
mod thread;
mod threads;
mod turn;
mod usage;
mod viewer;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;

use crate::app::App;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(runs::list))
        .route("/threads", get(threads::list))
        .route("/threads/{thread_id}", get(thread::show))
        .route("/threads/{thread_id}/fragment", get(thread::fragment))
        .route("/threads/{thread_id}/runs/{run_id}", get(run::show))
        .route("/agent-runs", get(agent_runs::list))
        .route("/agent-runs/{agent_run_id}", get(agent_runs::show))
        .route("/usage", get(usage::show))
        .route("/search", get(search::find))
        .route("/assets/{name}", get(assets::get))
        .layer(from_fn(frame::dress))
}
