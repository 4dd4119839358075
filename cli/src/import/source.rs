//! Which files a path stands for.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::args::Format;

/// How deep folders are searched; a link to a folder above would never end.
const DEPTH: usize = 32;

/// The files of the paths in a fixed order: a file as it is, of a folder every file with the
/// format's ending, subfolders included.
pub(crate) fn files(format: Format, paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            collect(format, path, DEPTH, &mut found)?;
            if found.len() == before {
                return Err(Failure::file(path, format!("has no files named *{}", ending(format))));
            }
        } else {
            found.push(path.clone());
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|file| seen.insert(file.clone()));
    Ok(found)
}

fn ending(format: Format) -> &'static str {
    match format {
        Format::LanggraphThread => ".json",
        Format::MiniSweAgent => ".traj.json",
        Format::Callbacks => ".jsonl",
    }
}

fn collect(format: Format, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::file(folder, format!("cannot be read: {error}"));
    let mut entries = fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    entries.sort();
    for entry in entries {
        let named = entry.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending(format)));
        if entry.is_dir() {
            if depth > 0 {
                collect(format, &entry, depth - 1, found)?;
            }
        } else if named {
            found.push(entry);
        }
    }
    Ok(())
}

/// A file's text; what is no text is refused with the line it breaks on.
pub(crate) fn read(file: &Path) -> Result<String, Failure> {
    let bytes = fs::read(file).map_err(|error| Failure::file(file, format!("cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        Failure::File {
            file: file.to_owned(),
            line: Some(1 + good.iter().filter(|byte| **byte == b'\n').count()),
            reason: "is not UTF-8 text".to_owned(),
        }
    })
}

/// What is wrong with a file's JSON, with the line.
pub(crate) fn bad_json(file: &Path, error: &serde_json::Error) -> Failure {
    let line = Some(error.line()).filter(|line| *line > 0);
    Failure::File { file: file.to_owned(), line, reason: error.to_string() }
}
