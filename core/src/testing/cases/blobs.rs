//! Large parts of payloads: stored once per thread, named by events, gone with the last of them.

use futures_util::future::join_all;
use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::view::context::MessageBody;
use crate::{
    Admission, Blob, BlobEntry, BlobHash, Category, Claim, Commit, ErrorKind, Event, EventDraft, ItemBody,
    ItemKind, ItemStatus, Ledger, MAX_EVENT_BLOBS, MultitaskStrategy, NewBlob, Outcome, RawJson, Scope,
    ThreadId, Transition, blob_refs, offload,
};

/// From how many bytes on the cases take text out.
const LARGE: usize = 100;

fn large(letter: char) -> String {
    letter.to_string().repeat(5_000)
}

fn hash(text: &str) -> BlobHash {
    BlobHash::of(text.as_bytes())
}

fn entry(text: &str, events: u64) -> BlobEntry {
    BlobEntry { hash: hash(text), media_type: "text/plain".to_owned(), bytes: text.len() as u64, events }
}

/// Takes the large texts out of a commit's payloads.
fn slim(mut commit: Commit) -> Commit {
    for (place, event) in commit.events.iter_mut().enumerate() {
        if let Some((content, blobs)) = offload(&event.content, place, LARGE) {
            event.content = content;
            commit.blobs.extend(blobs);
        }
    }
    commit
}

async fn blobs(ledger: &Ledger, thread: &ThreadId) -> Vec<BlobEntry> {
    ok(ledger.blobs().list(&Scope::System, thread, None, 100).await)
}

/// The entries in the order in which a listing has them.
fn listed(mut entries: Vec<BlobEntry>) -> Vec<BlobEntry> {
    entries.sort_by(|a, b| a.hash.cmp(&b.hash));
    entries
}

async fn whole(ledger: &Ledger, events: &[Event]) -> Vec<RawJson> {
    let mut contents = Vec::new();
    for event in events {
        contents.push(ok(ledger.whole(&Scope::System, &event.thread_id, &event.content).await));
    }
    contents
}

/// However many events have a large text, it is stored once, and comes back byte for byte.
pub async fn a_large_part_is_stored_once(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let (a, b) = (large('a'), large('b'));
    let parts = json(&format!(r#"[ "{a}", 1.50, {{"out":"{b}"}}, "{a}" ]"#));
    let image = json(r#"{"url":"data:image/png;base64,iVBORw0KGgo="}"#);
    let drafts = vec![note(&a), EventDraft { content: parts.clone(), ..note("") }, message("small")];
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(drafts))).await);
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(vec![note(&a)]))).await);
    let (content, of_image) = offload(&image, 0, 10).unwrap_or_else(|| panic!("nothing is large"));
    let picture = EventDraft { content, ..note("") };
    ok(commit(ledger, Commit { blobs: of_image, ..Commit::new(t.clone()).with_events(vec![picture]) }).await);

    let png = b"\x89PNG\r\n\x1a\n";
    let of_png =
        BlobEntry { hash: BlobHash::of(png), media_type: "image/png".to_owned(), bytes: 8, events: 1 };
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&a, 3), entry(&b, 1), of_png]));
    let stored = ok(ledger.blobs().get(&Scope::System, &t, &hash(&b)).await);
    assert_eq!(stored, Blob { hash: hash(&b), media_type: "text/plain".to_owned(), bytes: b.into_bytes() });
    let stored = ok(ledger.blobs().get(&Scope::System, &t, &BlobHash::of(png)).await);
    assert_eq!((stored.bytes.as_slice(), stored.media_type.as_str()), (&png[..], "image/png"));
    let events = log(ledger, &t).await;
    assert!(events.iter().all(|event| event.content.as_str().len() < 4_500 * 2));
    let text = RawJson::string(&a);
    assert_eq!(whole(ledger, &events).await, [text.clone(), parts, RawJson::string("small"), text, image]);
}

