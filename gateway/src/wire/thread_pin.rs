//! The key under which DeerFlow keeps in a thread's metadata whether it is pinned.
//!
//! Here that is a field of the thread and the only authority: the key is taken out of what is written, and shown
//! in what is read.

use runledger_core::{RawJson, RawObject};

use crate::problem::Problem;

const PINNED: &str = "deerflow_pinned";

/// Metadata without the key, and what it said: `null` unpins, as it removes any other key.
pub(crate) fn taken_out(metadata: &RawJson) -> Result<(RawJson, Option<bool>), Problem> {
    let Some(fields) = RawObject::parse(metadata) else { return Ok((metadata.clone(), None)) };
    let pinned = match fields.get(PINNED).map(RawJson::as_str) {
        None => return Ok((metadata.clone(), None)),
        Some("true") => true,
        Some("false" | "null") => false,
        Some(_) => {
            return Err(Problem::invalid("metadata.deerflow_pinned", "is neither true nor false nor null"));
        }
    };
    Ok((fields.without(&[PINNED]).to_json(), Some(pinned)))
}

/// Metadata with the key.
pub(super) fn shown(metadata: &RawJson) -> RawJson {
    match RawObject::parse(metadata) {
        Some(fields) => fields.with(PINNED, RawJson::from_stored("true")).to_json(),
        None => metadata.clone(),
    }
}
