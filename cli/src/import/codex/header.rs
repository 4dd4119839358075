//! Which rollout a file is: its thread, its place among the files of that thread, and what it goes on from.
//!
//! A rollout is known by its name and its first record, not by its path: Codex moves files when it archives
//! them, and compresses old ones.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use runledger_core::{ImportSource, RawJson, ThreadId, Timestamp, text};

use super::json::{Members, Object};
use super::line::{Record, Written};
use super::lines::{Lines, is_compressed};
use crate::Failure;

/// The history that a file goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) rollout: String,
    /// Its lines end before this place.
    pub(crate) end_offset: Option<u64>,
    /// Its lines have smaller numbers.
    pub(crate) end_ordinal: Option<u64>,
}

impl Base {
    /// Whether a line of the base comes after what is gone on from.
    pub(crate) fn is_left_before(&self, written: &Written) -> bool {
        match (self.end_ordinal, written.ordinal) {
            (Some(end), Some(ordinal)) => ordinal >= end,
            _ => self.end_offset.is_some_and(|end| written.at >= end),
        }
    }
}

/// A rollout.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) file: PathBuf,
    pub(crate) thread: ThreadId,
    pub(crate) id: String,
    pub(crate) base: Option<Base>,
    pub(crate) parent: Option<ThreadId>,
    /// Lines with a smaller number are its parent's.
    pub(crate) own_from: Option<u64>,
    /// Whether items are records of their own.
    pub(crate) is_paginated: bool,
    pub(crate) provider: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    /// What of the first record describes the thread.
    pub(crate) about: RawJson,
}

/// What of a first record is kept with its thread.
const ABOUT: [&str; 9] = [
    "cwd",
    "originator",
    "cli_version",
    "source",
    "thread_source",
    "model_provider",
    "git",
    "agent_nickname",
    "forked_from_id",
];

impl Rollout {
    /// Reads the first record.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| Failure::file(file, format!("cannot be read: {error}"));
        let first = Lines::open(file, 0).and_then(|mut lines| lines.read()).map_err(unreadable)?;
        let bytes = first.and_then(|line| line.bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let record = Record::parse(&text).filter(|record| record.kind == "session_meta");
        let none = Members::default();
        let meta = record.as_ref().map_or(&none, |record| &record.members);
        let (named_thread, named_rollout) = named(file);
        let thread = meta.string("id").or(named_thread).ok_or_else(|| Failure::File {
            file: file.to_owned(),
            line: Some(1),
            reason: "is no session_meta record, and the file's name has no thread id; is it a rollout?"
                .to_owned(),
        })?;
        let thread = ThreadId::new(&thread).map_err(|error| {
            Failure::file(file, format!("its session_meta's id is no thread id: {error}"))
        })?;
        let base = meta.object("history_base").and_then(|base| {
            Some(Base {
                rollout: base.string("thread_id")?,
                end_offset: base.count("end_byte_offset"),
                end_ordinal: base.count("end_ordinal_exclusive"),
            })
        });
        let mut about = Object::default();
        for name in ABOUT {
            if let Some(value) = meta.get(name).filter(|value| *value != "null") {
                about.put(name, value);
            }
        }
        let about = RawJson::from_stored(&format!("{{\"codex\":{}}}", about.text()));
        Ok(Self {
            file: file.to_owned(),
            id: named_rollout.unwrap_or_else(|| thread.to_string()),
            thread,
            base,
            parent: meta.string("parent_thread_id").and_then(|parent| ThreadId::new(parent).ok()),
            own_from: meta.count("subagent_history_start_ordinal"),
            is_paginated: meta.string("history_mode").as_deref() == Some("paginated"),
            provider: meta.string("model_provider").filter(|name| !name.contains('\0')),
            created_at: record
                .as_ref()
                .and_then(|record| Timestamp::parse("timestamp", record.timestamp.as_deref()?).ok()),
            about: if text::escape_jsonb(about.as_str()).len() < 16_384 {
                about
            } else {
                RawJson::empty_object()
            },
        })
    }

    /// The name under which its import is known.
    pub(crate) fn source(&self) -> Result<ImportSource, Failure> {
        let name = format!("codex-rollout:{}/{}", self.thread, self.id);
        ImportSource::new(&name)
            .or_else(|_| ImportSource::new(format!("codex-rollout:#{}", text::fingerprint(&name))))
            .map_err(Failure::from)
    }
}

