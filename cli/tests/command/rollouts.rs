//! Rollouts of Codex: what real clients wrote, whole, damaged, in pieces, and back again.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use runledger_core::{
    ContentText as _, Event, EventFilter, ItemEntry, ItemFilter, ItemKind, Ledger, ListRange, RawJson, Run,
    RunFilter, RunId, RunStatus, Scope, SeqRange, ThreadId, Visibility, text,
};
use serde_json::{Value, json};

use crate::{Place, fixture};

/// The recordings, where they are.
fn data() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent);
    let found = above.map(|folder| folder.join("shared/data/codex")).filter(|data| data.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no recordings of Codex beside the repository");
    }
    found
}

/// The folders that say what is in their rollouts.
fn samples() -> Vec<PathBuf> {
    let Some(data) = data() else { return Vec::new() };
    let mut found = Vec::new();
    let mut folders = vec![data];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("expected.json") {
                found.push(folder.clone());
            }
        }
    }
    found.sort();
    found
}

/// The rollouts of a folder, not of those below it.
fn rollouts(folder: &Path) -> Vec<PathBuf> {
    let is_rollout = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("rollout-");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(is_rollout).collect();
    files.sort();
    files
}

pub(crate) async fn import(place: &Place, files: &[PathBuf]) -> Value {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let said = place.run(&[&["import", "codex-rollout", "--json"], &files[..]].concat()).await;
    assert_eq!(said.code, 0, "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

async fn events(ledger: &Ledger, thread: &ThreadId) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let range = SeqRange::after(events.last().map_or(0, |event| event.seq), 1_000);
        let filter = EventFilter::default();
        let page = ledger.events().list_events(&Scope::System, thread, &filter, &range).await.unwrap();
        events.extend(page.items);
        if !page.has_more {
            return events;
        }
    }
}

pub(crate) async fn runs(ledger: &Ledger, thread: &ThreadId) -> Vec<Run> {
    let filter = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let page = ledger.runs().list(&Scope::System, &filter, &ListRange::newest(1_000)).await.unwrap();
    let mut runs = page.items;
    runs.sort_by_key(|run| run.first_seq);
    runs
}

pub(crate) async fn items(ledger: &Ledger, thread: &ThreadId, run: &RunId) -> Vec<ItemEntry> {
    let filter = ItemFilter { run_id: Some(run.clone()), status: None };
    let range = SeqRange::after(0, 1_000);
    let mut items = ledger.items().list(&Scope::System, thread, &filter, &range).await.unwrap().items;
    items.sort_by_key(|item| (item.completed_seq.unwrap_or(u64::MAX), item.started_seq));
    items
}

fn text_of<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

/// The kind that a type of Codex's is.
fn kind(name: &str) -> String {
    match name {
        "DynamicToolCall" => "tool_call".to_owned(),
        "CollabAgentToolCall" => "collab_agent_call".to_owned(),
        "EnteredReviewMode" => "review_entered".to_owned(),
        "ExitedReviewMode" => "review_exited".to_owned(),
        "FutureItem" => "codex.future_item".to_owned(),
        other => {
            let mut out = String::new();
            for c in other.chars() {
                if c.is_ascii_uppercase() && !out.is_empty() {
                    out.push('_');
                }
                out.push(c.to_ascii_lowercase());
            }
            out
        }
    }
}

fn stands(run: &Run, expected: &str) -> bool {
    let reason = run.stop_reason.as_deref();
    match expected {
        "completed" => run.status == RunStatus::Success,
        "failed" => run.status == RunStatus::Error && run.error.is_some(),
        "interrupted" => run.status == RunStatus::Interrupted && reason == Some("interrupted"),
        "incomplete" | "unknown" => {
            run.status.is_active() || (run.status == RunStatus::Interrupted && reason == Some(expected))
        }
        other => panic!("{other} is no status"),
    }
}

