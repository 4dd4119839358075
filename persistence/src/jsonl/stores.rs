//! The stores that a folder of files has: the log and its threads.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use runledger_core::{
    AppendSignal, Capabilities, Capability, ChildFilter, Commit, Deleted, Deletion, DeletionFilter, Erased,
    Erasure, Error, Event, EventDraft, EventFilter, EventStore, HeadState, ListRange, NewThread, OwnerId,
    Page, Prepared, PutIfAbsent, Receipt, Result, RunId, RunVisibility, Scope, SeqPage, SeqRange, Thread,
    ThreadFilter, ThreadHead, ThreadId, ThreadPatch, ThreadStore, Timestamp, check_run_count,
};

use super::JsonlLedger;
use super::file::{self, Trouble};
use super::head::Head;
use super::store::{Store, not_found};
use super::tail::Tail;
use super::view::Wanted;
use super::writer::Writer;
use crate::disk::{FileError, blocking};

#[async_trait]
impl EventStore for JsonlLedger {
    async fn append(&self, scope: &Scope, commit: Commit) -> Result<Receipt> {
        let prepared = commit.prepare(&self.store.config.limits)?;
        self.capabilities().require_for(&prepared)?;
        let (scope, thread) = (scope.clone(), prepared.thread_id.clone());
        let work = move |store: &Store, slot: &mut Option<Tail>| {
            let new = prepared.create_missing.clone();
            let writer = writer_of(store, &scope, &prepared.thread_id, new, slot)?;
            append_to(store, writer, prepared, slot).map(|(receipt, _)| receipt)
        };
        self.store.write("to append", &thread, work).await
    }

    async fn put_if_absent(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        event: EventDraft,
    ) -> Result<PutIfAbsent> {
        let Some(key) = event.once_key.clone() else {
            return Err(Error::invalid("once_key", "is missing; it says which event is the same"));
        };
        let commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![event]);
        let prepared = commit.prepare(&self.store.config.limits)?;
        let (scope, run) = (scope.clone(), run.clone());
        let work = move |store: &Store, slot: &mut Option<Tail>| {
            let mut writer = writer_of(store, &scope, &prepared.thread_id, None, slot)?;
            let stored = writer.mended(|writer| writer.once(&run, &key))?;
            match stored {
                Some(event) => {
                    *slot = Some(writer.into_tail());
                    Ok(PutIfAbsent { event, created: false })
                }
                None => {
                    let (_, events) = append_to(store, writer, prepared, slot)?;
                    let event = events.into_iter().next().ok_or(Trouble::Stale)?;
                    Ok(PutIfAbsent { event, created: true })
                }
            }
        };
        self.store.write("to append", thread, work).await
    }

    async fn list_messages(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        // No run is hidden here.
        _: RunVisibility,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let scan = range.resolve()?;
        let wanted = Wanted { messages: true, ..Wanted::default() };
        self.store.look("to list messages", scope, thread, move |view| view.page(scan, wanted, None)).await
    }

    async fn list_messages_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        let (scan, run) = (range.resolve()?, run.clone());
        let look = move |view: &mut super::view::View<'_>| {
            let wanted = Wanted { run: Some(&run), messages: true, ..Wanted::default() };
            view.page(scan, wanted, None)
        };
        self.store.look("to list messages", scope, thread, look).await
    }

    async fn list_events(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        filter: &EventFilter,
        range: &SeqRange,
    ) -> Result<SeqPage<Event>> {
        filter.check()?;
        let (scan, filter) = (range.resolve()?, filter.clone());
        let look = move |view: &mut super::view::View<'_>| {
            let wanted =
                Wanted { run: filter.run_id.as_ref(), types: &filter.event_types, ..Wanted::default() };
            let accepts = |event: &Event| filter.accepts(event);
            // The index knows runs; all else is in the records.
            let of_run = EventFilter { run_id: filter.run_id.clone(), ..EventFilter::default() };
            let accepts: Option<&dyn Fn(&Event) -> bool> =
                if filter == of_run { None } else { Some(&accepts) };
            view.page(scan, wanted, accepts)
        };
        self.store.look("to list events", scope, thread, look).await
    }

    async fn count_messages(&self, scope: &Scope, thread: &ThreadId, _: RunVisibility) -> Result<u64> {
        self.store.look("to count messages", scope, thread, |view| Ok(view.messages())).await
    }

    async fn last_visible_ai_seq_by_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        runs: &[RunId],
    ) -> Result<BTreeMap<RunId, u64>> {
        check_run_count(runs)?;
        let runs = runs.to_vec();
        self.store.look("to find messages", scope, thread, move |view| view.last_visible_ai(&runs)).await
    }

    async fn delete_by_thread(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.store.edit("to delete events", scope, thread, |writer| writer.clear()).await
    }

    async fn delete_by_run(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<Deleted> {
        let run = run.clone();
        self.store.edit("to delete a run", scope, thread, move |writer| writer.delete_run(&run)).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::LOG
    }

    async fn ready(&self) -> Result<()> {
        const OPERATION: &str = "to look for the folder";
        let store = std::sync::Arc::clone(&self.store);
        blocking(OPERATION, move || {
            let answer = std::fs::read_dir(&store.threads);
            answer.map(drop).map_err(|error| FileError::new(&store.threads, error).into_error(OPERATION))
        })
        .await?
    }

    fn signal(&self) -> &AppendSignal {
        &self.store.signal
    }
}

