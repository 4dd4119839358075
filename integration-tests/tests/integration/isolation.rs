//! Who is not the owner sees nothing: a walk over every method of every store trait, and over every id
//! inside a params struct, with a foreign scope.
//!
//! The methods are read from the traits' source and the ids from the structs', so one that is added
//! without a step here fails.

use std::collections::BTreeMap;
use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::view::search::SearchQuery;
use runledger_core::{
    Admission, AgentRunFilter, AgentRunId, AgentRunRecord, AgentUsage, ApiToken, ApiTokenFilter, ApiTokenId,
    BlobHash, CancelAction, Category, ChildFilter, Commit, DeletionFilter, Erasure, ErrorKind, Estimate,
    EventDraft, EventFilter, EventType, FeedbackFilter, FeedbackId, FeedbackPatch, Finish, Fold, FoldedSteps,
    Fork, ForkOrigin, ImportCursor, ImportSource, IndexBudget, InteractionFilter, InteractionId, ItemFilter,
    ItemId, ItemKind, ItemMark, ItemQuery, ItemStatus, JournalMark, Ledger, ListRange, NewAgentRun,
    NewFeedback, NewInteraction, NewRun, NewThread, ONCE_TERMINAL, Outcome, OwnerId, Rating, RawJson,
    Reserve, Result, RunFilter, RunId, RunProgress, RunVisibility, Scope, SearchFilter, SeqRange, SourceId,
    Spawn, Sweep, ThreadFilter, ThreadId, ThreadPatch, Timestamp, TokenCounts, TurnQuery, UsageBy,
    UsageDraft, UsageOf, UsageQuery, Visibility, WorkerId, offload,
};

use crate::backend::{Fresh, on_each_backend};

on_each_backend!(
    every_method_refuses_a_stranger,
    a_deleted_thread_answers_as_a_missing_one,
    ids_inside_params_are_checked,
);

const SOURCES: &[(&str, &str)] = &[
    ("ThreadStore", include_str!("../../../core/src/store/threads.rs")),
    ("RunStore", include_str!("../../../core/src/store/runs.rs")),
    ("EventStore", include_str!("../../../core/src/store/events.rs")),
    ("ItemStore", include_str!("../../../core/src/store/items.rs")),
    ("UsageStore", include_str!("../../../core/src/store/usage.rs")),
    ("ContextStore", include_str!("../../../core/src/store/context.rs")),
    ("AgentRunStore", include_str!("../../../core/src/store/agent_runs.rs")),
    ("InteractionStore", include_str!("../../../core/src/store/interactions.rs")),
    ("ImportStore", include_str!("../../../core/src/store/imports.rs")),
    ("BlobStore", include_str!("../../../core/src/store/blobs.rs")),
    ("SearchStore", include_str!("../../../core/src/store/search.rs")),
    ("FeedbackStore", include_str!("../../../core/src/store/feedback.rs")),
    ("ApiTokenStore", include_str!("../../../core/src/store/api_tokens.rs")),
];

/// Every async method of the store traits, as `Trait::method`.
fn methods() -> Vec<String> {
    let mut methods = Vec::new();
    for (name, source) in SOURCES {
        let start = source.find(&format!("pub trait {name}")).expect("the trait is in its file");
        for line in source[start..].lines().take_while(|line| *line != "}") {
            if let Some(rest) = line.trim_start().strip_prefix("async fn ") {
                let method = rest.split(['(', '<']).next().expect("a name");
                methods.push(format!("{name}::{method}"));
            }
        }
    }
    methods
}

/// What a step answered: the kind of its error, or that it succeeded with nothing of the other owner's in it.
type Answers = BTreeMap<&'static str, Option<ErrorKind>>;

fn kind<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn note() -> EventDraft {
    let kind = EventType::new("note").expect("a short label");
    EventDraft::new(kind, Category::Message, RawJson::string("hello"))
}

/// The agent run of the thread's run.
fn agent_run_of(thread: &ThreadId) -> AgentRunId {
    AgentRunId::new(thread.as_str()).expect("an id")
}

