use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Codex;
use crate::view::legacy::testing::{Log, user};
use crate::{
    Category, Event, EventDraft, ItemKind, ItemStatus, Outcome, RunId, SubAgentActivity, TerminalStatus,
    Timestamp,
};

fn payloads(log: &[Event]) -> Vec<Value> {
    let mut codex = Codex::default();
    let lines = log.iter().flat_map(|event| codex.take(event));
    lines.map(|line| line.decode::<Value>().unwrap()["payload"].clone()).collect()
}

/// A run that ends like this.
fn ended(log: Log, outcome: &Outcome) -> Vec<Event> {
    log.draft(EventDraft::terminal(outcome, None, Timestamp::now())).events()
}

#[test]
fn a_run_is_a_turn() {
    let said = |text: &str, phase: &str| format!(r#"{{"content":"{text}","phase":"{phase}"}}"#);
    let log = Log::default()
        .event("run.started", Category::Lifecycle, "{}")
        .item("u", ItemKind::UserMessage, &user("go"))
        .item("a", ItemKind::AgentMessage, &said("done", "final_answer"))
        .item("b", ItemKind::AgentMessage, &said("by the way", "commentary"));
    let log = ended(log, &Outcome::success());
    let mut codex = Codex::default();
    let lines: Vec<Value> =
        log.iter().flat_map(|event| codex.take(event)).map(|line| line.decode().unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({"timestamp": "2026-11-21T03:07:28.250Z", "type": "event_msg", "payload": {
            "type": "task_started", "turn_id": "r", "started_at": 1_795_230_448, "model_context_window": null,
            "collaboration_mode_kind": "default"
        }})
    );
    assert_eq!(
        lines.last().unwrap()["payload"],
        json!({"type": "task_complete", "turn_id": "r", "last_agent_message": "done",
            "started_at": 1_795_230_448, "completed_at": 1_795_230_449, "duration_ms": 1_000})
    );
}

#[test]
fn a_turn_ends_in_the_words_of_its_outcome() {
    let end = |outcome: &Outcome| payloads(&ended(Log::default(), outcome)).pop().unwrap();
    let turn = |rest: Value| {
        let mut turn = json!({"turn_id": "r", "completed_at": 1_795_230_448});
        turn.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        turn
    };
    let of = |status| Outcome { status, error: None, stop_reason: None };
    let failed = Outcome { error: Some("no route".to_owned()), ..of(TerminalStatus::Error) };
    let error = json!({"message": "no route", "codex_error_info": "other"});
    assert_eq!(
        end(&failed),
        turn(json!({"type": "task_complete", "last_agent_message": null, "error": error}))
    );
    let aborted = |reason: &str| turn(json!({"type": "turn_aborted", "reason": reason}));
    assert_eq!(end(&Outcome::interrupted("cancelled")), aborted("interrupted"));
    assert_eq!(end(&Outcome::interrupted("replaced")), aborted("replaced"));
    assert_eq!(end(&of(TerminalStatus::Timeout)), aborted("interrupted"));
    assert_eq!(end(&of(TerminalStatus::BudgetExhausted)), aborted("budget_limited"));
}

#[test]
fn tokens_are_summed_over_the_thread() {
    let used =
        |input: u64| format!(r#"{{"content":"","usage":{{"input_tokens":{input},"output_tokens":1}}}}"#);
    let log = Log::default()
        .item("a", ItemKind::AgentMessage, &used(10))
        .with(|event| event.run_id = RunId::new("before").ok())
        .item("b", ItemKind::AgentMessage, &used(20))
        .item("c", ItemKind::AgentMessage, r#"{"content":"","usage":{"cost":"much"}}"#)
        .events();
    let counts: Vec<Value> =
        payloads(&log).into_iter().filter(|payload| payload["type"] == "token_count").collect();
    let shown = |count: &Value| {
        ["total_token_usage", "last_token_usage"]
            .map(|which| count["info"][which]["total_tokens"].as_u64().unwrap())
    };
    assert_eq!(counts.iter().map(shown).collect::<Vec<_>>(), [[11, 11], [32, 21]]);
}

#[test]
fn what_codex_has_no_words_for_is_left_out_and_nothing_is_told_twice() {
    let activity = |thread: Option<&str>| {
        let agent_thread_id = thread.map(str::to_owned);
        serde_json::to_string(&SubAgentActivity { agent_thread_id, ..SubAgentActivity::default() }).unwrap()
    };
    let shell = ItemKind::CommandExecution;
    let log = Log::default()
        .item("m", ItemKind::AgentMessage, r#"{"content":"a title"}"#)
        .by("middleware:title")
        .item("s", ItemKind::SubAgentActivity, &activity(Some("child")))
        .by("subagent:x")
        .item("o", ItemKind::SubAgentActivity, &activity(None))
        .by("subagent:x")
        .item("n", ItemKind::from_stored("newer"), "{}")
        .item("w", ItemKind::UserMessage, "[]")
        .marked("c", shell.clone(), ItemStatus::Interrupted, r#"{"name":"sh","args":{}}"#)
        .marked("c", shell, ItemStatus::Completed, r#"{"name":"sh","args":{},"content":"late"}"#)
        .event("note", Category::Trace, "{}")
        .events();
    let told = payloads(&log);
    let shown: Vec<(&str, &str)> = told
        .iter()
        .map(|told| (told["type"].as_str().unwrap(), told["item"]["id"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(
        shown,
        [
            ("item_completed", "s"),
            ("sub_agent_activity", ""),
            ("item_completed", "c"),
            ("exec_command_end", "")
        ]
    );
    assert_eq!(told[2]["item"]["status"], "failed");
}

#[test]
fn agents_that_are_called_are_told_with_where_they_stand() {
    let call = |tool: &str| {
        let detail = json!({"sender_thread_id": "t", "receiver_thread_ids": ["x"], "prompt": "go on",
            "receiver_agents": [{"thread_id": "x", "agent_role": "critic"}], "agents_states": {"x": "running"}});
        json!({"name": tool, "args": {}, "detail": detail}).to_string()
    };
    let twins = |tool: &str, content: &str| {
        let kind = ItemKind::CollabAgentCall;
        let log = Log::default()
            .marked("c", kind.clone(), ItemStatus::InProgress, content)
            .item("c", kind, content)
            .events();
        let told = payloads(&log);
        assert_eq!(told[0]["item"]["tool"], tool);
        told.into_iter().filter(|told| told.get("item").is_none()).collect::<Vec<_>>()
    };
    let begin = |kind: &str, rest: Value| {
        let mut begin = json!({"type": kind, "call_id": "c", "sender_thread_id": "t"});
        begin.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        begin
    };
    let (started, completed) = (1_795_230_448_250_u64, 1_795_230_448_500_u64);
    let agents = json!([{"thread_id": "x", "agent_role": "critic"}]);
    let statuses = json!([{"thread_id": "x", "agent_role": "critic", "status": "running"}]);
    let known = json!({"completed_at_ms": completed, "receiver_thread_id": "x", "receiver_agent_role": "critic", "status": "running"});
    let mut answered = known.clone();
    answered["prompt"] = json!("go on");
    for (tool, expected) in [
        (
            "send_input",
            [
                begin(
                    "collab_agent_interaction_begin",
                    json!({"started_at_ms": started, "receiver_thread_id": "x", "prompt": "go on"}),
                ),
                begin("collab_agent_interaction_end", answered),
            ],
        ),
        (
            "resume_agent",
            [
                begin(
                    "collab_resume_begin",
                    json!({"started_at_ms": started, "receiver_thread_id": "x", "receiver_agent_role": "critic"}),
                ),
                begin("collab_resume_end", known.clone()),
            ],
        ),
        (
            "close_agent",
            [
                begin("collab_close_begin", json!({"started_at_ms": started, "receiver_thread_id": "x"})),
                begin("collab_close_end", known),
            ],
        ),
        (
            "wait",
            [
                begin(
                    "collab_waiting_begin",
                    json!({"started_at_ms": started, "receiver_thread_ids": ["x"], "receiver_agents": agents}),
                ),
                begin(
                    "collab_waiting_end",
                    json!({"completed_at_ms": completed, "agent_statuses": statuses, "statuses": {"x": "running"}}),
                ),
            ],
        ),
    ] {
        assert_eq!(twins(tool, &call(tool)), expected, "{tool}");
    }
    // Who is called is not known, or the tool is younger than the events.
    assert!(twins("close_agent", r#"{"name":"close_agent","args":{}}"#).is_empty());
    assert!(twins("list_agents", &call("list_agents")).is_empty());
}
