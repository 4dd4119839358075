//! Every call that is counted.

use std::time::Duration;

use pretty_assertions::assert_eq;
use runledger_core::view::search::SearchQuery;
use runledger_core::{
    Admission, AgentRunFilter, AgentRunRecord, ApiTokenFilter, CancelAction, ChildFilter, Claim, Commit,
    Contents, DeletionFilter, Erasure, Estimate, EventDraft, EventFilter, Expected, FeedbackFilter,
    FeedbackPatch, Finish, FoldedSteps, IndexBudget, InteractionFilter, InteractionId, ItemFilter, ItemQuery,
    ItemSeq, ItemStatus, JournalMark, Ledger, ListOrder, ListRange, MetadataMatch, MetadataValue,
    NewAgentRun, NewRun, NewThread, Outcome, OwnerId, Patch, Rating, Reserve, RunFilter, RunProgress,
    RunVisibility, Scope, SearchFilter, SeqRange, Spawn, Sweep, ThreadFilter, ThreadId, ThreadLifecycle,
    ThreadPatch, Transition, TurnQuery, TurnStart, TurnView, UsageBy, UsageOf, UsageQuery, Visibility,
};

use super::Tally;
use super::scene::{Scene, at, item_id, notes, run_id, spent, user, with_blob};

pub(super) async fn reads(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    threads(ledger, scene, tally).await;
    runs(ledger, scene, tally).await;
    events(ledger, scene, tally).await;
    items(ledger, scene, tally).await;
    usage(ledger, scene, tally).await;
    windows(ledger, scene, tally).await;
    agent_runs(ledger, scene, tally).await;
    beside(ledger, scene, tally).await;
    search(ledger, scene, tally).await;
}

async fn threads(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let store = ledger.threads();
    let range = ListRange { limit: size, cursor: None };
    tally.call("threads.get", store.get(scope, thread)).await;
    tally.call("threads.head", store.head(scope, thread)).await;
    let children: Vec<ThreadId> =
        (0..size).map(|number| ThreadId::new(scene.name("c", number)).unwrap()).collect();
    let heads = tally.call("threads.heads", store.heads(scope, &children)).await;
    assert_eq!(heads.len(), size as usize);
    let page = tally.call("threads.list", store.list(scope, &ThreadFilter::default(), &range)).await;
    assert_eq!(page.items.len(), size as usize);
    let later = ListRange { limit: size, cursor: page.next_cursor };
    let page =
        tally.call("threads.list, a later page", store.list(scope, &ThreadFilter::default(), &later)).await;
    assert_eq!(page.items.len(), size as usize);
    let all = tally
        .call("threads.list of the system", store.list(&Scope::System, &ThreadFilter::default(), &range))
        .await;
    assert_eq!(all.items.len(), size as usize);
    let wanted = MetadataMatch { key: "k".to_owned(), value: MetadataValue::Number(1) };
    let filter = ThreadFilter { metadata: vec![wanted], ..ThreadFilter::default() };
    tally.call("threads.list by metadata", store.list(scope, &filter, &range)).await;
    let page = tally
        .call("threads.list_children", store.list_children(scope, thread, &ChildFilter::default(), &range))
        .await;
    assert_eq!(page.items.len(), size as usize);
    let filter = DeletionFilter::default();
    let deletions = store.list_deletions(&Scope::System, &filter, &range);
    let page = tally.call("threads.list_deletions", deletions).await;
    assert_eq!(page.items.len(), size as usize);
    let spent = store.list_spent(&Scope::System, Duration::ZERO, size);
    assert_eq!(tally.call("threads.list_spent", spent).await.len(), size as usize);
}

