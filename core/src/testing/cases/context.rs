//! Context windows and their folds.

use std::collections::{BTreeMap, BTreeSet};

use pretty_assertions::assert_eq;

use super::super::build::{
    Admitted, admit, ai, alice, at, commit, finish, item, item_id, json, kind, log, mallory, ok, refused,
    running, thread_id, tool_ended, tool_started,
};
use crate::view::context::{ContextWindow, MessageBody};
use crate::{
    CallId, Category, ErrorKind, EventDraft, Fold, ItemKind, ItemStatus, Ledger, NewThread, Outcome, RawJson,
    Scope, SeqRange, SeqSpan, Visibility,
};

fn user(id: &str) -> EventDraft {
    let said = item(id, ItemKind::UserMessage, ItemStatus::Completed, Category::Message);
    EventDraft { content: json(r#"{"content":"hello"}"#), ..said }
}

/// An agent's message that asks for these calls, and their starts.
fn asks(id: &str, calls: &[&str]) -> Vec<EventDraft> {
    let requests: Vec<String> =
        calls.iter().map(|call| format!(r#"{{"id":"{call}","name":"tool","args":{{"n":1}}}}"#)).collect();
    let content = format!(r#"{{"content":"","tool_calls":[{}]}}"#, requests.join(","));
    let mut events = vec![EventDraft { content: json(&content), ..ai(id, "lead_agent") }];
    events.extend(calls.iter().map(|call| tool_started(call)));
    events
}

fn result(call: &str) -> EventDraft {
    let mut ended = tool_ended(call, ItemStatus::Completed);
    if let Some(mark) = &mut ended.item {
        mark.call_id = Some(ok(CallId::new(call)));
    }
    EventDraft { content: json(r#"{"name":"tool","args":{"n":1},"content":"done"}"#), ..ended }
}

async fn append(ledger: &Ledger, run: &Admitted, events: Vec<EventDraft>) -> Vec<u64> {
    ok(commit(ledger, run.unmarked(events)).await).seqs
}

async fn window(ledger: &Ledger, run: &Admitted) -> ContextWindow {
    ok(ledger.context().load(&Scope::System, &run.thread).await)
}

fn seqs(window: &ContextWindow) -> Vec<u64> {
    window.messages.iter().map(|message| message.seq()).collect()
}

fn folding(window: &ContextWindow, run: &Admitted, seqs: &[u64]) -> Fold {
    let seqs = seqs.iter().copied().collect();
    Fold { at: at(5), ..Fold::new(window, run.run.clone(), seqs, "what was said") }
}

async fn fold(ledger: &Ledger, run: &Admitted, folded: &[u64]) -> u64 {
    let window = window(ledger, run).await;
    ok(ledger.fold(&Scope::System, folding(&window, run, folded)).await).note_seq
}

/// Without a compaction the window is every message of the lead agent's conversation, and nothing else.
pub async fn a_window_is_what_the_model_would_be_sent(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut events = vec![user("u1")];
    events.extend(asks("a1", &["c1"]));
    events.extend([result("c1"), ai("s1", "subagent:research"), ai("m1", "middleware:title")]);
    let thought = item("r1", ItemKind::Reasoning, ItemStatus::Completed, Category::Reasoning);
    events.push(EventDraft { content: json(r#"{"text":"hm"}"#), ..thought });
    events.push(EventDraft { content: json("3"), ..ai("odd", "lead_agent") });
    append(ledger, &run, events).await;
    let window = window(ledger, &run).await;
    assert_eq!(seqs(&window), [1, 2, 4, 7, 8]);
    let bodies: Vec<_> = window
        .messages
        .iter()
        .map(|message| match &message.body {
            MessageBody::User(_) => "user",
            MessageBody::Agent(_) => "agent",
            MessageBody::Tool(_) => "tool",
            MessageBody::Reasoning(_) => "reasoning",
            MessageBody::Note(_) => "note",
            MessageBody::Prompt(_) => "prompt",
            MessageBody::Other => "other",
        })
        .collect();
    assert_eq!(bodies, ["user", "agent", "tool", "reasoning", "other"]);
    assert_eq!((window.compact_seq, window.last_compact_seq, window.through_seq), (None, None, 0));
}

/// A thread without messages has an empty window, with its system prompt.
pub async fn an_empty_window_has_its_prompt(ledger: &Ledger) {
    let new = NewThread { system_prompt: Some("be brief".into()), ..NewThread::new(thread_id("t")) };
    ok(ledger.threads().create(&alice(), new).await);
    let window = ok(ledger.context().load(&alice(), &thread_id("t")).await);
    assert_eq!((window.messages.len(), window.system_prompt.as_deref()), (0, Some("be brief")));
    let chat: Vec<String> =
        window.to_openai_chat().iter().map(|message| message.as_str().to_owned()).collect();
    assert_eq!(chat, [r#"{"role":"system","content":"be brief"}"#]);
    for scope in [mallory(), Scope::System] {
        let missing = ledger.context().load(&scope, &thread_id("none")).await;
        assert_eq!(kind(missing), ErrorKind::NotFound);
    }
    assert_eq!(kind(ledger.context().load(&mallory(), &thread_id("t")).await), ErrorKind::NotFound);
}

/// The note stands where the first folded message stood, and the log is what it was, with the note at its end.
pub async fn a_note_takes_the_place_of_what_it_stands_for(ledger: &Ledger) {
    let run = running(ledger).await;
    let events = ["u1", "u2", "u3", "u4", "u5"].map(user).to_vec();
    append(ledger, &run, events).await;
    let before = log(ledger, &run.thread).await;
    let loaded = window(ledger, &run).await;
    let mut wanted = folding(&loaded, &run, &[2, 3]);
    (wanted.before_tokens, wanted.after_tokens, wanted.round_index) = (500, 90, Some(2));
    let compaction = ok(ledger.fold(&Scope::System, wanted).await);
    let span = |from, through| SeqSpan { from, through };
    assert_eq!(compaction.folded, [span(2, 3)]);
    assert_eq!(compaction.window, [span(1, 1), span(6, 6), span(4, 5)]);
    assert_eq!((compaction.compact_seq, compaction.note_seq, compaction.through_seq), (1, 6, 5));
    assert_eq!((compaction.before_tokens, compaction.after_tokens), (500, 90));
    assert_eq!((compaction.round_index, compaction.created_at), (Some(2), at(5)));
    append(ledger, &run, vec![user("u6")]).await;
    let reloaded = window(ledger, &run).await;
    assert_eq!(seqs(&reloaded), [1, 6, 4, 5, 7]);
    assert_eq!((reloaded.compact_seq, reloaded.last_compact_seq), (Some(1), Some(1)));
    let after = log(ledger, &run.thread).await;
    assert_eq!(after[..5], before);
    let listed =
        ok(ledger.context().list_compactions(&Scope::System, &run.thread, &SeqRange::default()).await);
    assert_eq!((listed.items, listed.has_more), (vec![compaction], false));
    assert_eq!(ok(ledger.threads().head(&Scope::System, &run.thread).await).last_compact_seq, Some(1));
}

/// Several folds in one run, and folds of notes, leave what the runtime has in memory.
pub async fn notes_are_folded_again(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2", "u3", "u4"].map(user).to_vec()).await;
    let first = fold(ledger, &run, &[1, 2]).await;
    append(ledger, &run, vec![user("u5")]).await;
    assert_eq!(seqs(&window(ledger, &run).await), [first, 3, 4, 6]);
    let second = fold(ledger, &run, &[first, 4]).await;
    assert_eq!(seqs(&window(ledger, &run).await), [second, 3, 6]);
    append(ledger, &run, vec![user("u6"), user("u7")]).await;
    let third = fold(ledger, &run, &[3, 8, 9]).await;
    assert_eq!(seqs(&window(ledger, &run).await), [second, third, 6]);
    let fourth = fold(ledger, &run, &[second, third, 6]).await;
    assert_eq!(seqs(&window(ledger, &run).await), [fourth]);
    let page = |range| async move {
        let page = ok(ledger.context().list_compactions(&Scope::System, &thread_id("t"), &range).await);
        (page.items.iter().map(|it| it.compact_seq).collect::<Vec<_>>(), page.has_more)
    };
    assert_eq!(page(SeqRange::last(2)).await, (vec![3, 4], true));
    assert_eq!(page(SeqRange::before(3, 2)).await, (vec![1, 2], false));
    assert_eq!(page(SeqRange::after(1, 2)).await, (vec![2, 3], true));
}

/// A call and its result are folded together or not at all, and a call without a result stays.
pub async fn a_call_is_not_parted_from_its_result(ledger: &Ledger) {
    let run = running(ledger).await;
    let mut events = vec![user("u1")];
    events.extend(asks("a1", &["c1", "c2"]));
    events.extend([result("c1"), result("c2")]);
    // The same id again, as models give them.
    events.extend(asks("a2", &["x"]));
    append(ledger, &run, events).await;
    let window = window(ledger, &run).await;
    assert_eq!(seqs(&window), [1, 2, 5, 6, 7]);
    for parted in [&[2][..], &[1, 2, 5], &[5, 6], &[1, 6], &[7], &[1, 2, 5, 6, 7], &[3], &[99], &[]] {
        let error = refused(ledger.fold(&Scope::System, folding(&window, &run, parted)).await);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{parted:?}: {error}");
        assert!(error.to_string().starts_with("invalid seqs: "), "{error}");
    }
    fold(ledger, &run, &[1, 2, 5, 6]).await;
}

/// Of two folds of one window the second is a conflict, and of many at once one is stored.
pub async fn one_of_many_folds_is_stored(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2", "u3"].map(user).to_vec()).await;
    let stale = window(ledger, &run).await;
    let folds: Vec<_> = (0..8)
        .map(|_| {
            let (ledger, wanted) = (ledger.clone(), folding(&stale, &run, &[1, 2]));
            tokio::spawn(async move { ledger.fold(&Scope::System, wanted).await })
        })
        .collect();
    let mut stored = 0;
    for fold in folds {
        match fold.await {
            Ok(Ok(compaction)) => {
                assert_eq!(compaction.compact_seq, 1);
                stored += 1;
            }
            Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(stored, 1);
    let late = ledger.fold(&Scope::System, folding(&stale, &run, &[3])).await;
    assert_eq!(kind(late), ErrorKind::Conflict);
    assert_eq!(log(ledger, &run.thread).await.len(), 4);
}

/// A fold whose answer was lost is answered as the first was, and stored once.
pub async fn a_repeated_fold_is_answered(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2", "u3"].map(user).to_vec()).await;
    let loaded = window(ledger, &run).await;
    let wanted = folding(&loaded, &run, &[1, 2]);
    let first = ok(ledger.fold_window(&Scope::System, &loaded, wanted.clone()).await);
    assert_eq!(ok(ledger.fold(&Scope::System, wanted.clone()).await), first);
    // Also by who has not seen that it was.
    assert_eq!(ok(ledger.fold_window(&Scope::System, &loaded, wanted.clone()).await), first);
    assert_eq!(seqs(&window(ledger, &run).await), [4, 3]);
    let other = crate::view::context::ContextWindow { thread_id: thread_id("other"), ..loaded };
    let refused = ledger.fold_window(&Scope::System, &other, wanted).await;
    assert_eq!(kind(refused), ErrorKind::InvalidInput);
}

/// What is appended between the look at a window and its fold comes after it.
pub async fn what_comes_meanwhile_is_kept(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2", "u3"].map(user).to_vec()).await;
    let mut wanted = folding(&window(ledger, &run).await, &run, &[1, 2]);
    append(ledger, &run, vec![user("u4")]).await;
    ok(ledger.fold(&Scope::System, wanted.clone()).await);
    assert_eq!(seqs(&window(ledger, &run).await), [5, 3, 4]);
    // The window that a fold is judged by is the one when it is made, so folding what came later is in order.
    (wanted.item_id, wanted.expected_last) = (item_id("later"), Some(1));
    wanted.seqs = BTreeSet::from([4]);
    ok(ledger.fold(&Scope::System, wanted).await);
    assert_eq!(seqs(&window(ledger, &run).await), [5, 3, 6]);
}

/// A hidden run is in no window, and a compaction that it made is undone with it.
pub async fn a_hidden_run_leaves_the_window(ledger: &Ledger) {
    let first = running(ledger).await;
    append(ledger, &first, ["u1", "u2"].map(user).to_vec()).await;
    finish(ledger, &first, 0).await;
    let second = admit(ledger, &first.thread, "r2").await;
    append(ledger, &second, vec![user("u3")]).await;
    let note = fold(ledger, &second, &[1, 2]).await;
    append(ledger, &second, vec![user("u4")]).await;
    finish(ledger, &second, 0).await;
    assert_eq!(seqs(&window(ledger, &first).await), [note, 4, 6]);
    ok(ledger.runs().rewind(&Scope::System, &second.thread, &second.run).await);
    let undone = window(ledger, &first).await;
    assert_eq!((seqs(&undone), undone.compact_seq, undone.last_compact_seq), (vec![1, 2], None, Some(1)));
    // The next fold counts on.
    let third = admit(ledger, &first.thread, "r3").await;
    append(ledger, &third, vec![user("u5")]).await;
    let loaded = window(ledger, &third).await;
    let again = ok(ledger.fold(&Scope::System, folding(&loaded, &third, &[1, 2])).await);
    assert_eq!(again.compact_seq, 2);
    assert_eq!(seqs(&window(ledger, &first).await), [again.note_seq, again.note_seq - 1]);
    ok(ledger.runs().set_visibility(&Scope::System, &second.thread, &second.run, Visibility::Shown).await);
    assert_eq!(ok(ledger.context().load(&Scope::System, &first.thread).await).compact_seq, Some(2));
}

/// A fold by whoever lost the run is refused.
pub async fn a_fold_is_fenced(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2"].map(user).to_vec()).await;
    let loaded = window(ledger, &run).await;
    let under = |epoch| Fold { epoch: Some(epoch), ..folding(&loaded, &run, &[1]) };
    assert_eq!(kind(ledger.fold(&Scope::System, under(run.epoch + 1)).await), ErrorKind::LeaseLost);
    ok(ledger.fold(&Scope::System, under(run.epoch)).await);
    ok(ledger.finish(&Scope::System, run.finish(0, Outcome::success())).await);
    let loaded = window(ledger, &run).await;
    let late = Fold { epoch: Some(run.epoch), ..folding(&loaded, &run, &[2]) };
    assert_eq!(kind(ledger.fold(&Scope::System, late.clone()).await), ErrorKind::LeaseLost);
    // Without an epoch it is a late record of the run, and may be made on an idle thread.
    ok(ledger.fold(&Scope::System, Fold { epoch: None, ..late }).await);
}

/// An emptied log has no window and counts its compactions anew.
pub async fn an_emptied_log_has_no_window(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2"].map(user).to_vec()).await;
    fold(ledger, &run, &[1]).await;
    finish(ledger, &run, 0).await;
    ok(ledger.events().delete_by_thread(&Scope::System, &run.thread).await);
    let emptied = window(ledger, &run).await;
    assert_eq!((emptied.messages.len(), emptied.compact_seq, emptied.last_compact_seq), (0, None, None));
    let listed =
        ok(ledger.context().list_compactions(&Scope::System, &run.thread, &SeqRange::default()).await);
    assert_eq!(listed.items, []);
}

/// Chooses; the same for every backend, so that a failure can be looked at again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // A step of splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

/// A runtime's messages as it holds them in memory: what a reload must give back.
#[derive(Default)]
struct Memory {
    /// The seqs in the order the model is shown them.
    shown: Vec<u64>,
    /// For each message that asks, the calls and the seqs of their results.
    calls: BTreeMap<u64, Vec<(String, Option<u64>)>>,
    named: usize,
}

impl Memory {
    fn name(&mut self, what: &str) -> String {
        self.named += 1;
        format!("{what}{}", self.named)
    }

    /// The next records, and what becomes of memory once their seqs are known.
    fn speak(&mut self, dice: &mut Dice) -> (Vec<EventDraft>, Option<(u64, usize)>) {
        let open = self.calls.iter().find_map(|(asked, calls)| {
            let place = calls.iter().position(|(_, result)| result.is_none())?;
            Some((*asked, place))
        });
        match (open, dice.roll(4)) {
            (Some((asked, place)), 0..=2) => {
                let call = self.calls[&asked][place].0.clone();
                (vec![result(&call)], Some((asked, place)))
            }
            (_, 0) => (vec![user(&self.name("u"))], None),
            _ => {
                let calls: Vec<String> = (0..dice.roll(4)).map(|_| self.name("c")).collect();
                let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
                (asks(&self.name("a"), &calls), None)
            }
        }
    }

    fn spoke(&mut self, events: &[EventDraft], seqs: &[u64], answered: Option<(u64, usize)>) {
        let Some(seq) = seqs.first().copied() else { return };
        self.shown.push(seq);
        if let Some((asked, place)) = answered {
            if let Some(calls) = self.calls.get_mut(&asked) {
                calls[place].1 = Some(seq);
            }
        } else if events.len() > 1 {
            let started = events.iter().skip(1).filter_map(|event| event.item.as_ref());
            self.calls.insert(seq, started.map(|item| (item.item_id.to_string(), None)).collect());
        }
    }

    /// Some messages that may be folded: whole groups of a message and its results.
    fn choose(&self, dice: &mut Dice) -> BTreeSet<u64> {
        let mut chosen = BTreeSet::new();
        let results: BTreeMap<u64, u64> = self
            .calls
            .iter()
            .flat_map(|(asked, calls)| calls.iter().filter_map(move |(_, result)| Some(((*result)?, *asked))))
            .collect();
        for seq in &self.shown {
            let asked = results.get(seq).copied().unwrap_or(*seq);
            let calls = self.calls.get(&asked).map(Vec::as_slice).unwrap_or_default();
            if calls.iter().all(|(_, result)| result.is_some()) && dice.roll(3) == 0 {
                chosen.insert(asked);
                chosen.extend(calls.iter().filter_map(|(_, result)| *result));
            }
        }
        chosen
    }

    fn folded(&mut self, chosen: &BTreeSet<u64>, note: u64) {
        let place = self.shown.iter().position(|seq| chosen.contains(seq)).unwrap_or(0);
        self.shown.insert(place, note);
        self.shown.retain(|seq| !chosen.contains(seq));
        self.calls.retain(|asked, _| !chosen.contains(asked));
    }
}

/// Two hundred random histories with several folds each: after every step a reload is what the runtime has in
/// memory, in its order.
pub async fn a_reload_equals_memory(ledger: &Ledger) {
    for history in 0..200 {
        let mut dice = Dice(history);
        let thread = super::super::build::thread(ledger, &Scope::System, &format!("t{history}")).await;
        let run = admit(ledger, &thread, "r").await;
        let mut memory = Memory::default();
        for step in 0..6 + dice.roll(14) {
            let chosen = if dice.roll(4) == 0 { memory.choose(&mut dice) } else { BTreeSet::new() };
            if chosen.is_empty() {
                let (events, answered) = memory.speak(&mut dice);
                let seqs = append(ledger, &run, events.clone()).await;
                memory.spoke(&events, &seqs, answered);
            } else {
                let note = fold(ledger, &run, &chosen.iter().copied().collect::<Vec<_>>()).await;
                memory.folded(&chosen, note);
            }
            if dice.roll(3) == 0 || step > 10 {
                let reloaded = window(ledger, &run).await;
                assert_eq!(seqs(&reloaded), memory.shown, "history {history}, step {step}");
            }
        }
        assert_eq!(seqs(&window(ledger, &run).await), memory.shown, "history {history}");
    }
}

/// A commit that folds is the note and nothing else.
pub async fn a_fold_brings_its_note_alone(ledger: &Ledger) {
    let run = running(ledger).await;
    append(ledger, &run, ["u1", "u2"].map(user).to_vec()).await;
    let folded = ok(window(ledger, &run).await.fold(&BTreeSet::from([1])));
    let fold = |events| crate::Commit {
        transition: Some(crate::Transition::Fold(Box::new(folded.clone()))),
        ..run.unmarked(events)
    };
    let note = || item("n", ItemKind::ContextCompaction, ItemStatus::Completed, Category::Message);
    let refused = [
        fold(vec![]),
        fold(vec![user("u3")]),
        fold(vec![note(), note()]),
        fold(vec![EventDraft { category: Category::Trace, ..note() }]),
        crate::Commit { run_id: None, ..fold(vec![note()]) },
        crate::Commit { mark: Some(crate::JournalMark { epoch: 1, ordinal: 0 }), ..fold(vec![note()]) },
    ];
    for refused in refused {
        assert_eq!(kind(commit(ledger, refused).await), ErrorKind::InvalidInput);
    }
    ok(commit(ledger, fold(vec![EventDraft { content: RawJson::empty_object(), ..note() }])).await);
    assert_eq!(seqs(&window(ledger, &run).await), [3, 2]);
}
