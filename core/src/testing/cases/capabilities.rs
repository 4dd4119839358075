//! What a backend does not do.

use std::time::Duration;

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::view::search::SearchQuery;
use crate::{
    Admission, ApiTokenFilter, CancelAction, Capability, Commit, Error, ErrorKind, EventDraft,
    FeedbackFilter, IndexBudget, ItemFilter, JournalMark, Ledger, ListRange, NewRun, Outcome, RawJson,
    RunFilter, RunProgress, Scope, SearchFilter, SeqRange, Sweep, TokenCounts, Transition, Visibility,
    WorkerId, offload,
};

/// A backend that answers says so, and again after it was written to.
pub async fn what_answers_is_ready(ledger: &Ledger) {
    ok(ledger.events().ready().await);
    let t = thread(ledger, &alice(), "t").await;
    ok(ledger.events().ready().await);
    assert_eq!(ok(ledger.threads().head(&alice(), &t).await).next_seq, 1);
}

/// What a backend lacks it refuses as such, and stores no part of; what it has it never refuses so.
pub async fn what_is_lacking_is_refused(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![message("a")])).await);
    let (scope, t, r) = (Scope::System, &run.thread, &run.run);
    let of_run = || run.unmarked(vec![note("b")]);
    let admission = Transition::Admit(Box::default());
    let progress = RunProgress { last_ai_message: Some("said".to_owned()), ..RunProgress::default() };
    let mut usage = of_run();
    usage.usage.push(call("c", TokenCounts::of(1, 1)));
    let marked = of_run().with_mark(JournalMark { epoch: 77, ordinal: 0 });
    let keyed = Admission { idempotency_key: Some("k".to_owned()), ..Admission::default() };
    let new = NewRun { admission: keyed, ..NewRun::new(t.clone(), run_id("new")) };
    let end = Admitted { epoch: 77, ..run.clone() }.finish(0, Outcome::success());
    let (runs, items, calls) = (ledger.runs(), ledger.items(), ledger.usage());
    let (content, blobs) =
        ok(offload(&RawJson::string("large"), 0, 5).ok_or_else(|| Error::not_found("blob", "large")));
    let slim = Commit { blobs, ..run.unmarked(vec![EventDraft { content, ..note("") }]) };
    let of_thread = RunFilter { thread_id: Some(t.clone()), ..RunFilter::default() };
    let told = |result: crate::Result<()>| result.err().map(|error| error.kind());
    let (worker, ttl) = (ok(WorkerId::new("w")), Duration::from_secs(1));
    let sweep = Sweep { grace: ttl, unleased: None };
    let (index, none) = (ledger.search_index(), SearchFilter::default());
    let said = ok(SearchQuery::parse("a"));
    let (pages, list) = (SeqRange::default(), ListRange::default());
    let answers = [
        (Capability::Marks, "marked", told(commit(ledger, marked).await.map(drop))),
        (Capability::Usage, "usage", told(commit(ledger, usage).await.map(drop))),
        (Capability::Usage, "by_thread", told(calls.by_thread(&scope, t, true).await.map(drop))),
        (Capability::Usage, "by_run", told(calls.by_run(&scope, t, r).await.map(drop))),
        (Capability::Usage, "list_by_run", told(calls.list_by_run(&scope, t, r, None, 10).await.map(drop))),
        (Capability::Blobs, "blobs", told(commit(ledger, slim).await.map(drop))),
        (Capability::Blobs, "blobs.list", told(ledger.blobs().list(&scope, t, None, 10).await.map(drop))),
        (Capability::Items, "items.get", told(items.get(&scope, t, r, &item_id("i")).await.map(drop))),
        (
            Capability::Items,
            "items.list",
            told(items.list(&scope, t, &ItemFilter::default(), &pages).await.map(drop)),
        ),
        (Capability::Runs, "progress", told(commit(ledger, Commit { progress, ..of_run() }).await.map(drop))),
        (
            Capability::Runs,
            "admission",
            told(commit(ledger, Commit { transition: Some(admission), ..of_run() }).await.map(drop)),
        ),
        (Capability::Runs, "admit", told(ledger.admit(&scope, new).await.map(drop))),
        (Capability::Runs, "finish", told(ledger.finish(&scope, end).await.map(drop))),
        (Capability::Runs, "runs.get", told(runs.get(&scope, t, r).await.map(drop))),
        (Capability::Runs, "runs.find", told(runs.find(&scope, r).await.map(drop))),
        (
            Capability::Runs,
            "runs.find_by_idempotency_key",
            told(runs.find_by_idempotency_key(&scope, t, "k").await.map(drop)),
        ),
        (Capability::Runs, "runs.list", told(runs.list(&scope, &of_thread, &list).await.map(drop))),
        (Capability::Runs, "lease", told(runs.lease(&scope, t, r).await.map(drop))),
        (Capability::Runs, "rewind", told(runs.rewind(&scope, t, r).await.map(drop))),
        (
            Capability::Runs,
            "set_visibility",
            told(runs.set_visibility(&scope, t, r, Visibility::Shown).await.map(drop)),
        ),
        (
            Capability::Runs,
            "request_cancel",
            told(runs.request_cancel(&scope, t, r, CancelAction::Interrupt, at(1)).await.map(drop)),
        ),
        (Capability::Runs, "renew_leases", told(runs.renew_leases(&scope, &worker, ttl).await.map(drop))),
        (
            Capability::Feedback,
            "feedback.list",
            told(ledger.feedback().list(&scope, t, &FeedbackFilter::default(), &list).await.map(drop)),
        ),
        (
            Capability::Feedback,
            "feedback.stats",
            told(ledger.feedback().stats(&scope, t, &[]).await.map(drop)),
        ),
        (
            Capability::ApiTokens,
            "api_tokens.list",
            told(ledger.api_tokens().list(&scope, &ApiTokenFilter::default(), &list).await.map(drop)),
        ),
        (
            Capability::ApiTokens,
            "api_tokens.find",
            told(ledger.api_tokens().find(&scope, &"0".repeat(64)).await.map(drop)),
        ),
        (Capability::Search, "index", told(index.index(&scope, Some(t), IndexBudget::NONE).await.map(drop))),
        (Capability::Search, "find", told(index.find(&scope, &said, &none, &list).await.map(drop))),
        (Capability::Search, "search", told(ledger.search(&scope, &said, &none, &list).await.map(drop))),
        (Capability::Search, "forget", told(index.forget(&scope, t).await)),
        (Capability::Runs, "list_claimable", told(runs.list_claimable(&scope, &sweep, 10).await.map(drop))),
    ];
    let capabilities = ledger.capabilities();
    for (capability, what, answer) in answers {
        let unsupported = answer == Some(ErrorKind::Unsupported);
        assert_eq!(unsupported, !capabilities.has(capability), "{what}: {answer:?}");
    }
    let stored = log(ledger, t).await.len();
    assert!(capabilities.cover(Capability::ALL) || stored == 1, "{stored} events are stored");
}
