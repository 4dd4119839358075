//! How both databases would run each reader's statement, on tables of a realistic size.
//!
//! Every statement must use the index that is named here, scan no table and, as a list, sort
//! nothing. PostgreSQL is asked for the values at hand, and for any values, as it plans a
//! statement that it has seen often. Where it expects few rows it may fetch them in the order of
//! the table and sort them; so that the index gives the order is asked with that way closed.
//! SQLite is asked before and after `ANALYZE`.
//!
//! PostgreSQL is asked where `RUNLEDGER_TEST_DATABASE_URL` names a server.

mod fill;

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::view::search::SearchQuery;
use runledger_core::{
    AgentMatch, AgentRunFilter, AgentRunId, ApiTokenFilter, ApiTokenId, AssistantId, BlobHash, Caller,
    CancelAction, Category, ChildFilter, Contents, Cursor, DeletionFilter, Erasure, EventFilter, EventType,
    FeedbackFilter, FeedbackId, ImportSource, InteractionFilter, InteractionId, InteractionStatus,
    ItemFilter, ItemId, ItemKind, ItemQuery, ItemSeq, ItemStatus, ListOrder, ListRange, MemoryLedger,
    MetadataMatch, MetadataValue, NewFeedback, NewRun, NewThread, OwnerId, QuarantineId, Rating, Run,
    RunFilter, RunId, RunStatus, RunVisibility, Scope, SearchFilter, SeqRange, SeqScan, SeqSpan, SourceId,
    TaskId, ThreadFilter, ThreadId, ThreadStatus, Timestamp, TurnQuery, TurnStart, TurnView, UsageBy,
    UsageOf, UsageQuery, WorkerId,
};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseBackend, DatabaseConnection, QueryTrait, Statement,
    TransactionTrait,
};

use super::walk::Walk;
use super::{
    agent_runs, api_tokens, audit, blobs, context, erasure, events, feedback, imports, interactions, items,
    leases, probe, prune, runs, search, thread_list, thread_rows, threads, tree, usage,
};
use crate::retention::PrunePolicy;
use fill::fill;

/// One statement of a reader and the index that must find its rows.
struct Case {
    reader: &'static str,
    statement: Statement,
    table: &'static str,
    /// `pk` is the table's primary key; empty is any, where two are as good.
    index: &'static str,
    order: Order,
}

/// Where a statement's rows get their order from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// From the index; nothing is sorted.
    Index,
    /// The whole index is walked in its order: the list of everything there is.
    Walk,
    /// The few rows found are sorted, or grouped.
    Sorted,
}

fn thread() -> ThreadId {
    ThreadId::new("t1").unwrap()
}

fn run() -> RunId {
    RunId::new("t1-r20").unwrap()
}

/// The first page of threads, or of runs, and a later one.
fn pages() -> [(ListRange, ListRange); 2] {
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let after = |cursor| ListRange { limit: 50, cursor: Some(cursor) };
    let later = (
        after(Cursor::at_place(false, at, &ThreadId::new("t600").unwrap())),
        after(Cursor::at_run(at, &run(), &thread())),
    );
    [(ListRange::default(), ListRange::default()), later]
}

/// The four forms of a page.
fn scans() -> [SeqScan; 4] {
    [
        SeqRange::last(50),
        SeqRange::after(1_000, 50),
        SeqRange::before(2_000, 50),
        SeqRange { limit: 50, before_seq: Some(2_000), after_seq: Some(1_000) },
    ]
    .map(|range| range.resolve().unwrap())
}

fn owner() -> Scope {
    Scope::Owner(OwnerId::new("o1").unwrap())
}

fn cases(backend: DatabaseBackend) -> Vec<Case> {
    let mut cases = Vec::new();
    for scope in [owner(), Scope::System] {
        threads_and_runs(backend, &scope, &mut cases);
        runs_of_agents(backend, &scope, &mut cases);
        single_rows(backend, &scope, &mut cases);
        windows(backend, &scope, &mut cases);
        interactions_of(backend, &scope, &mut cases);
        feedback_on(backend, &scope, &mut cases);
        imports_of(backend, &scope, &mut cases);
        reports(backend, &scope, &mut cases);
        large_payloads(backend, &scope, &mut cases);
        searches(backend, &scope, &mut cases);
        for scan in scans() {
            logs(backend, &scope, &scan, &mut cases);
        }
    }
    turns(backend, &mut cases);
    leases_of_workers(backend, &mut cases);
    pruning(backend, &mut cases);
    trees(backend, &mut cases);
    erasing(backend, &mut cases);
    tokens(backend, &mut cases);
    cases
}

