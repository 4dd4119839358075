//! Files that are not what they say they are: whatever is in them, an import ends with a result or an
//! error that names the file, writes all or nothing of it, and needs no more memory than it may.

use std::fs;
use std::process::{Command, Stdio};

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::{Place, fixture};

/// Files of each format that are drawn; `RUNLEDGER_CHAOS=long` draws many more.
fn cases() -> u32 {
    if std::env::var("RUNLEDGER_CHAOS").is_ok_and(|form| form == "long") { 3_000 } else { 60 }
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Change {
    /// The value at that place becomes this.
    Replace(usize, Value),
    /// The value at that place becomes the one at the other.
    Copy(usize, usize),
    /// These bytes are written over what is there.
    Overwrite(usize, Vec<u8>),
    /// So many bytes go.
    Cut(usize, usize),
    /// So many bytes are there twice.
    Double(usize, usize),
    /// A piece that parsers stumble over is put in.
    Insert(usize, &'static str),
}

/// Text that is JSON in part, or hardly.
const PIECES: [&str; 12] = [
    "null",
    "1e999999999",
    "-0.0",
    "18446744073709551616",
    "\"\\udce9\"",
    "\\u0000",
    "\u{feff}",
    "\n",
    "{\"a\":1,\"a\":{}}",
    "[[[[[[[[[[[[[[[[",
    "}]}",
    "\"",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("a\0b\u{f5e7}0000")),
        Just(json!("```bash\nls\n```")),
        Just(json!("2026-01-02T03:04:05Z")),
        Just(json!("9".repeat(400))),
        Just(json!("x".repeat(20_000))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let keys = prop_oneof![
            Just("type".to_owned()),
            Just("content".to_owned()),
            Just("id".to_owned()),
            Just("messages".to_owned()),
            Just("usage".to_owned()),
            "\\PC{0,6}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(keys, inner, 0..4)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn change() -> impl Strategy<Value = Change> {
    let place = || any::<usize>();
    prop_oneof![
        6 => (place(), value()).prop_map(|(at, value)| Change::Replace(at, value)),
        3 => (place(), place()).prop_map(|(to, from)| Change::Copy(to, from)),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        1 => (place(), 1..200_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        1 => (place(), 1..200_usize).prop_map(|(at, length)| Change::Double(at, length)),
        1 => (place(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, PIECES[piece])),
    ]
}

/// The path of each value in a document, itself first.
fn paths(document: &Value) -> Vec<String> {
    let mut paths = vec![String::new()];
    let below = |path: &str, key: &str, value: &Value| -> Vec<String> {
        let own = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        self::paths(value).into_iter().map(|path| format!("{own}{path}")).collect()
    };
    match document {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                paths.extend(below("", &at.to_string(), value));
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                paths.extend(below("", key, value));
            }
        }
        _ => {}
    }
    paths
}

/// A file of one document, or of one a line.
fn changed(text: &str, lines: bool, changes: &[Change]) -> Vec<u8> {
    let documents: Result<Vec<Value>, _> = if lines {
        text.lines().map(serde_json::from_str).collect()
    } else {
        serde_json::from_str(text).map(|one| vec![one])
    };
    let mut document = Value::from(documents.unwrap());
    for change in changes {
        let paths = paths(&document);
        let path = |number: usize| &paths[number % paths.len()];
        match change {
            Change::Replace(at, value) => {
                if let Some(place) = document.pointer_mut(path(*at)) {
                    place.clone_from(value);
                }
            }
            Change::Copy(to, from) => {
                let value = document.pointer(path(*from)).cloned().unwrap_or_default();
                // A document that holds itself twice over would grow without end.
                if value.to_string().len() < 4_096
                    && let Some(place) = document.pointer_mut(path(*to))
                {
                    *place = value;
                }
            }
            _ => {}
        }
    }
    let written = match document {
        Value::Array(documents) => documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    };
    let mut bytes = written.into_bytes();
    for change in changes {
        let length = bytes.len();
        let within = |at: usize| at.checked_rem(length).unwrap_or_default();
        match change {
            Change::Overwrite(at, with) => {
                let (at, with) = (within(*at), &with[..with.len().min(length)]);
                let end = (at + with.len()).min(length);
                bytes[at..end].copy_from_slice(&with[..end - at]);
            }
            Change::Cut(at, count) => {
                let at = within(*at);
                bytes.drain(at..(at + count).min(length));
            }
            Change::Double(at, count) => {
                let at = within(*at);
                let twice = bytes[at..(at + count).min(length)].to_vec();
                bytes.splice(at..at, twice);
            }
            Change::Insert(at, piece) => {
                let at = within(*at);
                bytes.splice(at..at, piece.bytes());
            }
            Change::Replace(..) | Change::Copy(..) => {}
        }
    }
    bytes
}

/// Imports the bytes, twice where it goes well.
async fn import(format: &str, name: &str, bytes: &[u8]) -> Result<(), TestCaseError> {
    let place = Place::new();
    let file = place.path(name);
    fs::write(&file, bytes).unwrap();
    let arguments = ["import", format, file.to_str().unwrap(), "--json"];
    let said = place.run(&arguments).await;
    match said.code {
        0 => {
            let summary: Value = serde_json::from_str(&said.out).unwrap();
            prop_assert_eq!(&summary["files"], &json!(1));
            let again = place.run(&arguments).await;
            prop_assert_eq!(again.code, 0, "the same file again: {}", again.err);
            let again: Value = serde_json::from_str(&again.out).unwrap();
            let written = ["threads", "runs", "events", "usage_records"].map(|name| again[name].as_u64());
            prop_assert_eq!(written, [Some(0); 4], "the same file again wrote something: {}", again);
        }
        1 | 2 => {
            let error: Value = serde_json::from_str(said.err.lines().last().unwrap_or_default()).unwrap();
            let message = error["error"]["message"].as_str().unwrap_or_default().to_owned();
            prop_assert!(message.contains(name), "does not name the file: {}", message);
            if said.code == 2 {
                prop_assert!(!place.database().exists(), "a bad file left a database: {}", message);
            }
        }
        code => return Err(TestCaseError::fail(format!("exit code {code}: {}", said.err))),
    }
    // A file of a few KiB is no reason for megabytes.
    if let Ok(stored) = fs::metadata(place.database()) {
        let most = 1024 * 1024 + 64 * bytes.len() as u64;
        prop_assert!(stored.len() <= most, "{} bytes became {}", bytes.len(), stored.len());
    }
    Ok(())
}

fn survives(format: &str, fixture_name: &str, name: &str, lines: bool) {
    let text = fs::read_to_string(fixture(fixture_name)).unwrap();
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/command/robustness.regressions");
    let drawing = Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let files = prop_oneof![
        9 => prop::collection::vec(change(), 1..5).prop_map(move |changes| changed(&text, lines, &changes)),
        1 => prop::collection::vec(any::<u8>(), 0..2_000),
    ];
    let shown = files.prop_map(Shown);
    TestRunner::new(drawing)
        .run(&shown, |Shown(bytes)| runtime.block_on(import(format, name, &bytes)))
        .unwrap_or_else(|failure| panic!("{format}: {failure}"));
}

/// A file's bytes, shown as text where a test failed.
#[derive(Clone)]
struct Shown(Vec<u8>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[test]
fn any_langgraph_thread_is_imported_or_refused() {
    survives("langgraph-thread", "weather.json", "odd.json", false);
}

#[test]
fn any_trajectory_is_imported_or_refused() {
    survives("mini-swe-agent", "fix.traj.json", "odd.traj.json", false);
}

#[test]
fn any_recording_is_imported_or_refused() {
    survives("callbacks", "callbacks.jsonl", "odd.jsonl", true);
}

/// Files of 16 MiB that mean little: the command reads each with at most 1.5 GiB of addresses, most of
/// which are its threads' and SQLite's.
#[cfg(target_os = "linux")]
#[test]
fn hostile_files_are_refused_within_bounded_memory() {
    const SIZE: usize = 16 << 20;
    let recorded = fs::read_to_string(fixture("callbacks.jsonl")).unwrap();
    let first = recorded.lines().next().unwrap();
    let contents = [
        ("deep", "[".repeat(SIZE)),
        ("deep objects", "{\"values\":".repeat(SIZE / 10)),
        ("open string", format!("\"{}", "x".repeat(SIZE))),
        ("one number", "9".repeat(SIZE)),
        ("nulls", format!("[{}null]", "null,".repeat(SIZE / 5))),
        ("empty lines", "\n".repeat(SIZE)),
        ("zeroes", "\0".repeat(SIZE)),
        ("messages", format!("{{\"values\":{{\"messages\":[{}0]}}}}", "0,".repeat(SIZE / 2))),
        ("a line without end", format!("{first}\n{{\"n\":2,\"at\":\"{}", "y".repeat(SIZE))),
    ];
    let place = Place::new();
    for (what, text) in contents {
        for (format, ending) in
            [("langgraph-thread", "json"), ("mini-swe-agent", "traj.json"), ("callbacks", "jsonl")]
        {
            let file = place.path(&format!("hostile.{ending}"));
            fs::write(&file, &text).unwrap();
            let output = Command::new("/bin/sh")
                .args(["-c", "ulimit -v 1572864; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_runledger")])
                .args(["import", format, file.to_str().unwrap(), "--json", "--database-url", &place.url()])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            // A file of nothing but empty lines is a recording of nothing.
            assert!(matches!(code, Some(0 | 2)), "{what} as {format}: {}: {said}", output.status);
            assert!(said.len() < 4_096, "{what} as {format}: an error of {} bytes", said.len());
            if code == Some(2) {
                let error: Value = serde_json::from_str(said.trim()).unwrap();
                assert_eq!(error["error"]["exit_code"], json!(2), "{what} as {format}");
            }
        }
    }
}
