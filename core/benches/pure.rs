//! The pure parts that every write or read passes: what a record costs before a database is asked, and after it answered.
//!
//! The log is 25 exchanges of one run, 150 events: a question, a thought, a message that calls a tool, the call's
//! start and end, and an answer. What is said has about 1,000 bytes, with line breaks, quotes and characters beyond ASCII.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use runledger_core::view::context::{ContextWindow, is_message};
use runledger_core::view::items::{ItemReducer, project, project_slice};
use runledger_core::view::legacy::codex::Codex;
use runledger_core::view::legacy::deerflow::DeerFlow;
use runledger_core::view::search::{Extract, SearchQuery, Words, extract};
use runledger_core::{
    AgentMessage, CallId, Caller, Category, Commit, Envelope, Event, EventDraft, ItemBody, ItemId, ItemKind,
    ItemMark, ItemStatus, Limits, RawJson, RunId, ThreadId, text,
};
use serde_json::{Value, json};

const EXCHANGES: usize = 25;

/// What a person, a model or a tool says, about 1,000 bytes as JSON.
fn prose(number: usize) -> String {
    let sentence = "Der Zähler in `src/lib.rs` says \"412 words\", which is what wc counted.\n";
    format!("{number}. {}", sentence.repeat(12))
}

/// The records of the log, in order.
fn drafts() -> Vec<EventDraft> {
    (0..EXCHANGES).flat_map(exchange).collect()
}

fn exchange(number: usize) -> Vec<EventDraft> {
    let said = prose(number);
    let call = format!("call_{number}");
    let (ai, thought) = (format!("lc_run--{number}"), format!("lc_run--{number}/reasoning"));
    let usage = json!({"input_tokens": 1_812, "output_tokens": 240, "total_tokens": 2_052});
    let extra = json!({
        "additional_kwargs": {}, "response_metadata": {"model_name": "model-1", "finish_reason": "stop"}, "type": "ai",
        "name": null, "id": ai, "invalid_tool_calls": [],
    });
    let asks = json!({
        "content": said, "tool_calls": [{"id": call, "name": "bash", "args": {"command": "wc -w README.md"}}],
        "model": "model-1", "usage": usage, "latency_ms": 1_350, "call_index": 2 * number + 1, "extra": extra,
    });
    let answer = json!({
        "content": said, "model": "model-1", "usage": usage, "latency_ms": 2_100, "call_index": 2 * number + 2,
        "extra": extra,
    });
    let begins = json!({"name": "bash", "args": {"command": "wc -w README.md"}});
    let ends =
        json!({"name": "bash", "args": {"command": "wc -w README.md"}, "content": said, "duration_ms": 12});
    let done = ItemStatus::Completed;
    vec![
        record(
            &format!("h{number}"),
            ItemKind::UserMessage,
            done.clone(),
            Category::Message,
            json!({"content": said}),
        ),
        EventDraft {
            item: Some(ItemMark {
                parent_item_id: ItemId::new(&ai).ok(),
                ..ItemMark::new(ItemId::new(&thought).unwrap(), ItemKind::Reasoning, done.clone())
            }),
            ..record(&thought, ItemKind::Reasoning, done.clone(), Category::Reasoning, json!({"text": said}))
        },
        record(&ai, ItemKind::AgentMessage, done.clone(), Category::Message, asks),
        of_call(&ai, record(&call, ItemKind::ToolCall, ItemStatus::InProgress, Category::Lifecycle, begins)),
        of_call(&ai, record(&call, ItemKind::ToolCall, done.clone(), Category::Message, ends)),
        record(&format!("{ai}-2"), ItemKind::AgentMessage, done, Category::Message, answer),
    ]
}

