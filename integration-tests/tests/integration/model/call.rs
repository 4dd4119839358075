//! A call, and a ledger's answer to it.

use std::fmt::Debug;

use runledger_core::{
    CancelAction, Cancellation, Claim, Commit, Error, EventDraft, EventFilter, Finish, ItemFilter, ItemQuery,
    ItemSeq, Ledger, ListOrder, ListRange, NewRun, NewThread, Outcome, OwnerId, Result, RunFilter, RunId,
    RunVisibility, Scope, SeqRange, SourceId, ThreadFilter, ThreadId, ThreadPatch, Timestamp, TurnQuery,
    TurnView, Visibility, text,
};
use serde::Serialize;
use serde_json::{Value, json};

/// A call, the same for every ledger.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Create(Scope, NewThread),
    Append(Scope, Box<Commit>),
    Admit(Scope, Box<NewRun>),
    Finish(Scope, Box<Finish>),
    PutIfAbsent(Scope, ThreadId, RunId, EventDraft),
    Cancel(Scope, ThreadId, RunId, CancelAction, Timestamp),
    Interrupt(Scope, ThreadId, RunId, Claim, Outcome, Timestamp),
    SetVisibility(Scope, ThreadId, RunId, Visibility),
    Rewind(Scope, ThreadId, RunId),
    Update(Scope, ThreadId, ThreadPatch, Timestamp),
    SetOwner(Scope, ThreadId, Option<OwnerId>),
    DeleteRun(Scope, ThreadId, RunId),
    DeleteLog(Scope, ThreadId),
    DeleteThread(Scope, ThreadId),
    Events(Scope, ThreadId, EventFilter, SeqRange),
    Messages(Scope, ThreadId, RunVisibility, SeqRange),
    MessagesOfRun(Scope, ThreadId, RunId, SeqRange),
    Items(Scope, ThreadId, ItemFilter, SeqRange),
    /// The index with contents, as turns, verified, made anew and verified again.
    Index(Scope, ThreadId),
    Count(Scope, ThreadId, RunVisibility),
    UsageOfRun(Scope, ThreadId, RunId, Option<SourceId>),
    UsageOfThread(Scope, ThreadId, bool),
    LastAi(Scope, ThreadId, Vec<RunId>),
    Runs(Scope, RunFilter, ListRange),
    Threads(Scope, ListRange),
    Thread(Scope, ThreadId),
    FindRun(Scope, RunId),
}

/// Asks the ledger: the answer as JSON, an error as its kind.
pub(super) async fn answer(ledger: &Ledger, call: &Call) -> Value {
    match call.clone() {
        Call::Create(scope, new) => written(ledger.threads().create(&scope, new).await),
        Call::Append(scope, commit) => told(ledger.events().append(&scope, *commit).await),
        Call::Admit(scope, new) => {
            written(ledger.admit(&scope, *new).await.map(|admitted| (admitted.run, admitted.created)))
        }
        Call::Finish(scope, finish) => {
            let finished = ledger.finish(&scope, *finish).await;
            written(finished.map(|finished| (finished.run, format!("{:?}", finished.receipt))))
        }
        Call::PutIfAbsent(scope, thread, run, event) => {
            told(ledger.events().put_if_absent(&scope, &thread, &run, event).await)
        }
        Call::Cancel(scope, thread, run, action, at) => {
            written(ledger.cancel(&scope, &thread, &run, action, at).await.map(cancelled))
        }
        Call::Interrupt(scope, thread, run, claim, outcome, at) => {
            let claimed = ledger.interrupt(&scope, &thread, &run, claim, outcome, at).await;
            written(claimed.map(|claimed| (claimed.run, claimed.interrupted)))
        }
        Call::SetVisibility(scope, thread, run, visibility) => {
            written(ledger.runs().set_visibility(&scope, &thread, &run, visibility).await)
        }
        Call::Rewind(scope, thread, run) => written(ledger.runs().rewind(&scope, &thread, &run).await),
        Call::Update(scope, thread, patch, at) => {
            written(ledger.threads().update(&scope, &thread, patch, at).await)
        }
        Call::SetOwner(scope, thread, owner) => {
            written(ledger.threads().set_owner(&scope, &thread, owner).await)
        }
        Call::DeleteRun(scope, thread, run) => {
            told(ledger.events().delete_by_run(&scope, &thread, &run).await)
        }
        Call::DeleteLog(scope, thread) => told(ledger.events().delete_by_thread(&scope, &thread).await),
        Call::DeleteThread(scope, thread) => told(ledger.threads().delete(&scope, &thread).await),
        Call::Events(scope, thread, filter, range) => {
            told(ledger.events().list_events(&scope, &thread, &filter, &range).await)
        }
        Call::Messages(scope, thread, visibility, range) => {
            told(ledger.events().list_messages(&scope, &thread, visibility, &range).await)
        }
        Call::MessagesOfRun(scope, thread, run, range) => {
            told(ledger.events().list_messages_by_run(&scope, &thread, &run, &range).await)
        }
        Call::Items(scope, thread, filter, range) => {
            told(ledger.items().list(&scope, &thread, &filter, &range).await)
        }
        Call::Index(scope, thread) => index(ledger, &scope, &thread).await,
        Call::Count(scope, thread, visibility) => {
            told(ledger.events().count_messages(&scope, &thread, visibility).await)
        }
        Call::UsageOfRun(scope, thread, run, after) => {
            let sums = ledger.usage().by_run(&scope, &thread, &run).await;
            let calls = ledger.usage().list_by_run(&scope, &thread, &run, after.as_ref(), 3).await;
            json!([written(sums), written(calls)])
        }
        Call::UsageOfThread(scope, thread, active) => {
            written(ledger.usage().by_thread(&scope, &thread, active).await)
        }
        Call::LastAi(scope, thread, runs) => {
            told(ledger.events().last_visible_ai_seq_by_run(&scope, &thread, &runs).await)
        }
        Call::Runs(scope, filter, range) => written(ledger.runs().list(&scope, &filter, &range).await),
        Call::Threads(scope, range) => {
            written(ledger.threads().list(&scope, &ThreadFilter::default(), &range).await)
        }
        Call::Thread(scope, thread) => {
            let record = written(ledger.threads().get(&scope, &thread).await);
            match ledger.threads().head(&scope, &thread).await {
                Ok(head) => json!({ "thread": record, "head": format!("{head:?}") }),
                Err(error) => json!({ "error": error.kind().as_str(), "thread": record }),
            }
        }
        Call::FindRun(scope, run) => written(ledger.runs().find(&scope, &run).await),
    }
}

