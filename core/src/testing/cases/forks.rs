//! Forks: what a thread shows up to a point, copied into a new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::view::context::ContextWindow;
use crate::{
    Admission, AppendSignal, Applied, BlobEntry, Category, Commit, Deleted, Error, ErrorKind, Estimate,
    Event, EventDraft, EventFilter, EventStore, Fold, Fork, ForkPoint, Forked, ItemEntry, ItemFilter,
    ItemKind, ItemStatus, Ledger, ListRange, MultitaskStrategy, NewRun, NewThread, Outcome, PutIfAbsent,
    RawJson, Receipt, Result, Run, RunFilter, RunId, RunStatus, RunTotals, RunVisibility, Scope, SeqPage,
    SeqRange, ThreadId, Visibility, offload,
};

fn user(id: &str, text: &str) -> EventDraft {
    let said = item(id, ItemKind::UserMessage, ItemStatus::Completed, crate::Category::Message);
    EventDraft { content: json(&format!(r#"{{"content":"{text}"}}"#)), ..said }
}

/// A large text, taken out of its payload.
fn slim(commit: Commit, text: &str) -> Commit {
    let place = commit.events.len();
    match offload(&RawJson::string(text), place, 10) {
        Some((content, blobs)) => {
            let mut events = commit.events.clone();
            events.push(EventDraft { content, ..note("") });
            Commit { events, blobs, ..commit }
        }
        None => panic!("nothing is large"),
    }
}

/// Runs of every kind of end, hidden ones, late records, folds, blobs, one that was cancelled in the queue, and
/// one that has not ended.
async fn talk(ledger: &Ledger, scope: &Scope) -> ThreadId {
    let t = thread_id("source");
    let new = NewThread {
        system_prompt: Some("be brief".to_owned()),
        config: json(r#"{"a":1}"#),
        created_at: at(0),
        ..NewThread::new(t.clone())
    };
    ok(ledger.threads().create(scope, new).await);
    append(ledger, &t, vec![note("before everything")]).await;
    let first = admit(ledger, &t, "r1").await;
    ok(commit(ledger, first.start()).await);
    let events = vec![user("u1", "hello"), ai("a1", "lead_agent"), tool_started("c1")];
    ok(commit(ledger, slim(first.commit(0, events), "a large text of the first run")).await);
    ok(commit(ledger, first.commit(4, vec![tool_ended("c1", ItemStatus::Completed), user("u2", "more")]))
        .await);
    finish(ledger, &first, 6).await;

    let hidden = admit(ledger, &t, "hidden").await;
    ok(commit(ledger, hidden.commit(0, vec![user("u3", "never mind"), ai("a3", "lead_agent")])).await);
    finish(ledger, &hidden, 2).await;
    ok(ledger.runs().set_visibility(&Scope::System, &t, &hidden.run, Visibility::Superseded).await);
    fold(ledger, &t, &first.run, 2).await;

    let second = admit_at(ledger, &t, "r2", 20).await;
    ok(commit(ledger, second.start()).await);
    ok(commit(ledger, second.commit(0, vec![user("u4", "again"), tool_started("c4")])).await);
    ok(commit(ledger, first.unmarked(vec![note("a late record")])).await);
    // It waits, and is cancelled while it does.
    let strategy = MultitaskStrategy::Enqueue;
    let waits = Admission { multitask_strategy: strategy, created_at: at(21), ..Admission::default() };
    let new =
        NewRun { admission: waits, input: vec![user("u5", "later")], ..NewRun::new(t.clone(), run_id("q")) };
    ok(ledger.admit(&Scope::System, new).await);
    let interrupt = crate::Transition::Interrupt {
        outcome: Outcome::interrupted("cancelled"),
        claim: crate::Claim::Epoch(0),
        at: at(22),
    };
    ok(commit(ledger, Commit { transition: Some(interrupt), ..Commit::of_run(t.clone(), run_id("q")) })
        .await);
    let end = second.finish(2, Outcome::error("it broke"));
    ok(ledger.finish(&Scope::System, end).await);
    fold(ledger, &t, &second.run, 1).await;

    let third = admit_at(ledger, &t, "r3", 30).await;
    ok(commit(ledger, third.start()).await);
    let events = vec![user("u6", "go on"), ai("a6", "lead_agent"), tool_started("c6")];
    ok(commit(ledger, slim(third.commit(0, events), "a large text of the first run")).await);
    ok(commit(ledger, third.commit(4, vec![user("u7", "and")])).await);
    t
}

/// Folds the first messages of a window.
async fn fold(ledger: &Ledger, thread: &ThreadId, run: &RunId, count: usize) {
    let window = ok(ledger.context().load(&Scope::System, thread).await);
    let free: Vec<u64> = window
        .messages
        .iter()
        .filter(|message| message.event.item.as_ref().is_some_and(|item| item.kind == ItemKind::UserMessage))
        .map(|message| message.seq())
        .take(count)
        .collect();
    let fold = Fold {
        at: at(15),
        before_tokens: 9,
        ..Fold::new(&window, run.clone(), free.into_iter().collect(), "a note")
    };
    ok(ledger.fold(&Scope::System, fold).await);
}

/// Everything that a reader is shown of a thread, without what a fork numbers anew or leaves to its source.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    events: Vec<Event>,
    runs: Vec<Run>,
    items: Vec<ItemEntry>,
    blobs: Vec<BlobEntry>,
    window: Vec<(Option<RunId>, String)>,
}

fn said(window: &ContextWindow) -> Vec<(Option<RunId>, String)> {
    let say = |event: &Event| (event.run_id.clone(), event.content.as_str().to_owned());
    window.messages.iter().map(|message| say(&message.event)).collect()
}

async fn seen(ledger: &Ledger, thread: &ThreadId) -> Seen {
    let filter = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let mut runs = ok(ledger.runs().list(&Scope::System, &filter, &ListRange::newest(100)).await).items;
    runs.retain(|run| run.visibility == Visibility::Shown);
    let shown: Vec<RunId> = runs.iter().map(|run| run.run_id.clone()).collect();
    let is_shown = |run: Option<&RunId>| run.is_none_or(|run| shown.contains(run));
    let mut events = log(ledger, thread).await;
    events.retain(|event| is_shown(event.run_id.as_ref()));
    // From the source's numbers to those of a fork.
    let numbers: BTreeMap<u64, u64> = events.iter().map(|event| event.seq).zip(1..).collect();
    let new = |seq: u64| numbers.get(&seq).copied().unwrap_or(0);
    let nowhere = thread_id("any");
    for (event, seq) in events.iter_mut().zip(1..) {
        (event.thread_id, event.seq, event.journal_ordinal) = (nowhere.clone(), seq, None);
    }
    for run in &mut runs {
        run.thread_id = nowhere.clone();
        (run.epoch, run.iterations, run.totals) = (0, 0, RunTotals::default());
        (run.idempotency_key, run.reserved) = (None, Estimate::default());
        (run.first_seq, run.last_seq) = (run.first_seq.map(new), run.last_seq.map(new));
        // Whoever writes late touches it.
        run.updated_at = at(0);
    }
    let range = SeqRange::after(0, 1_000);
    let mut items =
        ok(ledger.items().list(&Scope::System, thread, &ItemFilter::default(), &range).await).items;
    items.retain(|item| is_shown(Some(&item.run_id)));
    for item in &mut items {
        item.thread_id = nowhere.clone();
        (item.started_seq, item.updated_seq) = (new(item.started_seq), new(item.updated_seq));
        item.completed_seq = item.completed_seq.map(new);
    }
    Seen {
        events,
        runs,
        items,
        blobs: ok(ledger.blobs().list(&Scope::System, thread, None, 100).await),
        window: said(&ok(ledger.context().load(&Scope::System, thread).await)),
    }
}

fn fork(source: &ThreadId, id: &str, through: ForkPoint) -> Fork {
    Fork { at: at(99), ..Fork::new(source.clone(), thread_id(id)).through(through) }
}

async fn forked(ledger: &Ledger, fork: Fork) -> Forked {
    ok(ledger.fork(&Scope::System, fork).await)
}

/// Ends what is active, as the application would.
async fn end_third(ledger: &Ledger, t: &ThreadId) {
    let epoch = ok(ledger.runs().get(&Scope::System, t, &run_id("r3")).await).epoch;
    ok(commit(
        ledger,
        Admitted { thread: t.clone(), run: run_id("r3"), epoch }
            .commit(5, vec![tool_ended("c6", ItemStatus::Failed)]),
    )
    .await);
    finish(ledger, &Admitted { thread: t.clone(), run: run_id("r3"), epoch }, 6).await;
}

/// A fork of all reads as its source: runs, events, items, blobs and the context window.
pub async fn a_fork_reads_as_its_source(ledger: &Ledger) {
    let t = talk(ledger, &alice()).await;
    end_third(ledger, &t).await;
    let before = (log(ledger, &t).await, ok(ledger.threads().get(&alice(), &t).await));
    let made = ok(ledger.fork(&alice(), fork(&t, "f", ForkPoint::Latest)).await);
    let (source, copy) = (seen(ledger, &t).await, seen(ledger, &made.thread.thread_id).await);
    assert_eq!(copy, source);
    assert_eq!((made.events, made.written), (source.events.len() as u64, source.events.len() as u64));
    let last = before.0.last().map(|event| event.seq);
    let expected = crate::Thread {
        thread_id: thread_id("f"),
        status: made.thread.status.clone(),
        forked_from_thread_id: Some(t.clone()),
        forked_at_seq: last,
        created_at: at(99),
        updated_at: made.thread.updated_at,
        ..before.1.clone()
    };
    assert_eq!(made.thread, expected);
    assert_eq!((log(ledger, &t).await, ok(ledger.threads().get(&alice(), &t).await)), before);
    // A fork of the fork reads the same, and so does one that was made before the source went.
    let again = forked(ledger, fork(&thread_id("f"), "g", ForkPoint::Latest)).await;
    ok(ledger.threads().delete(&Scope::System, &t).await);
    ok(ledger.threads().delete(&Scope::System, &thread_id("f")).await);
    assert_eq!(seen(ledger, &again.thread.thread_id).await, source);
}

/// What is cut in the middle ends as interrupted, with what it had open.
pub async fn a_fork_ends_what_it_cuts(ledger: &Ledger) {
    let t = talk(ledger, &Scope::System).await;
    let source = seen(ledger, &t).await;
    let made = forked(ledger, fork(&t, "latest", ForkPoint::Latest)).await;
    let copy = seen(ledger, &thread_id("latest")).await;
    let count = source.events.len();
    assert_eq!(copy.events[..count], source.events[..]);
    assert_eq!(made.events, count as u64);
    // The open call, then the end.
    let ends: Vec<(String, Option<ItemStatus>)> = copy.events[count..]
        .iter()
        .map(|event| (event.event_type.to_string(), event.item.as_ref().map(|item| item.status.clone())))
        .collect();
    let call = ("item.completed".to_owned(), Some(ItemStatus::Interrupted));
    assert_eq!(ends, [call, ("run.interrupted".to_owned(), None)]);
    let run = ok(ledger.runs().get(&Scope::System, &thread_id("latest"), &run_id("r3")).await);
    assert_eq!((run.status, run.stop_reason.as_deref()), (RunStatus::Interrupted, Some("forked")));
    assert_eq!(run.finished_at, Some(at(99)));
    assert_eq!(copy.window[..source.window.len()], source.window[..]);
    assert_eq!(ok(ledger.runs().get(&Scope::System, &t, &run_id("r3")).await).status, RunStatus::Running);

    for (point, id, last, open) in [
        (ForkPoint::BeforeRun(run_id("r2")), "before", "r1", false),
        (ForkPoint::Run(run_id("r1")), "run", "r1", false),
        (ForkPoint::Item(run_id("r1"), item_id("a1")), "item", "r1", true),
        (ForkPoint::Item(run_id("r2"), item_id("c4")), "open", "r2", true),
    ] {
        let made = forked(ledger, fork(&t, id, point)).await;
        let copy = seen(ledger, &made.thread.thread_id).await;
        assert_eq!(copy.events[..made.events as usize], source.events[..made.events as usize], "{id}");
        assert_eq!(copy.events.len() as u64 > made.events, open, "{id}");
        let newest =
            copy.runs.first().map(|run| (run.run_id.clone(), run.stop_reason.as_deref() == Some("forked")));
        assert_eq!(newest, Some((run_id(last), open)), "{id}");
        let at_work = copy.items.iter().filter(|item| item.status == ItemStatus::InProgress).count();
        assert_eq!(at_work, 0, "{id}");
    }
    let empty = forked(ledger, fork(&t, "empty", ForkPoint::BeforeRun(run_id("r1")))).await;
    assert_eq!((empty.events, empty.thread.forked_at_seq), (1, Some(1)));
    let hidden = fork(&t, "none", ForkPoint::Run(run_id("hidden")));
    assert_eq!(kind(ledger.fork(&Scope::System, hidden).await), ErrorKind::Conflict);
    for point in [ForkPoint::Run(run_id("none")), ForkPoint::Item(run_id("r1"), item_id("none"))] {
        assert_eq!(kind(ledger.fork(&Scope::System, fork(&t, "none", point)).await), ErrorKind::NotFound);
    }
    assert_eq!(kind(ledger.threads().get(&Scope::System, &thread_id("none")).await), ErrorKind::NotFound);
}

/// The same fork again is answered with what is there, also where source and fork went on; another one under its
/// id is refused.
pub async fn a_repeated_fork_writes_nothing(ledger: &Ledger) {
    let t = talk(ledger, &Scope::System).await;
    let made = forked(ledger, fork(&t, "f", ForkPoint::Latest)).await;
    let copy = seen(ledger, &thread_id("f")).await;
    let again = forked(ledger, fork(&t, "f", ForkPoint::Latest)).await;
    assert_eq!(again, Forked { written: 0, ..made.clone() });
    assert_eq!(seen(ledger, &thread_id("f")).await, copy);
    end_third(ledger, &t).await;
    let own = admit_at(ledger, &thread_id("f"), "own", 60).await;
    ok(commit(ledger, own.commit(0, vec![user("u9", "on")])).await);
    let again = forked(ledger, fork(&t, "f", ForkPoint::Latest)).await;
    assert_eq!((again.events, again.written), (made.events, 0));
    for point in [ForkPoint::Run(run_id("r1")), ForkPoint::BeforeRun(run_id("r2"))] {
        let other = ledger.fork(&Scope::System, fork(&t, "f", point)).await;
        assert_eq!(kind(other), ErrorKind::AlreadyExists);
    }
    thread(ledger, &Scope::System, "plain").await;
    let taken = ledger.fork(&Scope::System, fork(&t, "plain", ForkPoint::Latest)).await;
    assert_eq!(kind(taken), ErrorKind::AlreadyExists);
    let other = ledger.fork(&Scope::System, fork(&thread_id("plain"), "f", ForkPoint::Latest)).await;
    assert_eq!(kind(other), ErrorKind::AlreadyExists);
    // What was changed since is no copy any more.
    ok(ledger.events().delete_by_run(&Scope::System, &thread_id("f"), &run_id("r1")).await);
    let changed = ledger.fork(&Scope::System, fork(&t, "f", ForkPoint::Latest)).await;
    assert_eq!(kind(changed), ErrorKind::Conflict);
}

/// A log that takes so many commits and no more.
#[derive(Debug)]
pub(super) struct CutShort {
    ledger: Ledger,
    left: AtomicUsize,
    /// The payload bytes of the largest commit it was given.
    largest: AtomicUsize,
}

impl CutShort {
    pub(super) fn after(ledger: &Ledger, commits: usize) -> Arc<Self> {
        Arc::new(Self {
            ledger: ledger.clone(),
            left: AtomicUsize::new(commits),
            largest: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl EventStore for CutShort {
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        let metadata = |event: &EventDraft| event.metadata.as_ref().map_or(0, |json| json.as_str().len());
        let of_events = commit.events.iter().map(|event| event.content.as_str().len() + metadata(event));
        let bytes = of_events.chain(commit.blobs.iter().map(|blob| blob.bytes.len())).sum();
        self.largest.fetch_max(bytes, Ordering::SeqCst);
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match left {
            Ok(_) => self.ledger.events().append(scope, commit).await,
            Err(_) => Err(Error::Unavailable { applied: Applied::No, source: "cut short".into() }),
        }
    }

    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent> {
        self.ledger.events().put_if_absent(scope, thread, run, event).await
    }

    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.ledger.events().list_messages(scope, thread, visibility, range).await
    }

    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.ledger.events().list_messages_by_run(scope, thread, run, range).await
    }

    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        self.ledger.events().list_events(scope, thread, filter, range).await
    }

    async fn count_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        visibility: RunVisibility,
    ) -> Result<u64> {
        self.ledger.events().count_messages(scope, thread, visibility).await
    }

    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>> {
        self.ledger.events().last_visible_ai_seq_by_run(scope, thread, runs).await
    }

    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.ledger.events().delete_by_thread(scope, thread).await
    }

    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        self.ledger.events().delete_by_run(scope, thread, run).await
    }

    fn signal(&self) -> &AppendSignal {
        self.ledger.events().signal()
    }
}

