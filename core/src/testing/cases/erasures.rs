//! Owners who are forgotten.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, AgentRunId, Deleted, DeletionFilter, Erased, Erasure, ErrorKind, Ledger, ListRange,
    MultitaskStrategy, NewAgentRun, NewRun, NewThread, Outcome, RunStatus, Scope, Spawn, ThreadFilter,
    ThreadId, ThreadLifecycle, TokenCounts,
};

fn agent_run_id(text: &str) -> AgentRunId {
    ok(AgentRunId::new(text))
}

/// A thread with an ended run that has a model call, by the owner's own hand.
async fn spoken(ledger: &Ledger, scope: &Scope, id: &str) -> ThreadId {
    let t = thread(ledger, scope, id).await;
    ended_run(ledger, &t, &format!("agent-{id}")).await;
    t
}

async fn ended_run(ledger: &Ledger, t: &ThreadId, agent_run: &str) {
    let agent_run = Some(NewAgentRun::new(agent_run_id(agent_run), "agent", "a goal"));
    let admission = Admission { agent_run, created_at: at(0), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(t.clone(), run_id("r")) };
    let admitted = ok(ledger.admit(&Scope::System, new).await);
    let run = Admitted { thread: t.clone(), run: run_id("r"), epoch: admitted.run.epoch };
    let mut batch = run.commit(0, vec![message("said")]);
    batch.usage.push(call("call", TokenCounts::of(10, 5)));
    ok(commit(ledger, batch).await);
    ok(ledger.finish(&Scope::System, run.finish(1, Outcome::success())).await);
}

/// Alice's tree of two threads, one that is gone, and one of bob's.
async fn scene(ledger: &Ledger) -> [ThreadId; 3] {
    let root = spoken(ledger, &alice(), "root").await;
    let spawn = Spawn::new(root.clone(), run_id("r")).with_lifecycle(ThreadLifecycle::Detached);
    let new = NewThread { spawn: Some(spawn), created_at: at(0), ..NewThread::new(thread_id("child")) };
    let child = ok(ledger.threads().create(&alice(), new).await).thread_id;
    ended_run(ledger, &child, "agent-child").await;
    let gone = spoken(ledger, &alice(), "gone").await;
    ok(ledger.threads().delete(&alice(), &gone).await);
    spoken(ledger, &owner("bob"), "bobs").await;
    [root, child, gone]
}

async fn threads_of(ledger: &Ledger, scope: &Scope) -> usize {
    ok(ledger.threads().list(scope, &ThreadFilter::default(), &ListRange::default()).await).items.len()
}

async fn erase(ledger: &Ledger, erasure: Erasure) -> Erased {
    let alice = alice();
    let name = alice.owner().cloned().unwrap_or_else(|| panic!("alice has a name"));
    ok(ledger.erase_owner(&Scope::System, &name, erasure, at(50)).await)
}

/// Nobody owns what an anonymised owner had; the system still reads it.
pub async fn an_owner_is_anonymised(ledger: &Ledger) {
    let [root, child, _] = scene(ledger).await;
    // The agent run of the thread that was deleted went with it; its usage stayed.
    let erased = erase(ledger, Erasure::Anonymise).await;
    assert_eq!(erased, Erased { threads: 2, agent_runs: 2, usage: 3 });
    assert_eq!(threads_of(ledger, &alice()).await, 0);
    for t in [&root, &child] {
        let stored = ok(ledger.threads().get(&Scope::System, t).await);
        let head = ok(ledger.threads().head(&Scope::System, t).await);
        let run = ok(ledger.runs().get(&Scope::System, t, &run_id("r")).await);
        assert_eq!((stored.owner_id, head.owner_id, run.owner_id), (None, None, None));
        assert_eq!(texts(&log(ledger, t).await), ["said", "the end"]);
        let calls = ok(ledger.usage().list_by_run(&Scope::System, t, &run_id("r"), None, 10).await);
        assert_eq!(calls.iter().map(|call| &call.owner_id).collect::<Vec<_>>(), [&None]);
    }
    for name in ["agent-root", "agent-child"] {
        let stored = ok(ledger.agent_runs().get(&Scope::System, &agent_run_id(name)).await);
        assert_eq!(stored.agent_run.owner_id, None);
        let hers = ledger.agent_runs().get(&alice(), &agent_run_id(name)).await;
        assert_eq!(kind(hers), ErrorKind::NotFound);
    }
    no_name_is_left(ledger).await;
    // Bob's is as it was, and a second call finds nothing.
    assert_eq!(threads_of(ledger, &owner("bob")).await, 1);
    assert_eq!(erase(ledger, Erasure::Anonymise).await, Erased::default());
}

