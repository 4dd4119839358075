//! Tokens of an API: what programs and browsers show to say on whose behalf they ask.

use serde::{Deserialize, Serialize};

use crate::{ApiTokenId, Error, OwnerId, Result, Timestamp, text};

/// A token as it is stored: never the token itself, only what it hashes to.
///
/// A token is 256 random bits, so a plain SHA-256 is as hard to reverse as to guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiToken {
    /// Its id, by which it is listed and revoked.
    pub token_id: ApiTokenId,
    /// SHA-256 of the token, 64 lower-case hexadecimal digits; unique.
    pub token_hash: String,
    /// On whose behalf it speaks; `None` is the system.
    pub owner_id: Option<OwnerId>,
    /// What it is for, for people.
    pub label: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is not taken any more.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiToken {
    /// Whether text is a hash of a token: 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn is_hash(text: &str) -> bool {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Checks it for those who implement a store; the label is cleaned.
    pub fn checked(self) -> Result<Self> {
        if !Self::is_hash(&self.token_hash) {
            return Err(Error::invalid("token_hash", "is not 64 lower-case hexadecimal digits of a SHA-256"));
        }
        Ok(Self { label: self.label.map(|label| text::clean(&label).into_owned()), ..self })
    }
}
