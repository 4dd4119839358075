//! Marks and once keys: what is sent twice is stored once.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{Commit, ErrorKind, EventDraft, Expected, ItemStatus, Ledger, Outcome, Scope};

fn once(key: &str, text: &str) -> EventDraft {
    EventDraft { once_key: Some(key.to_owned()), ..note(text) }
}

/// A commit that is sent again is answered with the same seqs and stores nothing.
pub async fn a_repeated_commit_is_answered_as_the_first(ledger: &Ledger) {
    let run = running(ledger).await;
    let batch = run.commit(0, vec![note("a"), note("b")]);
    let first = ok(commit(ledger, batch.clone()).await);
    append(ledger, &run.thread, vec![note("between")]).await;
    let again = ok(commit(ledger, batch).await);
    assert_eq!((again.seqs, again.already_stored), (first.seqs, 2));
    assert_eq!(texts(&log(ledger, &run.thread).await), ["a", "b", "between"]);
}

/// A batch that was split after its first try stores only what is missing.
pub async fn a_split_retry_stores_only_the_rest(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a"), note("b")])).await);
    let merged = ok(commit(ledger, run.commit(1, vec![note("b"), note("c"), note("d")])).await);
    assert_eq!((merged.seqs, merged.already_stored), (vec![2, 3, 4], 1));
    let all = ok(commit(ledger, run.commit(0, ["a", "b", "c", "d", "e"].map(note).to_vec())).await);
    assert_eq!((all.seqs, all.already_stored), (vec![1, 2, 3, 4, 5], 4));
    let ordinals: Vec<_> = log(ledger, &run.thread).await.iter().map(|event| event.journal_ordinal).collect();
    assert_eq!(ordinals, (0..5).map(Some).collect::<Vec<_>>());
}

/// A hole in the ordinals is a conflict, and nothing is stored.
pub async fn a_gap_in_the_ordinals_is_a_conflict(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    assert_eq!(kind(commit(ledger, run.commit(2, vec![note("c")])).await), ErrorKind::Conflict);
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
}

/// Another event under a stored ordinal is a conflict.
pub async fn another_event_under_an_ordinal_is_a_conflict(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    assert_eq!(kind(commit(ledger, run.commit(0, vec![note("b")])).await), ErrorKind::Conflict);
    assert_eq!(kind(commit(ledger, run.commit(0, vec![message("a")])).await), ErrorKind::Conflict);
    assert_eq!(texts(&log(ledger, &run.thread).await), ["a"]);
}

/// A payload that was cut is recognised when it is sent again.
pub async fn a_repeated_trace_that_was_cut_is_recognised(ledger: &Ledger) {
    let run = running(ledger).await;
    let trace = EventDraft { category: crate::Category::Trace, ..note(&"x".repeat(50_000)) };
    let first = ok(commit(ledger, run.commit(0, vec![trace.clone()])).await);
    let again = ok(commit(ledger, run.commit(0, vec![trace])).await);
    assert_eq!((again.seqs, again.already_stored), (first.seqs, 1));
}

/// Another epoch is refused.
pub async fn another_epoch_is_refused(ledger: &Ledger) {
    let run = running(ledger).await;
    for epoch in [run.epoch - 1, run.epoch + 1] {
        let stale = Admitted { epoch, ..run.clone() };
        assert_eq!(kind(commit(ledger, stale.commit(0, vec![note("a")])).await), ErrorKind::LeaseLost);
    }
    assert_eq!(log(ledger, &run.thread).await, []);
}

/// A run that ended takes no marked commit, and the next run's epoch is another one.
pub async fn an_ended_run_is_fenced(ledger: &Ledger) {
    let first = running(ledger).await;
    finish(ledger, &first, 0).await;
    assert_eq!(kind(commit(ledger, first.commit(1, vec![note("late")])).await), ErrorKind::LeaseLost);
    let second = admit(ledger, &first.thread, "r2").await;
    assert!(second.epoch > first.epoch);
    assert_eq!(kind(commit(ledger, first.commit(0, vec![note("late")])).await), ErrorKind::LeaseLost);
    assert_eq!(ok(commit(ledger, second.commit(0, vec![note("mine")])).await).seqs, [2]);
}