/// A deleted owner's threads are gone with their usage, active and queued runs too.
pub async fn an_owner_is_deleted(ledger: &Ledger) {
    let [root, child, _] = scene(ledger).await;
    admit(ledger, &child, "active").await;
    for number in 0..3 {
        let admission = Admission {
            multitask_strategy: MultitaskStrategy::Enqueue,
            created_at: at(20),
            ..Admission::default()
        };
        let new = NewRun { admission, ..NewRun::new(child.clone(), run_id(&format!("queued{number}"))) };
        assert_eq!(ok(ledger.admit(&alice(), new).await).run.status, RunStatus::Queued);
    }
    let erased = erase(ledger, Erasure::Delete).await;
    assert_eq!(erased, Erased { threads: 2, agent_runs: 2, usage: 3 });
    assert_eq!(threads_of(ledger, &alice()).await, 0);
    for t in [&root, &child] {
        assert_eq!(kind(ledger.threads().get(&Scope::System, t).await), ErrorKind::NotFound);
    }
    for name in ["agent-root", "agent-child", "agent-gone"] {
        let gone = ledger.agent_runs().get(&Scope::System, &agent_run_id(name)).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
    }
    no_name_is_left(ledger).await;
    // Bob's is as it was, and a second call finds nothing.
    assert_eq!(threads_of(ledger, &owner("bob")).await, 1);
    let deleted = Deleted { threads: 1, events: 2, runs: 1, agent_runs: 1, ..Deleted::default() };
    assert_eq!(erase(ledger, Erasure::Delete).await, Erased::default());
    assert_eq!(ok(ledger.threads().delete(&owner("bob"), &thread_id("bobs")).await), deleted);
}

/// Nothing that was deleted says it was alice's, or by her.
async fn no_name_is_left(ledger: &Ledger) {
    let range = ListRange::default();
    let noted = ok(ledger.threads().list_deletions(&Scope::System, &DeletionFilter::default(), &range).await);
    assert!(!noted.items.is_empty());
    assert!(noted.items.iter().all(|it| it.deleted_by.is_none()), "{noted:?}");
    // A tombstone of hers is nobody's: what names it as a child is refused.
    let mut late = crate::Commit::new(thread(ledger, &alice(), "later").await);
    let mut of_gone = call("late", TokenCounts::of(1, 1));
    of_gone.child_thread_id = Some(thread_id("gone"));
    late.usage.push(of_gone);
    assert_eq!(kind(ledger.events().append(&alice(), late).await), ErrorKind::NotFound);
    ok(ledger.threads().delete(&Scope::System, &thread_id("later")).await);
}

/// An owner erases nobody, not even himself.
pub async fn only_the_system_erases(ledger: &Ledger) {
    spoken(ledger, &alice(), "t").await;
    let alice = alice();
    let Some(name) = alice.owner() else { panic!("alice has a name") };
    for erasure in [Erasure::Anonymise, Erasure::Delete] {
        let refusal = ledger.erase_owner(&alice, name, erasure, at(50)).await;
        assert_eq!(kind(refusal), ErrorKind::InvalidInput);
        let refusal = ledger.threads().erase_remains(&alice, name, erasure).await;
        assert_eq!(kind(refusal), ErrorKind::InvalidInput);
    }
    assert_eq!(threads_of(ledger, &alice).await, 1);
}
