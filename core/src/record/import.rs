//! Imports: how far a source was read, and what of it is no record.

use serde::{Deserialize, Serialize};

use crate::{Error, ImportSource, QuarantineId, Result, Timestamp, text};

/// How far a source was read. A hint that saves reading: what was imported is what the log holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportCursor {
    /// The source.
    pub source: ImportSource,
    /// How many of its bytes are imported.
    pub byte_offset: u64,
    /// The fingerprint of the last line that was read: another one shows that the source was replaced.
    pub last_line_hash: Option<String>,
    /// When it was read.
    pub updated_at: Timestamp,
}

impl ImportCursor {
    /// Refuses what no database takes, for those who implement a store.
    pub fn check(&self) -> Result<()> {
        let hash = self.last_line_hash.as_deref().unwrap_or_default();
        text::require_no_nul("last_line_hash", hash)?;
        check_length("last_line_hash", hash)?;
        if i64::try_from(self.byte_offset).is_err() {
            return Err(Error::invalid("byte_offset", format!("is above {}", i64::MAX)));
        }
        Ok(())
    }
}

/// Part of a source that is no record: kept beside the log, so that it stops nothing and is not lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quarantined {
    /// Its id, unique within its thread. The same part has the same id whenever it is read.
    pub quarantine_id: QuarantineId,
    /// The event it is about, if there is one.
    pub seq: Option<u64>,
    /// Where it is from, for people.
    pub source: Option<String>,
    /// Why it is no record.
    pub reason: String,
    /// The fingerprint of its bytes.
    pub content_hash: String,
    /// Its bytes as text, where they were kept.
    pub content: Option<String>,
    /// When it was found.
    pub created_at: Timestamp,
}

impl Quarantined {
    /// Refuses what no database takes, and what a rebuild writes and removes by itself, for those who implement a store.
    pub fn check(&self) -> Result<()> {
        if self.quarantine_id.as_str().starts_with("log:") || self.source.as_deref() == Some("log") {
            return Err(Error::invalid(
                "source",
                "is the log, or the id begins with \"log:\"; these are for records that a rebuild cannot read",
            ));
        }
        text::require_no_nul("source", self.source.as_deref().unwrap_or_default())?;
        text::require_no_nul("reason", &self.reason)?;
        text::require_no_nul("content_hash", &self.content_hash)?;
        check_length("content_hash", &self.content_hash)?;
        text::require_no_nul("content", self.content.as_deref().unwrap_or_default())
    }
}

/// A fingerprint is a key: as long as an id at most.
fn check_length(field: &'static str, hash: &str) -> Result<()> {
    if hash.len() > crate::MAX_ID_BYTES {
        let reason = format!("has {} bytes; a fingerprint has at most {}", hash.len(), crate::MAX_ID_BYTES);
        return Err(Error::invalid(field, reason));
    }
    Ok(())
}