/// A turn as the recordings' reader tells it, against its run.
async fn check_turn(ledger: &Ledger, thread: &ThreadId, run: &Run, expected: &Value) {
    let status = text_of(expected, "status").unwrap();
    assert!(stands(run, status), "{expected:#} is {run:#?}");
    let found = items(ledger, thread, &run.run_id).await;
    let told: Vec<&Value> = expected["items"].as_array().unwrap().iter().collect();
    let ids: HashSet<&str> = told.iter().filter_map(|item| text_of(item, "id")).collect();
    let calls = expected["calls"].as_array().unwrap();
    let mere_calls: HashSet<&str> =
        calls.iter().filter_map(|call| text_of(call, "call_id")).filter(|id| !ids.contains(id)).collect();
    let shown: Vec<&ItemEntry> =
        found.iter().filter(|item| !mere_calls.contains(item.item_id.as_str())).collect();
    let kinds =
        |items: &[&ItemEntry]| items.iter().map(|item| item.item_kind.to_string()).collect::<Vec<_>>();
    let expected_kinds: Vec<String> = told.iter().map(|item| kind(text_of(item, "type").unwrap())).collect();
    assert_eq!(kinds(&shown), expected_kinds, "{} of {thread}", run.run_id);
    for (item, told) in shown.iter().zip(&told) {
        if let Some(id) = text_of(told, "id") {
            assert_eq!(item.item_id.as_str(), id);
        }
        if let Some(status @ ("completed" | "failed" | "declined")) = text_of(told, "status") {
            assert_eq!(item.status.as_str(), status, "{told}");
        }
    }
    for call in calls {
        let id = text_of(call, "call_id").unwrap();
        let item = found.iter().find(|item| item.item_id.as_str() == id).unwrap();
        let is_answered = call["has_output"] == json!(true);
        assert!(!is_answered || item.completed_seq.is_some(), "{call} is {item:?}");
    }
    if let Some(said) = text_of(expected, "final_message") {
        assert_eq!(run.last_ai_message, text::summary(said));
    }
    if let Some(model) = text_of(expected, "model") {
        assert_eq!(run.model_name.as_deref(), Some(model));
    }
    let page = SeqRange::after(0, 1_000);
    let messages =
        ledger.events().list_messages_by_run(&Scope::System, thread, &run.run_id, &page).await.unwrap().items;
    let is_user = |event: &&Event| event.item.as_ref().is_some_and(|item| item.kind == ItemKind::UserMessage);
    let said: Vec<String> = messages
        .iter()
        .filter(is_user)
        .map(|event| {
            let content: BTreeMap<String, RawJson> = event.content.decode().unwrap();
            content["content"].text()
        })
        .collect();
    assert_eq!(json!(said), expected["user_messages"]);
}

/// The lines of a file that are records, each once.
fn lines(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).unwrap();
    let bytes = if file.extension().is_some_and(|ending| ending == "zst") {
        let mut out = Vec::new();
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&bytes[..]).unwrap();
        std::io::Read::read_to_end(&mut decoder, &mut out).unwrap();
        out
    } else {
        bytes
    };
    let is_record = |line: &&str| serde_json::from_str::<serde_json::Map<String, Value>>(line).is_ok();
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter(is_record)
        .map(str::to_owned)
        .collect()
}

/// What each response of a file took.
fn responses(file: &Path) -> BTreeMap<String, Value> {
    let records = lines(file).into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let payloads = records
        .filter(|line| line["type"] == json!("token_usage_record"))
        .map(|line| line["payload"].clone());
    payloads.map(|told| (text_of(&told, "response_id").unwrap().to_owned(), told["usage"].clone())).collect()
}

