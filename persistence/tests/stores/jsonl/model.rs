//! Random operations on files and on a list in memory, with reopenings: both answer the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use runledger_core::{
    Commit, Deleted, ErrorKind, EventDraft, EventFilter, EventStore as _, Expected, RunVisibility, Scope,
    SeqRange, ThreadStore as _,
};

use super::scene::{Scene, message, run, texts, thread};

#[derive(Clone, Debug)]
enum Operation {
    Append { run: Option<u8>, events: u8 },
    Expect { seq: u64 },
    Put { run: u8, key: u8 },
    DeleteRun(u8),
    Clear,
    Reopen,
    LoseIndex,
    Page { run: Option<u8>, limit: u32, after: Option<u64>, before: Option<u64> },
}

fn operation() -> impl Strategy<Value = Operation> {
    let of = || proptest::option::of(0..4u8);
    let seq = || proptest::option::of(0..30u64);
    prop_oneof![
        6 => (of(), 1..4u8).prop_map(|(run, events)| Operation::Append { run, events }),
        1 => (1..30u64).prop_map(|seq| Operation::Expect { seq }),
        2 => (0..4u8, 0..2u8).prop_map(|(run, key)| Operation::Put { run, key }),
        1 => (0..4u8).prop_map(Operation::DeleteRun),
        1 => Just(Operation::Clear),
        2 => Just(Operation::Reopen),
        1 => Just(Operation::LoseIndex),
        5 => (of(), 1..6u32, seq(), seq())
            .prop_map(|(run, limit, after, before)| Operation::Page { run, limit, after, before }),
    ]
}

/// What the log should be.
#[derive(Default)]
struct Model {
    events: BTreeMap<u64, (Option<u8>, String)>,
    keys: BTreeMap<(u8, u8), u64>,
    deleted: BTreeSet<u8>,
    last_seq: u64,
}

impl Model {
    fn push(&mut self, run: Option<u8>, text: String) -> u64 {
        self.last_seq += 1;
        self.events.insert(self.last_seq, (run, text));
        self.last_seq
    }

    fn is_refused(&self, run: Option<u8>) -> bool {
        run.is_some_and(|run| self.deleted.contains(&run))
    }

    fn runs(&self) -> BTreeSet<u8> {
        self.events.values().filter_map(|(run, _)| *run).collect()
    }

    fn remove(&mut self, gone: impl Fn(Option<u8>) -> bool) -> Deleted {
        let runs: Vec<u8> = self.runs().into_iter().filter(|run| gone(Some(*run))).collect();
        let before = self.events.len();
        self.events.retain(|_, (run, _)| !gone(*run));
        self.keys.retain(|(run, _), _| !gone(Some(*run)));
        let events = (before - self.events.len()) as u64;
        self.deleted.extend(&runs);
        Deleted { events, runs: runs.len() as u64, ..Deleted::default() }
    }

    fn page(&self, of: Option<u8>, range: &SeqRange) -> (Vec<u64>, bool) {
        let scan = range.resolve().unwrap();
        let rows = self.events.iter().filter(|(_, (run, _))| of.is_none() || *run == of).map(|(seq, _)| *seq);
        let rows: Vec<u64> = rows.filter(|seq| *seq > scan.after && *seq < scan.before).collect();
        let ordered: Vec<u64> = if scan.from_end { rows.into_iter().rev().collect() } else { rows };
        let page = scan.page(ordered);
        (page.items, page.has_more)
    }
}

fn name(number: u8) -> String {
    format!("run{number}")
}

async fn check(operations: Vec<Operation>) {
    let (system, t) = (Scope::System, thread("t"));
    let (mut scene, mut model) = (Scene::with_thread().await, Model::default());
    for (step, operation) in operations.into_iter().enumerate() {
        let at = format!("step {step}: {operation:?}");
        match operation {
            Operation::Append { run: of, events } => {
                let texts: Vec<String> = (0..events).map(|event| format!("{step}.{event}")).collect();
                let given: Vec<&str> = texts.iter().map(String::as_str).collect();
                let answer = scene.append(of.map(name).as_deref(), &given).await;
                if model.is_refused(of) {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound, "{at}");
                } else {
                    let seqs: Vec<u64> = texts.into_iter().map(|text| model.push(of, text)).collect();
                    assert_eq!(answer.unwrap().seqs, seqs, "{at}");
                }
            }
            Operation::Expect { seq } => {
                let text = format!("{step}");
                let commit = Commit::new(t.clone()).with_events(vec![message(&text)]);
                let commit = Commit { expected: Expected::NextSeq(seq), ..commit };
                let answer = scene.ledger.append(&system, commit).await;
                if seq == model.last_seq + 1 {
                    assert_eq!(answer.unwrap().seqs, [model.push(None, text)], "{at}");
                } else {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict, "{at}");
                }
            }
            Operation::Put { run: of, key } => {
                let event = EventDraft { once_key: Some(format!("k{key}")), ..message(&format!("{step}")) };
                let answer = scene.ledger.put_if_absent(&system, &t, &run(&name(of)), event).await;
                if model.is_refused(Some(of)) {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound, "{at}");
                    continue;
                }
                let (seq, created) = match model.keys.get(&(of, key)) {
                    Some(seq) => (*seq, false),
                    None => (model.push(Some(of), format!("{step}")), true),
                };
                model.keys.insert((of, key), seq);
                let put = answer.unwrap();
                assert_eq!((put.event.seq, put.created), (seq, created), "{at}");
            }
            Operation::DeleteRun(of) => {
                let answer = scene.ledger.delete_by_run(&system, &t, &run(&name(of))).await;
                if model.runs().contains(&of) {
                    assert_eq!(answer.unwrap(), model.remove(|run| run == Some(of)), "{at}");
                } else {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotFound, "{at}");
                }
            }
            Operation::Clear => {
                let answer = scene.ledger.delete_by_thread(&system, &t).await.unwrap();
                assert_eq!(answer, model.remove(|_| true), "{at}");
            }
            Operation::Reopen => scene = scene.reopen().await,
            Operation::LoseIndex => {
                std::fs::remove_dir_all(scene.file("index")).unwrap();
                std::fs::create_dir(scene.file("index")).unwrap();
            }
            Operation::Page { run: of, limit, after, before } => {
                let range = SeqRange { limit, after_seq: after, before_seq: before };
                let filter = EventFilter { run_id: of.map(|of| run(&name(of))), ..EventFilter::default() };
                let page = scene.ledger.list_events(&system, &t, &filter, &range).await.unwrap();
                let seqs: Vec<u64> = page.items.iter().map(|event| event.seq).collect();
                assert_eq!((seqs, page.has_more), model.page(of, &range), "{at}");
            }
        }
        let log = scene.log().await.unwrap();
        let expected: Vec<String> = model.events.values().map(|(_, text)| text.clone()).collect();
        assert_eq!(texts(&log), expected, "{at}");
        let head = scene.ledger.head(&system, &t).await.unwrap();
        assert_eq!((head.next_seq, head.message_count), (model.last_seq + 1, log.len() as u64), "{at}");
        let count = scene.ledger.count_messages(&system, &t, RunVisibility::All).await.unwrap();
        assert_eq!(count, log.len() as u64, "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_answer_as_a_list_does(operations in proptest::collection::vec(operation(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(operations));
    }
}