/// One owner's thread with a finished run, an item and a model call.
async fn a_thread_of_alice(ledger: &Ledger, alice: &Scope) -> (ThreadId, RunId) {
    let (thread, run) = (ThreadId::generate(), RunId::generate());
    ledger.threads().create(alice, NewThread::new(thread.clone())).await.expect("the thread");
    let agent_run = Some(NewAgentRun::new(agent_run_of(&thread), "agent", "goal"));
    let admission = Admission { idempotency_key: Some("key".into()), agent_run, ..Admission::default() };
    let new = NewRun { admission, input: vec![note()], ..NewRun::new(thread.clone(), run.clone()) };
    ledger.admit(alice, new).await.expect("the run");
    let (content, blobs) = offload(&RawJson::string("large"), 0, 5).expect("a large text");
    let mark = ItemMark::new(ItemId::new("i1").expect("an id"), ItemKind::ToolCall, ItemStatus::InProgress);
    let mut commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![EventDraft::item(
        mark,
        Category::Lifecycle,
        content,
    )]);
    commit.blobs = blobs;
    commit.usage.push(UsageDraft::new(SourceId::new("call").expect("an id"), TokenCounts::of(1, 1)));
    ledger.events().append(alice, commit).await.expect("the item");
    ledger.feedback().create(alice, opinion(&thread, &run, "f1")).await.expect("the feedback");
    (thread, run)
}

/// What somebody thinks of a run.
fn opinion(thread: &ThreadId, run: &RunId, id: &str) -> NewFeedback {
    NewFeedback {
        thread_id: thread.clone(),
        feedback_id: FeedbackId::new(id).expect("an id"),
        run_id: run.clone(),
        item_id: None,
        rating: Rating::Up,
        comment: None,
        at: Timestamp::now(),
    }
}

/// A question that a run of the thread ended with, which is open.
async fn asked(ledger: &Ledger, scope: &Scope, thread: &ThreadId, run: &RunId) {
    let epoch = ledger.runs().get(scope, thread, run).await.expect("the run").epoch;
    let outcome = Outcome::interrupted(Outcome::WAITING_FOR_INPUT);
    let ask = NewInteraction {
        interaction_id: InteractionId::new("q1").expect("an id"),
        kind: "approval".to_owned(),
        request: RawJson::null(),
        item_id: None,
    };
    let end = Finish {
        thread_id: thread.clone(),
        run_id: run.clone(),
        mark: JournalMark { epoch, ordinal: 0 },
        events: vec![EventDraft::terminal(&outcome, None, Timestamp::now())],
        outcome,
        at: Timestamp::now(),
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: vec![ask],
    };
    ledger.finish(scope, end).await.expect("the question");
}