/// What people think of runs and messages.
fn feedback_on(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let (thread, run) = (thread(), run());
    let mut case = |reader, index, order, statement| {
        cases.push(Case { reader, statement, table: "feedback", index, order });
    };
    let id = FeedbackId::new("t1-f20").unwrap();
    case("feedback.get", "pk", Order::Index, feedback::get(backend, scope, &thread, &id));
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let later = ListRange { limit: 50, cursor: Some(Cursor::at(at, "t1-f20")) };
    for range in [ListRange::default(), later] {
        let statement =
            feedback::list(backend, scope, &thread, &FeedbackFilter::default(), &range, 50).unwrap();
        case("feedback.list", "ix_feedback_created", Order::Index, statement);
        let filter = FeedbackFilter { run_ids: Vec::new(), item_id: Some(ItemId::new("t1-i40").unwrap()) };
        let statement = feedback::list(backend, scope, &thread, &filter, &range, 50).unwrap();
        // The few of a message may also be found first and sorted.
        case("feedback.list of a message", "", Order::Sorted, statement);
        let filter = FeedbackFilter { run_ids: vec![run.clone()], item_id: None };
        let statement = feedback::list(backend, scope, &thread, &filter, &range, 50).unwrap();
        case("feedback.list of a run", "ix_feedback_run", Order::Index, statement);
    }
    let statement = feedback::stats(backend, scope, &thread, &[run.clone(), run.clone()]);
    // All indexes that begin with thread and run are as good.
    case("feedback.stats", "", Order::Sorted, statement);
    for item_id in [None, Some(ItemId::new("t1-i40").unwrap())] {
        let new = NewFeedback {
            thread_id: thread.clone(),
            feedback_id: id.clone(),
            run_id: run.clone(),
            item_id,
            rating: Rating::Up,
            comment: None,
            at,
        };
        let statement = feedback::opinion_like(backend, &new.into_feedback(scope).unwrap());
        case("feedback, opinion", "", Order::Sorted, statement);
    }
}

/// What lets somebody in.
fn tokens(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let mut case = |reader, index, order, statement| {
        cases.push(Case { reader, statement, table: "api_tokens", index, order });
    };
    let hash = "0".repeat(64);
    case("tokens.find", "uq_api_tokens_hash", Order::Index, api_tokens::find(backend, &hash));
    let id = ApiTokenId::new("k7").unwrap();
    case("tokens.get", "pk", Order::Index, api_tokens::get(backend, &id));
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let later = ListRange { limit: 50, cursor: Some(Cursor::at(at, "k600")) };
    for (range, order) in [(ListRange::default(), Order::Walk), (later, Order::Index)] {
        let statement = api_tokens::list(backend, &ApiTokenFilter::default(), &range, 50).unwrap();
        case("tokens.list", "ix_api_tokens_created", order, statement);
        let of_owner = ApiTokenFilter { owner_id: owner().owner().cloned() };
        let statement = api_tokens::list(backend, &of_owner, &range, 50).unwrap();
        case("tokens.list of an owner", "ix_api_tokens_owner", Order::Index, statement);
    }
}

fn large_payloads(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let (thread, run, hash) = (thread(), run(), BlobHash::from_stored("sha256:500"));
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    case("blobs.get", "blobs", "pk", Order::Index, blobs::get(backend, scope, &thread, &hash));
    case("blobs.entry", "blobs", "pk", Order::Index, blobs::entry(backend, scope, &thread, &hash));
    for after in [None, Some(&hash)] {
        case("blobs.list", "blobs", "pk", Order::Index, blobs::list(backend, scope, &thread, after, 50));
    }
    for gone in [blobs::Gone::Run(&run), blobs::Gone::Span(2_000, 3_000)] {
        let statement = blobs::release_blobs(backend, &thread, gone);
        case("release, blobs", "event_blobs", "pk", Order::Sorted, statement);
        let statement = blobs::release_uses(backend, &thread, gone);
        case("release, uses", "event_blobs", "pk", Order::Index, statement);
    }
}

fn logs(backend: DatabaseBackend, scope: &Scope, scan: &SeqScan, cases: &mut Vec<Case>) {
    let (thread, run) = (thread(), run());
    let mut case = |reader, table, index, statement| {
        cases.push(Case { reader, statement, table, index, order: Order::Index });
    };
    for visibility in [RunVisibility::Shown, RunVisibility::All] {
        let statement = events::messages(backend, scope, &thread, visibility, scan);
        case("list_messages", "run_events", "ix_run_events_messages", statement);
    }
    let statement = events::messages_by_run(backend, scope, &thread, &run, scan);
    case("list_messages_by_run", "run_events", "ix_run_events_messages", statement);
    for filter in [
        EventFilter::default(),
        EventFilter::of_run(run.clone()),
        EventFilter {
            event_types: vec![EventType::new("item.started").unwrap(), EventType::new("x").unwrap()],
            task_id: Some(TaskId::new("k").unwrap()),
            caller: Some(Caller::lead_agent()),
            ..EventFilter::of_run(run.clone())
        },
    ] {
        let statement = events::events(backend, scope, &thread, &filter, scan);
        case("list_events", "run_events", "pk", statement);
    }
    for run_id in [None, Some(run)] {
        for (status, index) in [
            (None, "ix_thread_items_started"),
            (Some(ItemStatus::InProgress), "ix_thread_items_open"),
            (Some(ItemStatus::Failed), "ix_thread_items_started"),
        ] {
            let filter = ItemFilter { run_id: run_id.clone(), status };
            for (by, contents, visibility) in [
                (ItemSeq::Started, Contents::Omitted, RunVisibility::All),
                (ItemSeq::Started, Contents::Read, RunVisibility::Shown),
                (ItemSeq::Updated, Contents::Read, RunVisibility::Shown),
            ] {
                let query =
                    ItemQuery { filter: filter.clone(), visibility, by, contents, ..ItemQuery::default() };
                // What goes on changed last where it began.
                let is_open = query.filter.status == Some(ItemStatus::InProgress);
                let index =
                    if by == ItemSeq::Updated && !is_open { "ix_thread_items_updated" } else { index };
                let statement = items::page(backend, scope, &thread, &query, scan);
                case("items.page", "thread_items", index, statement);
            }
        }
    }
}