async fn runs(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let store = ledger.runs();
    let range = ListRange { limit: size, cursor: None };
    tally.call("runs.get", store.get(scope, thread, &run_id("r1"))).await;
    tally.call("runs.find", store.find(scope, &run_id("r1"))).await;
    tally.call("runs.find_by_idempotency_key", store.find_by_idempotency_key(scope, thread, "k1")).await;
    let page = tally.call("runs.list of an owner", store.list(scope, &RunFilter::default(), &range)).await;
    assert_eq!(page.items.len(), size as usize);
    let of_thread = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    let page = tally.call("runs.list of a thread", store.list(scope, &of_thread, &range)).await;
    assert_eq!(page.items.len(), size as usize);
    let left = ThreadId::new(scene.name("l", 0)).unwrap();
    tally.call("runs.lease", store.lease(scope, &left, &run_id("r"))).await;
    let sweep = Sweep { grace: Duration::ZERO, unleased: None };
    let claimable =
        tally.call("runs.list_claimable", store.list_claimable(&Scope::System, &sweep, size)).await;
    assert_eq!(claimable.len(), size as usize);
}

async fn events(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let store = ledger.events();
    let full = size as usize;
    for (name, visibility, range) in [
        ("events.list_messages, the newest", RunVisibility::Shown, SeqRange::last(size)),
        ("events.list_messages, the first", RunVisibility::Shown, SeqRange::after(0, size)),
        ("events.list_messages, hidden ones too", RunVisibility::All, SeqRange::last(size)),
    ] {
        let page = tally.call(name, store.list_messages(scope, thread, visibility, &range)).await;
        assert_eq!(page.items.len(), full);
    }
    let range = SeqRange::last(size);
    let run = run_id("r1");
    let by_run = store.list_messages_by_run(scope, thread, &run, &range);
    assert_eq!(tally.call("events.list_messages_by_run", by_run).await.items.len(), 2);
    let whole_log = EventFilter::default();
    let page = tally.call("events.list_events", store.list_events(scope, thread, &whole_log, &range)).await;
    assert_eq!(page.items.len(), full);
    let of_run = EventFilter::of_run(scene.active.run_id.clone());
    let page =
        tally.call("events.list_events of a run", store.list_events(scope, thread, &of_run, &range)).await;
    assert_eq!(page.items.len(), full);
    let nowhere = SeqRange::after(1_000_000, size);
    let page = store.list_events(scope, thread, &whole_log, &nowhere);
    assert_eq!(tally.call("events.list_events, an empty page", page).await.items.len(), 0);
    let shown = store.count_messages(scope, thread, RunVisibility::Shown);
    tally.call("events.count_messages", shown).await;
    let all = store.count_messages(scope, thread, RunVisibility::All);
    tally.call("events.count_messages, hidden ones too", all).await;
    let runs: Vec<_> = (0..size).map(|number| run_id(format!("r{number}"))).collect();
    let seqs = store.last_visible_ai_seq_by_run(scope, thread, &runs);
    assert_eq!(tally.call("events.last_visible_ai_seq_by_run", seqs).await.len(), full);
    tally.call("events.ready", store.ready()).await;
}

async fn items(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let (store, full) = (ledger.items(), size as usize);
    let active = &scene.active.run_id;
    tally.call("items.get", store.get(scope, thread, active, &item_id("c0"))).await;
    let calls: Vec<_> = (0..size).map(|number| item_id(format!("c{number}"))).collect();
    let page = tally.call("items.read", store.read(scope, thread, active, &calls)).await;
    assert_eq!(page.items.len(), full);
    let range = SeqRange::after(0, size);
    for (name, contents, by) in [
        ("items.page", Contents::Read, ItemSeq::Started),
        ("items.page without contents", Contents::Omitted, ItemSeq::Started),
        ("items.page of what changed", Contents::Read, ItemSeq::Updated),
    ] {
        let query = ItemQuery { range, contents, by, ..ItemQuery::default() };
        let page = tally.call(name, store.page(scope, thread, &query)).await;
        assert_eq!(page.items.len(), full);
    }
    let open = ItemFilter { status: Some(ItemStatus::InProgress), ..ItemFilter::default() };
    let page = tally.call("items.list", store.list(scope, thread, &open, &range)).await;
    assert_eq!(page.items.len(), full);
    for (name, view) in [
        ("items.turns", TurnView::Summary),
        ("items.turns with their items", TurnView::Full),
        ("items.turns without items", TurnView::NotLoaded),
    ] {
        let query = TurnQuery {
            view,
            order: ListOrder::NewestFirst,
            start: TurnStart::First,
            limit: size,
            ..TurnQuery::default()
        };
        let page = tally.call(name, store.turns(scope, thread, &query)).await;
        assert_eq!(page.turns.len(), full);
    }
    let verified = tally.call("items.verify", store.verify(scope, thread)).await;
    assert_eq!(verified.runs, u64::from(size) + 2);
    let open = tally.call("Ledger::open_items", ledger.open_items(scope, thread, None)).await;
    assert_eq!(open.len(), full);
    let pending = tally.call("Ledger::pending", ledger.pending(scope, thread)).await;
    assert_eq!(pending.len(), full);
}