/// A blob that is not what it says, or that no event names, is refused with its commit.
pub async fn a_blob_is_judged_with_its_commit(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let good = slim(Commit::new(t.clone()).with_events(vec![message("first"), note(&large('a'))]));
    let with = |change: fn(&mut NewBlob)| {
        let mut commit = good.clone();
        commit.blobs.iter_mut().for_each(change);
        commit
    };
    let unnamed = Commit { events: vec![message("first"), note("second")], ..good.clone() };
    for wrong in [
        with(|blob| blob.bytes.push(0)),
        with(|blob| blob.hash = hash("other")),
        with(|blob| blob.event = 0),
        with(|blob| blob.event = 2),
        with(|blob| blob.media_type = String::new()),
        unnamed,
    ] {
        assert_eq!(kind(commit(ledger, wrong).await), ErrorKind::InvalidInput);
    }
    assert_eq!((log(ledger, &t).await, blobs(ledger, &t).await), (vec![], vec![]));
    assert_eq!(kind(ledger.blobs().get(&Scope::System, &t, &hash("x")).await), ErrorKind::NotFound);
    ok(commit(ledger, good).await);
    // What is refused by the log brings nothing either.
    let late = slim(Commit::of_run(t.clone(), run_id("none")).with_events(vec![note(&large('b'))]));
    assert_eq!(kind(commit(ledger, late).await), ErrorKind::NotFound);
    assert_eq!(blobs(ledger, &t).await, [entry(&large('a'), 1)]);
}

/// A payload may name a blob that its thread has, and counts; what the thread does not have counts as nothing.
pub async fn a_payload_may_name_what_is_there(ledger: &Ledger) {
    let (t, u) = (thread(ledger, &Scope::System, "t").await, thread(ledger, &Scope::System, "u").await);
    let first = slim(Commit::new(t.clone()).with_events(vec![note(&large('a'))]));
    ok(commit(ledger, first.clone()).await);
    ok(commit(ledger, Commit { blobs: vec![], ..first.clone() }).await);
    assert_eq!(blobs(ledger, &t).await, [entry(&large('a'), 2)]);
    ok(commit(ledger, Commit { thread_id: u.clone(), blobs: vec![], ..first }).await);
    assert_eq!(blobs(ledger, &u).await, []);
    let events = log(ledger, &u).await;
    // It stays a ref, and shows how it begins.
    assert_eq!(whole(ledger, &events).await, [events[0].content.clone()]);
    assert!(ok(events[0].content.shown().decode::<String>()).starts_with("aaaaa"));
}

/// A blob goes with the last event that names it, however that goes.
pub async fn a_blob_goes_with_its_last_event(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let (a, b, c) = (large('a'), large('b'), large('c'));
    for (run, texts) in [("r1", [&a, &b]), ("r2", [&b, &c])] {
        let run = admit(ledger, &t, run).await;
        ok(commit(ledger, slim(run.commit(0, texts.map(|text| note(text)).to_vec()))).await);
        finish(ledger, &run, 2).await;
    }
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(vec![note(&c)]))).await);
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&a, 1), entry(&b, 2), entry(&c, 2)]));
    ok(ledger.events().delete_by_run(&Scope::System, &t, &run_id("r1")).await);
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&b, 1), entry(&c, 2)]));
    assert_eq!(kind(ledger.blobs().get(&Scope::System, &t, &hash(&a)).await), ErrorKind::NotFound);
    ok(ledger.events().delete_by_run(&Scope::System, &t, &run_id("r2")).await);
    assert_eq!(blobs(ledger, &t).await, [entry(&c, 1)]);
    ok(ledger.events().delete_by_thread(&Scope::System, &t).await);
    assert_eq!(blobs(ledger, &t).await, []);
    // It can be brought again.
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(vec![note(&a)]))).await);
    assert_eq!(blobs(ledger, &t).await, [entry(&a, 1)]);
    ok(ledger.threads().delete(&Scope::System, &t).await);
    assert_eq!(kind(ledger.blobs().list(&Scope::System, &t, None, 100).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().get(&Scope::System, &t, &hash(&a)).await), ErrorKind::NotFound);
}

/// A batch that is sent again, whole or longer, brings its blobs once.
pub async fn a_repeated_batch_brings_its_blobs_once(ledger: &Ledger) {
    let run = running(ledger).await;
    let (a, b) = (large('a'), large('b'));
    let batch = |texts: &[&str]| slim(run.commit(0, texts.iter().map(|text| note(text)).collect()));
    assert_eq!(ok(commit(ledger, batch(&[&a])).await).seqs, [1]);
    assert_eq!(ok(commit(ledger, batch(&[&a])).await).already_stored, 1);
    let longer = ok(commit(ledger, batch(&[&a, &a, &b])).await);
    assert_eq!((longer.seqs, longer.already_stored), (vec![1, 2, 3], 1));
    assert_eq!(blobs(ledger, &run.thread).await, listed(vec![entry(&a, 2), entry(&b, 1)]));
}