/// Turns, and what rebuilds and verifies a thread.
fn turns(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let (thread, run) = (thread(), run());
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let edge = Cursor::at_run(at, &run, &thread);
    for scope in [owner(), Scope::System] {
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst] {
            for start in [TurnStart::First, TurnStart::After(edge.clone()), TurnStart::Before(edge.clone())] {
                let query = TurnQuery { order, start, ..TurnQuery::default() };
                let statement = items::runs_of_turns(backend, &scope, &thread, &query, 25).unwrap();
                case("turns, runs", "runs", "ix_runs_thread_created", Order::Index, statement);
            }
        }
        let ids = [ItemId::new("t1-i40").unwrap(), ItemId::new("t1-i41").unwrap()];
        let statement = items::by_ids(backend, &scope, &thread, &run, &ids);
        case("items.read", "thread_items", "pk", Order::Sorted, statement);
    }
    let runs = [a_run("t1-r20", 2_000), a_run("t1-r21", 2_100)];
    for (view, index) in
        [(TurnView::Summary, "ix_thread_items_messages"), (TurnView::Full, "ix_thread_items_started")]
    {
        let statement = items::of_turns(backend, &thread, &runs, view, 10).unwrap();
        case("turns, items", "thread_items", index, Order::Sorted, statement);
    }
    let statement = thread_rows::events_after(backend, &thread, 9_000);
    case("verify, log", "run_events", "pk", Order::Index, statement);
    let statement = thread_rows::events_at(backend, &thread, &[7, 9, 9_000]);
    case("verify, events", "run_events", "pk", Order::Sorted, statement);
    // Of one thread, another index that begins with its id is as good.
    case("verify, runs", "runs", "", Order::Index, thread_rows::runs_after(backend, &thread, "t1-r20"));
    let statement = thread_rows::items_after(backend, &thread, ("t1-r20", "t1-i40"));
    case("verify, index", "thread_items", "pk", Order::Index, statement);
    let keys = [("t1-r20", "t1-i40"), ("t1-r20", "t1-i41"), ("t1-r21", "t1-i42")]
        .map(|(run, item)| (RunId::new(run).unwrap(), ItemId::new(item).unwrap()));
    for statement in thread_rows::items_of(backend, &thread, &keys) {
        case("verify, items", "thread_items", "pk", Order::Sorted, statement);
    }
    let statement = thread_rows::usage_after(backend, &thread, "t1-s1");
    case("verify, usage", "usage_records", "pk", Order::Index, statement);
    let statement = thread_rows::removed_after(backend, &thread, 7);
    case("verify, deletions", "deletions", "", Order::Index, statement);
    case("verify, quarantine", "quarantine", "pk", Order::Index, thread_rows::quarantined(backend, &thread));
}

/// A run whose log is the hundred numbers from `first` on.
fn a_run(id: &str, first: u64) -> Run {
    let thread = NewThread::new(thread());
    let memory = MemoryLedger::new().ledger();
    let run = NewRun::new(thread.thread_id.clone(), RunId::new(id).unwrap());
    let admitted = futures_util::FutureExt::now_or_never(async {
        memory.threads().create(&Scope::System, thread).await?;
        memory.admit(&Scope::System, run).await
    });
    Run { first_seq: Some(first), last_seq: Some(first + 99), ..admitted.unwrap().unwrap().run }
}

/// Filters of each kind, and all at once.
fn filters_of_threads() -> Vec<ThreadFilter> {
    let status = Some(ThreadStatus::Idle);
    let assistant_id = Some(AssistantId::new("writer").unwrap());
    let values = [
        MetadataValue::Null,
        MetadataValue::Bool(true),
        MetadataValue::Number(7),
        MetadataValue::Text("x".to_owned()),
    ];
    let metadata: Vec<MetadataMatch> =
        values.into_iter().map(|value| MetadataMatch { key: "k".to_owned(), value }).collect();
    vec![
        ThreadFilter::default(),
        ThreadFilter { status: status.clone(), ..Default::default() },
        ThreadFilter { assistant_id: assistant_id.clone(), ..Default::default() },
        ThreadFilter { pinned: Some(true), ..Default::default() },
        ThreadFilter { pinned: Some(false), ..Default::default() },
        ThreadFilter { metadata: metadata.clone(), ..Default::default() },
        ThreadFilter { status, assistant_id, pinned: Some(false), metadata, contents: Contents::Omitted },
        ThreadFilter { contents: Contents::Omitted, ..Default::default() },
    ]
}

/// How far a page of threads looks: the last of a page from the beginning, or of one that begins late.
fn edge(side: &thread_list::Side) -> thread_list::Place {
    let (minute, thread) = if side.after.is_some() { ("00:05", "t300") } else { ("04:10", "t15000") };
    let at = Timestamp::parse("at", &format!("2026-01-01T{minute}:00Z")).unwrap().to_chrono();
    thread_list::Place { at, thread: ThreadId::new(thread).unwrap() }
}

