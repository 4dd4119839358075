//! The index as the log tells it is clean, and nothing else is: random logs, and one row damaged at random.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;
use crate::record::{
    Envelope, HeadState, ItemEntry, ItemKind, ItemMark, ItemStatus, Run, ThreadHead, UsageRecord,
};
use crate::view::items::project_slice;
use crate::{
    CallId, Caller, Category, MemoryLedger, NewRun, NewThread, Result, RunId, Scope, ThreadId, Timestamp,
};

type Index = BTreeMap<ItemKey, ItemEntry>;

/// Rows in pages of three.
struct Rows {
    head: ThreadHead,
    runs: Vec<Run>,
    events: Vec<Envelope>,
    items: Index,
    removed: Vec<SeqSpan>,
    given: HashMap<&'static str, usize>,
}

impl Rows {
    fn next<T>(&mut self, table: &'static str, rows: impl Fn(&Self) -> Vec<T>) -> Vec<T> {
        let given = *self.given.get(table).unwrap_or(&0);
        let page: Vec<T> = rows(self).into_iter().skip(given).take(3).collect();
        self.given.insert(table, given + page.len());
        page
    }
}

#[async_trait]
impl ThreadRows for Rows {
    async fn head(&mut self) -> Result<Result<ThreadHead, Unreadable>> {
        Ok(Ok(self.head.clone()))
    }
    async fn quarantined(&mut self) -> Result<(BTreeSet<u64>, u64)> {
        Ok((BTreeSet::new(), 0))
    }
    async fn deletions(&mut self) -> Result<Vec<SeqSpan>> {
        Ok(self.next("deletions", |rows| rows.removed.clone()))
    }
    async fn runs(&mut self) -> Result<Vec<Result<Run, Unreadable>>> {
        Ok(self.next("runs", |rows| rows.runs.iter().cloned().map(Ok).collect()))
    }
    async fn events(&mut self) -> Result<Vec<(u64, Result<Envelope, Unreadable>)>> {
        Ok(self
            .next("events", |rows| rows.events.iter().cloned().map(|event| (event.seq, Ok(event))).collect()))
    }
    async fn events_at(&mut self, seqs: &[u64]) -> Result<Vec<Envelope>> {
        Ok(self.events.iter().filter(|event| seqs.contains(&event.seq)).cloned().collect())
    }
    async fn items(&mut self) -> Result<Vec<Result<ItemEntry, Unreadable>>> {
        Ok(self.next("items", |rows| rows.items.values().cloned().map(Ok).collect()))
    }
    async fn items_of(&mut self, keys: &[ItemKey]) -> Result<HashMap<ItemKey, Option<ItemEntry>>> {
        Ok(keys.iter().filter_map(|key| Some((key.clone(), Some(self.items.get(key)?.clone())))).collect())
    }
    async fn usage(&mut self) -> Result<Vec<Result<UsageRecord, Unreadable>>> {
        Ok(Vec::new())
    }
}

fn thread() -> ThreadId {
    ThreadId::new("t").unwrap()
}

fn at(seq: u64) -> Timestamp {
    Timestamp::from_unix_micros(i64::try_from(seq).unwrap() * 1_000_000).unwrap()
}

fn event(seq: u64, (item, status, has_call): (u8, u8, bool)) -> Envelope {
    let status = match status {
        0..2 => ItemStatus::InProgress,
        2 => ItemStatus::Completed,
        _ => ItemStatus::Failed,
    };
    let mut mark = ItemMark::new(ItemId::new(format!("i{}", item / 2)).unwrap(), ItemKind::ToolCall, status);
    mark.call_id = has_call.then(|| CallId::new(format!("c{seq}")).unwrap());
    Envelope {
        seq,
        run_id: Some(RunId::new(format!("r{}", item % 2)).unwrap()),
        category: Category::Lifecycle,
        caller: Some(Caller::lead_agent()),
        item: Some(mark),
        created_at: at(seq),
    }
}

/// Two runs whose log is all of the thread's.
fn runs(through: u64) -> Vec<Run> {
    let memory = MemoryLedger::new().ledger();
    let admitted = async {
        memory.threads().create(&Scope::System, NewThread::new(thread())).await?;
        memory.admit(&Scope::System, NewRun::new(thread(), RunId::new("r0").unwrap())).await
    };
    let run = admitted.now_or_never().unwrap().unwrap().run;
    let run = Run { first_seq: Some(1), last_seq: Some(through), ..run };
    let run = Run { status: crate::RunStatus::Success, ..run };
    ["r0", "r1"].map(|id| Run { run_id: RunId::new(id).unwrap(), ..run.clone() }).to_vec()
}

