//! What many endpoints are asked with, and answered with beside a body.

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runledger_core::{Cursor, ListRange, Patch, RawJson, RunId, SeqRange};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// The largest number of an epoch, an ordinal or a seq.
const MAX_NUMBER: u64 = i64::MAX as u64;

/// Where the cursor of a list stands whose body is the bare rows. It is the same text in a query and in a body,
/// whoever escapes what and how often.
pub(super) const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// The path of a run whose thread is not named.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct BareRunPath {
    /// The run; of several with the id, the newest that the caller sees.
    pub(super) run_id: RunId,
}

/// Which part of a newest-first listing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<u32>,
    /// Where the previous page ended.
    pub(super) cursor: Option<String>,
}

impl ListQuery {
    pub(super) fn range(&self) -> Result<ListRange, Problem> {
        list_range(self.limit, self.cursor.as_deref())
    }
}

/// Which part of what is numbered.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SeqQuery {
    /// Only what comes before this number; alone, the last of it.
    before_seq: Option<u64>,
    /// Only what comes after this number, the first of it; 0 is the beginning.
    after_seq: Option<u64>,
    /// Rows at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
}

impl SeqQuery {
    pub(super) fn range(&self) -> Result<SeqRange, Problem> {
        let limit = rows_of(self.limit)?;
        Ok(SeqRange { limit, before_seq: self.before_seq, after_seq: self.after_seq })
    }
}

/// A yes or a no, as clients spell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(super) enum Flag {
    /// No.
    #[default]
    #[serde(rename = "false", alias = "0")]
    No,
    /// Yes.
    #[serde(rename = "true", alias = "1")]
    Yes,
}

/// A checked limit, and a cursor.
pub(super) fn list_range(limit: Option<u32>, cursor: Option<&str>) -> Result<ListRange, Problem> {
    let limit = rows_of(limit)?;
    Ok(ListRange { limit, cursor: cursor.map(cursor_of).transpose()? })
}

/// A cursor as a body or as a header gave it: only the first has a colon.
fn cursor_of(given: &str) -> Result<Cursor, Problem> {
    let of_header = if given.contains(':') { None } else { URL_SAFE_NO_PAD.decode(given).ok() };
    let text = of_header.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(Cursor::parse(text.as_deref().unwrap_or(given))?)
}

/// How many rows of a list were asked for.
pub(super) fn rows_of(limit: Option<u32>) -> Result<u32, Problem> {
    limit_of("limit", limit, 100, runledger_core::MAX_LIMIT)
}

/// The limit with which a list is asked, so that what is beyond the page tells that there is more.
pub(super) fn one_more(limit: u32) -> u32 {
    (limit + 1).min(runledger_core::MAX_LIMIT)
}

/// The limit that was asked for, where it is one.
pub(super) fn limit_of(field: &str, given: Option<u32>, otherwise: u32, most: u32) -> Result<u32, Problem> {
    match given {
        None => Ok(otherwise),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::invalid(field, format_args!("is {limit}; ask for 1 to {most}"))),
    }
}

/// A number that a log may have.
pub(super) fn number(field: &str, given: u64) -> Result<u64, Problem> {
    if given > MAX_NUMBER {
        return Err(Problem::invalid(field, format_args!("is {given}, above {MAX_NUMBER}")));
    }
    Ok(given)
}

/// A duration in seconds.
pub(super) fn seconds(
    field: &str,
    given: f64,
    least: f64,
    most: f64,
) -> Result<std::time::Duration, Problem> {
    let refused = || Problem::invalid(field, format_args!("is {given}; {least} to {most} seconds are taken"));
    if !(least..=most).contains(&given) {
        return Err(refused());
    }
    std::time::Duration::try_from_secs_f64(given).map_err(|_| refused())
}

/// A list whose body is the bare rows, with its cursor beside it.
pub(super) fn bare_list<T: serde::Serialize>(rows: &[T], next: Option<&Cursor>) -> Response {
    let mut response = Json(rows).into_response();
    if let Some(value) = next.and_then(|next| HeaderValue::from_str(&in_header(next)).ok()) {
        response.headers_mut().insert(NEXT_CURSOR, value);
    }
    response
}

fn in_header(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(cursor.as_str())
}

/// Reads a field that may be left out, be null, or have a value.
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Patch<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(match Option::deserialize(deserializer)? {
        Some(value) => Patch::Set(value),
        None => Patch::Clear,
    })
}

/// Reads a body that is needed as text, too.
pub(super) fn read<T: DeserializeOwned>(body: &RawJson) -> Result<T, Problem> {
    let axum::Json(value) = axum::Json::from_bytes(body.as_str().as_bytes())?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_cursor_is_a_header_whatever_ids_it_has() {
        let cursor = Cursor::parse("12:3:a&b 50%25 \u{9879}\u{7f}").unwrap();
        let header = in_header(&cursor);
        assert!(header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{header}");
        assert_eq!(cursor_of(&header).unwrap(), cursor);
        assert_eq!(cursor_of(cursor.as_str()).unwrap(), cursor);
        for none in ["", "x", "eA", "!"] {
            assert_eq!(cursor_of(none).unwrap_err().field.as_deref(), Some("cursor"), "{none}");
        }
    }

    #[test]
    fn seconds_are_taken_within_their_bounds() {
        assert_eq!(seconds("ttl", 1.5, 1.0, 2.0).unwrap(), std::time::Duration::from_millis(1500));
        for refused in [f64::NAN, f64::INFINITY, -1.0, 0.9, 2.1] {
            assert_eq!(seconds("ttl", refused, 1.0, 2.0).unwrap_err().field.as_deref(), Some("ttl"));
        }
    }
}