async fn usage(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let store = ledger.usage();
    let run = run_id("r1");
    let calls = tally.call("usage.list_by_run", store.list_by_run(scope, thread, &run, None, size)).await;
    assert_eq!(calls.len(), size as usize);
    tally.call("usage.by_run", store.by_run(scope, thread, &run)).await;
    tally.call("usage.by_thread", store.by_thread(scope, thread, true)).await;
    for (name, of, by) in [
        ("usage.report of an owner", UsageOf::All, UsageBy::Day),
        ("usage.report of a thread", UsageOf::Thread(thread.clone()), UsageBy::Model),
        ("usage.report of a tree", UsageOf::Tree(thread.clone()), UsageBy::Thread),
        ("usage.report of a run", UsageOf::Run(thread.clone(), run), UsageBy::Caller),
    ] {
        tally.call(name, store.report(scope, &UsageQuery::new(of, by))).await;
    }
}

async fn windows(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let window = tally.call("context.load", ledger.context().load(scope, thread)).await;
    assert!(window.messages.len() > size as usize);
    let range = SeqRange::last(size);
    let folds = ledger.context().list_compactions(scope, thread, &range);
    assert_eq!(tally.call("context.list_compactions", folds).await.items.len(), size as usize);
}

async fn agent_runs(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, size) = (&scene.scope, scene.size);
    let store = ledger.agent_runs();
    tally.call("agent_runs.get", store.get(scope, &scene.agent_run(1))).await;
    tally.call("agent_runs.standing", store.standing(scope, &scene.agent_run(1))).await;
    let range = ListRange { limit: size, cursor: None };
    let page = tally.call("agent_runs.list", store.list(scope, &AgentRunFilter::default(), &range)).await;
    assert_eq!(page.items.len(), size as usize);
    let unfolded = store.list_unfolded(&Scope::System, None, size);
    assert_eq!(tally.call("agent_runs.list_unfolded", unfolded).await.len(), size as usize);
    let id = scene.agent_run(1);
    let read = ledger.agent_run(scope, &id);
    tally.call("Ledger::agent_run, from the log", read).await;
}

/// Questions, opinions, imports, blobs and tokens.
async fn beside(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let full = size as usize;
    let range = ListRange { limit: size, cursor: None };
    let question = InteractionId::new(scene.name("q", 1)).unwrap();
    let store = ledger.interactions();
    tally.call("interactions.get", store.get(scope, thread, &question)).await;
    let page =
        tally.call("interactions.list", store.list(scope, &InteractionFilter::default(), &range)).await;
    assert_eq!(page.items.len(), full);
    let store = ledger.feedback();
    let opinion = scene.opinion(1).feedback_id;
    tally.call("feedback.get", store.get(scope, thread, &opinion)).await;
    let page =
        tally.call("feedback.list", store.list(scope, thread, &FeedbackFilter::default(), &range)).await;
    assert_eq!(page.items.len(), full);
    let runs: Vec<_> = (0..size).map(|number| run_id(format!("r{number}"))).collect();
    assert_eq!(tally.call("feedback.stats", store.stats(scope, thread, &runs)).await.len(), full);
    let store = ledger.imports();
    tally.call("imports.cursor", store.cursor(scope, thread, &scene.cursor().source)).await;
    let parts = store.list_quarantined(scope, thread, None, size);
    assert_eq!(tally.call("imports.list_quarantined", parts).await.len(), full);
    let store = ledger.blobs();
    let blobs = tally.call("blobs.list", store.list(scope, thread, None, size)).await;
    assert_eq!(blobs.len(), full);
    tally.call("blobs.get", store.get(scope, thread, &blobs[0].hash)).await;
    tally.call("blobs.entry", store.entry(scope, thread, &blobs[0].hash)).await;
    let store = ledger.api_tokens();
    tally.call("api_tokens.find", store.find(&Scope::System, &scene.token(1).token_hash)).await;
    let of_owner = ApiTokenFilter { owner_id: Some(scene.owner.clone()) };
    let page = tally.call("api_tokens.list", store.list(&Scope::System, &of_owner, &range)).await;
    assert_eq!(page.items.len(), full);
}