fn threads_and_runs(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let owned = *scope != Scope::System;
    let of_all = if owned { Order::Index } else { Order::Walk };
    for (of_threads, of_runs) in pages() {
        let order = if of_runs.cursor.is_some() { Order::Index } else { of_all };
        let index = if owned { "ix_threads_owner_listed" } else { "ix_threads_listed" };
        for filter in filters_of_threads() {
            for side in thread_list::sides(&filter, &of_threads).unwrap() {
                let edge = filter.passes_over().then(|| (side.pinned, edge(&side)));
                let statement = thread_list::list(backend, scope, &filter, &side, 51, edge.as_ref()).unwrap();
                let order = Order::Index;
                cases.push(Case { reader: "threads.list", statement, table: "threads", index, order });
                let statement = thread_list::edge_of(backend, scope, &side);
                cases.push(Case { reader: "threads.list, edge", statement, table: "threads", index, order });
            }
        }
        let day = Timestamp::parse("at", "2026-01-01T00:00:00Z").unwrap();
        for (status, created_from) in [(None, None), (Some(RunStatus::Success), None), (None, Some(day))] {
            let created_before = created_from.map(|from| from.after(Duration::from_secs(86_400)));
            // Whatever is left out of the rows, they are found alike.
            let contents = if status.is_some() { Contents::Omitted } else { Contents::Read };
            let filter = RunFilter { status, created_from, created_before, contents, ..RunFilter::default() };
            let statement = runs::list(backend, scope, &filter, &of_runs, 50).unwrap();
            let index = if owned { "ix_runs_owner_created" } else { "ix_runs_created" };
            cases.push(Case { reader: "runs.list", statement, table: "runs", index, order });
            let filter = RunFilter { thread_id: Some(thread()), ..filter };
            let statement = runs::list(backend, scope, &filter, &of_runs, 50).unwrap();
            cases.push(Case {
                reader: "runs.list of a thread",
                statement,
                table: "runs",
                index: "ix_runs_thread_created",
                order: Order::Index,
            });
            let run_ids = vec![RunId::new("t1-r1").unwrap(), RunId::new("t1-r2").unwrap()];
            let filter = RunFilter { run_ids, ..filter };
            let statement = runs::list(backend, scope, &filter, &of_runs, 50).unwrap();
            cases.push(Case {
                reader: "runs.list of these",
                statement,
                table: "runs",
                index: "",
                order: Order::Sorted,
            });
        }
    }
}

fn single_rows(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let (thread, run) = (thread(), run());
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    case("head", "thread_heads", "pk", Order::Index, probe::head_select(scope, &thread).build(backend));
    case("probe", "thread_heads", "pk", Order::Index, probe::require_statement(backend, scope, &thread));
    case("threads.get", "threads", "pk", Order::Index, threads::get_statement(backend, scope, &thread));
    // The run's id alone is as good as the key.
    let by_id = if backend == DatabaseBackend::Sqlite { "pk" } else { "" };
    case("runs.get", "runs", by_id, Order::Index, runs::get(backend, scope, &thread, &run));
    case("runs.find", "runs", "ix_runs_run", Order::Sorted, runs::find(backend, scope, &run));
    let statement = runs::by_idempotency_key(backend, scope, &thread, "t1-k20");
    case("runs.find_by_idempotency_key", "runs", "uq_runs_idempotency", Order::Index, statement);
    let item = ItemId::new("t1-i40").unwrap();
    case("items.get", "thread_items", "pk", Order::Index, items::get(backend, scope, &thread, &run, &item));
    case("event by seq", "run_events", "pk", Order::Index, events::by_seq(backend, scope, &thread, 7));
    let statement = events::by_once_key(backend, scope, &thread, &run, "once-100");
    case("event by once key", "run_events", "uq_run_events_once", Order::Index, statement);
    let statement = events::last_visible_ai_seq(backend, scope, &thread, &[run.clone(), run.clone()]);
    case("last_visible_ai_seq_by_run", "run_events", "ix_run_events_messages", Order::Index, statement);
    for after in [None, Some(SourceId::new("t1-s1").unwrap())] {
        let statement = usage::list_by_run(backend, scope, &thread, &run, after.as_ref(), 50);
        case("usage.list_by_run", "usage_records", "ix_usage_records_run", Order::Index, statement);
    }
    let statement = usage::breakdown(backend, scope, &thread, usage::Of::Run(&run));
    case("usage.by_run", "usage_records", "ix_usage_records_run", Order::Sorted, statement);
    for of in [usage::Of::Thread, usage::Of::EndedRuns] {
        let statement = usage::breakdown(backend, scope, &thread, of);
        case("usage.by_thread", "usage_records", "", Order::Sorted, statement);
    }
    let statement = events::message_count(backend, scope, &thread, RunVisibility::Shown);
    case("count_messages", "runs", "ix_runs_hidden", Order::Index, statement);
    case("lease", "run_leases", "pk", Order::Index, leases::get(backend, scope, &thread, &run));
    let (action, at) = (CancelAction::Interrupt, Timestamp::now());
    let statement = leases::request_cancel(backend, scope, &thread, &run, &action, at);
    case("request_cancel", "run_leases", "pk", Order::Index, statement);
}

/// A window is read where its compaction says, and after it.
fn windows(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let thread = thread();
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    case("window, head", "thread_heads", "pk", Order::Index, context::head(backend, scope, &thread));
    let statement = context::newest(backend, scope, &thread);
    case("window, compaction", "compactions", "pk", Order::Index, statement);
    let span = |from, through| SeqSpan { from, through };
    let spans = [span(7, 7), span(9_000, 9_100), span(12, 12), span(30, 44)];
    for spans in [&spans[..], &spans[..1], &spans[1..2]] {
        let statement = context::within(backend, scope, &thread, spans);
        case("window, left", "run_events", "ix_run_events_messages", Order::Index, statement);
    }
    let messages = "ix_run_events_messages";
    let statement = context::since(backend, scope, &thread, 9_900);
    case("window, since", "run_events", messages, Order::Index, statement);
    for scan in scans() {
        let statement = context::list(backend, scope, &thread, &scan);
        case("list_compactions", "compactions", "pk", Order::Index, statement);
    }
}

