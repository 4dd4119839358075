//! Feedback.

use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::{Server, said, still};

const FEEDBACK: &str = "/api/threads/t/runs/r/feedback";

async fn rated() -> Server {
    let server = Server::new();
    let epoch = server.admitted("t", "r").await;
    let message = said("m", "agent_message", "lead_agent", json!({"content": "Hi"}));
    let batch = json!({"epoch": epoch, "ordinal": 0, "events": [message], "finish": {"status": "success"}});
    server.post("alice", "/api/threads/t/runs/r/events", &batch).await.expect(200);
    server
}

#[tokio::test]
async fn a_person_has_one_opinion_of_each() {
    let server = rated().await;
    let on_run = server.put("alice", FEEDBACK, &json!({"rating": 1})).await.expect(200);
    assert_json_snapshot!("feedback", still(on_run.clone()));
    let again = server.put("alice", FEEDBACK, &json!({"rating": -1, "comment": "no"})).await.expect(200);
    assert_eq!((&again["feedback_id"], &again["rating"]), (&on_run["feedback_id"], &json!(-1)));
    let on_message = json!({"rating": 1, "message_id": "m"});
    server.post("alice", FEEDBACK, &on_message).await.expect(200);
    assert_eq!(server.post("alice", FEEDBACK, &on_message).await.kind(), "#already_exists");
    server.put("system", FEEDBACK, &json!({"rating": 1})).await.expect(200);
    let stats = server.get("alice", &format!("{FEEDBACK}/stats")).await.expect(200);
    assert_eq!(stats, json!({"run_id": "r", "total": 3, "positive": 2, "negative": 1}));
    let own = server.get("alice", FEEDBACK).await.expect(200);
    let told: Vec<&Value> = own.as_array().unwrap().iter().map(|one| &one["message_id"]).collect();
    assert_eq!(told, [&json!("m"), &Value::Null]);
    assert_eq!(server.get("alice", "/api/runs/r/feedback").await.expect(200), own);
    assert_eq!(server.get("system", FEEDBACK).await.expect(200).as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn feedback_is_changed_and_taken_back_by_who_gave_it() {
    let server = rated().await;
    let given = server.put("alice", FEEDBACK, &json!({"rating": 1, "comment": "x"})).await.expect(200);
    let others = server.put("system", FEEDBACK, &json!({"rating": 1})).await.expect(200);
    let path = |feedback: &Value| format!("{FEEDBACK}/{}", feedback["feedback_id"].as_str().unwrap());
    let changed = server.patch("alice", &path(&given), &json!({"comment": null})).await.expect(200);
    assert_eq!((&changed["rating"], &changed["comment"]), (&json!(1), &Value::Null));
    assert_eq!(server.get("alice", &path(&given)).await.expect(200), changed);
    for who in ["alice", "mallory"] {
        assert_eq!(server.get(who, &path(&others)).await.kind(), "#not_found");
        assert_eq!(server.delete(who, &path(&others)).await.kind(), "#not_found");
    }
    server.delete("alice", &path(&given)).await.expect(204);
    assert_eq!(server.delete("alice", FEEDBACK).await.kind(), "#not_found");
    server.put("alice", FEEDBACK, &json!({"rating": 1, "message_id": "m"})).await.expect(200);
    assert_eq!(server.delete("alice", FEEDBACK).await.kind(), "#not_found");
    server.delete("alice", &format!("{FEEDBACK}?message_id=m")).await.expect(204);
    for body in [
        json!({"rating": 0}),
        json!({"rating": 500}),
        json!({"rating": "1"}),
        json!({}),
        json!({"rating": 1, "comment": "x".repeat(10_001)}),
    ] {
        server.put("alice", FEEDBACK, &body).await.expect(422);
    }
    let unknown = json!({"rating": 1, "message_id": "nothing"});
    assert_eq!(server.put("alice", FEEDBACK, &unknown).await.kind(), "#not_found");
    assert_eq!(server.put("mallory", FEEDBACK, &json!({"rating": 1})).await.kind(), "#not_found");
}
