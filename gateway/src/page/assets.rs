//! The style and the scripts: compiled in, named by what they hold, so that browsers keep them for good.

use std::sync::LazyLock;

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::viewer::{PathOf, Refused};
use crate::problem::Problem;

/// A file that pages name.
#[derive(Debug)]
pub(super) struct Asset {
    name: &'static str,
    media_type: &'static str,
    body: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "style.css",
        media_type: "text/css; charset=utf-8",
        body: concat!(include_str!("assets/style.css"), include_str!("assets/items.css")),
    },
    Asset {
        name: "theme.js",
        media_type: "text/javascript; charset=utf-8",
        body: include_str!("assets/theme.js"),
    },
    Asset {
        name: "page.js",
        media_type: "text/javascript; charset=utf-8",
        body: include_str!("assets/page.js"),
    },
    Asset { name: "icon.svg", media_type: "image/svg+xml", body: include_str!("assets/icon.svg") },
];

/// What stands in the addresses of assets: another one for each set of them.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in &ASSETS {
        hash.update(asset.body);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// `GET /assets/{name}`. Nothing in it is anybody's, so nobody is asked who they are.
pub(super) async fn get(PathOf(name): PathOf<String>, method: Method, uri: Uri) -> Result<Response, Refused> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| Refused::from(Problem::no_such_path(&method, &uri)))?;
    // Another version has another address; without one it is whatever is newest.
    let named = uri.query().is_some_and(|query| query == format!("v={}", *VERSION));
    let keep = if named { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    Ok((StatusCode::OK, headers, asset.body).into_response())
}