#[tokio::test]
async fn each_sample_comes_in_as_expected() {
    let mut table = Vec::new();
    let (mut read, mut stored) = (0, 0);
    for folder in samples() {
        let expected: Value =
            serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
        let (place, files) = (Place::new(), rollouts(&folder));
        let summary = import(&place, &files).await;
        let again = import(&place, &files).await;
        assert_eq!(
            (&again["events"], &again["runs"], &again["usage_records"]),
            (&json!(0), &json!(0), &json!(0))
        );
        read += files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
        let sql = place.ledger().await;
        let ledger = sql.ledger();
        for rollout in expected["rollouts"].as_array().unwrap() {
            let reports = summary["rollouts"].as_array().unwrap();
            let report = reports.iter().find(|report| report["rollout_id"] == rollout["rollout_id"]).unwrap();
            let thread = ThreadId::new(text_of(rollout, "thread_id").unwrap()).unwrap();
            let runs = runs(&ledger, &thread).await;
            let file = files.iter().find(|file| file.ends_with(text_of(rollout, "file").unwrap())).unwrap();
            let first: Value = serde_json::from_str(&lines(file)[0]).unwrap();
            if let Some(base) = first["payload"]["forked_from_id"].as_str()
                && !first["payload"]["history_base"].is_null()
            {
                let fork = ledger.threads().get(&Scope::System, &thread).await.unwrap();
                assert_eq!(fork.forked_from_thread_id.as_ref().map(ThreadId::as_str), Some(base));
                assert!(fork.forked_at_seq.is_some());
            }
            let own: Vec<&Value> = rollout["turns"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|turn| turn["inherited"] == json!(false))
                .collect();
            for (place, turn) in own.iter().enumerate() {
                let named =
                    text_of(turn, "turn_id").map(|id| runs.iter().find(|run| run.run_id.as_str() == id));
                let run = named.unwrap_or_else(|| runs.get(place)).unwrap();
                check_turn(&ledger, &thread, run, turn).await;
            }
            let lineage: Vec<&str> = match rollout["lineage_turn_ids"].as_array() {
                Some(ids) => ids.iter().filter_map(Value::as_str).collect(),
                None => runs.iter().map(|run| run.run_id.as_str()).collect(),
            };
            let of_lineage: Vec<&Run> =
                runs.iter().filter(|run| lineage.contains(&run.run_id.as_str())).collect();
            assert_eq!(of_lineage.len(), lineage.len(), "{rollout:#}");
            if !rollout["lineage_turn_ids"].is_null() {
                let shown = runs
                    .iter()
                    .filter(|run| run.visibility == Visibility::Shown)
                    .map(|run| run.run_id.as_str());
                assert_eq!(shown.collect::<Vec<_>>(), lineage);
            }
            if !(rollout["lineage_turn_ids"].is_null()
                && runs.iter().any(|run| run.visibility != Visibility::Shown))
            {
                let responses = responses(file);
                let expected = &rollout["token_usage_total"];
                for (name, used) in [
                    ("total_tokens", of_lineage.iter().map(|run| run.totals.total_tokens).sum::<u64>()),
                    ("cached_input_tokens", of_lineage.iter().map(|run| run.totals.cache_read_tokens).sum()),
                ] {
                    // A client that was killed has told of responses that its next total leaves out.
                    let told: u64 = responses.values().filter_map(|usage| usage[name].as_u64()).sum();
                    assert_eq!(used, expected[name].as_u64().unwrap_or(0).max(told), "{name} of {thread}");
                }
            }
            let kept: Vec<Value> = report["quarantined"]["first"]
                .as_array()
                .unwrap()
                .iter()
                .chain(report["left"].as_object().map(|_| &report["left"]))
                .map(|line| json!([line["offset"], line["bytes"], line["reason"]]))
                .collect();
            let unreadable: Vec<Value> = rollout["unparseable"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| json!([line["offset"], line["length"], line["reason"]]))
                .collect();
            assert_eq!(kept, unreadable, "{}", folder.display());
            let ordinals = &report["ordinals"];
            let missing: Vec<u64> = ordinals["missing"]["first"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|gap| gap[0].as_u64().unwrap()..=gap[1].as_u64().unwrap())
                .collect();
            assert_eq!(json!(missing), rollout["ordinals"]["missing"]);
            assert_eq!(ordinals["reused"]["first"], rollout["ordinals"]["duplicate_different"]);
            assert_eq!(ordinals["decreasing"]["first"], rollout["ordinals"]["decreasing"]);
            assert_eq!(
                report["duplicates"],
                json!(rollout["ordinals"]["duplicate_identical"].as_array().unwrap().len())
            );
            // What was read is written again, byte for byte.
            let written = place.run(&["export", thread.as_str(), "--format", "codex-rollout"]).await.out;
            let written: Vec<&str> = written.lines_of();
            let own_lines = lines(file);
            let found = written.windows(own_lines.len()).any(|lines| lines == own_lines);
            assert!(found, "{} is not in what is written of {thread}", file.display());
            table.push(format!(
                "{:<34} {:>5} lines {:>3} turns {:>3} items {:>6} tokens {:>2} apart {:>2} gaps, reuses",
                folder.file_name().unwrap().to_string_lossy(),
                report["lines"],
                own.len(),
                own.iter().map(|turn| turn["items"].as_array().unwrap().len()).sum::<usize>(),
                rollout["token_usage_total"]["total_tokens"].as_u64().unwrap_or(0),
                kept.len(),
                missing.len() + ordinals["reused"]["count"].as_u64().unwrap() as usize,
            ));
        }
        sql.close().await;
        stored += fs::metadata(place.database()).unwrap().len();
    }
    for row in &table {
        eprintln!("{row}");
    }
    eprintln!("{read} bytes of rollouts are {stored} bytes of databases, an empty one each included");
}