fn interactions_of(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let (thread, id) = (thread(), InteractionId::new("t1-q7").unwrap());
    let mut case = |reader, index, order, statement| {
        cases.push(Case { reader, statement, table: "interactions", index, order });
    };
    let statement = interactions::get(backend, scope, &thread, &id);
    case("interactions.get", "pk", Order::Index, statement);
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let later = ListRange { limit: 50, cursor: Some(Cursor::at_pair(at, id.as_str(), thread.as_str())) };
    for range in [ListRange::default(), later] {
        for status in [None, Some(InteractionStatus::Open)] {
            let of_thread = InteractionFilter { thread_id: Some(thread.clone()), status: status.clone() };
            let statement = interactions::list(backend, scope, &of_thread, &range, 50).unwrap();
            case("interactions.list of a thread", "ix_interactions_thread", Order::Index, statement);
            let of_all = InteractionFilter { thread_id: None, status };
            let statement = interactions::list(backend, scope, &of_all, &range, 50).unwrap();
            let owned = *scope != Scope::System;
            let index = if owned { "ix_interactions_owner" } else { "ix_interactions_created" };
            let order = if owned || range.cursor.is_some() { Order::Index } else { Order::Walk };
            case("interactions.list", index, order, statement);
        }
    }
}

fn imports_of(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let (source, id) = (ImportSource::new("s77").unwrap(), QuarantineId::new("t1-b7").unwrap());
    let mut case = |reader, table, statement| {
        cases.push(Case { reader, statement, table, index: "pk", order: Order::Index });
    };
    case("imports.cursor", "import_cursors", imports::cursor(backend, scope, &thread(), &source));
    for after in [None, Some(&id)] {
        let statement = imports::list_quarantined(backend, scope, &thread(), after, 50);
        case("imports.list_quarantined", "quarantine", statement);
    }
}

/// Filters without an index of their own are asked along the order of the list.
fn runs_of_agents(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let owned = *scope != Scope::System;
    let (id, parent) = (AgentRunId::new("a20").unwrap(), AgentRunId::new("a10").unwrap());
    let mut case = |reader, index, order, statement| {
        cases.push(Case { reader, statement, table: "agent_runs", index, order });
    };
    case("agent_runs.get", "pk", Order::Index, agent_runs::get_statement(backend, scope, &id));
    let statement = agent_runs::standing_statement(backend, scope, &id);
    case("agent_runs.standing", "pk", Order::Index, statement);
    case("agent_runs, standing", "pk", Order::Index, agent_runs::where_it_stands(backend, scope, &id));
    let (index, of_all) = if owned {
        ("ix_agent_runs_owner_created", Order::Index)
    } else {
        ("ix_agent_runs_created", Order::Walk)
    };
    let none = AgentRunFilter::default();
    for (range, _) in pages() {
        let order = if range.cursor.is_some() { Order::Index } else { of_all };
        let prefix = Some(AgentMatch::Prefix("crew.".to_owned()));
        for filter in [none.clone(), AgentRunFilter { agent: prefix, ..none.clone() }] {
            let statement = agent_runs::list(backend, scope, &filter, &range, 50).unwrap();
            case("agent_runs.list", index, order, statement);
        }
        let exact = Some(AgentMatch::Exact("crew.7".to_owned()));
        let filter = AgentRunFilter { agent: exact, ..none.clone() };
        let statement = agent_runs::list(backend, scope, &filter, &range, 50).unwrap();
        // Of an owner, either index has the order.
        let by_agent = if owned { "" } else { "ix_agent_runs_agent" };
        case("agent_runs.list of an agent", by_agent, Order::Index, statement);
        let filter = AgentRunFilter { parent_agent_run_id: Some(parent.clone()), ..none.clone() };
        let statement = agent_runs::list(backend, scope, &filter, &range, 50).unwrap();
        case("agent_runs.list of a parent", "ix_agent_runs_parent", Order::Index, statement);
    }
    for after in [None, Some(&id)] {
        let statement = agent_runs::unfolded(backend, after, 100);
        let order = if after.is_some() { Order::Index } else { Order::Walk };
        case("agent_runs.list_unfolded", "ix_agent_runs_unfolded", order, statement);
    }
}

/// A report reads what its thread, its owner or its time limits it to, and groups that.
fn reports(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let owned = *scope != Scope::System;
    let from = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let minute = (Some(from), Some(from.after(Duration::from_secs(60))));
    let all_time = (None, None);
    let mut case = |of: UsageOf, by, index, (from, before)| {
        let query = UsageQuery { from, before, ..UsageQuery::new(of, by) };
        // The one key of a total is a constant: after another there is nothing to look for.
        let later = (by != UsageBy::Total).then(|| Some("k".to_owned()));
        for after in [None].into_iter().chain(later) {
            let query = UsageQuery { after, ..query.clone() };
            let statement = usage::report(backend, scope, &query, 100);
            cases.push(Case {
                reader: "usage.report",
                statement,
                table: "usage_records",
                index,
                order: Order::Sorted,
            });
        }
    };
    for by in [UsageBy::Total, UsageBy::Model, UsageBy::Day, UsageBy::Run, UsageBy::Round] {
        case(UsageOf::Run(thread(), run()), by, "ix_usage_records_run", all_time);
        // Both begin with the thread.
        case(UsageOf::Thread(thread()), by, "", all_time);
        if by == UsageBy::Round {
            continue;
        }
        case(UsageOf::Tree(ThreadId::new("t2").unwrap()), by, "", all_time);
        // The owner's calls of a time are found by either.
        let of_time = if owned { "" } else { "ix_usage_records_created" };
        case(UsageOf::All, by, of_time, minute);
        if owned {
            case(UsageOf::All, by, "ix_usage_records_owner", all_time);
        }
    }
}