async fn search(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, size) = (&scene.scope, scene.size);
    let store = ledger.search_index();
    let range = ListRange { limit: size, cursor: None };
    let of_thread = SearchFilter::of_thread(scene.thread.clone());
    let query = SearchQuery::parse("hello").unwrap();
    let index = store.index(scope, Some(&scene.thread), IndexBudget::default());
    tally.call("search.index", index).await;
    let page = tally.call("search.find in a thread", store.find(scope, &query, &of_thread, &range)).await;
    assert!(!page.items.is_empty());
    let everywhere = SearchFilter::default();
    let page = tally.call("search.find of an owner", store.find(scope, &query, &everywhere, &range)).await;
    assert!(!page.items.is_empty());
    let searched = ledger.search(scope, &query, &of_thread, &range);
    tally.call("Ledger::search in an indexed thread", searched).await;
}

pub(super) async fn writes(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    appends(ledger, scene, tally).await;
    lives(ledger, scene, tally).await;
    calls_of_tools(ledger, scene, tally).await;
    edits(ledger, scene, tally).await;
    edits_beside(ledger, scene, tally).await;
    deletions(ledger, scene, tally).await;
}

/// A run from its admission to its end.
async fn appends(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, size) = (&scene.scope, scene.size);
    let id = ThreadId::new(format!("w{size}")).unwrap();
    let new = NewThread::new(id.clone());
    tally.call("threads.create", ledger.threads().create(scope, new)).await;
    let input: Vec<EventDraft> = (0..size).map(|number| user(&format!("i{number}"))).collect();
    let new = NewRun { input, ..NewRun::new(id.clone(), run_id("r")) };
    let run = tally.call("Ledger::admit", ledger.admit(scope, new)).await.run;
    let of_run = || Commit::of_run(id.clone(), run.run_id.clone());
    let mark = |ordinal| JournalMark { epoch: run.epoch, ordinal };
    let events = ledger.events();
    let start = Commit { transition: Some(Transition::Start { at: at(1) }), ..of_run() };
    tally.call("events.append, the start of a run", events.append(scope, start.with_mark(mark(0)))).await;
    let plain = of_run().with_events(notes(size)).with_mark(mark(0));
    tally.call("events.append, events", events.append(scope, plain)).await;
    let said = (0..size).map(|number| user(&format!("s{number}"))).collect();
    let usage = (0..size).map(|number| spent(format!("u{number}"))).collect();
    let full = Commit { usage, ..of_run().with_events(said) }.with_mark(mark(size.into()));
    tally.call("events.append, items and usage", events.append(scope, full)).await;
    let log = Commit::new(id.clone()).with_events(notes(size));
    tally.call("events.append, no run", events.append(scope, log)).await;
    let next_seq = ledger.threads().head(scope, &id).await.unwrap().next_seq;
    let expected =
        Commit { expected: Expected::NextSeq(next_seq), ..Commit::new(id.clone()).with_events(notes(size)) };
    tally.call("events.append, expected seq", events.append(scope, expected)).await;
    let again = of_run().with_events(notes(size)).with_mark(mark(0));
    tally.call("events.append, sent again", events.append(scope, again)).await;
    let blobs = (0..size).fold(of_run(), |commit, number| with_blob(commit, &format!("b{number}")));
    tally.call("events.append, blobs", events.append(scope, blobs)).await;
    let mut once = notes(1).remove(0);
    once.once_key = Some("once".to_owned());
    tally.call("events.put_if_absent", events.put_if_absent(scope, &id, &run.run_id, once)).await;
    let estimate = Estimate { tokens: 5, cost_nanos: 0 };
    let runs = ledger.runs();
    let reserve = runs.reserve(scope, &id, &run.run_id, run.epoch, Reserve::call(estimate));
    tally.call("runs.reserve", reserve).await;
    let release = runs.release(scope, &id, &run.run_id, run.epoch, Reserve::call(estimate));
    tally.call("runs.release", release).await;
    let outcome = Outcome::success();
    let mut last = notes(size);
    last.push(EventDraft::terminal(&outcome, None, at(9)));
    let finish = Finish {
        thread_id: id.clone(),
        run_id: run.run_id.clone(),
        mark: mark(u64::from(size) * 2),
        outcome,
        at: at(9),
        events: last,
        usage: (0..size).map(|number| spent(format!("l{number}"))).collect(),
        progress: RunProgress::default(),
        asks: Vec::new(),
    };
    tally.call("Ledger::finish", ledger.finish(scope, finish)).await;
}

