//! Whether what is stored agrees with itself, and what mends it.

use pretty_assertions::assert_eq;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::{Place, fixture};

async fn imported() -> Place {
    let place = Place::new();
    place.import("langgraph-thread", &fixture("weather.json")).await;
    place.import("mini-swe-agent", &fixture("fix.traj.json")).await;
    place
}

async fn damage(place: &Place, sql: &str) {
    let database = sea_orm::Database::connect(place.url()).await.unwrap();
    database.execute_unprepared(sql).await.unwrap();
    database.close().await.unwrap();
}

#[tokio::test]
async fn findings_are_told_with_an_exit_code_and_a_rebuild_mends_the_index() {
    let place = imported().await;
    let clean = place.run(&["verify", "--json"]).await.json();
    assert_eq!((&clean["damaged"], &clean["summary"]["findings"]), (&json!([]), &json!(0)));
    assert_eq!(clean["summary"]["threads"], json!(2));
    let told = place.run(&["verify"]).await;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.starts_with("verified 2 threads with "), "{}", told.out);

    damage(&place, "DELETE FROM thread_items WHERE thread_id = 'weather'").await;
    damage(&place, "UPDATE run_events SET content_bytes = -1 WHERE thread_id = 'weather' AND seq = 2").await;
    let said = place.run(&["verify", "--json"]).await;
    assert_eq!(said.code, 1);
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["damaged"].as_array().unwrap().len(), 1);
    assert_eq!(report["damaged"][0]["thread_id"], json!("weather"));
    let kinds = report["damaged"][0]["findings"].as_array().unwrap();
    assert!(kinds.iter().any(|finding| finding["kind"] == json!("item_missing")), "{report}");
    assert!(kinds.iter().any(|finding| finding["kind"] == json!("unreadable_row")), "{report}");
    assert_eq!(report["summary"]["findings"], json!(kinds.len()));
    let told = place.run(&["verify", "--thread", "weather"]).await;
    assert_eq!(told.code, 1);
    assert!(told.out.contains(": item_missing: "), "{}", told.out);
    assert!(told.err.contains("`runledger rebuild` makes the item index anew"), "{}", told.err);

    let rebuilt = place.run(&["rebuild", "--json"]).await.json();
    assert_eq!(rebuilt["summary"]["threads"], json!(2));
    assert_eq!((&rebuilt["summary"]["quarantined"], &rebuilt["summary"]["gaps"]), (&json!(1), &json!(0)));
    assert_eq!(rebuilt["damaged"].as_array().unwrap().len(), 1);
    let clean = place.run(&["verify", "--json"]).await.json();
    assert_eq!((&clean["summary"]["findings"], &clean["summary"]["quarantined"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn one_thread_is_rebuilt_and_a_missing_one_is_not_found() {
    let place = imported().await;
    damage(&place, "DELETE FROM thread_items").await;
    let told = place.run(&["rebuild", "--thread", "weather"]).await;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.starts_with("rebuilt the index of 1 thread from "), "{}", told.out);
    assert_eq!(place.run(&["verify", "--thread", "weather"]).await.code, 0);
    assert_eq!(place.run(&["verify"]).await.code, 1);
    for command in ["verify", "rebuild"] {
        let said = place.run(&[command, "--thread", "none"]).await;
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    }
}