/// A search reads what has the words, and an indexing what a thread has grown by.
fn searches(backend: DatabaseBackend, scope: &Scope, cases: &mut Vec<Case>) {
    let thread = thread();
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    let owned = *scope != Scope::System;
    let listed = if owned { "ix_threads_owner_listed" } else { "ix_threads_listed" };
    case("search, growth", "threads", listed, Order::Sorted, search::growth(backend, scope));
    let statement = search::growth_of(backend, scope, &thread);
    case("search, growth of a thread", "thread_heads", "pk", Order::Index, statement);
    case("search, hold", "thread_heads", "pk", Order::Index, search::held(backend, scope, &thread));
    case("search, sizes", "run_events", "pk", Order::Index, search::sizes(backend, &thread, 100, 500));
    case("search, texts", "run_events", "pk", Order::Index, search::texts(backend, &thread, 100, 600));
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let end = (at, "t600".to_owned(), 7);
    for typed in ["w7", "w7* \"w7 w8\" -w9"] {
        let query = SearchQuery::parse(typed).unwrap();
        let some = SearchFilter {
            kinds: vec![ItemKind::UserMessage],
            created_from: Some(at),
            created_before: Some(at.after(Duration::from_secs(86_400))),
            ..SearchFilter::of_thread(thread.clone())
        };
        let all = SearchFilter { visibility: RunVisibility::All, ..SearchFilter::default() };
        for filter in [SearchFilter::default(), all, some] {
            for end in [None, Some(&end)] {
                let statement = search::candidates(backend, scope, &query, &filter, end, 51);
                case("search", "search_documents", "ix_search_documents_words", Order::Sorted, statement);
            }
        }
    }
}

/// What workers ask for, whoever owns the threads.
fn leases_of_workers(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let minute = Duration::from_secs(60);
    let mut case = |reader, table, index, statement| {
        let order = match reader {
            // All active runs are looked at: their index holds no others.
            "runs without a lease" => Order::Walk,
            // They are locked in the order of their ids.
            "renew_leases" => Order::Sorted,
            _ => Order::Index,
        };
        cases.push(Case { reader, statement, table, index, order });
    };
    let worker = WorkerId::new("w7").unwrap();
    let statement = leases::renew(backend, &worker, minute);
    case("renew_leases", "run_leases", "ix_run_leases_worker", statement);
    let statement = leases::expired(backend, minute, 100);
    case("expired leases", "run_leases", "ix_run_leases_expires", statement);
    let statement = leases::unleased(backend, minute, 100);
    case("runs without a lease", "runs", "uq_runs_active", statement);
}

/// Of a batch that goes only the range of its numbers is read, and of a thread only its own range.
fn pruning(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let (thread, small) = (thread(), ThreadId::new("t2").unwrap());
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap().to_chrono();
    let kept = prune::FirstKept { created_at: at, run_id: "t1-r90".to_owned(), first_seq: Some(9_000) };
    for (categories, keep_last) in [(vec![], 0), (vec![Category::Trace, Category::Message], 10)] {
        let policy = PrunePolicy { categories, keep_last, ..PrunePolicy::new(Duration::from_secs(60)) };
        let applied = prune::Applied { policy, cutoff: at };
        let kept = (keep_last > 0).then_some(&kept);
        for span in [prune::ALL, (2_000, 3_000)] {
            let condition = prune::Condition::new(&applied, &thread, kept, span);
            let sorted = Order::Sorted;
            // All of a log, so one that is a small part of the table.
            let small = prune::Condition::new(&applied, &small, kept, span);
            case("prune, survey", "run_events", "pk", sorted, small.survey(backend));
            case("prune, runs", "run_events", "pk", sorted, condition.runs(backend));
            case("prune, first", "run_events", "pk", Order::Index, condition.first(backend));
            case("prune, tally", "run_events", "pk", sorted, condition.tally(backend));
            // Or the index of messages: it has the same order, and fewer rows.
            case("prune, runs' counts", "run_events", "", sorted, condition.count_in_runs(backend));
            case("prune, ranges", "run_events", "pk", sorted, condition.ranges(backend, "x"));
            case("prune, delete", "run_events", "pk", Order::Index, condition.delete(backend));
        }
    }
    let span = (2_000, 3_000);
    let statement = prune::delete_items(backend, &thread, span);
    case("prune, items", "thread_items", "ix_thread_items_updated", Order::Sorted, statement);
    let statement = prune::move_items(backend, &thread, span);
    case("prune, starts", "thread_items", "ix_thread_items_started", Order::Sorted, statement);
    let statement = prune::delete_documents(backend, &thread, span);
    case("prune, texts", "search_documents", "pk", Order::Sorted, statement);
    let by_time = "ix_runs_thread_created";
    case("prune, newest run", "runs", by_time, Order::Index, prune::newest(backend, &thread, 10));
    case("prune, oldest run", "runs", by_time, Order::Index, prune::oldest(backend, &thread));
    let statement = prune::first_seq(backend, &thread, at, "t1-r90");
    case("prune, first seq", "runs", by_time, Order::Sorted, statement);
    for (after, order) in [(Some(&thread), Order::Index), (None, Order::Walk)] {
        case("prune, threads", "thread_heads", "pk", order, Walk::Alive.page(backend, after));
        case("copy, threads", "thread_heads", "pk", order, Walk::All.page(backend, after));
    }
}