/// What becomes of runs.
async fn lives(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let runs = ledger.runs();
    let worker = scene.worker();
    let renewed = runs.renew_leases(&Scope::System, &worker, Duration::from_secs(60));
    assert_eq!(tally.call("runs.renew_leases", renewed).await.len(), size as usize);
    let left = ThreadId::new(scene.name("l", 0)).unwrap();
    let run = run_id("r");
    let asked = runs.request_cancel(scope, &left, &run, CancelAction::Interrupt, at(9));
    tally.call("runs.request_cancel", asked).await;
    let fold = scene.fold(ledger).await;
    tally.call("Ledger::fold", ledger.fold(scope, fold)).await;
    let id = scene.agent_run(1);
    let folded = ledger.fold_agent_run(scope, &id);
    assert!(tally.call("Ledger::fold_agent_run", folded).await);
    let folded = ledger.agent_run(scope, &scene.agent_run(1)).await.unwrap();
    let steps =
        FoldedSteps { output: None, steps: folded.steps, usage: folded.usage, model: None, confidence: None };
    tally.call("agent_runs.fold", ledger.agent_runs().fold(scope, &scene.agent_run(0), steps)).await;
    tally.call("Ledger::agent_run, folded", ledger.agent_run(scope, &scene.agent_run(1))).await;
    let about = NewAgentRun::new(scene.agent_run(1_000), "finder", "find it");
    let record = AgentRunRecord { finished_at: at(2), ..AgentRunRecord::new(about, at(1)) };
    let record = record.completed("found", None);
    let id = record.agent_run_id.clone();
    tally.call("agent_runs.record", ledger.agent_runs().record(scope, record)).await;
    tally.call("agent_runs.delete", ledger.agent_runs().delete(scope, &id)).await;
    let run = run_id("r0");
    let hidden = runs.set_visibility(scope, thread, &run, Visibility::Superseded);
    tally.call("runs.set_visibility", hidden).await;
    let range = SeqRange::last(size);
    let messages = ledger.events().list_messages(scope, thread, RunVisibility::Shown, &range);
    tally.call("events.list_messages, where a run is hidden", messages).await;
}