/// Every step of a run may bring blobs, but for an admission that may have to wait.
pub async fn steps_bring_blobs(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let admitting = |strategy, run: &str, text: &str| {
        let admission = Admission { multitask_strategy: strategy, created_at: at(0), ..Admission::default() };
        let commit = Commit::of_run(t.clone(), run_id(run)).with_events(vec![message(text)]);
        slim(Commit { transition: Some(Transition::Admit(Box::new(admission))), ..commit })
    };
    let (a, b, c) = (large('a'), large('b'), large('c'));
    let epoch = ok(commit(ledger, admitting(MultitaskStrategy::Reject, "r", &a)).await).epoch;
    let waits = admitting(MultitaskStrategy::Enqueue, "q", &a);
    assert_eq!(kind(commit(ledger, waits.clone()).await), ErrorKind::InvalidInput);
    // Without bringing any, its input may name what is there, and counts when it is part of the log.
    ok(commit(ledger, Commit { blobs: vec![], ..waits }).await);
    let run = Admitted { thread: t.clone(), run: run_id("r"), epoch };
    let start = Commit { events: vec![note(&b)], ..run.start() };
    ok(commit(ledger, slim(start)).await);
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&a, 1), entry(&b, 1)]));
    let end = run.finish(1, Outcome::success());
    let last = EventDraft { content: RawJson::string(&c), ..terminal(&Outcome::success()) };
    let finish = Transition::Finish { outcome: Outcome::success(), asks: vec![], at: end.at };
    ok(commit(ledger, slim(Commit { transition: Some(finish), ..run.commit(1, vec![last]) })).await);
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&a, 2), entry(&b, 1), entry(&c, 1)]));
}

/// The end of an item that a store writes repeats what its start says, and so names its blobs.
pub async fn an_end_that_the_store_writes_names_them_too(ledger: &Ledger) {
    let run = running(ledger).await;
    let text = large('a');
    let content = json(&format!(r#"{{"name":"tool","args":{{"text":"{text}"}}}}"#));
    let started = EventDraft { content, ..tool_started("i") };
    ok(commit(ledger, slim(run.commit(0, vec![started]))).await);
    let interrupt = Transition::Interrupt {
        outcome: Outcome::interrupted("gone"),
        claim: Claim::Epoch(run.epoch),
        at: at(5),
    };
    ok(commit(ledger, Commit { transition: Some(interrupt), ..run.unmarked(vec![]) }).await);
    assert_eq!(blobs(ledger, &run.thread).await, [entry(&text, 2)]);
}

/// Many bring the same at once: it is there once, and all of them count.
pub async fn one_of_many_is_stored(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let texts = [large('a'), large('b')];
    let sent = (0..16).map(|number| {
        let (ledger, t, text) = (ledger.clone(), t.clone(), texts[number % 2].clone());
        tokio::spawn(
            async move { commit(&ledger, slim(Commit::new(t).with_events(vec![note(&text)]))).await },
        )
    });
    for stored in join_all(sent).await {
        ok(stored.unwrap_or_else(|error| panic!("{error}")));
    }
    assert_eq!(blobs(ledger, &t).await, listed(vec![entry(&texts[0], 8), entry(&texts[1], 8)]));
}

/// A listing goes through the hashes in order.
pub async fn blobs_are_listed_in_pages(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let texts: Vec<String> = ('a'..='g').map(large).collect();
    let drafts = texts.iter().map(|text| note(text)).collect();
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(drafts))).await);
    let mut all: Vec<BlobEntry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.hash.clone());
        let page = ok(ledger.blobs().list(&Scope::System, &t, after.as_ref(), 3).await);
        let count = page.len();
        all.extend(page);
        if count < 3 {
            break;
        }
    }
    assert_eq!(all, listed(texts.iter().map(|text| entry(text, 1)).collect()));
    assert_eq!(kind(ledger.blobs().list(&Scope::System, &t, None, 0).await), ErrorKind::InvalidInput);
}