/// Children, whole trees, and what was deleted.
fn trees(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let thread = thread();
    let mut case = |reader, table, index, order, statement| {
        cases.push(Case { reader, statement, table, index, order });
    };
    let at = Timestamp::parse("at", "2026-01-01T00:10:00Z").unwrap();
    let after = |cursor| ListRange { limit: 50, cursor: Some(cursor) };
    let spawn_run_ids = vec![RunId::new("t1-r1").unwrap(), RunId::new("t1-r2").unwrap()];
    let of_runs = ChildFilter { spawn_run_ids, contents: Contents::Omitted };
    for range in [ListRange::default(), after(Cursor::at(at, "t600"))] {
        for scope in [owner(), Scope::System] {
            for filter in [ChildFilter::default(), of_runs.clone()] {
                let statement = tree::children(backend, &scope, &thread, &filter, &range, 50).unwrap();
                case("list_children", "threads", "ix_threads_parent", Order::Index, statement);
            }
        }
    }
    let minute = Duration::from_secs(60);
    let by_time = "ix_threads_ephemeral";
    case("list_spent", "threads", by_time, Order::Index, tree::spent(backend, minute, 100));
    let by_parent = "ix_threads_parent";
    case("tree", "threads", by_parent, Order::Sorted, tree::places(backend, &thread));
    case("place", "threads", "pk", Order::Index, tree::place_of(backend, &thread));
    let statement = tree::family(backend, &thread);
    case("family", "thread_heads", "ix_thread_heads_parent", Order::Sorted, statement);
    let later = after(Cursor::at_seq(at, &thread, 7));
    for (range, order) in [(ListRange::default(), Order::Walk), (later, Order::Index)] {
        let statement = audit::list(backend, &DeletionFilter::default(), &range, 50).unwrap();
        case("list_deletions", "deletions", "ix_deletions_deleted", order, statement);
        let filter = DeletionFilter { thread_id: Some(thread.clone()) };
        let statement = audit::list(backend, &filter, &range, 50).unwrap();
        case("list_deletions of a thread", "deletions", "ix_deletions_thread", Order::Index, statement);
    }
}

/// What is left of an owner.
fn erasing(backend: DatabaseBackend, cases: &mut Vec<Case>) {
    let owner = OwnerId::new("o7").unwrap();
    let at = |text| Timestamp::parse("at", text).unwrap().to_chrono();
    let span = (at("2026-01-01T00:10:00Z"), at("2026-01-01T00:20:00Z"));
    let mut case = |reader, table, index, statement| {
        cases.push(Case { reader, statement, table, index, order: Order::Index });
    };
    for (of, table, index) in [
        (erasure::Remains::Usage, "usage_records", "ix_usage_records_owner"),
        (erasure::Remains::AgentRuns, "agent_runs", "ix_agent_runs_owner_created"),
    ] {
        case("erase, next", table, index, of.next(backend, &owner, span.0));
        for how in [Erasure::Anonymise, Erasure::Delete] {
            case("erase", table, index, of.erase(backend, &owner, how, span));
        }
    }
    let statement = erasure::of_tombstones(backend, &owner);
    case("erase, tombstones", "thread_heads", "ix_thread_heads_deleted", statement);
    case("erase, deletions", "deletions", "ix_deletions_by", erasure::of_deletions(backend, &owner));
    for how in [Erasure::Anonymise, Erasure::Delete] {
        let statement = erasure::of_feedback(backend, &owner, how);
        case("erase, feedback", "feedback", "ix_feedback_owner", statement);
    }
    let statement = erasure::of_api_tokens(backend, &owner);
    case("erase, tokens", "api_tokens", "ix_api_tokens_owner", statement);
}

/// The statement with its values written out, for where no parameter can stand.
fn inlined(statement: &Statement) -> String {
    statement.to_string()
}

async fn sqlite_plan(connection: &DatabaseConnection, case: &Case) -> String {
    let mut explain = case.statement.clone();
    explain.sql = format!("EXPLAIN QUERY PLAN {}", explain.sql);
    let rows = connection.query_all_raw(explain).await.unwrap();
    rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap()).collect::<Vec<_>>().join("\n")
}

