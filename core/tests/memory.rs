//! The conformance kit on the memory ledger, and the kit's own completeness.

use runledger_core::{Ledger, MemoryLedger, testing};

async fn open() -> Option<(Ledger, ())> {
    Some((MemoryLedger::new().ledger(), ()))
}

runledger_core::conformance_tests!(open);

/// A case that is written but not listed would never run.
#[test]
fn every_case_is_listed() {
    let listed = testing::case_names();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testing/cases");
    let mut written = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                written.push(format!("{room}::{}", rest.split('(').next().unwrap()));
            }
        }
    }
    written.sort();
    let mut listed: Vec<String> = listed.iter().map(ToString::to_string).collect();
    listed.sort();
    assert_eq!(listed, written);
}