async fn answers(ledger: &Ledger, scope: &Scope, thread: &ThreadId, run: &RunId) -> Answers {
    let item = ItemId::new("i1").expect("an id");
    let once = EventDraft { once_key: Some("once".into()), ..note() };
    let commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![note()]);
    let list = ListRange::default();
    let page = SeqRange::default();
    let of_run = EventFilter::of_run(run.clone());
    let of_thread = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let (threads, runs, events) = (ledger.threads(), ledger.runs(), ledger.events());
    let (items, usage) = (ledger.items(), ledger.usage());
    let question = InteractionId::new("q1").expect("an id");
    let blob = BlobHash::of(b"large");
    let asked = InteractionFilter { thread_id: Some(thread.clone()), ..InteractionFilter::default() };
    let (feedback, given) = (ledger.feedback(), FeedbackId::new("f1").expect("an id"));
    let (tokens, token_id) = (ledger.api_tokens(), ApiTokenId::generate());
    let token = ApiToken {
        token_id: token_id.clone(),
        token_hash: "0".repeat(64),
        owner_id: scope.owner().cloned(),
        label: None,
        created_at: Timestamp::now(),
        expires_at: None,
        revoked_at: None,
    };
    let (imports, source) = (ledger.imports(), ImportSource::new("s").expect("a source"));
    let (byte_offset, updated_at) = (1, Timestamp::now());
    let read_to = ImportCursor { source: source.clone(), byte_offset, last_line_hash: None, updated_at };
    let (worker, second) = (WorkerId::generate(), Duration::from_secs(1));
    let sweep = Sweep { grace: second, unleased: None };
    let listed = threads.list(scope, &ThreadFilter::default(), &list).await;
    assert_eq!(listed.expect("a list").items, []);
    let listed = runs.list(scope, &RunFilter::default(), &list).await;
    assert_eq!(listed.expect("a list").items, []);
    let (agent_runs, agent_run) = (ledger.agent_runs(), agent_run_of(thread));
    let listed = agent_runs.list(scope, &AgentRunFilter::default(), &list).await;
    assert_eq!(listed.expect("a list").items, []);
    let folded = FoldedSteps {
        output: None,
        steps: Vec::new(),
        usage: AgentUsage::default(),
        model: None,
        confidence: None,
    };
    let record = NewAgentRun::new(agent_run.clone(), "agent", "goal");
    let record = AgentRunRecord::new(record, Timestamp::now()).cancelled();
    let listed = ledger.interactions().list(scope, &InteractionFilter::default(), &list).await;
    assert_eq!(listed.expect("a list").items, []);
    let heads = threads.heads(scope, std::slice::from_ref(thread)).await;
    assert_eq!(heads.expect("heads"), []);
    let hello = SearchQuery::parse("hello").expect("a word");
    let searched = SearchFilter::of_thread(thread.clone());
    let found = ledger.search(scope, &hello, &SearchFilter::default(), &list).await;
    assert_eq!(found.expect("a page").items, []);
    BTreeMap::from([
        ("AgentRunStore::get", kind(agent_runs.get(scope, &agent_run).await)),
        // Was checked to be empty above.
        ("AgentRunStore::standing", kind(agent_runs.standing(scope, &agent_run).await)),
        ("AgentRunStore::list", None),
        ("AgentRunStore::fold", kind(agent_runs.fold(scope, &agent_run, folded).await)),
        ("AgentRunStore::list_unfolded", kind(agent_runs.list_unfolded(scope, None, 10).await)),
        ("AgentRunStore::delete", kind(agent_runs.delete(scope, &agent_run).await)),
        ("AgentRunStore::record", kind(agent_runs.record(scope, record).await)),
        ("ThreadStore::get", kind(threads.get(scope, thread).await)),
        ("ThreadStore::head", kind(threads.head(scope, thread).await)),
        // Lists were checked to be empty above.
        ("ThreadStore::list", None),
        ("ThreadStore::heads", None),
        (
            "ThreadStore::update",
            kind(threads.update(scope, thread, ThreadPatch::default(), Timestamp::now()).await),
        ),
        ("ThreadStore::set_owner", kind(threads.set_owner(scope, thread, None).await)),
        (
            "ThreadStore::list_children",
            kind(threads.list_children(scope, thread, &ChildFilter::default(), &list).await),
        ),
        ("ThreadStore::archive", kind(threads.archive(scope, thread, Timestamp::now()).await)),
        ("ThreadStore::unarchive", kind(threads.unarchive(scope, thread, Timestamp::now()).await)),
        ("ThreadStore::list_spent", kind(threads.list_spent(scope, second, 10).await)),
        (
            "ThreadStore::list_deletions",
            kind(threads.list_deletions(scope, &DeletionFilter::default(), &list).await),
        ),
        (
            "ThreadStore::erase_remains",
            kind(threads.erase_remains(scope, &OwnerId::new("alice").expect("an id"), Erasure::Delete).await),
        ),
        ("RunStore::get", kind(runs.get(scope, thread, run).await)),
        ("RunStore::find", kind(runs.find(scope, run).await)),
        ("RunStore::find_by_idempotency_key", kind(runs.find_by_idempotency_key(scope, thread, "key").await)),
        ("RunStore::list", kind(runs.list(scope, &of_thread, &list).await)),
        (
            "RunStore::set_visibility",
            kind(runs.set_visibility(scope, thread, run, Visibility::Superseded).await),
        ),
        ("RunStore::rewind", kind(runs.rewind(scope, thread, run).await)),
        (
            "RunStore::reserve",
            kind(runs.reserve(scope, thread, run, 1, Reserve::call(Estimate::default())).await),
        ),
        ("RunStore::release", kind(runs.release(scope, thread, run, 1, Reserve::default()).await)),
        ("RunStore::lease", kind(runs.lease(scope, thread, run).await)),
        (
            "RunStore::request_cancel",
            kind(runs.request_cancel(scope, thread, run, CancelAction::Interrupt, Timestamp::now()).await),
        ),
        ("RunStore::renew_leases", kind(runs.renew_leases(scope, &worker, second).await)),
        ("RunStore::list_claimable", kind(runs.list_claimable(scope, &sweep, 10).await)),
        ("EventStore::append", kind(events.append(scope, commit).await)),
        ("EventStore::put_if_absent", kind(events.put_if_absent(scope, thread, run, once).await)),
        (
            "EventStore::list_messages",
            kind(events.list_messages(scope, thread, RunVisibility::All, &page).await),
        ),
        (
            "EventStore::list_messages_by_run",
            kind(events.list_messages_by_run(scope, thread, run, &page).await),
        ),
        ("EventStore::list_events", kind(events.list_events(scope, thread, &of_run, &page).await)),
        ("EventStore::count_messages", kind(events.count_messages(scope, thread, RunVisibility::All).await)),
        (
            "EventStore::last_visible_ai_seq_by_run",
            kind(events.last_visible_ai_seq_by_run(scope, thread, std::slice::from_ref(run)).await),
        ),
        ("EventStore::delete_by_run", kind(events.delete_by_run(scope, thread, run).await)),
        ("EventStore::delete_by_thread", kind(events.delete_by_thread(scope, thread).await)),
        ("ItemStore::get", kind(items.get(scope, thread, run, &item).await)),
        ("ItemStore::claim", kind(items.claim(scope, thread, run, &item, 1).await)),
        ("ItemStore::list", kind(items.list(scope, thread, &ItemFilter::default(), &page).await)),
        ("ItemStore::page", kind(items.page(scope, thread, &ItemQuery::default()).await)),
        ("ItemStore::read", kind(items.read(scope, thread, run, std::slice::from_ref(&item)).await)),
        ("ItemStore::turns", kind(items.turns(scope, thread, &TurnQuery::default()).await)),
        ("ItemStore::rebuild", kind(items.rebuild(scope, thread).await)),
        ("ItemStore::verify", kind(items.verify(scope, thread).await)),
        ("UsageStore::list_by_run", kind(usage.list_by_run(scope, thread, run, None, 10).await)),
        ("UsageStore::by_run", kind(usage.by_run(scope, thread, run).await)),
        (
            "UsageStore::report",
            kind(usage.report(scope, &UsageQuery::new(UsageOf::Tree(thread.clone()), UsageBy::Total)).await),
        ),
        ("UsageStore::by_thread", kind(usage.by_thread(scope, thread, true).await)),
        ("ContextStore::load", kind(ledger.context().load(scope, thread).await)),
        (
            "ContextStore::list_compactions",
            kind(ledger.context().list_compactions(scope, thread, &page).await),
        ),
        ("InteractionStore::get", kind(ledger.interactions().get(scope, thread, &question).await)),
        ("InteractionStore::list", kind(ledger.interactions().list(scope, &asked, &list).await)),
        ("ImportStore::cursor", kind(imports.cursor(scope, thread, &source).await)),
        ("ImportStore::set_cursor", kind(imports.set_cursor(scope, thread, read_to).await)),
        ("ImportStore::quarantine", kind(imports.quarantine(scope, thread, Vec::new()).await)),
        ("ImportStore::list_quarantined", kind(imports.list_quarantined(scope, thread, None, 10).await)),
        ("BlobStore::get", kind(ledger.blobs().get(scope, thread, &blob).await)),
        ("BlobStore::entry", kind(ledger.blobs().entry(scope, thread, &blob).await)),
        ("BlobStore::list", kind(ledger.blobs().list(scope, thread, None, 10).await)),
        (
            "SearchStore::index",
            kind(ledger.search_index().index(scope, Some(thread), IndexBudget::default()).await),
        ),
        ("SearchStore::forget", kind(ledger.search_index().forget(scope, thread).await)),
        ("SearchStore::find", kind(ledger.search_index().find(scope, &hello, &searched, &list).await)),
        ("FeedbackStore::create", kind(feedback.create(scope, opinion(thread, run, "f2")).await)),
        ("FeedbackStore::put", kind(feedback.put(scope, opinion(thread, run, "f2")).await)),
        ("FeedbackStore::get", kind(feedback.get(scope, thread, &given).await)),
        ("FeedbackStore::list", kind(feedback.list(scope, thread, &FeedbackFilter::default(), &list).await)),
        (
            "FeedbackStore::update",
            kind(feedback.update(scope, thread, &given, FeedbackPatch::default(), Timestamp::now()).await),
        ),
        ("FeedbackStore::delete", kind(feedback.delete(scope, thread, &given).await)),
        ("FeedbackStore::stats", kind(feedback.stats(scope, thread, std::slice::from_ref(run)).await)),
        ("ApiTokenStore::create", kind(tokens.create(scope, token).await)),
        ("ApiTokenStore::find", kind(tokens.find(scope, &"0".repeat(64)).await)),
        ("ApiTokenStore::list", kind(tokens.list(scope, &ApiTokenFilter::default(), &list).await)),
        ("ApiTokenStore::revoke", kind(tokens.revoke(scope, &token_id, Timestamp::now()).await)),
        ("EventStore::ready", kind(events.ready().await)),
        ("ThreadStore::delete", kind(threads.delete(scope, thread).await)),
        // Last, because a thread that never was exists afterwards.
        ("ThreadStore::create", kind(threads.create(scope, NewThread::new(thread.clone())).await)),
    ])
}