/// Ordinals count from 0 for each run.
pub async fn each_run_counts_its_own_ordinals(ledger: &Ledger) {
    let first = running(ledger).await;
    ok(commit(ledger, first.commit(0, vec![note("a")])).await);
    finish(ledger, &first, 1).await;
    let second = admit(ledger, &first.thread, "r2").await;
    let batch = second.commit(0, vec![note("b")]);
    assert_eq!(ok(commit(ledger, batch.clone()).await).seqs, [3]);
    assert_eq!(ok(commit(ledger, batch).await).seqs, [3]);
}

/// The end of a run that is sent again is answered, and nothing is written.
pub async fn a_repeated_end_is_answered(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    let end = run.finish(1, Outcome::success());
    let first = ok(ledger.finish(&Scope::System, end.clone()).await);
    let again = ok(ledger.finish(&Scope::System, end).await);
    assert_eq!(again.run, first.run);
    assert_eq!(again.receipt.map(|receipt| (receipt.seqs, receipt.already_stored)), Some((vec![2], 1)));
    assert_eq!(log(ledger, &run.thread).await.len(), 2);
}

/// The end of a run that ended otherwise writes nothing and tells the stored outcome.
pub async fn the_first_outcome_holds(ledger: &Ledger) {
    let run = running(ledger).await;
    finish(ledger, &run, 0).await;
    let stale = Admitted { epoch: run.epoch + 1, ..run.clone() };
    let second = ok(ledger.finish(&Scope::System, stale.finish(0, Outcome::error("boom"))).await);
    assert_eq!((second.receipt, second.run.status), (None, crate::RunStatus::Success));
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
}

/// A marked commit without events stores its usage.
pub async fn a_marked_commit_may_have_no_events(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a")])).await);
    let mut usage = run.commit(1, Vec::new());
    usage.usage.push(call("c", crate::TokenCounts::of(1, 2)));
    assert_eq!(ok(commit(ledger, usage.clone()).await).seqs, [0_u64; 0]);
    ok(commit(ledger, usage).await);
    assert_eq!(run_of(ledger, &run).await.totals.total_tokens, 3);
}

/// The first put stores the event, the second is told so.
pub async fn put_if_absent_stores_one(ledger: &Ledger) {
    let run = running(ledger).await;
    let put = |text| ledger.events().put_if_absent(&Scope::System, &run.thread, &run.run, once("k", text));
    let (first, second) = (ok(put("a").await), ok(put("b").await));
    assert!(first.created && !second.created);
    assert_eq!(first.event, second.event);
    assert_eq!(texts(&log(ledger, &run.thread).await), ["a"]);
}

/// The key is what makes events the same; without one there is nothing to look for.
pub async fn put_if_absent_needs_a_key(ledger: &Ledger) {
    let run = running(ledger).await;
    let keyless = ledger.events().put_if_absent(&Scope::System, &run.thread, &run.run, note("a")).await;
    assert_eq!(kind(keyless), ErrorKind::InvalidInput);
}

/// Once keys are the run's own.
pub async fn once_keys_belong_to_a_run(ledger: &Ledger) {
    let first = running(ledger).await;
    ok(commit(ledger, first.commit(0, vec![once("k", "a")])).await);
    end(ledger, &first, 1).await;
    let second = admit(ledger, &first.thread, "r2").await;
    let put =
        ledger.events().put_if_absent(&Scope::System, &second.thread, &second.run, once("k", "b")).await;
    assert!(ok(put).created);
}

/// Appending a key that the run has is a conflict, and the whole commit is refused.
pub async fn a_taken_once_key_refuses_the_commit(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![once("k", "a")])).await);
    let taken = run.commit(1, vec![note("b"), once("k", "c")]);
    assert_eq!(kind(commit(ledger, taken).await), ErrorKind::Conflict);
    assert_eq!(
        kind(commit(ledger, run.commit(1, vec![once("n", "b"), once("n", "c")])).await),
        ErrorKind::InvalidInput
    );
    assert_eq!(texts(&log(ledger, &run.thread).await), ["a"]);
}

/// A batch whose start was stored finishes its items with the rest.
pub async fn a_split_retry_keeps_the_items(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![tool_started("a")])).await);
    append(ledger, &run.thread, vec![note("between")]).await;
    let both =
        run.commit(0, vec![tool_started("a"), tool_ended("a", ItemStatus::Completed), tool_started("b")]);
    assert_eq!(ok(commit(ledger, both).await).seqs, [1, 3, 4]);
    let entry = async |id| {
        let item = ok(ledger.items().get(&Scope::System, &run.thread, &run.run, &item_id(id)).await);
        (item.status, item.started_seq, item.completed_seq, item.updated_seq)
    };
    assert_eq!(entry("a").await, (ItemStatus::Completed, 1, Some(3), 3));
    assert_eq!(entry("b").await, (ItemStatus::InProgress, 4, None, 4));
}