/// Lines end with a line feed only.
trait Lines {
    fn lines_of(&self) -> Vec<&str>;
}

impl Lines for String {
    fn lines_of(&self) -> Vec<&str> {
        self.split('\n').filter(|line| !line.is_empty()).collect()
    }
}

/// Everything of a thread but what depends on when it was imported.
pub(crate) async fn told(ledger: &Ledger, thread: &ThreadId) -> Vec<String> {
    let mut told = Vec::new();
    for event in events(ledger, thread).await {
        told.push(format!("{event:?}"));
    }
    for run in runs(ledger, thread).await {
        told.push(format!("{:?} {:?}", run, items(ledger, thread, &run.run_id).await));
    }
    let usage = ledger.usage().by_thread(&Scope::System, thread, true).await.unwrap();
    told.push(format!("{usage:?}"));
    told
}

#[tokio::test]
async fn a_growing_file_comes_in_as_the_whole_one() {
    for folder in samples() {
        let files = rollouts(&folder);
        let [file] = &files[..] else { continue };
        if file.extension().is_some_and(|ending| ending == "zst") {
            continue;
        }
        let whole = Place::new();
        import(&whole, &files).await;
        let (pieces, name) = (Place::new(), file.file_name().unwrap());
        let growing = pieces.path(name.to_str().unwrap());
        let bytes = fs::read(file).unwrap();
        let mut ends: Vec<usize> =
            (0..bytes.len()).filter(|place| bytes[*place] == b'\n').map(|place| place + 1).collect();
        // And some cuts amid lines.
        let amid: Vec<usize> = ends.windows(2).step_by(5).map(|pair| (pair[0] + pair[1]) / 2).collect();
        ends.extend(amid);
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut thread = None;
        for end in ends {
            fs::write(&growing, &bytes[..end]).unwrap();
            let summary = import(&pieces, std::slice::from_ref(&growing)).await;
            thread = text_of(&summary["rollouts"][0], "thread_id").map(|id| ThreadId::new(id).unwrap());
        }
        let thread = thread.unwrap();
        let (one, other) = (whole.ledger().await, pieces.ledger().await);
        assert_eq!(
            told(&other.ledger(), &thread).await,
            told(&one.ledger(), &thread).await,
            "{}",
            folder.display()
        );
        one.close().await;
        other.close().await;
    }
}

fn sample(name: &str) -> Option<PathBuf> {
    data().map(|data| data.join(name))
}