/// What a stranger must be answered.
fn expected(method: &str) -> Option<ErrorKind> {
    match method {
        // It tells of the backend, and of nobody.
        "EventStore::ready" => None,
        "ThreadStore::list" | "ThreadStore::heads" | "AgentRunStore::list" => None,
        "ThreadStore::create" | "AgentRunStore::record" => Some(ErrorKind::AlreadyExists),
        // The system's business.
        "ThreadStore::set_owner"
        | "ThreadStore::list_spent"
        | "ThreadStore::list_deletions"
        | "ThreadStore::erase_remains"
        | "RunStore::renew_leases"
        | "RunStore::list_claimable"
        | "ApiTokenStore::create"
        | "ApiTokenStore::find"
        | "ApiTokenStore::list"
        | "ApiTokenStore::revoke"
        | "AgentRunStore::list_unfolded" => Some(ErrorKind::InvalidInput),
        _ => Some(ErrorKind::NotFound),
    }
}

/// The walk: every method refuses a stranger, a missing thread and a deleted one alike, and nothing changed.
async fn every_method_refuses_a_stranger(fresh: &Fresh) {
    let ledger = &fresh.ledger();
    let alice = Scope::Owner(OwnerId::new("alice").expect("an id"));
    let mallory = Scope::Owner(OwnerId::new("mallory").expect("an id"));
    let (thread, run) = a_thread_of_alice(ledger, &alice).await;
    asked(ledger, &alice, &thread, &run).await;
    let before = ledger.threads().head(&alice, &thread).await.expect("the head");

    let foreign = answers(ledger, &mallory, &thread, &run).await;
    let known: Vec<String> = foreign.keys().map(ToString::to_string).collect();
    let mut all = methods();
    all.sort();
    assert_eq!(known, all, "every trait method has a step in the walk, and no step is left over");
    for (method, answer) in &foreign {
        assert_eq!(*answer, expected(method), "{method} with a foreign scope");
    }
    assert_eq!(ledger.threads().head(&alice, &thread).await.expect("the head"), before);

    // A thread that never was is answered the same, except that its id is free.
    let mut missing = answers(ledger, &mallory, &ThreadId::generate(), &run).await;
    let mut expected_answers = foreign.clone();
    for creating in ["ThreadStore::create", "AgentRunStore::record"] {
        assert_eq!(missing.remove(creating), Some(None));
        expected_answers.remove(creating);
    }
    assert_eq!(missing, expected_answers);
}