/// The right to append: to the thread as the scope sees it, or to a new one where that is asked for.
fn writer_of<'a>(
    store: &'a Store,
    scope: &Scope,
    thread: &ThreadId,
    create_missing: Option<NewThread>,
    slot: &mut Option<Tail>,
) -> file::Result<Writer<'a>> {
    let open = Writer::open(store, thread, slot)?;
    let writer = match (open.filter(Writer::exists), create_missing) {
        (Some(writer), _) => writer,
        (None, None) => return Err(not_found(thread).into()),
        (None, Some(new)) => match Writer::create(store, new.into_thread(scope)?, true, slot) {
            // Somebody was quicker.
            Err(Trouble::Failed(Error::AlreadyExists { .. })) => {
                Writer::open(store, thread, slot)?.ok_or_else(|| not_found(thread))?
            }
            created => created?,
        },
    };
    writer.require_visible(scope)?;
    Ok(writer)
}

/// Appends, and keeps what is known of the thread unless a failure made that doubtful. The lock is free
/// before readers are told.
fn append_to(
    store: &Store,
    mut writer: Writer<'_>,
    prepared: Prepared,
    slot: &mut Option<Tail>,
) -> file::Result<(Receipt, Vec<Event>)> {
    let appended = writer.append(prepared);
    let refused = matches!(&appended, Err(Trouble::Failed(Error::Conflict { .. } | Error::NotFound { .. })));
    if appended.is_ok() || refused {
        let (thread, last_seq) = (writer.head.thread_id.clone(), writer.next_seq() - 1);
        *slot = Some(writer.into_tail());
        if !refused {
            store.signal.publish(&thread, last_seq);
        }
    }
    appended
}

#[async_trait]
impl ThreadStore for JsonlLedger {
    async fn create(&self, scope: &Scope, new: NewThread) -> Result<Thread> {
        if new.spawn.is_some() {
            return Err(Capability::Sessions.unsupported());
        }
        let thread = new.into_thread(scope)?;
        let id = thread.thread_id.clone();
        let work = move |store: &Store, slot: &mut Option<Tail>| {
            let mut writer = Writer::create(store, thread.clone(), false, slot)?;
            writer.write_new()?;
            Ok(thread)
        };
        self.store.write("to create a thread", &id, work).await
    }