#[tokio::test]
async fn a_file_that_was_replaced_is_refused() {
    let Some(folder) = sample("01-basic") else { return };
    let place = Place::new();
    let source = rollouts(&folder).remove(0);
    let file = place.path(source.file_name().unwrap().to_str().unwrap());
    let bytes = fs::read(&source).unwrap();
    fs::write(&file, &bytes).unwrap();
    import(&place, std::slice::from_ref(&file)).await;
    fs::write(&file, &bytes[..bytes.len() - 900]).unwrap();
    let said = place.run(&["import", "codex-rollout", file.to_str().unwrap()]).await;
    assert_eq!(said.code, 2);
    assert!(said.err.contains("is not the file that was imported"), "{}", said.err);
    let mut other = bytes.clone();
    let place_of = other.len() - 300;
    other[place_of] ^= 1;
    fs::write(&file, &other).unwrap();
    assert_eq!(place.run(&["import", "codex-rollout", file.to_str().unwrap()]).await.code, 2);
    // Appended to, it goes on; what comes after its turn's end is its turn's.
    let late = concat!(
        r#"{"timestamp":"2026-11-21T04:00:00.000Z","ordinal":35,"type":"event_msg","payload":{"type":"item_completed","#,
        r#""thread_id":"01a1fc12-ba57-7703-a721-aa5c69b5c61e","turn_id":"01a1fc12-bb56-7ea1-8861-2f2b40c38f3b","#,
        r#""item":{"type":"AgentMessage","id":"msg_late","content":[{"type":"Text","text":"late"}]},"completed_at_ms":0}}"#,
        "\n"
    );
    fs::write(&file, [&bytes[..], late.as_bytes()].concat()).unwrap();
    let summary = import(&place, std::slice::from_ref(&file)).await;
    assert_eq!((&summary["events"], &summary["rollouts"][0]["lines"]), (&json!(1), &json!(1)));
    let sql = place.ledger().await;
    let thread = ThreadId::new("01a1fc12-ba57-7703-a721-aa5c69b5c61e").unwrap();
    let run = runs(&sql.ledger(), &thread).await.remove(0);
    assert_eq!((run.status, run.last_ai_message.as_deref()), (RunStatus::Success, Some("late")));
    assert!(
        items(&sql.ledger(), &thread, &run.run_id)
            .await
            .iter()
            .any(|item| item.item_id.as_str() == "msg_late")
    );
    sql.close().await;
}

#[tokio::test]
async fn children_know_their_parents() {
    let Some(folder) = sample("12-subagents-v2") else { return };
    let place = Place::new();
    let mut files = rollouts(&folder);
    files.reverse();
    let summary = import(&place, &files).await;
    assert_eq!(
        summary["rollouts"].as_array().unwrap().iter().filter(|it| it["missing"].is_array()).count(),
        0
    );
    let sql = place.ledger().await;
    let ledger = sql.ledger();
    let child = ThreadId::new("01a1fc16-8021-7521-b945-473565141a35").unwrap();
    let child = ledger.threads().get(&Scope::System, &child).await.unwrap();
    assert_eq!(child.parent_thread_id.unwrap().as_str(), "01a1fc16-7f82-7653-9a7e-58be70a3fbec");
    assert_eq!(child.spawn_run_id.unwrap().as_str(), "01a1fc16-7fae-7ab0-b6fc-774e8ecc6728");
    sql.close().await;
}

#[tokio::test]
async fn a_fork_without_its_base_says_so() {
    let Some(folder) = sample("10-fork") else { return };
    let place = Place::new();
    let source = rollouts(&folder).remove(1);
    let file = place.path(source.file_name().unwrap().to_str().unwrap());
    fs::copy(&source, &file).unwrap();
    let summary = import(&place, std::slice::from_ref(&file)).await;
    assert_eq!(summary["rollouts"][0]["missing"], json!(["history 01a1fc14-16ac-7db1-819f-fe041a6feb4d"]));
    // Beside it the base is found, and imported first, though it is not asked for.
    let beside = Place::new();
    let summary = import(&beside, &[source]).await;
    let found = summary["rollouts"].as_array().unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["rollout_id"], json!("01a1fc14-16ac-7db1-819f-fe041a6feb4d"));
    assert_eq!((&found[1]["missing"], &found[1]["inherited"]), (&Value::Null, &json!(29)));
    let sql = beside.ledger().await;
    let fork = ThreadId::new(text_of(&found[1], "thread_id").unwrap()).unwrap();
    assert_eq!(runs(&sql.ledger(), &fork).await.len(), 3);
    sql.close().await;
}