fn record(id: &str, kind: ItemKind, status: ItemStatus, category: Category, content: Value) -> EventDraft {
    let mark = ItemMark::new(ItemId::new(id).unwrap(), kind, status);
    let metadata = json!({"origin": "llm_end", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"});
    EventDraft {
        caller: Some(Caller::lead_agent()),
        metadata: Some(metadata.into()),
        ..EventDraft::item(mark, category, content.into())
    }
}

fn of_call(asked_by: &str, mut event: EventDraft) -> EventDraft {
    if let Some(mark) = &mut event.item {
        mark.call_id = CallId::new(mark.item_id.as_str()).ok();
        mark.parent_item_id = ItemId::new(asked_by).ok();
    }
    event
}

fn commit(events: Vec<EventDraft>) -> Commit {
    Commit::of_run(ThreadId::new("thread-1").unwrap(), RunId::new("run-1").unwrap()).with_events(events)
}

/// The log as a store answers it.
fn log() -> Vec<Event> {
    commit(drafts()).prepare(&Limits::default()).unwrap().into_events(1).collect()
}

fn kind(event: &Event) -> &ItemKind {
    &event.item.as_ref().unwrap().kind
}

fn encode_and_decode(criterion: &mut Criterion) {
    let log = log();
    let lines: Vec<String> = log.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    let messages: Vec<&Event> = log.iter().filter(|event| *kind(event) == ItemKind::AgentMessage).collect();
    let typed: Vec<AgentMessage> = messages.iter().map(|event| event.content.decode().unwrap()).collect();

    let mut group = criterion.benchmark_group("encode and decode");
    group.throughput(Throughput::Elements(log.len() as u64));
    group.bench_function("events to JSON lines", |bench| {
        bench.iter(|| {
            for event in &log {
                black_box(serde_json::to_string(event).unwrap());
            }
        });
    });
    group.bench_function("JSON lines to events", |bench| {
        bench.iter(|| {
            for line in &lines {
                black_box(serde_json::from_str::<Event>(line).unwrap());
            }
        });
    });
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function("messages to payloads", |bench| {
        bench.iter(|| {
            for message in &typed {
                black_box(RawJson::encode("content", message).unwrap());
            }
        });
    });
    group.bench_function("payloads to messages", |bench| {
        bench.iter(|| {
            for event in &messages {
                black_box(event.content.decode::<AgentMessage>().unwrap());
            }
        });
    });
    group.throughput(Throughput::Elements(log.len() as u64));
    group.bench_function("payloads to what items say", |bench| {
        bench.iter(|| {
            for event in &log {
                black_box(ItemBody::of(kind(event), &event.content));
            }
        });
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let (drafts, limits) = (drafts(), Limits::default());
    let log = log();
    let envelopes: Vec<Envelope> = log.iter().cloned().map(Envelope::from).collect();

    let mut group = criterion.benchmark_group("write");
    for size in [1, 20, 150] {
        let drafts: Vec<EventDraft> = drafts.iter().take(size).cloned().collect();
        group.throughput(Throughput::Elements(drafts.len() as u64));
        group.bench_function(format!("prepare a commit of {size}"), |bench| {
            bench.iter_batched(
                || commit(drafts.clone()),
                |commit| black_box(commit.prepare(&limits).unwrap()),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("project the items of a commit", |bench| {
        bench.iter(|| black_box(project((1..).zip(&drafts))));
    });
    group.bench_function("project the items of a slice", |bench| {
        bench.iter(|| black_box(project_slice(&envelopes)));
    });
    group.bench_function("follow items live", |bench| {
        bench.iter(|| {
            let mut items = ItemReducer::default();
            for event in &log {
                black_box(items.apply(event));
            }
        });
    });
    group.finish();
}

fn context(criterion: &mut Criterion) {
    let window = window();
    let older = window.before_last(5);

    let mut group = criterion.benchmark_group("context window");
    group.throughput(Throughput::Elements(window.messages.len() as u64));
    group.bench_function("make", |bench| bench.iter_batched(log, window_of, BatchSize::SmallInput));
    group.bench_function("what may be folded", |bench| bench.iter(|| black_box(window.before_last(5))));
    group.bench_function("fold", |bench| bench.iter(|| black_box(window.fold(&older).unwrap())));
    group.bench_function("as chat messages", |bench| bench.iter(|| black_box(window.to_openai_chat())));
    group.finish();
}

fn window() -> ContextWindow {
    window_of(log())
}

fn window_of(log: Vec<Event>) -> ContextWindow {
    ContextWindow {
        thread_id: ThreadId::new("thread-1").unwrap(),
        system_prompt: None,
        compact_seq: None,
        last_compact_seq: None,
        through_seq: log.len() as u64,
        messages: log
            .into_iter()
            .filter(is_message)
            .map(runledger_core::view::context::ContextMessage::of)
            .collect(),
    }
}

fn escape(criterion: &mut Criterion) {
    let plain = json!({"content": prose(1)}).to_string();
    let odd = plain.replace("412", "\\u0000\\udce9\u{f5e7}");
    let escaped = text::escape_jsonb(&odd).into_owned();
    let large = json!({"output": prose(1).repeat(64)}).to_string();

    let mut group = criterion.benchmark_group("text");
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("escape what needs it not", |bench| {
        bench.iter(|| black_box(text::escape_jsonb(black_box(&plain))));
    });
    group.throughput(Throughput::Bytes(odd.len() as u64));
    group.bench_function("escape", |bench| bench.iter(|| black_box(text::escape_jsonb(black_box(&odd)))));
    group.bench_function("undo it", |bench| {
        bench.iter(|| black_box(text::unescape_jsonb(black_box(&escaped))));
    });
    group.bench_function("replace halves of pairs", |bench| {
        bench.iter(|| black_box(text::replace_lone_surrogates(black_box(&odd))));
    });
    group.throughput(Throughput::Bytes(large.len() as u64));
    group.bench_function("cut a large document", |bench| {
        bench.iter(|| black_box(text::truncate_json(black_box(&large), 10_240)));
    });
    group.finish();
}

fn legacy(criterion: &mut Criterion) {
    let log = log();
    let mut group = criterion.benchmark_group("other shapes");
    group.throughput(Throughput::Elements(log.len() as u64));
    group.bench_function("deerflow", |bench| {
        bench.iter(|| {
            let mut records = DeerFlow::default();
            for event in &log {
                black_box(records.take(event));
            }
        });
    });
    group.bench_function("codex", |bench| {
        bench.iter(|| {
            let mut lines = Codex::default();
            for event in &log {
                black_box(lines.take(event));
            }
        });
    });
    group.finish();
}

fn search(criterion: &mut Criterion) {
    let log = log();
    let text = prose(1);
    let words = Words::of(&text);
    let query = SearchQuery::parse("\"what wc counted\" zähler").unwrap();

    let mut group = criterion.benchmark_group("search");
    group.throughput(Throughput::Elements(log.len() as u64));
    group.bench_function("texts of payloads", |bench| {
        bench.iter(|| {
            for event in &log {
                assert!(matches!(black_box(extract(Some(kind(event)), &event.content)), Extract::Text(_)));
            }
        });
    });
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("words of a text", |bench| bench.iter(|| black_box(Words::of(black_box(&text)))));
    group.bench_function("find in words", |bench| bench.iter(|| black_box(query.find(&words))));
    group.finish();
}

criterion_group!(benches, encode_and_decode, write, context, escape, legacy, search);
criterion_main!(benches);