/// Calls of tools, and the end of what nobody ended.
async fn calls_of_tools(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread) = (&scene.scope, &scene.thread);
    let (active, epoch) = (&scene.active.run_id, scene.active.epoch);
    let items = ledger.items();
    tally.call("items.claim", items.claim(scope, thread, active, &item_id("c0"), epoch)).await;
    let pending = ledger.pending(scope, thread).await.unwrap();
    let complete = ledger.complete_call(scope, &pending[0], epoch, pending[0].call.clone(), at(9));
    tally.call("Ledger::complete_call", complete).await;
    let interrupt = ledger.interrupt(
        scope,
        thread,
        active,
        Claim::Epoch(epoch),
        Outcome::interrupted(Outcome::CANCELLED),
        at(9),
    );
    tally.call("Ledger::interrupt, open calls closed", interrupt).await;
    tally.call("runs.rewind", ledger.runs().rewind(scope, thread, &run_id("r0"))).await;
    tally.call("items.rebuild", items.rebuild(scope, thread)).await;
}

async fn edits(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread) = (&scene.scope, &scene.thread);
    let store = ledger.threads();
    let patch = ThreadPatch { display_name: Patch::Set("name".to_owned()), ..ThreadPatch::default() };
    tally.call("threads.update", store.update(scope, thread, patch, at(9))).await;
    tally.call("threads.archive", store.archive(scope, thread, at(9))).await;
    tally.call("threads.unarchive", store.unarchive(scope, thread, at(9))).await;
}

/// Opinions, imports and tokens.
async fn edits_beside(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread) = (&scene.scope, &scene.thread);
    let feedback = ledger.feedback();
    let old = scene.opinion(1);
    tally.call("feedback.put", feedback.put(scope, old.clone())).await;
    let patch = FeedbackPatch { rating: Some(Rating::Down), comment: Patch::Keep };
    tally.call("feedback.update", feedback.update(scope, thread, &old.feedback_id, patch, at(9))).await;
    tally.call("feedback.delete", feedback.delete(scope, thread, &old.feedback_id)).await;
    tally.call("feedback.create", feedback.create(scope, old)).await;
    let imports = ledger.imports();
    tally.call("imports.set_cursor", imports.set_cursor(scope, thread, scene.cursor())).await;
    tally.call("imports.quarantine", imports.quarantine(scope, thread, scene.quarantined("n"))).await;
    let tokens = ledger.api_tokens();
    let token = scene.token(1_000);
    let id = token.token_id.clone();
    tally.call("api_tokens.create", tokens.create(&Scope::System, token)).await;
    tally.call("api_tokens.revoke", tokens.revoke(&Scope::System, &id, at(9))).await;
    tally.call("search.forget", ledger.search_index().forget(scope, thread)).await;
}

async fn deletions(ledger: &Ledger, scene: &Scene, tally: &mut Tally) {
    let (scope, thread, size) = (&scene.scope, &scene.thread, scene.size);
    let events = ledger.events();
    tally.call("events.delete_by_run", events.delete_by_run(scope, thread, &run_id("r1"))).await;
    tally.call("events.delete_by_thread", events.delete_by_thread(scope, thread)).await;
    let owner = Some(OwnerId::new(format!("p{size}")).unwrap());
    let given = ledger.threads().set_owner(&Scope::System, thread, owner);
    tally.call("threads.set_owner, a tree", given).await;
    // A tree of its own, for the children of the other went with their runs.
    let root = scene.a_thread(ledger, &scene.name("root", 0), None).await;
    let run = scene.a_run(ledger, &root, "r", Admission::default()).await;
    for number in 0..size {
        let spawn = Spawn::new(root.clone(), run.run_id.clone()).with_lifecycle(ThreadLifecycle::Linked);
        scene.a_thread(ledger, &scene.name("leaf", number), Some(spawn)).await;
    }
    ledger
        .interrupt(
            scope,
            &root,
            &run.run_id,
            Claim::Epoch(run.epoch),
            Outcome::interrupted(Outcome::CANCELLED),
            at(9),
        )
        .await
        .unwrap();
    tally.call("threads.delete, a tree", ledger.threads().delete(scope, &root)).await;
    let erased = ledger.threads().erase_remains(&Scope::System, &scene.owner, Erasure::Anonymise);
    tally.call("threads.erase_remains", erased).await;
}