/// Wherever a fork was cut short, the next call makes it what it would have been, and writes nothing twice.
pub async fn a_fork_goes_on_where_it_was_cut(ledger: &Ledger) {
    let t = talk(ledger, &Scope::System).await;
    let whole = forked(ledger, fork(&t, "whole", ForkPoint::Latest)).await;
    let expected = seen(ledger, &thread_id("whole")).await;
    for count in 0.. {
        let name = format!("cut-{count}");
        let cut = ledger.with_events(CutShort::after(ledger, count));
        let first = cut.fork(&Scope::System, fork(&t, &name, ForkPoint::Latest)).await;
        let is_whole = first.is_ok();
        let made = forked(ledger, fork(&t, &name, ForkPoint::Latest)).await;
        assert_eq!(made.events, whole.events, "after {count} commits");
        assert_eq!(seen(ledger, &thread_id(&name)).await, expected, "after {count} commits");
        if is_whole {
            assert_eq!(made.written, 0);
            assert!(count > 10, "{count} commits are too few to be cut");
            break;
        }
    }
}

/// A fork is its source's owner's; of what one does not see there is none.
pub async fn a_fork_is_its_owners(ledger: &Ledger) {
    let t = talk(ledger, &alice()).await;
    let strangers = ledger.fork(&mallory(), fork(&t, "f", ForkPoint::Latest)).await;
    assert_eq!(kind(strangers), ErrorKind::NotFound);
    // Made by the system, it is alice's all the same.
    forked(ledger, fork(&t, "f", ForkPoint::Latest)).await;
    ok(ledger.threads().get(&alice(), &thread_id("f")).await);
    assert_eq!(kind(ledger.threads().get(&mallory(), &thread_id("f")).await), ErrorKind::NotFound);
    let own = thread(ledger, &mallory(), "own").await;
    let taken = ledger.fork(&mallory(), fork(&own, "f", ForkPoint::Latest)).await;
    assert_eq!(kind(taken), ErrorKind::AlreadyExists);
    let nobody = ledger.fork(&alice(), fork(&thread_id("none"), "g", ForkPoint::Latest)).await;
    assert_eq!(kind(nobody), ErrorKind::NotFound);
}

