//! Why a command did not do what was asked, and the exit code that says so.

use std::path::PathBuf;
use std::{fmt, io};

use runledger_core::ErrorKind;
use serde_json::{Value, json};

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The ledger's answer.
    #[error("{0}")]
    Ledger(#[source] Shown),
    /// The schema could not be made.
    #[error("{0}")]
    Migration(#[source] Shown),
    /// A file cannot be imported.
    #[error("{}{}: {reason}", file.display(), Line(*line))]
    File {
        /// The file.
        file: PathBuf,
        /// The line at fault, from 1, where one line is.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// A file was imported before with other content.
    #[error(
        "{}: run {run:?} is in the ledger with other content; give the file another name or import it into another database", file.display()
    )]
    Changed {
        /// The file.
        file: PathBuf,
        /// The run that differs.
        run: String,
    },
    /// A file is for a thread that cannot be written to.
    #[error(
        "{}: thread {thread:?} is somebody else's, or was deleted; import it as its owner, or under \
         another thread id",
        file.display()
    )]
    Taken {
        /// The file.
        file: PathBuf,
        /// Its thread.
        thread: String,
    },
    /// What went wrong while a file was written.
    #[error("{}: {failure}", file.display())]
    InFile {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        #[source]
        failure: Box<Self>,
    },
    /// The arguments cannot be used together.
    #[error("{0}")]
    Usage(String),
    /// The database cannot be used for this.
    #[error("{0}")]
    Database(String),
    /// A run did not reach the ledger whole.
    #[error("{0}")]
    Refused(String),
    /// Reading or writing failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// Whoever read the output went away. No error: what they wanted they have.
    #[error("the reader of the output went away")]
    PipeClosed,
}

/// An error with its exit code and causes, told once.
#[derive(Debug)]
pub struct Shown {
    kind: String,
    code: u8,
    error: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Shown {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl Failure {
    /// The exit code, as the command's help lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Taken { .. } | Self::Refused(_) | Self::Io { .. } => 1,
            Self::File { .. } | Self::Changed { .. } | Self::Usage(_) => 2,
            Self::Database(_) => 3,
            Self::Ledger(shown) | Self::Migration(shown) => shown.code,
            Self::InFile { failure, .. } => failure.exit_code(),
        }
    }

    fn kind(&self) -> &str {
        match self {
            Self::PipeClosed => "pipe_closed",
            Self::Refused(_) => "refused",
            Self::Io { .. } => "io",
            Self::File { .. } => "file",
            Self::Changed { .. } => "conflict",
            Self::Taken { .. } => "already_exists",
            Self::Usage(_) => "usage",
            Self::Database(_) => "database",
            Self::Ledger(shown) | Self::Migration(shown) => &shown.kind,
            Self::InFile { failure, .. } => failure.kind(),
        }
    }

    /// The message and its causes, each once.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            if !said.is_empty() && !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        text
    }

    /// The error as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": { "kind": self.kind(), "message": self.message(), "exit_code": self.exit_code() } })
    }

    /// A file that cannot be imported, as a whole.
    pub(crate) fn file(file: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::File { file: file.into(), line: None, reason: reason.into() }
    }

    /// Names the file it happened to, where it does not name one itself.
    pub(crate) fn in_file(self, file: impl Into<PathBuf>) -> Self {
        match self {
            Self::File { .. } | Self::Changed { .. } | Self::Taken { .. } => self,
            other => Self::InFile { file: file.into(), failure: Box::new(other) },
        }
    }

    /// A failed read or write; a closed pipe is told apart.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::Io { doing: doing.into(), source },
        }
    }
}

impl From<runledger_core::Error> for Failure {
    fn from(error: runledger_core::Error) -> Self {
        let kind = error.kind();
        let code = match kind {
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::LeaseLost
            | ErrorKind::Cancelled
            | ErrorKind::Unsupported => 1,
            ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::StaleCursor => 2,
            // Corrupt, SchemaMismatch, Unavailable, Backend, and what a newer version adds.
            _ => 3,
        };
        Self::Ledger(Shown { kind: snake(&format!("{kind:?}")), code, error: Box::new(error) })
    }
}

impl From<runledger_migration::Error> for Failure {
    fn from(error: runledger_migration::Error) -> Self {
        let code = match error.kind() {
            "url" | "invalid_input" => 2,
            _ => 3,
        };
        Self::Migration(Shown { kind: error.kind().to_owned(), code, error: Box::new(error) })
    }
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (index, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use runledger_core::{Applied, Error};

    #[test]
    fn outcomes_have_the_documented_exit_codes() {
        let unavailable = Error::Unavailable { applied: Applied::No, source: "no route".into() };
        let cases = [
            (Failure::from(Error::not_found("thread", "t")), 1, "not_found"),
            (Failure::from(Error::invalid("limit", "is 0")), 2, "invalid_input"),
            (Failure::from(unavailable), 3, "unavailable"),
            (Failure::file("a.json", "is empty"), 2, "file"),
            (Failure::io("write", io::ErrorKind::BrokenPipe.into()), 0, "pipe_closed"),
        ];
        for (failure, code, kind) in cases {
            assert_eq!((failure.exit_code(), failure.kind()), (code, kind));
        }
    }

    #[test]
    fn causes_are_told_once() {
        let failure = Failure::from(Error::Unavailable { applied: Applied::No, source: "no route".into() });
        assert_eq!(
            failure.message(),
            "the database is unavailable; nothing was written, try again: no route"
        );
    }

    #[test]
    fn a_file_is_named_with_its_line() {
        let failure = Failure::File { file: "a.jsonl".into(), line: Some(3), reason: "is cut".into() };
        assert_eq!(failure.message(), "a.jsonl:3: is cut");
        assert_eq!(failure.in_file("b.jsonl").message(), "a.jsonl:3: is cut");
        let failure = Failure::from(Error::not_found("thread", "t")).in_file("a.json");
        assert_eq!(failure.message(), "a.json: thread \"t\" not found");
        assert_eq!((failure.exit_code(), failure.kind()), (1, "not_found"));
    }
}
