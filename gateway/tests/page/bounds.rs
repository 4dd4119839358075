//! A page of a large thread reads a bounded part of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use runledger_core::verify::{Rebuilt, Verified};
use runledger_core::{
    Admission, Category, ClaimedItem, Commit, EventDraft, ItemEntry, ItemId, ItemKind, ItemMark, ItemPage,
    ItemQuery, ItemStatus, ItemStore, JournalMark, Ledger, MemoryLedger, NewThread, Outcome, Result, RunId,
    Scope, Stores, ThreadId, Timestamp, TurnPage, TurnQuery,
};
use serde_json::json;

use crate::script::{Script, json_of};
use crate::site::Site;

/// Counts the items that are read.
#[derive(Debug)]
struct Counted(MemoryLedger, Arc<AtomicUsize>);

impl Counted {
    fn note(&self, items: usize) {
        self.1.fetch_add(items, Ordering::Relaxed);
    }
}

#[async_trait]
impl ItemStore for Counted {
    async fn get(&self, scope: &Scope, thread: &ThreadId, run: &RunId, item: &ItemId) -> Result<ItemEntry> {
        self.note(1);
        ItemStore::get(&self.0, scope, thread, run, item).await
    }
    async fn read(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        items: &[ItemId],
    ) -> Result<ItemPage> {
        self.note(items.len());
        self.0.read(scope, thread, run, items).await
    }
    async fn page(&self, scope: &Scope, thread: &ThreadId, query: &ItemQuery) -> Result<ItemPage> {
        let page = self.0.page(scope, thread, query).await?;
        self.note(page.items.len());
        Ok(page)
    }
    async fn turns(&self, scope: &Scope, thread: &ThreadId, query: &TurnQuery) -> Result<TurnPage> {
        let page = self.0.turns(scope, thread, query).await?;
        self.note(page.turns.iter().map(|turn| turn.items.len()).sum());
        Ok(page)
    }
    async fn claim(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        item: &ItemId,
        epoch: u64,
    ) -> Result<ClaimedItem> {
        self.0.claim(scope, thread, run, item, epoch).await
    }
    async fn rebuild(&self, scope: &Scope, thread: &ThreadId) -> Result<Rebuilt> {
        self.0.rebuild(scope, thread).await
    }
    async fn verify(&self, scope: &Scope, thread: &ThreadId) -> Result<Verified> {
        self.0.verify(scope, thread).await
    }
}

/// A thread whose runs have many items each; the last one goes on.
async fn large(ledger: &Ledger, runs: usize, items: usize) {
    for number in 0..runs {
        let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
        let run = format!("run-{number}");
        let thread = NewThread::new(ThreadId::new("large").unwrap());
        let mut script = Script::begin(ledger, &Scope::System, thread, &run, "Count.", asked).await;
        let id = RunId::new(&run).unwrap();
        let head = ledger.threads().head(&Scope::System, &ThreadId::new("large").unwrap()).await.unwrap();
        let mut ordinal = 0;
        for chunk in 0..items.div_ceil(500) {
            let events: Vec<EventDraft> = (0..500)
                .map(|at| {
                    let mark = ItemMark::new(
                        ItemId::new(format!("{chunk}-{at}")).unwrap(),
                        ItemKind::AgentMessage,
                        ItemStatus::Completed,
                    );
                    EventDraft::item(mark, Category::Message, json_of(&json!({ "content": "One more." })))
                })
                .collect();
            let mark = JournalMark { epoch: head.epoch, ordinal };
            ordinal += events.len() as u64;
            let commit = Commit::of_run(ThreadId::new("large").unwrap(), id.clone())
                .with_events(events)
                .with_mark(mark);
            ledger.events().append(&Scope::System, commit).await.unwrap();
        }
        if number + 1 < runs {
            script.ordinal = ordinal;
            script.finish(Outcome::success()).await;
        }
    }
}

#[tokio::test]
async fn a_thread_of_a_hundred_thousand_events_opens_at_once() {
    let memory = MemoryLedger::new();
    large(&memory.ledger(), 20, 5_000).await;
    let read = Arc::new(AtomicUsize::new(0));
    let items = Arc::new(Counted(memory.clone(), Arc::clone(&read)));
    let site = Site::over(Ledger::new(Stores { items, ..Stores::all(Arc::new(memory)) }));
    let head = site.ledger.threads().head(&Scope::System, &ThreadId::new("large").unwrap()).await.unwrap();
    assert!(head.last_seq() >= 100_000);
    for path in
        ["/threads/large", "/threads/large/runs/run-3", "/threads/large/fragment?updated_after=5", "/"]
    {
        read.store(0, Ordering::Relaxed);
        let page = site.page(path).await;
        let (items, bytes) = (read.load(Ordering::Relaxed), page.html.len());
        assert!(items <= 1_000 && bytes < 2 << 20, "{path}: {items} items, {bytes} bytes");
    }
    // The run that goes on shows its end, with the way to what came before; others show their beginning.
    let thread = site.page("/threads/large").await;
    assert!(thread.html.contains("id=\"i-9-499\"") && thread.text.contains("Earlier items of this run"));
    let earlier = site.page(thread.rel("prev").unwrap()).await;
    assert_eq!(earlier.with_class("turn").len(), 10);
    assert_eq!(earlier.rel("prev"), None);
    let back = site.page(earlier.rel("next").unwrap()).await;
    let runs = |page: &crate::site::Page| -> Vec<String> {
        page.with_class("turn")
            .iter()
            .filter_map(|turn| turn.attribute("data-run").map(str::to_owned))
            .collect()
    };
    assert_eq!(runs(&back), runs(&thread));
    assert_eq!(runs(&earlier).first().map(String::as_str), Some("run-0"));
}