/// What a thread's turns, items, messages and usage are, without what a rollout has no place for.
async fn essence(ledger: &Ledger, thread: &ThreadId) -> Value {
    let mut told = Vec::new();
    for run in runs(ledger, thread).await {
        let of_run = SeqRange::after(0, 1_000);
        let messages = ledger
            .events()
            .list_messages_by_run(&Scope::System, thread, &run.run_id, &of_run)
            .await
            .unwrap()
            .items;
        let content = |event: &Event| serde_json::from_str::<Value>(event.content.as_str()).unwrap();
        let items = items(ledger, thread, &run.run_id).await;
        told.push(json!({
            "run": run.run_id.as_str(),
            "status": run.status.as_str(),
            "stop_reason": run.stop_reason,
            "totals": run.totals,
            "said": [run.first_human_message, run.last_ai_message],
            "items": items.iter().map(|it| json!([it.item_id.as_str(), it.item_kind.to_string(), it.status.as_str()])).collect::<Vec<_>>(),
            "messages": messages.iter().map(content).collect::<Vec<_>>(),
        }));
    }
    json!(told)
}

#[tokio::test]
async fn what_a_journal_wrote_is_written_and_read_back() {
    let (place, back) = (Place::new(), Place::new());
    place.import("langgraph-thread", &fixture("weather.json")).await;
    let written = place.run(&["export", "weather", "--format", "codex-rollout"]).await;
    assert_eq!((written.code, written.err.as_str()), (0, ""));
    let file = back.path("rollout-2026-11-21T03-07-28-weather.jsonl");
    fs::write(&file, &written.out).unwrap();
    let summary = import(&back, std::slice::from_ref(&file)).await;
    assert_eq!(summary["rollouts"][0]["unknown_kinds"], Value::Null);
    let thread = ThreadId::new("weather").unwrap();
    let (one, other) = (place.ledger().await, back.ledger().await);
    assert_eq!(essence(&other.ledger(), &thread).await, essence(&one.ledger(), &thread).await);
    one.close().await;
    other.close().await;
    let again = back.run(&["export", "weather", "--format", "codex-rollout"]).await;
    assert_eq!(again.out, written.out);
}

