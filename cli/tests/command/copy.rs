//! Threads from one place to another, as a person types it.

use std::fs;

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::{Cli, Output};

use crate::{Place, Said, Written};

async fn said(args: &[&str]) -> Said {
    let (out, err) = (Written::default(), Written::default());
    let mut output = Output::to(Box::new(out.clone()), Box::new(err.clone()));
    let cli = Cli::try_parse_from(["runledger"].iter().chain(args)).unwrap();
    let code = runledger::run(&cli, &mut output).await;
    Said { code, out: out.text(), err: err.text() }
}

fn url(scheme: &str, place: &Place, name: &str) -> String {
    format!("{scheme}://{}", place.path(name).display())
}

/// A run by the demo's agent.
async fn demo(place: &Place) {
    let said = place.run(&["demo"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
}

async fn replayed(place: &Place, database: &str) -> String {
    let threads = said(&["threads", "--json", "--database-url", database]).await.json();
    let thread = threads["items"][0]["thread_id"].as_str().unwrap();
    let said = said(&["replay", thread, "--full", "--database-url", database]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", place.url());
    said.out
}

#[tokio::test]
async fn a_ledger_goes_to_a_folder_and_back() {
    let place = Place::new();
    demo(&place).await;
    let (folder, other) = (url("archive", &place, "archives"), url("sqlite", &place, "other.db"));
    let out = said(&["copy", "--from", &place.url(), "--to", &folder, "--verify", "--json"]).await.json();
    assert_eq!((&out["copied"], &out["verified"], &out["refused"]), (&1.into(), &1.into(), &0.into()));
    // A copy that was cut short goes on.
    fs::write(place.path("archives").join("x.jsonl.tmp"), "half").unwrap();
    let out = said(&["copy", "--from", &place.url(), "--to", &folder, "--json"]).await.json();
    assert_eq!((&out["copied"], &out["equal"]), (&0.into(), &1.into()));
    let out = said(&["copy", "--from", &folder, "--to", &other, "--verify"]).await;
    assert_eq!(out.code, 0, "{}", out.err);
    assert!(out.out.starts_with("copied 1 thread with 1 run and "), "{}", out.out);
    assert_eq!(replayed(&place, &other).await, replayed(&place, &place.url()).await);
}

#[tokio::test]
async fn archives_are_exported_and_imported() {
    let place = Place::new();
    demo(&place).await;
    let (folder, other) = (place.path("archives"), url("sqlite", &place, "other.db"));
    let folder = folder.to_str().unwrap();
    let exported = place.json(&["archive", "export", folder, "--json"]).await;
    assert_eq!(exported["copied"], 1);
    let imported = said(&["archive", "import", folder, "--json", "--database-url", &other]).await;
    assert_eq!(imported.code, 0, "{}", imported.err);
    // Another thread under the same id is left alone.
    let mut files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.find(|path| path.extension().is_some()).unwrap();
    let cut = fs::read_to_string(&file).unwrap().replace("\"archive.end\"", "\"archive.and\"");
    fs::write(&file, cut).unwrap();
    let refused =
        said(&["archive", "import", file.to_str().unwrap(), "--json", "--database-url", &other]).await;
    assert_eq!(refused.code, 1, "{}", refused.out);
    let summary: serde_json::Value = serde_json::from_str(&refused.out).unwrap();
    assert_eq!(summary["refusals"][0]["kind"], "corrupt");
    assert!(refused.err.contains("1 thread was not copied"), "{}", refused.err);
}

#[tokio::test]
async fn a_place_that_is_none_is_told() {
    let place = Place::new();
    let missing = url("archive", &place, "missing");
    let refused = said(&["copy", "--from", &missing, "--to", &place.url()]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("is not there"), "{}", refused.err);
    let same = said(&["copy", "--from", &place.url(), "--to", &place.url()]).await;
    assert_eq!(same.code, 2, "{}", same.err);
    let none = said(&["copy", "--from", &url("sqlite", &place, "none.db"), "--to", &missing]).await;
    assert_eq!(none.code, 3, "{}", none.err);
    assert!(Cli::try_parse_from(["runledger", "copy", "--from", "archive://", "--to", "x"]).is_err());
}