/// Its own owner is answered by a deleted thread as a stranger is.
async fn a_deleted_thread_answers_as_a_missing_one(fresh: &Fresh) {
    let ledger = &fresh.ledger();
    let alice = Scope::Owner(OwnerId::new("alice").expect("an id"));
    let (thread, run) = a_thread_of_alice(ledger, &alice).await;
    finish(ledger, &alice, &thread, &run).await;
    ledger.threads().delete(&alice, &thread).await.expect("nothing runs");
    for (method, answer) in answers(ledger, &alice, &thread, &run).await {
        // It went with its thread, and no number of it could be given again.
        if method == "AgentRunStore::record" {
            continue;
        }
        assert_eq!(answer, expected(method), "{method} on a deleted thread");
    }
}

async fn finish(ledger: &Ledger, scope: &Scope, thread: &ThreadId, run: &RunId) {
    let epoch = ledger.runs().get(scope, thread, run).await.expect("the run").epoch;
    let terminal = EventDraft { once_key: Some(ONCE_TERMINAL.to_owned()), ..note() };
    let finish = Finish {
        thread_id: thread.clone(),
        run_id: run.clone(),
        mark: JournalMark { epoch, ordinal: 0 },
        outcome: Outcome::success(),
        at: Timestamp::now(),
        events: vec![terminal],
        usage: Vec::new(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    ledger.finish(scope, finish).await.expect("the end");
}

/// The structs that callers fill in, where their source is.
const PARAMS: &[(&str, &str)] = &[
    ("NewThread", include_str!("../../../core/src/record/thread.rs")),
    ("Spawn", include_str!("../../../core/src/record/thread.rs")),
    ("NewRun", include_str!("../../../core/src/store/ledger.rs")),
    ("Admission", include_str!("../../../core/src/commit/mod.rs")),
    ("Finish", include_str!("../../../core/src/store/ledger.rs")),
    ("Commit", include_str!("../../../core/src/commit/mod.rs")),
    ("UsageDraft", include_str!("../../../core/src/record/usage.rs")),
    ("ForkOrigin", include_str!("../../../core/src/record/thread.rs")),
    ("Fork", include_str!("../../../core/src/store/fork.rs")),
    ("Fold", include_str!("../../../core/src/store/context.rs")),
    ("NewFeedback", include_str!("../../../core/src/record/feedback.rs")),
];

/// Every field of a params struct that names a thread, a run or an owner, as `Struct.field`.
fn id_fields() -> Vec<String> {
    let mut fields = Vec::new();
    for (name, source) in PARAMS {
        let start = source.find(&format!("pub struct {name} {{")).expect("the struct is in its file");
        for line in source[start..].lines().take_while(|line| *line != "}") {
            let Some((field, of)) = line.trim().strip_prefix("pub ").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            if ["ThreadId", "RunId", "OwnerId"].iter().any(|id| of.contains(id)) {
                fields.push(format!("{name}.{field}"));
            }
        }
    }
    fields
}

/// A fold of a foreign window, and one whose note belongs to a foreign run.
async fn folds_are_checked(
    ledger: &Ledger,
    mallory: &Scope,
    (thread_of_alice, run_of_alice): (&ThreadId, &RunId),
) -> [&'static str; 2] {
    let thread = &ThreadId::generate();
    let new = NewRun {
        create_missing: Some(NewThread::new(thread.clone())),
        ..NewRun::new(thread.clone(), RunId::generate())
    };
    let own = ledger.admit(mallory, new).await.expect("mallory's own").run.run_id;
    let mark = ItemMark::new(ItemId::generate(), ItemKind::UserMessage, ItemStatus::Completed);
    let said = EventDraft::item(mark, Category::Message, RawJson::empty_object());
    let commit = Commit::of_run(thread.clone(), own).with_events(vec![said]);
    let seqs = ledger.events().append(mallory, commit).await.expect("mallory's own").seqs;
    let window = ledger.context().load(mallory, thread).await.expect("mallory's own");
    let fold = Fold::new(&window, run_of_alice.clone(), seqs.into_iter().collect(), "a note");
    assert_eq!(kind(ledger.fold(mallory, fold.clone()).await), Some(ErrorKind::NotFound));
    let fold = Fold { thread_id: thread_of_alice.clone(), ..fold };
    assert_eq!(kind(ledger.fold(mallory, fold).await), Some(ErrorKind::NotFound));
    ["Fold.run_id", "Fold.thread_id"]
}

/// Every id inside a params struct is checked under the scope of the call.
async fn ids_inside_params_are_checked(fresh: &Fresh) {
    let ledger = &fresh.ledger();
    let alice = Scope::Owner(OwnerId::new("alice").expect("an id"));
    let mallory = Scope::Owner(OwnerId::new("mallory").expect("an id"));
    let (thread_of_alice, run_of_alice) = a_thread_of_alice(ledger, &alice).await;
    let thread = ThreadId::generate();
    ledger.threads().create(&mallory, NewThread::new(thread.clone())).await.expect("mallory's own");
    let mut walked = Vec::new();
    let admissions = [
        (
            "Admission.follow_up_to_run_id",
            Admission { follow_up_to_run_id: Some(run_of_alice.clone()), ..Admission::default() },
        ),
        (
            "Admission.parent_run_id",
            Admission { parent_run_id: Some(run_of_alice.clone()), ..Admission::default() },
        ),
    ];
    for (field, admission) in admissions {
        let new = NewRun { admission, ..NewRun::new(thread.clone(), RunId::generate()) };
        let refusal = ledger.admit(&mallory, new).await.map(|admitted| admitted.run.run_id);
        assert_eq!(kind(refusal), Some(ErrorKind::NotFound), "{field}");
        walked.push(field);
    }
    // Who pays is said by the run that sets the allowance aside, and by nobody else.
    let admission = Admission { payer_run_id: Some(run_of_alice.clone()), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(thread.clone(), RunId::generate()) };
    let refusal = ledger.admit(&mallory, new).await.map(|admitted| admitted.run.run_id);
    assert_eq!(kind(refusal), Some(ErrorKind::InvalidInput));
    walked.push("Admission.payer_run_id");
    let own = RunId::generate();
    ledger.admit(&mallory, NewRun::new(thread.clone(), own.clone())).await.expect("mallory's run");
    for (field, parent, run) in [
        ("Spawn.parent_thread_id", &thread_of_alice, &run_of_alice),
        ("Spawn.run_id", &thread, &run_of_alice),
    ] {
        let spawn = Some(Spawn::new(parent.clone(), run.clone()));
        let new = NewThread { spawn, ..NewThread::new(ThreadId::generate()) };
        assert_eq!(kind(ledger.threads().create(&mallory, new).await), Some(ErrorKind::NotFound), "{field}");
        walked.push(field);
    }
    let fork = Some(ForkOrigin { source_thread_id: thread_of_alice.clone(), through_seq: 1 });
    let new = NewThread { fork, ..NewThread::new(ThreadId::generate()) };
    assert_eq!(kind(ledger.threads().create(&mallory, new).await), Some(ErrorKind::NotFound));
    let fork = Fork::new(thread_of_alice.clone(), ThreadId::generate());
    assert_eq!(kind(ledger.fork(&mallory, fork).await), Some(ErrorKind::NotFound));
    let fork = Fork::new(thread.clone(), thread_of_alice.clone());
    assert_eq!(kind(ledger.fork(&mallory, fork).await), Some(ErrorKind::AlreadyExists));
    walked.extend(["ForkOrigin.source_thread_id", "Fork.source_thread_id", "Fork.thread_id"]);
    // The tool call of alice's run is none of mallory's.
    let spawn = Some(Spawn::new(thread.clone(), own).by_item(ItemId::new("i1").expect("an id")));
    let new = NewThread { spawn, ..NewThread::new(ThreadId::generate()) };
    assert_eq!(kind(ledger.threads().create(&mallory, new).await), Some(ErrorKind::NotFound));
    let theirs = NewThread { owner_id: alice.owner().cloned(), ..NewThread::new(ThreadId::generate()) };
    assert_eq!(kind(ledger.threads().create(&mallory, theirs.clone()).await), Some(ErrorKind::InvalidInput));
    let mut commit = Commit::new(theirs.thread_id.clone()).with_events(vec![note()]);
    commit.create_missing = Some(theirs);
    assert_eq!(kind(ledger.events().append(&mallory, commit).await), Some(ErrorKind::InvalidInput));
    walked.push("NewThread.owner_id");
    // The run of a commit must be the thread's own.
    let commit = Commit::of_run(thread.clone(), run_of_alice.clone()).with_events(vec![note()]);
    assert_eq!(kind(ledger.events().append(&mallory, commit).await), Some(ErrorKind::NotFound));
    let commit = Commit::new(thread_of_alice.clone()).with_events(vec![note()]);
    assert_eq!(kind(ledger.events().append(&mallory, commit).await), Some(ErrorKind::NotFound));
    walked.extend(["Commit.run_id", "Commit.thread_id"]);
    let new = NewRun::new(thread_of_alice.clone(), RunId::generate());
    assert_eq!(kind(ledger.admit(&mallory, new).await), Some(ErrorKind::NotFound));
    walked.push("NewRun.thread_id");
    for (field, of) in [("NewFeedback.thread_id", &thread_of_alice), ("NewFeedback.run_id", &thread)] {
        let new = opinion(of, &run_of_alice, "f3");
        assert_eq!(kind(ledger.feedback().create(&mallory, new.clone()).await), Some(ErrorKind::NotFound));
        assert_eq!(kind(ledger.feedback().put(&mallory, new).await), Some(ErrorKind::NotFound));
        walked.push(field);
    }
    let mut call = UsageDraft::new(SourceId::new("c").expect("an id"), TokenCounts::of(1, 1));
    call.child_thread_id = Some(thread_of_alice.clone());
    let commit = Commit { usage: vec![call], ..Commit::new(thread.clone()) };
    assert_eq!(kind(ledger.events().append(&mallory, commit).await), Some(ErrorKind::NotFound));
    walked.push("UsageDraft.child_thread_id");
    walked.extend(folds_are_checked(ledger, &mallory, (&thread_of_alice, &run_of_alice)).await);
    for (field, of) in [("Finish.thread_id", &thread_of_alice), ("Finish.run_id", &thread)] {
        let finish = Finish {
            thread_id: of.clone(),
            run_id: run_of_alice.clone(),
            mark: JournalMark { epoch: 1, ordinal: 0 },
            outcome: Outcome::success(),
            at: Timestamp::now(),
            events: vec![EventDraft { once_key: Some(ONCE_TERMINAL.to_owned()), ..note() }],
            usage: Vec::new(),
            progress: RunProgress::default(),
            asks: Vec::new(),
        };
        let refusal = kind(ledger.finish(&mallory, finish).await);
        assert!(matches!(refusal, Some(ErrorKind::NotFound | ErrorKind::LeaseLost)), "{field}: {refusal:?}");
        walked.push(field);
    }
    // Ids to be made are no reference to anything.
    let new_ids = ["NewThread.thread_id", "NewRun.run_id"];
    let mut fields = id_fields();
    fields.retain(|field| !new_ids.contains(&field.as_str()));
    fields.sort();
    walked.sort_unstable();
    assert_eq!(walked, fields, "every id in a params struct has a step in the walk");
}