/// One change of a file.
#[derive(Clone, Debug)]
enum Damage {
    Overwrite(usize, Vec<u8>),
    Cut(usize, usize),
    Double(usize, usize),
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let pieces = prop::sample::select(vec![
        &b"\n"[..], b"\r\n", b"\0\0", b"\xff\xfe", b"{}\n", b"\n[1]\n", b"}", b"\\u0000", b"\xe2\x80\xa8", b"\"ordinal\":7,",
        b"\n{\"type\":\"event_msg\",\"payload\":{\"type\":\"task_started\",\"turn_id\":\"t\"}}\n",
        b"\n{\"payload\":{\"type\":\"item_completed\",\"turn_id\":\"t\",\"item\":{\"id\":7}},\"type\":\"event_msg\"}\n",
    ]);
    prop_oneof![
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        (any::<usize>(), 1_usize..3_000).prop_map(|(at, length)| Damage::Cut(at, length)),
        (any::<usize>(), 1_usize..3_000).prop_map(|(at, length)| Damage::Double(at, length)),
        (any::<usize>(), pieces).prop_map(|(at, piece)| Damage::Insert(at, piece.to_vec())),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let at = |place: usize| place % (bytes.len() + 1);
        match damage {
            Damage::Overwrite(place, new) => {
                let at = at(*place);
                let end = (at + new.len()).min(bytes.len());
                bytes.splice(at..end, new.iter().copied());
            }
            Damage::Cut(place, length) => {
                let at = at(*place);
                let end = (at + length).min(bytes.len());
                bytes.drain(at..end);
            }
            Damage::Double(place, length) => {
                let at = at(*place);
                let end = (at + length).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            Damage::Insert(place, piece) => {
                let at = at(*place);
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_line_of_a_damaged_file_is_lost() {
    let samples: Vec<PathBuf> = samples().into_iter().flat_map(|folder| rollouts(&folder)).collect();
    let plain: Vec<Vec<u8>> = samples
        .iter()
        .filter(|file| file.extension().is_some_and(|ending| ending == "jsonl"))
        .map(|file| fs::read(file).unwrap())
        .collect();
    if plain.is_empty() {
        return;
    }
    let cases = if std::env::var("RUNLEDGER_CHAOS").is_ok_and(|form| form == "long") { 2_000 } else { 48 };
    let persistence = Some(Box::new(FileFailurePersistence::Off) as _);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: persistence, ..Config::default() });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let strategy = (0..plain.len(), prop::collection::vec(damage(), 1..6), any::<bool>());
    let done = runner.run(&strategy, |(number, damages, in_two)| {
        let bytes = damaged(plain[number].clone(), &damages);
        runtime.block_on(async {
            let place = Place::new();
            let file = place.path("rollout-2026-11-21T03-07-28-01a1fc12-0000-7000-8000-000000000000.jsonl");
            fs::write(&file, &bytes).unwrap();
            let said = place.run(&["import", "codex-rollout", "--json", file.to_str().unwrap()]).await;
            if said.code == 2 {
                // Its first record names no thread that there can be.
                prop_assert!(said.err.contains("id"), "{}", said.err);
                return Ok(());
            }
            prop_assert_eq!(said.code, 0, "{}", said.err);
            let summary: Value = serde_json::from_str(&said.out).unwrap();
            let report = &summary["rollouts"][0];
            let count = |name: &str| report[name].as_u64().unwrap();
            let apart = report["quarantined"]["count"].as_u64().unwrap();
            let ends_whole = bytes.last().is_none_or(|byte| *byte == b'\n');
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + u64::from(!ends_whole);
            let left = u64::from(report["left"].is_object());
            prop_assert_eq!(count("imported") + count("blank") + count("duplicates") + apart + left, lines);
            let thread = ThreadId::new(report["thread_id"].as_str().unwrap()).unwrap();
            let sql = place.ledger().await;
            let ledger = sql.ledger();
            let stored = events(&ledger, &thread).await;
            let is_line = |event: &&Event| {
                event.metadata.as_ref().is_some_and(|metadata| metadata.as_str().contains("\"codex\""))
            };
            let in_log = stored.iter().filter(is_line).count() as u64;
            prop_assert_eq!(in_log, count("imported") + count("inherited"));
            let kept = ledger.imports().list_quarantined(&Scope::System, &thread, None, 1_000).await.unwrap();
            prop_assert_eq!(kept.len() as u64, apart);
            sql.close().await;
            if in_two {
                let mut open = fs::OpenOptions::new().append(true).open(&file).unwrap();
                open.write_all(b"\n{\"type\":\"x\"}\n").unwrap();
                let said = place.run(&["import", "codex-rollout", "--json", file.to_str().unwrap()]).await;
                prop_assert_eq!(said.code, 0, "{}", said.err);
            }
            Ok::<(), TestCaseError>(())
        })
    });
    done.unwrap();
}

#[tokio::test]
async fn of_two_files_of_one_rollout_none_is_read() {
    let place = Place::new();
    let name = "rollout-2026-11-21T03-12-09-0a1fc17-05cc.jsonl";
    let meta =
        r#"{"timestamp":"2026-11-21T03:12:09.000Z","type":"session_meta","payload":{"id":"0a1fc17-05cc"}}"#;
    for folder in ["one", "other"] {
        let folder = place.path("rollouts").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), format!("{meta}\n")).unwrap();
    }
    let folder = place.path("rollouts").to_str().unwrap().to_owned();
    let said = place.run(&["import", "codex-rollout", &folder]).await;
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("import one of them"), "{}", said.err);
}
