use super::*;
use pretty_assertions::assert_eq;
use runledger_core::{Category, Commit, ErrorKind, EventType, Limits, RawJson, TokenCounts, UsageDraft};

fn head() -> ThreadHead {
    ThreadHead {
        thread_id: ThreadId::new("t").unwrap(),
        owner_id: Some(OwnerId::new("o").unwrap()),
        state: HeadState::Open,
        next_seq: 10,
        message_count: 3,
        active_run_id: Some(RunId::new("r").unwrap()),
        epoch: 5,
        journal_ordinal: 4,
        parent_thread_id: None,
        last_compact_seq: None,
    }
}

fn facts(head: ThreadHead) -> Facts {
    let mut facts = Facts::default();
    let run = RunFacts { status: RunStatus::Running, epoch: 5, agent_run: None };
    facts.runs.insert((head.thread_id.clone(), RunId::new("r").unwrap()), run);
    facts.heads.insert(head.thread_id.clone(), head);
    facts
}

fn commit(run: Option<&str>, mark: Option<(u64, u64)>, events: usize) -> Commit {
    let event = EventDraft::new(EventType::new("note").unwrap(), Category::Message, RawJson::null());
    Commit {
        run_id: run.map(|run| RunId::new(run).unwrap()),
        mark: mark.map(|(epoch, ordinal)| JournalMark { epoch, ordinal }),
        events: vec![event; events],
        ..Commit::new(ThreadId::new("t").unwrap())
    }
}

fn ask(facts: &mut Facts, writes: &mut Writes, scope: &Scope, commit: Commit) -> Result<Receipt, String> {
    let prepared = Arc::new(commit.prepare(&Limits::default()).unwrap());
    match decide(facts, writes, scope, &prepared) {
        Decision::Stored(receipt) => Ok(receipt),
        Decision::Refused(error) => Err(error.kind().as_str().to_owned()),
        Decision::Later => Err("later".to_owned()),
    }
}

fn kind(head: ThreadHead, scope: &Scope, commit: Commit) -> String {
    let (mut facts, mut writes) = (facts(head), Writes::default());
    let error = ask(&mut facts, &mut writes, scope, commit).unwrap_err();
    assert!(writes.is_empty() && writes.events.is_empty(), "a refusal writes nothing");
    error
}

#[test]
fn each_refusal_has_its_kind() {
    let system = &Scope::System;
    let stranger = &Scope::Owner(OwnerId::new("x").unwrap());
    let with_state = |state| ThreadHead { state, ..head() };
    let not_found = ErrorKind::NotFound.as_str();
    assert_eq!(kind(head(), stranger, commit(None, None, 1)), not_found);
    assert_eq!(kind(with_state(HeadState::Deleted), system, commit(None, None, 1)), not_found);
    assert_eq!(kind(with_state(HeadState::Archived), system, commit(None, None, 1)), "conflict");
    let expected = Commit { expected: Expected::NextSeq(9), ..commit(None, None, 1) };
    assert_eq!(kind(head(), system, expected), "conflict");
    assert_eq!(kind(head(), system, commit(Some("r"), Some((4, 4)), 1)), "lease_lost");
    assert_eq!(kind(head(), system, commit(Some("x"), Some((5, 4)), 1)), "lease_lost");
    assert_eq!(kind(head(), system, commit(Some("r"), Some((5, 5)), 1)), "conflict");
    assert_eq!(kind(head(), system, commit(Some("x"), None, 1)), not_found);
    assert_eq!(kind(head(), system, commit(Some("r"), Some((5, 3)), 1)), "later");
    let admit =
        Commit { transition: Some(Transition::Admit(Box::default())), ..commit(Some("new"), None, 0) };
    assert_eq!(kind(head(), system, admit.clone()), "conflict");
    let idle = ThreadHead { active_run_id: None, ..head() };
    assert_eq!(
        kind(idle, system, Commit { run_id: Some(RunId::new("r").unwrap()), ..admit }),
        "already_exists"
    );
}

#[test]
fn commits_of_a_group_follow_each_other() {
    let (mut facts, mut writes) = (facts(head()), Writes::default());
    let call = |total| UsageDraft::new(SourceId::new("c").unwrap(), TokenCounts::of(total, 0));
    let first = Commit { usage: vec![call(0)], ..commit(Some("r"), Some((5, 4)), 2) };
    let second = Commit { usage: vec![call(7)], ..commit(Some("r"), Some((5, 6)), 1) };
    let third = Commit { usage: vec![call(9)], ..commit(None, None, 1) };
    let seqs = [first, second, third]
        .map(|commit| ask(&mut facts, &mut writes, &Scope::System, commit).unwrap().seqs);
    assert_eq!(seqs, [vec![10, 11], vec![12], vec![13]]);
    let change = &writes.heads[&ThreadId::new("t").unwrap()];
    let after = ThreadHead { next_seq: 14, message_count: 7, journal_ordinal: 7, ..head() };
    assert_eq!((&change.before, &change.after), (&head(), &after));
    let delta = writes.runs.values().next().unwrap();
    assert_eq!((delta.first_seq, delta.last_seq, delta.message_count), (Some(10), Some(12), 3));
    assert_eq!((delta.totals.more.llm_calls, delta.totals.more.total_tokens), (1, 7));
    assert_eq!(writes.usage.values().map(|call| call.tokens.total).collect::<Vec<_>>(), [7]);
    let again = ask(&mut facts, &mut writes, &Scope::System, commit(Some("r"), Some((5, 4)), 2));
    assert_eq!(again.unwrap_err(), "later");
}

#[test]
fn a_missing_thread_is_made_only_where_that_is_asked_for() {
    let (mut facts, mut writes) = (Facts::default(), Writes::default());
    assert_eq!(ask(&mut facts, &mut writes, &Scope::System, commit(None, None, 1)).unwrap_err(), "not_found");
    let new =
        Commit { create_missing: Some(NewThread::new(ThreadId::new("t").unwrap())), ..commit(None, None, 2) };
    let refused = Commit { run_id: Some(RunId::new("r").unwrap()), ..new.clone() };
    assert_eq!(ask(&mut facts, &mut writes, &Scope::System, refused).unwrap_err(), "not_found");
    assert!(writes.threads.is_empty());
    assert_eq!(ask(&mut facts, &mut writes, &Scope::System, new).unwrap().seqs, [1, 2]);
    assert_eq!(writes.threads.len(), 1);
}