/// The end of a run may bring events that an earlier commit stored; only the rest is stored.
pub async fn an_end_may_repeat_what_is_stored(ledger: &Ledger) {
    let run = running(ledger).await;
    ok(commit(ledger, run.commit(0, vec![note("a"), note("b")])).await);
    let mut end = run.finish(1, Outcome::success());
    end.events.splice(0..0, [note("b"), note("c")]);
    let receipt = ok(ledger.finish(&Scope::System, end).await).receipt;
    assert_eq!(receipt.map(|receipt| (receipt.seqs, receipt.already_stored)), Some((vec![2, 3, 4], 1)));
    assert_eq!(texts(&log(ledger, &run.thread).await), ["a", "b", "c", "the end"]);
}

/// The calls of an end that is sent again count once.
pub async fn a_repeated_end_counts_its_calls_once(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut end = run.finish(0, Outcome::success());
    end.usage.push(call("c", crate::TokenCounts::of(1, 2)));
    ok(ledger.finish(&Scope::System, end.clone()).await);
    let again = ok(ledger.finish(&Scope::System, end).await).run;
    assert_eq!((again.totals.total_tokens, again.totals.llm_calls), (3, 1));
}

/// Another end under the mark of the stored one writes nothing, and is told the stored outcome.
pub async fn another_end_under_the_same_mark_writes_nothing(ledger: &Ledger) {
    let run = running(ledger).await;
    let first = finish(ledger, &run, 0).await;
    let second = ok(ledger.finish(&Scope::System, run.finish(0, Outcome::error("boom"))).await);
    assert_eq!((second.run, second.receipt), (first, None));
    assert_eq!(log(ledger, &run.thread).await.len(), 1);
}

/// A start that is sent again is answered, whatever came with it.
pub async fn a_repeated_start_is_answered(ledger: &Ledger) {
    for (name, events) in [("with", vec![note("a")]), ("without", Vec::new())] {
        let t = thread(ledger, &Scope::System, name).await;
        let run = admit(ledger, &t, "r").await;
        let start = run.start().with_events(events.clone());
        let first = ok(commit(ledger, start.clone()).await);
        let again = ok(commit(ledger, start).await);
        assert_eq!((again.seqs, again.already_stored), (first.seqs, events.len()), "{name}");
        assert_eq!(run_of(ledger, &run).await.status, crate::RunStatus::Running);
    }
}

/// A start that is sent again with more events starts nothing anew and stores what is new.
pub async fn a_repeated_start_may_have_grown(ledger: &Ledger) {
    let run = running(ledger).await;
    let first = ok(commit(ledger, run.start().with_events(vec![note("a"), note("b")])).await);
    let grown = run.start().with_events(vec![note("a"), note("b"), note("c")]);
    let again = ok(commit(ledger, grown).await);
    assert_eq!((again.seqs, again.already_stored), ([first.seqs, vec![3]].concat(), 2));
    let other = run.start().with_events(vec![note("d")]);
    assert_eq!(kind(commit(ledger, other).await), ErrorKind::Conflict);
}

/// What was expected of the log was so when it was stored.
pub async fn a_repeated_expectation_is_answered(ledger: &Ledger) {
    let run = running(ledger).await;
    let batch = Commit { expected: Expected::NextSeq(1), ..run.commit(0, vec![note("a")]) };
    let first = ok(commit(ledger, batch.clone()).await);
    append(ledger, &run.thread, vec![note("between")]).await;
    assert_eq!(ok(commit(ledger, batch.clone()).await).seqs, first.seqs);
    let other = Commit { expected: Expected::NextSeq(2), ..batch };
    assert_eq!(kind(commit(ledger, other).await), ErrorKind::Conflict);
}

/// A commit that comes again late does not set back what was said since.
pub async fn a_late_repetition_sets_nothing_back(ledger: &Ledger) {
    let run = running(ledger).await;
    let says = |ordinal, text: &str| {
        let mut commit = run.commit(ordinal, vec![note(text)]);
        commit.progress.last_ai_message = Some(text.to_owned());
        commit
    };
    ok(commit(ledger, says(0, "old")).await);
    ok(commit(ledger, says(1, "new")).await);
    ok(commit(ledger, says(0, "old")).await);
    assert_eq!(run_of(ledger, &run).await.last_ai_message.as_deref(), Some("new"));
}