/// A blob is its thread's: nobody else sees it, and no other thread has it.
pub async fn a_blob_is_its_threads(ledger: &Ledger) {
    let (t, u) = (thread(ledger, &alice(), "t").await, thread(ledger, &alice(), "u").await);
    let text = large('a');
    ok(commit(ledger, slim(Commit::new(t.clone()).with_events(vec![note(&text)]))).await);
    assert_eq!(ok(ledger.blobs().list(&alice(), &t, None, 10).await), [entry(&text, 1)]);
    assert_eq!(ok(ledger.blobs().list(&alice(), &u, None, 10).await), []);
    assert_eq!(ok(ledger.blobs().entry(&alice(), &t, &hash(&text)).await), entry(&text, 1));
    assert_eq!(kind(ledger.blobs().entry(&alice(), &t, &hash("x")).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().entry(&alice(), &u, &hash(&text)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().entry(&mallory(), &t, &hash(&text)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().get(&alice(), &u, &hash(&text)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().get(&mallory(), &t, &hash(&text)).await), ErrorKind::NotFound);
    assert_eq!(kind(ledger.blobs().list(&mallory(), &t, None, 10).await), ErrorKind::NotFound);
}

/// Who reads messages and items is shown how a large part begins, whatever field it stood in.
pub async fn readers_are_shown_how_it_begins(ledger: &Ledger) {
    let run = running(ledger).await;
    let text = large('a');
    let say = |id: &str, kind: ItemKind, content: String| EventDraft {
        content: json(&content),
        ..item(id, kind, ItemStatus::Completed, Category::Message)
    };
    let drafts = vec![
        say("u", ItemKind::UserMessage, format!(r#"{{"content":[{{"type":"text","text":"{text}"}}]}}"#)),
        say("a", ItemKind::AgentMessage, format!(r#"{{"content":"{text}"}}"#)),
        say("r", ItemKind::Reasoning, format!(r#"{{"text":"{text}"}}"#)),
        say(
            "c",
            ItemKind::CommandExecution,
            format!(
                r#"{{"name":"sh","args":null,"content":"{text}","detail":{{"stdout":"{text}","exit_code":1}}}}"#
            ),
        ),
    ];
    ok(commit(ledger, slim(run.commit(0, drafts))).await);
    let begins = |text: &str| text.starts_with("aaaa") && text.contains("of 5000 bytes of text/plain");
    let window = ok(ledger.context().load(&Scope::System, &run.thread).await);
    for message in &window.messages {
        let text = match &message.body {
            MessageBody::User(said) => crate::ContentText::text(&said.content),
            MessageBody::Agent(said) => crate::ContentText::text(&said.content),
            MessageBody::Reasoning(said) => said.text.clone(),
            MessageBody::Tool(call) => {
                call.content.as_ref().map(crate::ContentText::text).unwrap_or_default()
            }
            MessageBody::Note(_) | MessageBody::Prompt(_) | MessageBody::Other => String::new(),
        };
        assert!(begins(&text), "{:?}", message.body);
    }
    assert_eq!(window.messages.len(), 4);
    // The call that nobody asked for gets a message that asks.
    assert_eq!(window.to_openai_chat().len(), 4);
    let events = log(ledger, &run.thread).await;
    match ItemBody::of(&ItemKind::CommandExecution, &events[3].content) {
        ItemBody::CommandExecution(call, detail) => {
            assert!(begins(&ok(call.content.unwrap_or_else(RawJson::null).decode::<String>())));
            assert!(begins(&detail.stdout.unwrap_or_default()));
            assert_eq!(detail.exit_code, Some(1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(blob_refs(&events[3].content).len(), 2);
}

/// An event names no more blobs than a payload can have large parts.
pub async fn too_many_blobs_are_refused(ledger: &Ledger) {
    let t = thread(ledger, &Scope::System, "t").await;
    let named = |count: usize| {
        let refs = (0..count).map(|number| {
            let hash = BlobHash::of(&number.to_le_bytes());
            format!(r#"{{"blob":"{hash}","bytes":8,"media_type":"text/plain"}}"#)
        });
        EventDraft { content: json(&format!("[{}]", refs.collect::<Vec<_>>().join(","))), ..note("") }
    };
    let commit_of = |count| Commit::new(t.clone()).with_events(vec![named(count)]);
    assert_eq!(kind(commit(ledger, commit_of(MAX_EVENT_BLOBS + 1)).await), ErrorKind::InvalidInput);
    ok(commit(ledger, commit_of(MAX_EVENT_BLOBS)).await);
    assert_eq!(blobs(ledger, &t).await, []);
}
