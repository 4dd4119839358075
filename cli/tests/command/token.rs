//! `token`.

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use serde_json::{Value, json};

use crate::Place;

#[tokio::test]
async fn a_token_is_made_listed_and_revoked() {
    let place = Place::new();
    let made = place
        .json(&["token", "create", "--owner", "alice", "--label", "laptop", "--expires-in", "30d", "--json"])
        .await;
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("rl_") && token.len() == 46, "{token}");
    let all = place.run(&["token", "create", "--system"]).await;
    assert_eq!((all.code, all.out.trim().len()), (0, 46));
    assert!(
        all.err.starts_with("It is not shown again. It speaks for the system until it is revoked;"),
        "{}",
        all.err
    );

    let listed = place.run(&["token", "list", "--json"]).await;
    assert!(!listed.out.contains(token) && !listed.out.contains("hash"), "{}", listed.out);
    let listed = listed.json();
    let owners: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|one| &one["owner_id"]).collect();
    assert_eq!(owners, [&Value::Null, &json!("alice")]);
    let id = made["token_id"].as_str().unwrap();
    let revoked = place.run(&["token", "revoke", id, "--json"]).await.json();
    assert_eq!((&revoked["token_id"], revoked["revoked_at"].is_string()), (&json!(id), true));
    let again = place.run(&["token", "revoke", id, "--json"]).await.json();
    assert_eq!(again["revoked_at"], revoked["revoked_at"]);
    let hers = place.run(&["token", "list", "--owner", "alice"]).await;
    assert!(hers.out.contains("revoked ") && hers.out.contains("laptop"), "{}", hers.out);
    assert_eq!(place.run(&["token", "revoke", "none"]).await.code, 1);
}

#[test]
fn whose_it_is_must_be_said() {
    for args in [
        &["token", "create"][..],
        &["token", "create", "--owner", "a", "--system"],
        &["token", "create", "--owner", ""],
        &["token", "create", "--system", "--expires-in", "soon"],
        &["token"],
    ] {
        let error = Cli::try_parse_from(["runledger"].iter().chain(args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
