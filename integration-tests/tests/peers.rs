//! The command that measures works: it does a little of everything, and counts what each contender stored.

use std::process::Command;

#[test]
fn each_contender_stores_what_it_is_given() {
    let status = Command::new(env!("CARGO_BIN_EXE_peers")).arg("--smoke").status().unwrap();
    assert!(status.success(), "{status}");
}
