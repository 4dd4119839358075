//! The contract error: what every store of every backend answers when it cannot do what was asked.
//!
//! Variants are named by outcome, so that a caller decides by [`Error::kind`] and
//! [`Error::is_retryable`] and never by text. The cause is kept behind `source()` and is not
//! repeated in the message; the remedy is in the message.

use std::error::Error as StdError;

/// A cause from below the contract: a driver, a file system, a parser.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of every store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a write that was answered with [`Error::Unavailable`] may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing was written.
    No,
    /// The answer was lost: the write may or may not be durable.
    Unknown,
}

/// What a store answers when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object does not exist, was deleted, or belongs to another owner: one answer for all three.
    #[error("{what} {id:?} not found")]
    NotFound {
        /// What was looked for: `thread`, `run`, ...
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// The id is taken. Nothing of the existing row is revealed.
    #[error("{what} {id:?} already exists; choose another id")]
    AlreadyExists {
        /// What was to be created.
        what: &'static str,
        /// The id that is taken.
        id: String,
    },
    /// The stored state is not the one the caller expected. Read it again and decide.
    #[error("conflict on {what}: expected {expected}, found {actual}; read it again and decide")]
    Conflict {
        /// What did not match.
        what: &'static str,
        /// What the caller expected.
        expected: String,
        /// What is stored.
        actual: String,
    },
    /// Another worker, an interruption or the end of the run took the run away; the caller must stop.
    #[error("run {run_id:?} is no longer held under epoch {epoch}; stop it, its later writes are refused")]
    LeaseLost {
        /// The run whose writes are refused.
        run_id: String,
        /// The epoch the caller wrote under.
        epoch: u64,
    },
    /// The run was asked to stop.
    #[error("run {run_id:?} was cancelled")]
    Cancelled {
        /// The run that was asked to stop.
        run_id: String,
    },
    /// The input cannot be accepted as it is.
    #[error("invalid {field}: {reason}")]
    InvalidInput {
        /// The field at fault.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The input is larger than this store takes.
    #[error("{field} is too large: {actual} bytes, at most {limit} are taken")]
    TooLarge {
        /// The field at fault.
        field: &'static str,
        /// The most that is taken, in bytes.
        limit: u64,
        /// What was given, in bytes.
        actual: u64,
    },
    /// The cursor points to something that is gone; start the listing anew.
    #[error("the cursor is stale: {reason}; start the listing anew")]
    StaleCursor {
        /// Why it cannot be used.
        reason: String,
    },
    /// This backend does not do that.
    #[error("{operation} is not supported by this backend")]
    Unsupported {
        /// What was asked for.
        operation: &'static str,
    },
    /// Stored data cannot be read.
    #[error("stored {what} cannot be read: {reason}")]
    Corrupt {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
        /// The cause, where there is one.
        #[source]
        source: Option<BoxError>,
    },
    /// What is stored has another schema than this version needs.
    #[error(
        "the schema is {found}, this version needs {needed}; run `runledger migrate up`, or a newer version of \
         this program where the schema is the newer"
    )]
    SchemaMismatch {
        /// What is stored.
        found: String,
        /// What this version needs.
        needed: String,
    },
    /// The database cannot be reached or is too busy right now.
    #[error("the database is unavailable{}", match .applied {
        Applied::No => "; nothing was written, try again",
        Applied::Unknown => "; the write may have happened, retry only with a mark or a once key",
    })]
    Unavailable {
        /// Whether the write may have happened.
        applied: Applied,
        /// The driver's error.
        #[source]
        source: BoxError,
    },
    /// The database refused for a reason that no retry mends.
    #[error("the database refused {operation}")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// The driver's error.
        #[source]
        source: BoxError,
    },
}

/// [`Error`] without its data, for decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each kind is documented at the variant of `Error` with the same name")]
pub enum ErrorKind {
    NotFound,
    AlreadyExists,
    Conflict,
    LeaseLost,
    Cancelled,
    InvalidInput,
    TooLarge,
    StaleCursor,
    Unsupported,
    Corrupt,
    SchemaMismatch,
    Unavailable,
    Backend,
}

impl ErrorKind {
    /// The kind in snake_case, as sent in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::LeaseLost => "lease_lost",
            Self::Cancelled => "cancelled",
            Self::InvalidInput => "invalid_input",
            Self::TooLarge => "too_large",
            Self::StaleCursor => "stale_cursor",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::SchemaMismatch => "schema_mismatch",
            Self::Unavailable => "unavailable",
            Self::Backend => "backend",
        }
    }
}

impl Error {
    /// The kind of outcome, without its data.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::LeaseLost { .. } => ErrorKind::LeaseLost,
            Self::Cancelled { .. } => ErrorKind::Cancelled,
            Self::InvalidInput { .. } => ErrorKind::InvalidInput,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::StaleCursor { .. } => ErrorKind::StaleCursor,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::SchemaMismatch { .. } => ErrorKind::SchemaMismatch,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Backend { .. } => ErrorKind::Backend,
        }
    }

    /// Whether the same call may succeed when it is made again.
    ///
    /// [`Applied::Unknown`] is not: only a commit with a mark or a once key can be sent again
    /// without writing twice, and its sender knows whether it had one.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { applied, .. } => *applied == Applied::No,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Conflict { .. }
            | Self::LeaseLost { .. }
            | Self::Cancelled { .. }
            | Self::InvalidInput { .. }
            | Self::TooLarge { .. }
            | Self::StaleCursor { .. }
            | Self::Unsupported { .. }
            | Self::Corrupt { .. }
            | Self::SchemaMismatch { .. }
            | Self::Backend { .. } => false,
        }
    }

    /// [`Error::InvalidInput`] for `field`.
    pub fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidInput { field, reason: reason.into() }
    }

    /// [`Error::NotFound`] for `what` under `id`.
    pub fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// [`Error::AlreadyExists`] for `what` under `id`.
    pub fn already_exists(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::AlreadyExists { what, id: id.to_string() }
    }

    /// [`Error::Conflict`] on `what`.
    pub fn conflict(
        what: &'static str,
        expected: impl std::fmt::Display,
        actual: impl std::fmt::Display,
    ) -> Self {
        Self::Conflict { what, expected: expected.to_string(), actual: actual.to_string() }
    }

    /// [`Error::Corrupt`] without a cause of its own.
    pub fn corrupt(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Corrupt { what, reason: reason.into(), source: None }
    }
}
