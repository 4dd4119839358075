//! Blobs: large parts of payloads, as they were stored.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runledger_core::{BlobEntry, BlobHash, MAX_LIMIT, ThreadId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::params::{one_more, rows_of};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Path, Query, ThreadPath};
use crate::problem::Problem;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// What a blob may be sent as, and the end of its file's name. Anything else is bytes: a browser must not take for a
/// page or a script what a tool returned.
const MEDIA_TYPES: [(&str, &str, &str); 8] = [
    ("text/plain", "text/plain; charset=utf-8", "txt"),
    ("application/json", "application/json", "json"),
    ("image/png", "image/png", "png"),
    ("image/jpeg", "image/jpeg", "jpg"),
    ("image/gif", "image/gif", "gif"),
    ("image/webp", "image/webp", "webp"),
    ("image/avif", "image/avif", "avif"),
    ("application/pdf", "application/pdf", "pdf"),
];

/// What is sent as nothing in particular.
const BYTES: (&str, &str) = ("application/octet-stream", "bin");

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct BlobPath {
    /// The thread.
    thread_id: ThreadId,
    /// What it holds: `sha256:` and 64 hexadecimal digits.
    hash: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only blobs after this one: the `next_cursor` of a page.
    cursor: Option<String>,
    /// Blobs at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Blobs of a thread, by their hashes.
#[derive(Debug, Serialize, ToSchema)]
struct BlobPage {
    /// The blobs.
    items: Vec<BlobEntry>,
    /// Whether there are further ones.
    has_more: bool,
    /// Where the next page begins.
    next_cursor: Option<BlobHash>,
}

/// The blobs of a thread, without what they hold.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/blobs",
    tag = "blobs",
    operation_id = "list_blobs",
    params(ThreadPath, ListQuery),
    responses((status = 200, description = "A page of them.", body = BlobPage))
)]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    Query(query): Query<ListQuery>,
) -> Result<Json<BlobPage>, Problem> {
    let after = query.cursor.as_deref().map(BlobHash::new).transpose()?;
    let blobs = app.ledger.blobs();
    let limit = rows_of(query.limit)?;
    let (scope, thread) = (&caller.scope, &path.thread_id);
    let mut items = blobs.list(scope, thread, after.as_ref(), one_more(limit)).await?;
    let has_more = match items.get(limit as usize - 1) {
        // No list is longer.
        Some(last) if limit == MAX_LIMIT => !blobs.list(scope, thread, Some(&last.hash), 1).await?.is_empty(),
        _ => items.len() > limit as usize,
    };
    items.truncate(limit as usize);
    let next_cursor = items.last().filter(|_| has_more).map(|last| last.hash.clone());
    Ok(Json(BlobPage { items, has_more, next_cursor }))
}

/// What a blob holds, byte for byte.
///
/// It is sent as a file to be saved, as text, JSON, PDF or an image where that is what it was stored as, else as bytes.
#[utoipa::path(
    get,
    path = "/threads/{thread_id}/blobs/{hash}",
    tag = "blobs",
    operation_id = "get_blob",
    params(BlobPath),
    responses(
        (status = 200, description = "The bytes.", content((Vec<u8> = "application/octet-stream"), (Vec<u8> = "application/json"),
            (String = "text/plain"), (Vec<u8> = "image/*"), (Vec<u8> = "application/pdf"))),
        (status = 304, description = "It is what `If-None-Match` says."),
    )
)]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<BlobPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let hash = BlobHash::new(&path.hash)?;
    let (scope, thread, blobs) = (&caller.scope, &path.thread_id, app.ledger.blobs());
    let tag = format!("\"{hash}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
    let is_known = known
        .flat_map(|tags| tags.split(','))
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == tag || known == "*");
    // What is known already is not read again.
    let (media_type, bytes) = if is_known {
        (blobs.entry(scope, thread, &hash).await?.media_type, None)
    } else {
        let blob = blobs.get(scope, thread, &hash).await?;
        (blob.media_type, Some(blob.bytes))
    };
    let (sent, ending) = sent_as(&media_type);
    let digits = hash.as_str().trim_start_matches("sha256:");
    let disposition = format!("attachment; filename=\"{digits}.{ending}\"");
    let mut answer = match bytes {
        None => StatusCode::NOT_MODIFIED.into_response(),
        Some(bytes) => bytes.into_response(),
    };
    let headers = answer.headers_mut();
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(sent));
    }
    // Both are of hexadecimal digits and what stands here.
    for (name, value) in [(header::CONTENT_DISPOSITION, disposition), (header::ETAG, tag)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    // What it holds does not change; who may see it does.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    Ok(answer)
}

fn sent_as(media_type: &str) -> (&'static str, &'static str) {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let known = MEDIA_TYPES.iter().find(|(stored, _, _)| essence.eq_ignore_ascii_case(stored));
    known.map_or(BYTES, |(_, sent, ending)| (*sent, *ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn what_a_browser_would_run_is_bytes() {
        for stored in
            ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "x", "text/xml"]
        {
            assert_eq!(sent_as(stored), BYTES, "{stored}");
        }
        assert_eq!(sent_as("Text/Plain; charset=latin1"), ("text/plain; charset=utf-8", "txt"));
        assert_eq!(sent_as("image/png"), ("image/png", "png"));
    }
}