/// What the log keeps in part is copied as it is, however often: nothing is cut that was cut before.
pub async fn a_fork_cuts_nothing_again(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "source").await;
    let trace = |content: RawJson| EventDraft { category: Category::Trace, content, ..note("") };
    let long = "long \u{e9}".repeat(4_000);
    let object = json(&format!(r#"{{"of": "{long}", "and": ["{long}"]}}"#));
    append(ledger, &t, vec![trace(RawJson::string(&long)), trace(object), trace(RawJson::string("short"))])
        .await;
    let source = log(ledger, &t).await;
    assert_eq!(source.iter().map(|event| event.truncated).collect::<Vec<_>>(), [true, true, false]);
    for (from, id) in [("source", "f"), ("source", "f"), ("f", "g"), ("g", "h"), ("g", "h")] {
        forked(ledger, fork(&thread_id(from), id, ForkPoint::Latest)).await;
        let mut copy = log(ledger, &thread_id(id)).await;
        copy.iter_mut().for_each(|event| event.thread_id = t.clone());
        assert_eq!(copy, source, "{id}");
    }
}

/// A commit of a fork has no more bytes than is told, whether they are of payloads or of what stands beside them.
pub async fn a_fork_is_written_in_small_commits(ledger: &Ledger) {
    const LIMIT: usize = 4 << 20;
    let t = thread(ledger, &Scope::System, "source").await;
    let beside = json(&format!(r#"{{"of": "{}"}}"#, "m".repeat(1_500_000)));
    for _ in 0..4 {
        let large = |text| EventDraft { metadata: Some(beside.clone()), ..note(text) };
        append(ledger, &t, vec![large("a"), note(&"b".repeat(1_000_000)), large("c")]).await;
    }
    let watched = CutShort::after(ledger, usize::MAX);
    let made = ok(ledger
        .with_events(Arc::<CutShort>::clone(&watched))
        .fork(&Scope::System, fork(&t, "f", ForkPoint::Latest))
        .await);
    assert_eq!(made.written, 12);
    let largest = watched.largest.load(Ordering::SeqCst);
    assert!((LIMIT / 2..=LIMIT).contains(&largest), "{largest} bytes");
    let count = |events: Vec<Event>| events.into_iter().map(|event| event.metadata).collect::<Vec<_>>();
    assert_eq!(count(log(ledger, &thread_id("f")).await), count(log(ledger, &t).await));
}
