//! `agent-runs` and `agent-run`.

use pretty_assertions::assert_eq;
use runledger_core::{
    AgentRun, AgentRunId, AgentRunRecord, NewAgentRun, OwnerId, RawJson, Scope, StepKind, Timestamp,
};

use crate::Place;

fn record(id: &str, agent: &str) -> AgentRunRecord {
    let at = Timestamp::parse("at", "2026-11-21T08:00:00Z").unwrap();
    let about = NewAgentRun::new(AgentRunId::new(id).unwrap(), agent, "How many\u{1b}[31m words?");
    let mut record = AgentRunRecord { finished_at: at, ..AgentRunRecord::new(about, at) };
    let json = |text| RawJson::parse("payload", text).unwrap();
    let asked = r#"{"text":"Let me count.","tool_calls":[{"id":"c","name":"count","args":{"path":"a.md"}}]}"#;
    record.push(StepKind::LlmResponse, json(asked), at);
    let failed = r#"{"tool":"count","args":{"path":"a.md"},"ok":false,"error":"no such file"}"#;
    record.push(StepKind::ToolResult, json(failed), at);
    record.usage.cost_nanos = Some(12_000_000);
    record
}

async fn filled() -> Place {
    let place = Place::new();
    assert_eq!(place.run(&["migrate", "up"]).await.code, 0);
    let ledger = place.ledger().await;
    let ada = Scope::Owner(OwnerId::new("ada").unwrap());
    for (number, run) in
        [record("a", "buddy").completed("three", Some(0.5)), record("b", "crew.critic").failed("529")]
            .into_iter()
            .enumerate()
    {
        let at = format!("2026-11-21T08:00:0{number}Z");
        let created_at = Timestamp::parse("at", &at).unwrap();
        ledger.agent_runs().record(&ada, AgentRun { created_at, ..run }).await.unwrap();
    }
    ledger.close().await;
    place
}

#[tokio::test]
async fn agent_runs_are_listed_and_filtered() {
    let place = filled().await;
    for (filter, expected) in [
        (&["--limit", "9"][..], &["b", "a"][..]),
        (&["--agent", "buddy"], &["a"]),
        (&["--agent-prefix", "crew."], &["b"]),
        (&["--status", "failed"], &["b"]),
        (&["--owner", "eve"], &[]),
        (&["--before", "2026-11-21T08:00:01Z"], &["a"]),
    ] {
        let found = place.run(&[&["agent-runs", "--json"], filter].concat()).await.json();
        let ids: Vec<&str> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["agent_run_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    let first = place.run(&["agent-runs", "--limit", "1"]).await;
    assert!(
        first.out.contains("crew.critic") && first.err.contains("--cursor"),
        "{} {}",
        first.out,
        first.err
    );
}

#[tokio::test]
async fn an_agent_run_is_told_step_by_step() {
    let place = filled().await;
    let said = place.run(&["agent-run", "a"]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for part in [
        "buddy (a)",
        "   0  model call 1",
        "Let me count.",
        "-> count({\"path\":\"a.md\"})",
        "   1  count failed ({\"path\":\"a.md\"})",
        "no such file",
        "three",
        "= completed",
        "2 steps",
    ] {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "{}", said.out);
    let json = place.run(&["agent-run", "b", "--json"]).await.json();
    assert_eq!((&json["status"], &json["steps"][1]["kind"]), (&"failed".into(), &"tool_result".into()));
    assert_eq!(place.run(&["agent-run", "a", "--owner", "eve"]).await.code, 1);
}