fn rows(events: Vec<Envelope>, items: Index) -> Rows {
    let through = events.last().map_or(0, |event| event.seq);
    let head = ThreadHead {
        thread_id: thread(),
        owner_id: None,
        parent_thread_id: None,
        state: HeadState::Open,
        next_seq: through + 1,
        message_count: 0,
        active_run_id: None,
        epoch: 1,
        journal_ordinal: 0,
        last_compact_seq: None,
    };
    Rows { head, runs: runs(through), events, items, removed: Vec::new(), given: HashMap::new() }
}

fn check(mut rows: Rows) -> Verified {
    verify(&thread(), &mut rows).now_or_never().unwrap().unwrap()
}

fn index(events: &[Envelope]) -> Index {
    project_slice(events)
        .into_iter()
        .map(|(run, change)| ((run.clone(), change.item_id.clone()), ItemEntry::of(&thread(), &run, change)))
        .collect()
}

fn log() -> impl Strategy<Value = Vec<Envelope>> {
    prop::collection::vec((0..6_u8, 0..4_u8, any::<bool>()), 1..30)
        .prop_map(|drawn| drawn.into_iter().zip(1..).map(|(drawn, seq)| event(seq, drawn)).collect())
}

/// Changes one thing of a row, or moves it, or takes it away.
fn damage(index: &mut Index, which: prop::sample::Index, how: u8, seq: u64) {
    let Some((key, mut row)) =
        index.iter().nth(which.index(index.len())).map(|(key, row)| (key.clone(), row.clone()))
    else {
        return;
    };
    index.remove(&key);
    match how {
        0 => return,
        1 => row.started_seq = seq,
        2 => row.completed_seq = Some(seq),
        3 => row.completed_seq = None,
        4 => row.updated_seq = seq,
        5 => row.status = ItemStatus::InProgress,
        6 => row.status = ItemStatus::Declined,
        7 => row.started_at = at(seq),
        8 => row.completed_at = Some(at(seq)),
        9 => row.call_id = Some(CallId::new(format!("c{seq}")).unwrap()),
        10 => row.caller = None,
        11 => row.item_kind = ItemKind::Plan,
        12 => row.run_id = RunId::new("r0").unwrap(),
        _ => row.item_id = ItemId::new("strange").unwrap(),
    }
    index.insert((row.run_id.clone(), row.item_id.clone()), row);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn only_the_index_that_the_log_tells_is_clean(
        events in log(),
        which in any::<prop::sample::Index>(),
        how in 0..14_u8,
        seq in 1..31_u64,
    ) {
        let told = index(&events);
        prop_assert_eq!(&check(rows(events.clone(), told.clone())).findings, &[]);
        let mut damaged = told.clone();
        damage(&mut damaged, which, how, seq);
        let verified = check(rows(events, damaged.clone()));
        prop_assert_eq!(verified.is_clean(), damaged == told, "{:?}", verified);
    }
}

/// The first thousand are kept, the rest counted.
#[test]
fn findings_are_bounded() {
    let events: Vec<Envelope> = (1..=1_500)
        .map(|seq| {
            let mut event = event(seq, (0, 2, false));
            event.item.iter_mut().for_each(|mark| mark.item_id = ItemId::new(format!("i{seq}")).unwrap());
            event
        })
        .collect();
    let verified = check(rows(events, Index::new()));
    assert_eq!((verified.findings.len(), verified.more_findings), (MAX_FINDINGS, 500));
}

/// What retention took is no finding: neither an item that lost its end, nor one that lost its start.
#[test]
fn what_was_removed_explains_the_index() {
    let whole: Vec<Envelope> = vec![
        event(1, (0, 0, true)),
        event(2, (2, 0, true)),
        event(3, (0, 2, false)),
        event(4, (2, 2, false)),
        event(5, (4, 2, false)),
    ];
    let mut stored = index(&whole);
    // The start of the first item went, and the end of the second.
    let first = (RunId::new("r0").unwrap(), ItemId::new("i0").unwrap());
    stored.entry(first).and_modify(|row| row.started_seq = 3);
    stored.remove(&(RunId::new("r0").unwrap(), ItemId::new("i1").unwrap()));
    let left: Vec<Envelope> = whole.into_iter().filter(|event| event.seq != 1 && event.seq != 4).collect();
    let mut rows = rows(left.clone(), stored.clone());
    rows.removed = vec![SeqSpan { from: 1, through: 1 }, SeqSpan { from: 4, through: 4 }];
    assert_eq!(check(rows).findings, []);
    // The same without a word of what was removed.
    let verified = check(self::rows(left, stored));
    let kinds: Vec<FindingKind> = verified.findings.into_iter().map(|finding| finding.kind).collect();
    assert_eq!(
        kinds,
        [FindingKind::Gap, FindingKind::Gap, FindingKind::ItemDiffers, FindingKind::ItemMissing]
    );
}
