//! Recorded LangChain callbacks: the journal reads and plays them, here they are files.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use runledger_journal::adapters::langchain_recording::{Recording, RecordingError};

use crate::Failure;

/// A recording that was read and checked.
pub(crate) struct RecordedFile {
    pub(crate) file: PathBuf,
    pub(crate) recording: Recording,
}

/// Reads a file.
pub(crate) fn parse(file: PathBuf) -> Result<RecordedFile, Failure> {
    let opened =
        File::open(&file).map_err(|error| Failure::file(&file, format!("cannot be read: {error}")))?;
    let recording = Recording::parse(BufReader::new(opened)).map_err(|error| failure(&file, error))?;
    Ok(RecordedFile { file, recording })
}

/// The error with the file it is about.
pub(crate) fn failure(file: &Path, error: RecordingError) -> Failure {
    match error {
        RecordingError::Line { line, reason } => {
            Failure::File { file: file.to_owned(), line: usize::try_from(line).ok(), reason }
        }
        RecordingError::Read { line, source } => Failure::File {
            file: file.to_owned(),
            line: usize::try_from(line).ok(),
            reason: format!("cannot be read: {source}"),
        },
        RecordingError::Ledger { source, .. } => Failure::from(source).in_file(file),
        other => Failure::file(file, other.to_string()),
    }
}
