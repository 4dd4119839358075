//! What journals left on the disk, listed and stored.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::{Cli, Output};
use runledger_core::{
    Finish, JournalMark, NewRun, NewThread, Outcome, RawJson, RunId, RunProgress, Scope, ThreadId, Timestamp,
};
use runledger_journal::callbacks::RuntimeCallbacks as _;
use runledger_journal::{Overflow, RunJournal, Settings, SpoolSettings};
use runledger_migration::{UpOptions, up};
use serde_json::Value;

use crate::{Place, Said, Written};

fn ids() -> (ThreadId, RunId) {
    (ThreadId::new("t").unwrap(), RunId::new("r").unwrap())
}

/// A run of which two changes and the end did not reach the database.
async fn left_behind(place: &Place) {
    up(&place.url(), &UpOptions::default()).await.unwrap();
    let ledger = place.ledger().await;
    let spool = SpoolSettings { after: Duration::ZERO, ..SpoolSettings::new(place.path("spool")) };
    let settings = Settings {
        overflow: Overflow::Spool(spool),
        close_patience: Duration::from_millis(200),
        ..Settings::default()
    };
    let (thread, run) = ids();
    let new = NewRun { create_missing: Some(NewThread::new(thread.clone())), ..NewRun::new(thread, run) };
    let journal = RunJournal::begin_with(&ledger, &Scope::System, new, settings).await.unwrap();
    ledger.close().await;
    for change in ["a", "b"] {
        journal.record_workspace_changes(&RawJson::string(change), Timestamp::now());
    }
    journal.finish(Outcome::success()).await.unwrap_err();
    assert_eq!(journal.close().await.unwrap().left_in_spool, 3);
}

async fn list(place: &Place, json: bool) -> Said {
    let folder = place.path("spool");
    let mut args = vec!["runledger", "spool", "list", "--spool", folder.to_str().unwrap()];
    args.extend(json.then_some("--json"));
    let (out, err) = (Written::default(), Written::default());
    let mut output = Output::to(Box::new(out.clone()), Box::new(err.clone()));
    let code = runledger::run(&Cli::try_parse_from(args).unwrap(), &mut output).await;
    Said { code, out: out.text(), err: err.text() }
}

async fn recover(place: &Place, folder: &Path) -> Said {
    place.run(&["spool", "recover", "--json", "--spool", folder.to_str().unwrap()]).await
}

async fn types(place: &Place) -> Vec<String> {
    let said = place.run(&["events", "--thread", "t", "--json"]).await.json();
    let types = said["items"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap());
    types.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_was_left_is_listed_and_stored_once() {
    let place = Place::new();
    left_behind(&place).await;
    let item = &list(&place, true).await.json()["items"][0];
    let shown = ["state", "thread_id", "run_id", "events", "ends_run"].map(|name| item[name].clone());
    assert_eq!(shown, [Value::from("waiting"), "t".into(), "r".into(), 3.into(), Value::Bool(true)]);
    let said = list(&place, false).await;
    assert_eq!(said.code, 0);
    assert!(said.out.contains("waiting") && said.out.contains(".spool"), "{}", said.out);

    let item = &recover(&place, &place.path("spool")).await.json()["items"][0];
    let shown = ["recovery", "written", "fenced"].map(|name| item[name].clone());
    assert_eq!(shown, [Value::from("stored"), 3.into(), 0.into()]);
    assert_eq!(types(&place).await, ["workspace_changes", "workspace_changes", "run.completed"]);
    assert_eq!(recover(&place, &place.path("spool")).await.json()["items"], Value::Array(Vec::new()));
    assert_eq!(list(&place, false).await.err, "no spool files\n");
}

#[tokio::test]
async fn what_was_refused_becomes_traces_and_what_is_unreadable_is_told() {
    let place = Place::new();
    left_behind(&place).await;
    let ledger = place.ledger().await;
    let (thread, run) = ids();
    let (outcome, at) = (Outcome::interrupted("taken"), Timestamp::now());
    let epoch = ledger.runs().get(&Scope::System, &thread, &run).await.unwrap().epoch;
    let taken = Finish {
        thread_id: thread,
        run_id: run,
        mark: JournalMark { epoch, ordinal: 0 },
        events: vec![runledger_core::EventDraft::terminal(&outcome, None, at)],
        outcome,
        at,
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(&Scope::System, taken).await.unwrap();
    ledger.close().await;
    let broken = place.path("spool").join("broken.spool");
    std::fs::write(&broken, "{\"v\":1,\n").unwrap();

    let said = recover(&place, &place.path("spool")).await;
    assert_eq!(said.code, 1);
    let items: Value = serde_json::from_str(&said.out).unwrap();
    let mut shown: Vec<_> = items["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["recovery"].as_str().unwrap().to_owned(), item["written"].as_u64().unwrap()))
        .collect();
    shown.sort();
    assert_eq!(shown, [("corrupt".to_owned(), 0), ("stored".to_owned(), 3)]);
    let error: Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("1 spool file could not be stored"), "{message}");
    let fenced = ["run.interrupted", "journal.fenced", "journal.fenced", "journal.fenced"];
    assert_eq!(types(&place).await, fenced);
    assert_eq!(list(&place, true).await.json()["items"][0]["state"], "corrupt");
    // It is not forgotten, though there is nothing more to be recovered.
    let folder = place.path("spool");
    let said = place.run(&["spool", "recover", "--spool", folder.to_str().unwrap()]).await;
    assert!(said.err.starts_with("1 spool file here that cannot be read"), "{}", said.err);
    let runs = place.run(&["runs", "--run", "r", "--json"]).await.json();
    assert_eq!(runs["items"][0]["stop_reason"], "taken");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_wrong_usage() {
    let place = Place::new();
    let said = list(&place, false).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("is not a folder"), "{}", said.err);
    assert_eq!(recover(&place, &place.path("none")).await.code, 2);
}
