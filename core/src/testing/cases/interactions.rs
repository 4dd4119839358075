//! Questions to people, which a run ends with, and answers, which another is admitted with.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    Admission, Answer, CancelAction, ErrorKind, Finish, Interaction, InteractionFilter, InteractionId,
    InteractionStatus, Ledger, ListRange, MultitaskStrategy, NewInteraction, NewLease, NewRun, Outcome, Run,
    RunFilter, RunStatus, Scope, ThreadId, WorkerId,
};

fn id(text: &str) -> InteractionId {
    ok(InteractionId::new(text))
}

fn ask(name: &str) -> NewInteraction {
    NewInteraction {
        interaction_id: id(name),
        kind: "approval".to_owned(),
        request: json(&format!(r#"{{"may I": "{name}"}}"#)),
        item_id: Some(item_id("a")),
    }
}

fn waiting() -> Outcome {
    Outcome::interrupted(Outcome::WAITING_FOR_INPUT)
}

fn asking(run: &Admitted, asks: Vec<NewInteraction>) -> Finish {
    Finish { asks, ..run.finish(0, waiting()) }
}

/// A run of an owner's on a thread.
async fn admitted(ledger: &Ledger, scope: &Scope, thread: &ThreadId, run: &str) -> Admitted {
    let run = ok(ledger.admit(scope, NewRun::new(thread.clone(), run_id(run))).await).run;
    Admitted { thread: thread.clone(), run: run.run_id, epoch: run.epoch }
}

/// A thread of an owner's whose run asked these questions.
async fn asked(ledger: &Ledger, scope: &Scope, name: &str, asks: &[&str]) -> Admitted {
    let t = thread(ledger, scope, name).await;
    let run = admitted(ledger, scope, &t, "r").await;
    ok(ledger.finish(scope, asking(&run, asks.iter().map(|name| ask(name)).collect())).await);
    run
}

/// An admission that answers a question.
fn answering(thread: &ThreadId, run: &str, question: &str) -> NewRun {
    let answer = Some(Answer { interaction_id: id(question), value: json(&format!(r#"["{run}"]"#)) });
    NewRun {
        admission: Admission { answer, created_at: at(20), ..Admission::default() },
        input: vec![message(run)],
        ..NewRun::new(thread.clone(), run_id(run))
    }
}

async fn question(ledger: &Ledger, run: &Admitted, name: &str) -> Interaction {
    ok(ledger.interactions().get(&alice(), &run.thread, &id(name)).await)
}

async fn runs(ledger: &Ledger, thread: &ThreadId) -> Vec<Run> {
    let filter = RunFilter { thread_id: Some(thread.clone()), ..RunFilter::default() };
    ok(ledger.runs().list(&alice(), &filter, &ListRange::default()).await).items
}

/// A question comes with the end of its run, whole.
pub async fn a_run_asks_as_it_ends(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let stored = ok(ledger.runs().get(&alice(), &run.thread, &run.run).await);
    assert_eq!(
        (stored.status, stored.stop_reason.as_deref()),
        (RunStatus::Interrupted, Some("waiting_for_input"))
    );
    let expected = Interaction {
        thread_id: run.thread.clone(),
        interaction_id: id("q"),
        owner_id: alice().owner().cloned(),
        run_id: run.run.clone(),
        item_id: Some(item_id("a")),
        kind: "approval".to_owned(),
        request: json(r#"{"may I": "q"}"#),
        status: InteractionStatus::Open,
        answer: None,
        answer_run_id: None,
        created_at: at(9),
        answered_at: None,
    };
    assert_eq!(question(ledger, &run, "q").await, expected);
    assert_eq!(ok(ledger.resume(&alice(), &run.thread).await).questions, [expected]);
    assert_eq!(
        kind(ledger.interactions().get(&alice(), &run.thread, &id("none")).await),
        ErrorKind::NotFound
    );
}

/// A repeated end asks once.
pub async fn a_repeated_end_asks_once(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let run = admitted(ledger, &alice(), &t, "r").await;
    let first = ok(ledger.finish(&alice(), asking(&run, vec![ask("q"), ask("p")])).await);
    let again = ok(ledger.finish(&alice(), asking(&run, vec![ask("q"), ask("p")])).await);
    assert_eq!(again.run, first.run);
    assert_eq!(ok(ledger.resume(&alice(), &t).await).questions.len(), 2);
}

/// Only a run that ends waiting for input asks, with questions that can be stored.
pub async fn only_a_run_that_waits_asks(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let run = admitted(ledger, &alice(), &t, "r").await;
    for outcome in [Outcome::success(), Outcome::interrupted("cancelled"), Outcome::error("x")] {
        let end = Finish { asks: vec![ask("q")], ..run.finish(0, outcome) };
        assert_eq!(kind(ledger.finish(&alice(), end).await), ErrorKind::InvalidInput);
    }
    let odd = |kind: &str| NewInteraction { kind: kind.to_owned(), ..ask("q") };
    for asks in [vec![ask("q"), ask("q")], vec![odd("")], vec![odd("a\nb")], vec![odd(&"x".repeat(65))]] {
        assert_eq!(kind(ledger.finish(&alice(), asking(&run, asks)).await), ErrorKind::InvalidInput);
    }
    assert_eq!(ok(ledger.runs().get(&alice(), &t, &run.run).await).status, RunStatus::Pending);
    assert_eq!(ok(ledger.resume(&alice(), &t).await).questions, []);
    // It may end so without a question, too.
    assert_eq!(ok(ledger.finish(&alice(), asking(&run, vec![])).await).run.status, RunStatus::Interrupted);
}

/// A run that was asked to stop ends as asked, and asks nobody.
pub async fn a_cancelled_run_asks_nobody(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let ttl = std::time::Duration::from_secs(600);
    let lease = Some(NewLease { worker_id: ok(WorkerId::new("w")), ttl });
    let admission = Admission { lease, created_at: at(0), ..Admission::default() };
    let new = NewRun { admission, ..NewRun::new(t.clone(), run_id("r")) };
    let epoch = ok(ledger.admit(&alice(), new).await).run.epoch;
    let run = Admitted { thread: t.clone(), run: run_id("r"), epoch };
    ok(ledger.runs().request_cancel(&alice(), &t, &run.run, CancelAction::Interrupt, at(1)).await);
    let ended = ok(ledger.finish(&alice(), asking(&run, vec![ask("q")])).await);
    assert_eq!(ended.run.stop_reason.as_deref(), Some("cancelled"));
    assert_eq!(kind(ledger.interactions().get(&alice(), &t, &id("q")).await), ErrorKind::NotFound);
}

/// An answer is stored with the admission of the run that goes on with it, once.
pub async fn an_answer_admits_a_run(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let admitted = ok(ledger.admit(&alice(), answering(&run.thread, "on", "q")).await);
    assert!(admitted.created);
    let answered = question(ledger, &run, "q").await;
    assert_eq!(answered.status, InteractionStatus::Answered);
    assert_eq!(answered.answer, Some(json(r#"["on"]"#)));
    assert_eq!((answered.answer_run_id, answered.answered_at), (Some(run_id("on")), Some(at(20))));
    assert_eq!(ok(ledger.resume(&alice(), &run.thread).await).questions, []);
    let on = Admitted { thread: run.thread.clone(), run: run_id("on"), epoch: admitted.run.epoch };
    finish(ledger, &on, 0).await;
    assert_eq!(kind(ledger.admit(&alice(), answering(&run.thread, "twice", "q")).await), ErrorKind::Conflict);
    assert_eq!(runs(ledger, &run.thread).await.len(), 2);
}

/// An admission that is repeated by its key answers once, and is answered with its run.
pub async fn a_repeated_answer_is_answered_by_its_key(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let mut new = answering(&run.thread, "on", "q");
    new.admission.idempotency_key = Some("k".to_owned());
    assert!(ok(ledger.admit(&alice(), new.clone()).await).created);
    let again = ok(ledger.admit(&alice(), new).await);
    assert_eq!((again.created, again.run.run_id), (false, run_id("on")));
}

/// Of many who answer one is admitted, and nothing of the others is stored.
pub async fn one_of_many_answers_is_admitted(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let before = log(ledger, &run.thread).await.len();
    let strategies = [MultitaskStrategy::Interrupt, MultitaskStrategy::Enqueue, MultitaskStrategy::Reject];
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let (ledger, mut new) = (ledger.clone(), answering(&run.thread, &format!("on{number}"), "q"));
            new.admission.multitask_strategy = strategies[number % 3].clone();
            tokio::spawn(async move { ledger.admit(&alice(), new).await })
        })
        .collect();
    let mut admitted = Vec::new();
    for task in tasks {
        match task.await {
            Ok(Ok(new)) => admitted.push(new.run.run_id),
            Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            Err(error) => panic!("{error}"),
        }
    }
    let [one] = admitted.as_slice() else { panic!("{admitted:?}") };
    assert_eq!(question(ledger, &run, "q").await.answer_run_id.as_ref(), Some(one));
    let stored = runs(ledger, &run.thread).await;
    assert_eq!(stored.len(), 2);
    assert_eq!(log(ledger, &run.thread).await.len(), before + 1);
    let head = ok(ledger.threads().head(&alice(), &run.thread).await);
    assert_eq!(head.active_run_id.as_ref(), Some(one));
}

/// A question that the thread does not have cannot be answered there, and nothing is admitted.
pub async fn a_question_is_its_threads(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let other = thread(ledger, &alice(), "other").await;
    let foreign = thread(ledger, &mallory(), "foreign").await;
    for (scope, thread, name) in [
        (alice(), &run.thread, "none"),
        (alice(), &other, "q"),
        (mallory(), &run.thread, "q"),
        (mallory(), &foreign, "q"),
    ] {
        let refused = ledger.admit(&scope, answering(thread, "on", name)).await;
        assert_eq!(kind(refused), ErrorKind::NotFound, "{thread} {name}");
    }
    for thread in [&run.thread, &other] {
        let head = ok(ledger.threads().head(&alice(), thread).await);
        assert_eq!(head.active_run_id, None);
        assert_eq!(kind(ledger.runs().get(&alice(), thread, &run_id("on")).await), ErrorKind::NotFound);
    }
    assert_eq!(question(ledger, &run, "q").await.status, InteractionStatus::Open);
    let theirs = ledger.interactions().get(&mallory(), &run.thread, &id("q")).await;
    assert_eq!(kind(theirs), ErrorKind::NotFound);
}

/// A run that has to wait holds the answer it was queued with.
pub async fn a_queued_run_answers_at_once(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let busy = admitted(ledger, &alice(), &run.thread, "busy").await;
    let mut new = answering(&run.thread, "on", "q");
    new.admission.multitask_strategy = MultitaskStrategy::Enqueue;
    assert_eq!(ok(ledger.admit(&alice(), new).await).run.status, RunStatus::Queued);
    assert_eq!(question(ledger, &run, "q").await.answer_run_id, Some(run_id("on")));
    let late = answering(&run.thread, "late", "q");
    assert_eq!(kind(ledger.admit(&alice(), late).await), ErrorKind::Conflict);
    finish(ledger, &busy, 0).await;
    let promoted = ok(ledger.runs().get(&alice(), &run.thread, &run_id("on")).await);
    assert_eq!(promoted.status, RunStatus::Pending);
}

/// What a run was admitted with goes with it: the question is open again, and nothing of the answer is left.
pub async fn a_deleted_run_takes_its_answer_along(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q", "p"]).await;
    let before = question(ledger, &run, "q").await;
    for (name, question) in [("other", "p"), ("on", "q")] {
        let new = ok(ledger.admit(&alice(), answering(&run.thread, name, question)).await).run;
        let admitted = Admitted { thread: run.thread.clone(), run: new.run_id, epoch: new.epoch };
        finish(ledger, &admitted, 0).await;
    }
    let other = question(ledger, &run, "p").await;
    ok(ledger.events().delete_by_run(&alice(), &run.thread, &run_id("on")).await);
    assert_eq!(question(ledger, &run, "q").await, before);
    assert_eq!(question(ledger, &run, "p").await, other);
    assert_eq!(ok(ledger.resume(&alice(), &run.thread).await).questions, [before]);
    ok(ledger.admit(&alice(), answering(&run.thread, "again", "q")).await);
    assert_eq!(question(ledger, &run, "q").await.answer_run_id, Some(run_id("again")));
}

/// A question is taken up again where nothing goes on with its answer: the run was undone, or ended in the queue.
pub async fn an_answer_that_was_undone_gives_way(ledger: &Ledger) {
    let run = asked(ledger, &alice(), "t", &["q"]).await;
    let on = ok(ledger.admit(&alice(), answering(&run.thread, "on", "q")).await).run;
    let on = Admitted { thread: run.thread.clone(), run: on.run_id, epoch: on.epoch };
    finish(ledger, &on, 0).await;
    let refused = ledger.admit(&alice(), answering(&run.thread, "late", "q")).await;
    assert_eq!(kind(refused), ErrorKind::Conflict);
    ok(ledger.runs().rewind(&alice(), &run.thread, &on.run).await);

    let busy = admitted(ledger, &alice(), &run.thread, "busy").await;
    let mut waits = answering(&run.thread, "waits", "q");
    waits.admission.multitask_strategy = MultitaskStrategy::Enqueue;
    ok(ledger.admit(&alice(), waits).await);
    assert_eq!(question(ledger, &run, "q").await.answer_run_id, Some(run_id("waits")));
    let refused = ledger.admit(&alice(), answering(&run.thread, "late", "q")).await;
    assert_eq!(kind(refused), ErrorKind::Conflict);
    ok(ledger.cancel(&alice(), &run.thread, &run_id("waits"), CancelAction::Interrupt, at(30)).await);
    finish(ledger, &busy, 0).await;
    ok(ledger.admit(&alice(), answering(&run.thread, "again", "q")).await);
    let answered = question(ledger, &run, "q").await;
    assert_eq!(
        (answered.answer_run_id, answered.answer),
        (Some(run_id("again")), Some(json(r#"["again"]"#)))
    );
}

/// Questions are listed by owner, by thread and by where they stand, the newest first, page by page.
pub async fn questions_are_listed_in_pages(ledger: &Ledger) {
    let first = asked(ledger, &alice(), "a", &["q1", "q2", "q3"]).await;
    let second = asked(ledger, &alice(), "b", &["q1", "q4"]).await;
    asked(ledger, &mallory(), "c", &["q1"]).await;
    ok(ledger.admit(&alice(), answering(&first.thread, "on", "q2")).await);
    let list = async |scope: &Scope, filter: &InteractionFilter| {
        let mut found = Vec::new();
        let mut range = ListRange::newest(2);
        loop {
            let page = ok(ledger.interactions().list(scope, filter, &range).await);
            assert!(page.items.len() <= 2);
            let name = |it: &Interaction| format!("{}/{}", it.thread_id, it.interaction_id);
            found.extend(page.items.iter().map(name));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(cursor),
                None => return found,
            }
        }
    };
    let of = |thread: Option<&ThreadId>, status: Option<InteractionStatus>| InteractionFilter {
        thread_id: thread.cloned(),
        status,
    };
    // All were asked at the same time, so the larger id comes first.
    let all = list(&alice(), &of(None, None)).await;
    assert_eq!(all, ["b/q4", "a/q3", "a/q2", "b/q1", "a/q1"]);
    assert_eq!(list(&Scope::System, &of(None, None)).await.len(), 6);
    let (open, answered) = (Some(InteractionStatus::Open), Some(InteractionStatus::Answered));
    assert_eq!(list(&alice(), &of(None, open.clone())).await, ["b/q4", "a/q3", "b/q1", "a/q1"]);
    assert_eq!(list(&alice(), &of(None, answered.clone())).await, ["a/q2"]);
    assert_eq!(list(&alice(), &of(Some(&first.thread), None)).await, ["a/q3", "a/q2", "a/q1"]);
    assert_eq!(list(&alice(), &of(Some(&first.thread), open)).await, ["a/q3", "a/q1"]);
    assert_eq!(list(&alice(), &of(Some(&second.thread), answered)).await, [""; 0]);
    let foreign = of(Some(&first.thread), None);
    let refused = ledger.interactions().list(&mallory(), &foreign, &ListRange::default()).await;
    assert_eq!(kind(refused), ErrorKind::NotFound);
    let none = ledger.interactions().list(&alice(), &of(None, None), &ListRange::newest(0)).await;
    assert_eq!(kind(none), ErrorKind::InvalidInput);
}

/// Payloads of questions and answers come back byte for byte.
pub async fn questions_come_back_byte_for_byte(ledger: &Ledger) {
    let t = thread(ledger, &alice(), "t").await;
    let run = admitted(ledger, &alice(), &t, "r").await;
    let odd = json("{ \"a\\u0000\" : \"\\ud800\",\n\t\"b\":1.50 }");
    let question_asked = NewInteraction { request: odd.clone(), item_id: None, ..ask("q") };
    ok(ledger.finish(&alice(), asking(&run, vec![question_asked])).await);
    let mut new = answering(&t, "on", "q");
    new.admission.answer = Some(Answer { interaction_id: id("q"), value: odd.clone() });
    ok(ledger.admit(&alice(), new).await);
    let stored = question(ledger, &run, "q").await;
    assert_eq!(
        (stored.request, stored.answer, stored.item_id),
        (odd.clone(), Some(odd), None::<crate::ItemId>)
    );
}