/// What became of a run that was cancelled. A lease ends by the database's clock, which no two have alike.
fn cancelled(answer: Cancellation) -> Value {
    match answer {
        Cancellation::Requested(lease) => json!({ "requested": format!("{:?}", lease.cancel_action) }),
        Cancellation::Ended(claimed) => json!({ "ended": claimed.run, "interrupted": claimed.interrupted }),
        Cancellation::AlreadyEnded(run) => json!({ "already": run }),
    }
}

/// An answer with documents whose keys have no order. Halves of characters, which no parser takes, are
/// escaped first.
fn written<T: Serialize>(answer: Result<T>) -> Value {
    let written = answer.map(|value| {
        let text = serde_json::to_string(&value).expect("a JSON form");
        serde_json::from_str(&text::escape_jsonb(&text)).expect("JSON")
    });
    written.unwrap_or_else(refusal)
}

/// An answer that is the same to the byte, payloads included.
/// Whatever happened, what is stored agrees with itself, and a rebuild changes nothing.
async fn index(ledger: &Ledger, scope: &Scope, thread: &ThreadId) -> Value {
    let items = ledger.items();
    let all = ItemQuery {
        visibility: RunVisibility::All,
        range: SeqRange::after(0, 1_000),
        ..ItemQuery::default()
    };
    let mut answers = Vec::new();
    let before = items.page(scope, thread, &all).await;
    for query in [
        ItemQuery { by: ItemSeq::Updated, ..all.clone() },
        ItemQuery { order: ListOrder::NewestFirst, range: SeqRange::last(3), ..ItemQuery::default() },
    ] {
        answers.push(told(items.page(scope, thread, &query).await));
    }
    for view in [TurnView::NotLoaded, TurnView::Summary, TurnView::Full] {
        for order in [ListOrder::OldestFirst, ListOrder::NewestFirst] {
            let query = TurnQuery { view, order, items: 3, ..TurnQuery::default() };
            let page = items.turns(scope, thread, &query).await.map(|mut page| {
                for turn in &mut page.turns {
                    // A jsonb column keeps the value, not its spelling.
                    turn.run.metadata = turn.run.metadata.canonical();
                    turn.run.kwargs = turn.run.kwargs.canonical();
                }
                page
            });
            answers.push(told(page));
        }
    }
    let verified = items.verify(scope, thread).await;
    let findings = verified.as_ref().map(|verified| verified.findings.clone()).unwrap_or_default();
    assert_eq!(findings, [], "on {thread}");
    answers.push(told(verified));
    answers.push(told(items.rebuild(scope, thread).await));
    let after = items.page(scope, thread, &all).await;
    match (&before, &after) {
        (Ok(before), Ok(after)) => assert_eq!(after, before, "after the rebuild of {thread}"),
        (before, after) => assert_eq!(after.is_ok(), before.is_ok()),
    }
    answers.push(told(after));
    Value::from(answers)
}

fn told<T: Debug>(answer: Result<T>) -> Value {
    answer.map_or_else(refusal, |value| Value::from(format!("{value:?}")))
}

fn refusal(error: Error) -> Value {
    json!({ "error": error.kind().as_str() })
}