/// The thread and the rollout that a file's name says: `rollout-<time>-<thread>[_<rollout>].jsonl`.
fn named(file: &Path) -> (Option<String>, Option<String>) {
    const TIME: usize = "2026-11-21T03-07-28-".len();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ids = || {
        name.strip_suffix(".zst")
            .unwrap_or(&name)
            .strip_suffix(".jsonl")?
            .strip_prefix("rollout-")?
            .get(TIME..)
    };
    match ids()
        .map(|ids| ids.split_once('_').map_or((ids, None), |(thread, rollout)| (thread, Some(rollout))))
    {
        Some((thread, rollout)) => (Some(thread.to_owned()), rollout.map(str::to_owned)),
        None => (None, None),
    }
}

/// Every rollout that may be asked for, by its id: those that are imported, and those beside them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    files: HashMap<String, PathBuf>,
}

impl Known {
    pub(crate) fn of(rollouts: &[Rollout]) -> Self {
        let mut files = HashMap::new();
        let folder = |rollout: &Rollout| rollout.file.parent().map(Path::to_owned).unwrap_or_default();
        let folders: HashSet<PathBuf> = rollouts.iter().map(folder).collect();
        for folder in folders {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            for file in entries.map(|entry| entry.path()).filter(|file| is_rollout(file.file_name())) {
                if let (Some(thread), rollout) = named(&file) {
                    files.entry(rollout.unwrap_or(thread)).or_insert(file);
                }
            }
        }
        for rollout in rollouts {
            files.insert(rollout.id.clone(), rollout.file.clone());
        }
        Self { files }
    }

    /// The file of a rollout.
    pub(crate) fn find(&self, id: &str) -> Option<Rollout> {
        Rollout::read(self.files.get(id)?).ok()
    }
}

fn is_rollout(name: Option<&OsStr>) -> bool {
    let name = name.unwrap_or_default().to_string_lossy();
    name.ends_with(".jsonl") || name.ends_with(".jsonl.zst")
}

/// Refuses two files of one rollout, of which one would not be read. Plain and compressed ones are the same.
pub(crate) fn require_one_of_each(rollouts: &[Rollout]) -> Result<(), Failure> {
    let mut seen: HashMap<(&str, bool), &Rollout> = HashMap::new();
    for rollout in rollouts {
        if let Some(other) = seen.insert((&rollout.id, is_compressed(&rollout.file)), rollout) {
            let reason =
                format!("is rollout {:?}, as {} is; import one of them", rollout.id, other.file.display());
            return Err(Failure::file(&rollout.file, reason));
        }
    }
    Ok(())
}

/// The rollouts so that each comes after what it goes on from and after its parent. Of a file that is there
/// plain and compressed, the plain one is read: it is the one that Codex appends to.
pub(crate) fn in_order(mut rollouts: Vec<Rollout>) -> Vec<Rollout> {
    rollouts.sort_by(|one, other| {
        let key = |rollout: &Rollout| (rollout.file.file_name().map(OsStr::to_owned), rollout.file.clone());
        key(one).cmp(&key(other))
    });
    let mut by_id: HashMap<String, usize> = HashMap::new();
    for (place, rollout) in rollouts.iter().enumerate() {
        let known = by_id.entry(rollout.id.clone()).or_insert(place);
        if rollouts.get(*known).is_some_and(|known| is_compressed(&known.file))
            && !is_compressed(&rollout.file)
        {
            *known = place;
        }
    }
    let (mut ordered, mut placed) = (Vec::new(), HashSet::new());
    let mut waiting: Vec<usize> = (0..rollouts.len()).rev().collect();
    let mut seen = HashSet::new();
    while let Some(place) = waiting.pop() {
        let Some(rollout) = rollouts.get(place) else { continue };
        if by_id.get(&rollout.id) != Some(&place) || placed.contains(&place) {
            continue;
        }
        let above = [
            rollout.base.as_ref().map(|base| base.rollout.clone()),
            rollout.parent.as_ref().map(ToString::to_string),
        ];
        let before: Vec<usize> = above
            .into_iter()
            .flatten()
            .filter_map(|id| by_id.get(&id).copied())
            .filter(|before| *before != place && !seen.contains(before))
            .collect();
        if seen.insert(place) && !before.is_empty() {
            waiting.push(place);
            waiting.extend(before);
        } else {
            placed.insert(place);
            ordered.push(place);
        }
    }
    ordered.into_iter().filter_map(|place| rollouts.get(place).cloned()).collect()
}
