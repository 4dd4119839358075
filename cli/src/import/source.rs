//! Which files a path stands for.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::Failure;
use crate::args::Format;

/// The files of the paths in a fixed order: a file as it is, of a folder every file with the
/// format's ending, subfolders included. A file that several paths lead to is there once.
pub(crate) fn files(format: Format, paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            collect(format, path, &mut HashSet::new(), &mut found)?;
            if found.len() == before {
                let endings = endings(format).join(" or *");
                return Err(Failure::file(path, format!("has no files named *{endings}")));
            }
        } else {
            found.push(path.clone());
        }
    }
    let mut seen = HashSet::new();
    found.retain(|file| seen.insert(place(file)));
    Ok(found)
}

/// The file's path without links to folders. A link to a file stays one: a file's name can be its
/// thread's id.
fn place(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), file.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => file.to_owned(),
    }
}

fn endings(format: Format) -> &'static [&'static str] {
    match format {
        Format::LanggraphThread => &[".json"],
        Format::MiniSweAgent => &[".traj.json"],
        Format::Callbacks => &[".jsonl"],
        Format::CodexRollout => &[".jsonl", ".jsonl.zst"],
    }
}

/// `walked` are the folders that were searched: a link to one of those above would never end.
fn collect(
    format: Format,
    folder: &Path,
    walked: &mut HashSet<PathBuf>,
    found: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::file(folder, format!("cannot be read: {error}"));
    if !walked.insert(folder.canonicalize().map_err(unreadable)?) {
        return Ok(());
    }
    let mut entries = fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let named = endings(format).iter().any(|ending| name.ends_with(ending));
        if entry.is_dir() {
            collect(format, &entry, walked, found)?;
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

/// What is wrong with a document that is JSON: the field as a path, `messages[2].extra.cost`, and
/// what of it. Without a path it is the document as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    path: String,
    reason: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// With the file, and the line where the field is.
    pub(crate) fn in_text(self, file: &Path, text: &str) -> Failure {
        let line = line_of(text, &self.path);
        let reason =
            if self.path.is_empty() { self.reason } else { format!("{} {}", self.path, self.reason) };
        Failure::File { file: file.to_owned(), line, reason }
    }
}

impl From<runledger_core::Error> for Fault {
    fn from(error: runledger_core::Error) -> Self {
        Self::new("", error.to_string())
    }
}

/// The line of the field, or of what lacks it; `None` where that is the whole document.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut found: Option<&str> = None;
    for step in path.split(['.', '[']) {
        let inside = found.unwrap_or(text);
        let next = match step.strip_suffix(']') {
            Some(index) => serde_json::from_str::<Vec<&RawValue>>(inside)
                .ok()
                .and_then(|elements| elements.get(index.parse::<usize>().ok()?).copied()),
            None => serde_json::from_str::<HashMap<String, &RawValue>>(inside)
                .ok()
                .and_then(|fields| fields.get(step).copied()),
        };
        let Some(next) = next else { break };
        found = Some(next.get());
    }
    // What was found borrows from the text.
    let offset = found?.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    Some(1 + text.as_bytes().get(..offset)?.iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_field_is_found_by_its_path() {
        let text = "{\n\"a\":\n[1,\n {\"b\": {\n\"c\":\n-5}}]}";
        let paths = ["a", "a[0]", "a[1].b", "a[1].b.c", "a[1].b.missing", "a[7]", "missing", ""];
        let lines = [Some(3), Some(3), Some(4), Some(6), Some(4), Some(3), None, None];
        assert_eq!(paths.map(|path| line_of(text, path)), lines);
    }
}
