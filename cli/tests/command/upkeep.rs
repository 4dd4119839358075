//! What operators do now and then.

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use runledger_core::{ListRange, OwnerId, Scope, ThreadFilter, ThreadId};
use runledger_persistence::{Config, connect};
use serde_json::json;

use crate::{Place, fixture};

/// Two recordings of alice's.
async fn of_alice() -> Place {
    let place = Place::new();
    for (format, file) in [("mini-swe-agent", "fix.traj.json"), ("langgraph-thread", "weather.json")] {
        let said = place.run(&["import", format, fixture(file).to_str().unwrap(), "--owner", "alice"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
    }
    place
}

#[tokio::test]
async fn what_was_deleted_is_listed_with_who_did_it() {
    let place = of_alice().await;
    let ledger = place.ledger().await;
    let alice = Scope::Owner(OwnerId::new("alice").unwrap());
    let deleted = ledger.threads().delete(&alice, &ThreadId::new("weather").unwrap()).await.unwrap();
    ledger.close().await;
    assert_eq!(deleted.threads, 1);
    let listed = place.run(&["deletions", "--json"]).await.json();
    let item = &listed["items"][0];
    assert_eq!((&item["thread_id"], &item["deleted_by"]), (&json!("weather"), &json!("alice")));
    assert_eq!((&item["from_seq"], &item["reason"]), (&json!(0), &json!("thread deleted")));
    assert_eq!(item["through_seq"], json!(deleted.events));
    let said = place.run(&["deletions", "--thread", "weather"]).await;
    assert!(said.code == 0 && said.out.contains("alice  thread deleted"), "{}", said.out);
    let none = place.run(&["deletions", "--thread", "other"]).await;
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "no deletions\n"));
}

#[tokio::test]
async fn an_owner_is_anonymised_and_deleted() {
    let place = of_alice().await;
    let threads = place.run(&["threads", "--owner", "alice", "--json"]).await.json();
    let count = threads["items"].as_array().unwrap().len();
    assert!(count > 0);
    let said = place.run(&["erase-owner", "alice", "--anonymise", "--yes", "--json"]).await.json();
    assert_eq!((&said["threads"], &said["agent_runs"]), (&json!(count), &json!(0)));
    assert_eq!(place.run(&["threads", "--owner", "alice", "--json"]).await.json()["items"], json!([]));
    let all = place.run(&["threads", "--json"]).await.json();
    assert_eq!(all["items"].as_array().unwrap().len(), count);
    let said = place.run(&["erase-owner", "alice", "--delete", "--yes"]).await;
    assert_eq!(said.out, "deleted 0 threads, 0 agent runs and 0 usage records of alice\n");

    let place = of_alice().await;
    let said = place.run(&["erase-owner", "alice", "--delete", "--yes", "--json"]).await.json();
    assert_eq!(said["threads"], json!(count));
    assert_eq!(place.run(&["threads", "--json"]).await.json()["items"], json!([]));
}

#[tokio::test]
async fn an_erasure_must_be_meant() {
    for args in [
        vec!["erase-owner", "alice", "--yes"],
        vec!["erase-owner", "alice", "--delete"],
        vec!["erase-owner", "alice", "--delete", "--anonymise", "--yes"],
        vec!["erase-owner", "--delete", "--yes"],
    ] {
        let error = Cli::try_parse_from(std::iter::once("runledger").chain(args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

#[tokio::test]
async fn a_backup_is_a_database_like_any_other() {
    let place = of_alice().await;
    let file = place.path("backup.db");
    let name = file.to_str().unwrap();
    let said = place.run(&["backup", name]).await;
    assert_eq!((said.code, said.out), (0, format!("wrote {name}\n")));
    let copy = connect(Config::new(format!("sqlite://{name}"))).await.unwrap();
    let copied = copy.threads().list(&Scope::System, &ThreadFilter::default(), &ListRange::default()).await;
    copy.close().await;
    let original = place.run(&["threads", "--json"]).await.json();
    assert_eq!(serde_json::to_value(copied.unwrap().items).unwrap(), original["items"]);
    // What is there is not written over.
    let again = place.run(&["backup", name]).await;
    assert!(again.code == 1 && again.err.contains("already exists"), "{}", again.err);
}

#[tokio::test]
async fn a_vacuum_makes_the_file_smaller() {
    let place = of_alice().await;
    place.run(&["erase-owner", "alice", "--delete", "--yes"]).await;
    let said = place.run(&["vacuum", "--json"]).await.json();
    assert!(said["bytes_after"].as_u64() <= said["bytes_before"].as_u64(), "{said}");
    assert_eq!(said["shrinks"], json!("yes"));
    let said = place.run(&["vacuum"]).await;
    assert!(said.code == 0 && said.out.starts_with("file: "), "{}", said.out);
}