/// What SQLite's plan breaks of what is asked.
fn sqlite_faults(case: &Case, plan: &str) -> Vec<String> {
    let index = match case.index {
        "pk" => format!("sqlite_autoindex_{}_1", case.table),
        index => index.to_owned(),
    };
    let mut faults = Vec::new();
    for line in plan.lines() {
        let walk = case.order == Order::Walk && line.contains(&index);
        // What the statement itself made of rows that were found.
        let made =
            line.strip_prefix("SCAN ").map(|name| name.trim_end_matches(" LEFT-JOIN")).is_some_and(|name| {
                ["CO-ROUTINE", "MATERIALIZE"]
                    .iter()
                    .any(|how| plan.lines().any(|line| line == format!("{how} {name}")))
            });
        // An index of words is looked up, not scanned.
        let looked_up = line.contains("VIRTUAL TABLE INDEX") && !line.ends_with("INDEX 0:");
        if line.starts_with("SCAN") && !walk && !made && !looked_up && !line.contains("CONSTANT ROW") {
            faults.push(format!("scans: {line}"));
        }
        if line.contains("TEMP B-TREE") && case.order != Order::Sorted {
            faults.push(format!("sorts: {line}"));
        }
    }
    if !plan.contains(&index) {
        faults.push(format!("does not use {index}"));
    }
    faults
}

async fn postgresql_plans(connection: &DatabaseConnection, case: &Case, bitmaps: &str) -> [String; 2] {
    let txn = connection.begin().await.unwrap();
    let setup =
        format!("SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_bitmapscan = {bitmaps}");
    txn.execute_unprepared(&setup).await.unwrap();
    txn.execute_unprepared(&format!("PREPARE reader AS {}", case.statement.sql)).await.unwrap();
    // For any values: run with NULLs, which only the plan for the values at hand would look at.
    let count = case.statement.values.as_ref().map_or(0, |values| values.0.len());
    let any = match count {
        0 => "EXECUTE reader".to_owned(),
        count => format!("EXECUTE reader ({})", vec!["NULL"; count].join(", ")),
    };
    let plans = [explain(&txn, &inlined(&case.statement)).await, explain(&txn, &any).await];
    txn.execute_unprepared("DEALLOCATE reader").await.unwrap();
    txn.rollback().await.unwrap();
    plans
}

async fn explain(connection: &impl ConnectionTrait, sql: &str) -> String {
    let explain = Statement::from_string(DatabaseBackend::Postgres, format!("EXPLAIN (COSTS OFF) {sql}"));
    let rows = connection.query_all_raw(explain).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect::<Vec<_>>().join("\n")
}

/// What PostgreSQL's plan breaks of what is asked.
fn postgresql_faults(case: &Case, may_sort: bool, plan: &str) -> Vec<String> {
    let index = match case.index {
        "pk" => format!("pk_{}", case.table),
        index => index.to_owned(),
    };
    let mut faults = Vec::new();
    for line in plan.lines().map(str::trim) {
        if line.contains("Seq Scan") {
            faults.push(format!("scans: {line}"));
        }
        if line.contains("Sort") && !may_sort {
            faults.push(format!("sorts: {line}"));
        }
    }
    if !plan.contains(&index) {
        faults.push(format!("does not use {index}"));
    }
    faults
}

/// One line for each fault, so that a failure shows all of them and the plans.
fn report(case: &Case, faults: Vec<String>, plan: &str) -> Vec<String> {
    if faults.is_empty() {
        return Vec::new();
    }
    let statement = inlined(&case.statement);
    let from = statement.find(" FROM ").unwrap_or_default();
    vec![format!("{}: {}\n...{}\n{plan}\n", case.reader, faults.join("; "), &statement[from..])]
}

#[tokio::test]
async fn every_reader_uses_its_index_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("plan.db").display());
    runledger_migration::up(&url, &runledger_migration::UpOptions::default()).await.unwrap();
    let connection = sea_orm::Database::connect(&url).await.unwrap();
    fill(&connection).await;
    let mut faults = Vec::new();
    for analysed in [false, true] {
        if analysed {
            connection.execute_unprepared("ANALYZE").await.unwrap();
        }
        for case in cases(DatabaseBackend::Sqlite) {
            let plan = sqlite_plan(&connection, &case).await;
            faults.extend(report(&case, sqlite_faults(&case, &plan), &plan));
        }
    }
    assert_eq!(faults.join("\n"), "");
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn every_reader_uses_its_index_on_postgresql() {
    let Ok(server) = std::env::var("RUNLEDGER_TEST_DATABASE_URL") else {
        eprintln!("SKIPPED: set RUNLEDGER_TEST_DATABASE_URL to a PostgreSQL server to see its plans");
        return;
    };
    let name = format!("plan_{}", std::process::id());
    let admin = sea_orm::Database::connect(&server).await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE IF EXISTS {name}")).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut url = url::Url::parse(&server).unwrap();
    url.set_path(&name);
    runledger_migration::up(url.as_str(), &runledger_migration::UpOptions::default()).await.unwrap();
    let connection =
        sea_orm::Database::connect(ConnectOptions::new(url.as_str()).max_connections(1).to_owned())
            .await
            .unwrap();
    fill(&connection).await;
    connection.execute_unprepared("VACUUM ANALYZE").await.unwrap();
    let mut faults = Vec::new();
    for case in cases(DatabaseBackend::Postgres) {
        let ways: &[&str] = if case.order == Order::Sorted { &["on"] } else { &["on", "off"] };
        for &bitmaps in ways {
            let may_sort = bitmaps == "on";
            for plan in postgresql_plans(&connection, &case, bitmaps).await {
                faults.extend(report(&case, postgresql_faults(&case, may_sort, &plan), &plan));
            }
        }
    }
    connection.close().await.unwrap();
    admin.execute_unprepared(&format!("DROP DATABASE {name}")).await.unwrap();
    assert_eq!(faults.join("\n"), "");
}
