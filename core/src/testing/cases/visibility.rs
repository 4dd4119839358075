//! Runs that readers leave out.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, CancelAction, ErrorKind, Ledger, ListRange, MultitaskStrategy, NewRun, RunFilter,
    RunVisibility, Scope, SeqRange, ThreadId, Visibility,
};

/// A thread with three ended runs of one message each.
async fn three_runs(ledger: &Ledger) -> ThreadId {
    let t = thread(ledger, &alice(), "t").await;
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let run = admit_at(ledger, &t, name, number as i64).await;
        ok(commit(ledger, run.commit(0, vec![message(name)])).await);
        finish(ledger, &run, 1).await;
    }
    t
}

async fn shown(ledger: &Ledger, t: &ThreadId) -> Vec<String> {
    let page = ledger.events().list_messages(&alice(), t, RunVisibility::Shown, &SeqRange::default()).await;
    let messages = texts(&ok(page).items);
    let counted = ok(ledger.events().count_messages(&alice(), t, RunVisibility::Shown).await);
    assert_eq!(counted, messages.len() as u64);
    messages
}

/// A rewind hides a run and all after it, rewrites nothing, and can be taken back run by run.
pub async fn a_rewind_hides_a_run_and_those_after_it(ledger: &Ledger) {
    let t = three_runs(ledger).await;
    let before = log(ledger, &t).await;
    let undone = ok(ledger.runs().rewind(&alice(), &t, &run_id("b")).await);
    assert_eq!(undone, [run_id("b"), run_id("c")]);
    assert_eq!(shown(ledger, &t).await, ["a"]);
    assert_eq!(log(ledger, &t).await, before);
    assert_eq!(ok(ledger.runs().rewind(&alice(), &t, &run_id("b")).await), []);
    let all = ledger.events().list_messages(&alice(), &t, RunVisibility::All, &SeqRange::default()).await;
    assert_eq!(texts(&ok(all).items), ["a", "b", "c"]);
    let one = ledger.events().list_messages_by_run(&alice(), &t, &run_id("c"), &SeqRange::default()).await;
    assert_eq!(texts(&ok(one).items), ["c"]);
    ok(ledger.runs().set_visibility(&alice(), &t, &run_id("c"), Visibility::Shown).await);
    assert_eq!(shown(ledger, &t).await, ["a", "c"]);
    // The thread goes on behind what was undone.
    let run = admit_at(ledger, &t, "d", 9).await;
    ok(commit(ledger, run.commit(0, vec![message("d")])).await);
    finish(ledger, &run, 1).await;
    assert_eq!(shown(ledger, &t).await, ["a", "c", "d"]);
}

/// A run that was cancelled in the queue has nothing after it: undoing it leaves the others.
pub async fn a_rewind_to_a_run_that_only_waited_undoes_it_alone(ledger: &Ledger) {
    let t = three_runs(ledger).await;
    let active = admit_at(ledger, &t, "d", 9).await;
    let admission = Admission {
        multitask_strategy: MultitaskStrategy::Enqueue,
        created_at: at(9),
        ..Admission::default()
    };
    let new = NewRun { admission, input: vec![message("w")], ..NewRun::new(t.clone(), run_id("w")) };
    ok(ledger.admit(&alice(), new).await);
    ok(ledger.cancel(&alice(), &t, &run_id("w"), CancelAction::Interrupt, at(9)).await);
    ok(commit(ledger, active.commit(0, vec![message("d")])).await);
    finish(ledger, &active, 1).await;
    assert_eq!(ok(ledger.runs().rewind(&alice(), &t, &run_id("w")).await), [run_id("w")]);
    assert_eq!(shown(ledger, &t).await, ["a", "b", "c", "d"]);
    assert_eq!(ok(ledger.runs().rewind(&alice(), &t, &run_id("c")).await), [run_id("c"), run_id("d")]);
    assert_eq!(shown(ledger, &t).await, ["a", "b"]);
}

/// A run that was made anew takes the place of the one before it.
pub async fn a_superseded_run_is_left_out(ledger: &Ledger) {
    let t = three_runs(ledger).await;
    let run = ok(ledger.runs().set_visibility(&alice(), &t, &run_id("b"), Visibility::Superseded).await);
    assert_eq!((run.run_id.as_str(), run.visibility), ("b", Visibility::Superseded));
    assert_eq!(shown(ledger, &t).await, ["a", "c"]);
    let filter = RunFilter { thread_id: Some(t), ..RunFilter::default() };
    let listed = ok(ledger.runs().list(&alice(), &filter, &ListRange::default()).await);
    assert_eq!(listed.items.len(), 3);
}

/// What is still going on cannot be hidden.
pub async fn an_active_run_is_not_hidden(ledger: &Ledger) {
    let t = three_runs(ledger).await;
    admit_at(ledger, &t, "d", 9).await;
    let runs = ledger.runs();
    assert_eq!(kind(runs.rewind(&alice(), &t, &run_id("b")).await), ErrorKind::Conflict);
    let hidden = runs.set_visibility(&alice(), &t, &run_id("d"), Visibility::Superseded).await;
    assert_eq!(kind(hidden), ErrorKind::Conflict);
    for missing in [
        kind(runs.rewind(&mallory(), &t, &run_id("b")).await),
        kind(runs.set_visibility(&mallory(), &t, &run_id("b"), Visibility::Shown).await),
        kind(runs.set_visibility(&Scope::System, &t, &run_id("none"), Visibility::Shown).await),
    ] {
        assert_eq!(missing, ErrorKind::NotFound);
    }
    assert_eq!(shown(ledger, &t).await, ["a", "b", "c"]);
}