    async fn get(&self, scope: &Scope, thread: &ThreadId) -> Result<Thread> {
        let id = thread.clone();
        let look = move |view: &mut super::view::View<'_>| {
            view.head.thread.clone().ok_or_else(|| not_found(&id).into())
        };
        self.store.look("to read a thread", scope, thread, look).await
    }

    async fn head(&self, scope: &Scope, thread: &ThreadId) -> Result<ThreadHead> {
        self.store.look("to read a thread", scope, thread, |view| Ok(view.thread_head())).await
    }

    async fn list(&self, scope: &Scope, filter: &ThreadFilter, range: &ListRange) -> Result<Page<Thread>> {
        const OPERATION: &str = "to list threads";
        // Before anything is read.
        filter.check()?;
        range.checked_limit()?;
        let (store, scope) = (std::sync::Arc::clone(&self.store), scope.clone());
        let threads = blocking(OPERATION, move || list(&store, &scope)).await?;
        filter.page(threads.map_err(|trouble| trouble.into_error(OPERATION))?, range)
    }

    async fn update(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        patch: ThreadPatch,
        at: Timestamp,
    ) -> Result<Thread> {
        let work = move |writer: &mut Writer<'_>| writer.change(|thread| thread.apply(patch, at));
        self.store.edit("to edit a thread", scope, thread, work).await
    }

    async fn set_owner(&self, scope: &Scope, thread: &ThreadId, owner: Option<OwnerId>) -> Result<Thread> {
        if scope.owner().is_some() {
            return Err(Error::invalid(
                "scope",
                "is an owner's; only the system gives a thread to somebody else",
            ));
        }
        let work = move |writer: &mut Writer<'_>| {
            writer.change(|thread| {
                thread.owner_id = owner;
                Ok(())
            })
        };
        self.store.edit("to give a thread away", scope, thread, work).await
    }

    async fn delete(&self, scope: &Scope, thread: &ThreadId) -> Result<Deleted> {
        self.store.edit("to delete a thread", scope, thread, |writer| writer.delete_thread()).await
    }

    async fn list_children(
        &self,
        _: &Scope,
        _: &ThreadId,
        _: &ChildFilter,
        _: &ListRange,
    ) -> Result<Page<Thread>> {
        Err(Capability::Sessions.unsupported())
    }

    async fn archive(&self, _: &Scope, _: &ThreadId, _: Timestamp) -> Result<Thread> {
        Err(Capability::Sessions.unsupported())
    }

    async fn unarchive(&self, _: &Scope, _: &ThreadId, _: Timestamp) -> Result<Thread> {
        Err(Capability::Sessions.unsupported())
    }

    async fn list_spent(&self, _: &Scope, _: Duration, _: u32) -> Result<Vec<ThreadId>> {
        Err(Capability::Sessions.unsupported())
    }

    async fn list_deletions(&self, _: &Scope, _: &DeletionFilter, _: &ListRange) -> Result<Page<Deletion>> {
        Err(Capability::Sessions.unsupported())
    }

    async fn erase_remains(&self, _: &Scope, _: &OwnerId, _: Erasure) -> Result<Erased> {
        Err(Capability::Sessions.unsupported())
    }
}

impl Writer<'_> {
    /// Changes the record of the thread. On an error nothing is changed.
    fn change(&mut self, change: impl FnOnce(&mut Thread) -> Result<()>) -> file::Result<Thread> {
        let mut thread = self.head.thread.clone().ok_or_else(|| not_found(&self.head.thread_id))?;
        change(&mut thread)?;
        self.head.owner_id.clone_from(&thread.owner_id);
        self.head.thread = Some(thread.clone());
        self.head.write(&self.folder)?;
        Ok(thread)
    }
}

/// The threads a scope sees, in no order. Looks at every head.
fn list(store: &Store, scope: &Scope) -> file::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for folder in store.folders()? {
        let head = match Head::read(&folder) {
            Ok(Some((head, _))) => head,
            Ok(None) => continue,
            // One thread that cannot be read must not hide the others.
            Err(trouble) => {
                tracing::warn!(folder = %folder.path().display(), ?trouble, "a thread is left out of the list");
                continue;
            }
        };
        if head.state == HeadState::Deleted || !scope.sees(head.owner_id.as_ref()) {
            continue;
        }
        let is_there =
            !head.with_first_event || head.next_seq > 1 || super::index::is_begun(&folder, head.generation)?;
        threads.extend(head.thread.filter(|_| is_there));
    }
    Ok(threads)
}
