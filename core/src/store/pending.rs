//! Tool calls that have no result yet, and going on with a thread whose process is gone: the same for every
//! backend, built on commits.
//!
//! A call is an item that its message's commit began, so what is pending is a question to the item index and
//! never a field that could drift. Who executes a call is said by its claim, and that it has one result by the
//! epoch and the log: a call is executed by whoever holds its run, once.

use super::{Claimed, ClaimedItem, EventFilter, InteractionFilter, ItemFilter, Ledger};
use crate::commit::{Claim, Commit, JournalMark, Transition};
use crate::record::{
    AgentMessage, Event, EventDraft, Interaction, InteractionStatus, ItemEntry, ItemKind, ItemMark,
    ItemStatus, Lease, NewLease, Outcome, Run, Thread, ThreadHead, ToolCall,
};
use crate::view::context::{ContextMessage, ContextWindow};
use crate::{
    Category, Error, ErrorKind, ItemId, ListRange, MAX_LIMIT, RawJson, Result, RunId, Scope, SeqRange,
    ThreadId, Timestamp, text,
};

/// How many events are read at once where those that began items are looked for: what a message asks for begins
/// with it, so a few are next to each other.
const STARTS: u32 = 64;
/// How often a call is looked at anew while others write under the same epoch.
const LOOKS: u32 = 8;

/// An item that has not ended, and the event that began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenItem {
    /// The item.
    pub item: ItemEntry,
    /// What is known of it.
    pub started: Event,
}

/// A tool call that has no result yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCall {
    /// The call's item: its run, who asked (`caller`, in the message `parent_item_id`), the id that the model
    /// knows it by (`call_id`), and under which epoch it was claimed.
    pub item: ItemEntry,
    /// The tool and its arguments, as they are stored: [`Ledger::whole`] gives arguments of which large parts are kept
    /// apart. Of a call whose start has another shape, the item's kind and that content.
    pub call: ToolCall,
    /// The event that began it.
    pub started: Event,
}

impl PendingCall {
    /// The call, where the item is one: the model named it, or it has the shape of one.
    #[must_use]
    pub fn of(open: OpenItem) -> Option<Self> {
        let OpenItem { item, started } = open;
        let told = ToolCall::read(&started.content).ok();
        if !item.item_kind.is_call() || (item.call_id.is_none() && told.is_none()) {
            return None;
        }
        let call =
            told.unwrap_or_else(|| ToolCall::asked(item.item_kind.to_string(), started.content.clone()));
        Some(Self { item, call, started })
    }

    /// The record that ends it.
    #[must_use]
    pub fn ended(&self, status: ItemStatus, result: &ToolCall, at: Timestamp) -> EventDraft {
        let mark = ItemMark {
            item_id: self.item.item_id.clone(),
            kind: self.item.item_kind.clone(),
            status,
            call_id: self.item.call_id.clone(),
            parent_item_id: self.item.parent_item_id.clone(),
        };
        EventDraft {
            caller: self.item.caller.clone(),
            task_id: self.started.task_id.clone(),
            created_at: at,
            ..EventDraft::item(
                mark,
                Category::Message,
                RawJson::encode("content", result).unwrap_or_default(),
            )
        }
    }
}

/// Why a call ends without having been executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abort {
    /// A person or a policy refused it; what the model is told.
    Declined(String),
    /// Nobody will execute it; what the model is told.
    Interrupted(String),
}

impl Abort {
    /// How the call stands then, and what the model is told.
    #[must_use]
    pub fn into_parts(self) -> (ItemStatus, String) {
        match self {
            Self::Declined(reason) => (ItemStatus::Declined, reason),
            Self::Interrupted(reason) => (ItemStatus::Interrupted, reason),
        }
    }
}

/// The run that holds a thread's slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveRun {
    /// The run.
    pub run: Run,
    /// Who holds it, where it has a lease.
    pub lease: Option<Lease>,
    /// The last round of its loop that a model call told of.
    pub last_round: Option<u64>,
}

/// The answer of [`Ledger::resume`]: what a runtime needs to go on with a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The thread, with the prompt and the model it was made with.
    pub thread: Thread,
    /// Where its log stands.
    pub head: ThreadHead,
    /// The run that holds the slot.
    pub active: Option<ActiveRun>,
    /// Every call without a result, in the order they began.
    pub pending: Vec<PendingCall>,
    /// The messages a model would be sent next.
    pub window: ContextWindow,
    /// What was asked and not answered, the newest first.
    pub questions: Vec<Interaction>,
}

/// The answer of [`Ledger::heal`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// The run that was ended, with the items it had open.
    pub ended: Option<Claimed>,
    /// Items of ended runs that were open, and were closed by this call.
    pub closed: Vec<ItemEntry>,
    /// The seqs of the records that stand for results which calls of the window lacked.
    pub answered: Vec<u64>,
}

impl Ledger {
    /// The items that have not ended, of all runs or of one, in the order they began, each with its start.
    pub async fn open_items(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: Option<&RunId>,
    ) -> Result<Vec<OpenItem>> {
        let filter = ItemFilter { run_id: run.cloned(), status: Some(ItemStatus::InProgress) };
        let mut open = Vec::new();
        let mut range = SeqRange::after(0, MAX_LIMIT);
        loop {
            let page = self.items().list(scope, thread, &filter, &range).await?;
            let last = page.items.last().map(|item| item.started_seq);
            open.extend(self.with_starts(scope, thread, page.items).await?);
            match last {
                Some(last) if page.has_more => range = SeqRange::after(last, MAX_LIMIT),
                _ => return Ok(open),
            }
        }
    }

    /// Items in the order they began, with the events that began them. One that is gone meanwhile is left out.
    async fn with_starts(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        items: Vec<ItemEntry>,
    ) -> Result<Vec<OpenItem>> {
        let mut open = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        while let Some(first) = items.peek() {
            let range = SeqRange::after(first.started_seq.saturating_sub(1), STARTS);
            let page = self.events().list_events(scope, thread, &EventFilter::default(), &range).await?;
            let Some(last) = page.items.last().map(|event| event.seq) else { break };
            while let Some(item) = items.next_if(|item| item.started_seq <= last) {
                let started = page.items.iter().find(|event| event.seq == item.started_seq);
                open.extend(started.cloned().map(|started| OpenItem { item, started }));
            }
        }
        Ok(open)
    }

    /// Every tool call of the thread that has no result, in the order they began.
    pub async fn pending(&self, scope: &Scope, thread: &ThreadId) -> Result<Vec<PendingCall>> {
        let open = self.open_items(scope, thread, None).await?;
        Ok(open.into_iter().filter_map(PendingCall::of).collect())
    }

    /// Claims a call for execution under an epoch: see [`ItemStore::claim`](super::ItemStore::claim). Of several
    /// callers one gets it, and is told who had it before.
    pub async fn claim_call(&self, scope: &Scope, call: &PendingCall, epoch: u64) -> Result<ClaimedItem> {
        let ItemEntry { thread_id, run_id, item_id, .. } = &call.item;
        self.items().claim(scope, thread_id, run_id, item_id, epoch).await
    }

    /// Stores the result of a call: failed where it has an error, else completed. Returns its seq.
    ///
    /// For a run that no journal writes: a journal counts what it sends, so the calls of its run are ended by
    /// the journal. `LeaseLost` where the run does not hold the slot under the epoch, `Conflict` where the call
    /// has ended. Told again with the same time, it is answered as the first was.
    pub async fn complete_call(
        &self,
        scope: &Scope,
        call: &PendingCall,
        epoch: u64,
        result: ToolCall,
        at: Timestamp,
    ) -> Result<u64> {
        let failed = result.error.is_some();
        let status = if failed { ItemStatus::Failed } else { ItemStatus::Completed };
        self.end_call(scope, &call.item, epoch, call.ended(status, &result, at)).await
    }

    /// Ends a call that is not executed. What the model is told is its result; otherwise as
    /// [`Ledger::complete_call`].
    pub async fn abort_call(
        &self,
        scope: &Scope,
        call: &PendingCall,
        epoch: u64,
        abort: Abort,
        at: Timestamp,
    ) -> Result<u64> {
        let (status, reason) = abort.into_parts();
        let told = ToolCall { content: Some(RawJson::string(&reason)), ..call.call.clone() };
        self.end_call(scope, &call.item, epoch, call.ended(status, &told, at)).await
    }

    /// Writes the end of a call under the next ordinal. The item is looked at after the head: whoever ends it
    /// in between has the ordinal.
    async fn end_call(&self, scope: &Scope, item: &ItemEntry, epoch: u64, end: EventDraft) -> Result<u64> {
        let ItemEntry { thread_id, run_id, item_id, .. } = item;
        let mut looks = 1;
        loop {
            let head = self.threads().head(scope, thread_id).await?;
            let now = self.items().get(scope, thread_id, run_id, item_id).await?;
            if now.status != ItemStatus::InProgress {
                return self.ended_before(scope, &now, &end).await;
            }
            head.require_held(run_id, epoch)?;
            let commit = Commit::of_run(thread_id.clone(), run_id.clone())
                .with_events(vec![end.clone()])
                .with_mark(JournalMark { epoch, ordinal: head.journal_ordinal });
            match self.events().append(scope, commit).await {
                Ok(receipt) => return Ok(receipt.seqs.first().copied().unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Conflict && looks < LOOKS => looks += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The answer to the end of an item that has ended: its seq, where it is this end.
    async fn ended_before(&self, scope: &Scope, item: &ItemEntry, end: &EventDraft) -> Result<u64> {
        let seq = item.completed_seq.unwrap_or(item.updated_seq);
        let range = SeqRange::after(seq.saturating_sub(1), 1);
        let page = self.events().list_events(scope, &item.thread_id, &EventFilter::default(), &range).await?;
        let same = |stored: &Event| {
            stored.seq == seq
                && stored.created_at == end.created_at
                && stored.item == end.item
                && stored.content == end.content
        };
        if page.items.iter().any(same) {
            return Ok(seq);
        }
        Err(Error::conflict("item status", ItemStatus::InProgress.as_str(), &item.status))
    }

    /// What a runtime needs to go on with a thread: who holds it, what is pending, what a model would be sent.
    ///
    /// Reads only. Where somebody works on the thread its parts may be of different moments: whatever is done
    /// with them is judged when it is written.
    pub async fn resume(&self, scope: &Scope, thread: &ThreadId) -> Result<Resumption> {
        let head = self.threads().head(scope, thread).await?;
        let active = match &head.active_run_id {
            Some(run) => Some(self.active(scope, thread, run).await?),
            None => None,
        };
        let filter =
            InteractionFilter { thread_id: Some(thread.clone()), status: Some(InteractionStatus::Open) };
        let mut questions = Vec::new();
        let mut range = ListRange::newest(MAX_LIMIT);
        loop {
            let page = self.interactions().list(scope, &filter, &range).await?;
            questions.extend(page.items);
            match page.next_cursor {
                Some(cursor) => range = ListRange { cursor: Some(cursor), ..ListRange::newest(MAX_LIMIT) },
                None => break,
            }
        }
        Ok(Resumption {
            thread: self.threads().get(scope, thread).await?,
            head,
            active,
            pending: self.pending(scope, thread).await?,
            window: self.context().load(scope, thread).await?,
            questions,
        })
    }

    async fn active(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<ActiveRun> {
        let mut last_round = None;
        let mut after = None;
        loop {
            let page = self.usage().list_by_run(scope, thread, run, after.as_ref(), MAX_LIMIT).await?;
            last_round = page.iter().filter_map(|call| call.round_index).max().max(last_round);
            let full = page.len() >= MAX_LIMIT as usize;
            after = page.into_iter().next_back().map(|call| call.source_id).filter(|_| full);
            if after.is_none() {
                break;
            }
        }
        Ok(ActiveRun {
            run: self.runs().get(scope, thread, run).await?,
            lease: self.runs().lease(scope, thread, run).await?,
            last_round,
        })
    }

    /// Gives an active run whose worker is gone to another worker, under a new epoch. What it has open stays
    /// open, and whoever held it before writes no more. `Conflict` where the claim does not hold,
    /// [`Error::Cancelled`] where the run was asked to stop: a sweep ends it.
    pub async fn resume_run(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        run: &RunId,
        claim: Claim,
        lease: Option<NewLease>,
        at: Timestamp,
    ) -> Result<Run> {
        let transition = Some(Transition::Resume { claim, lease, at });
        let commit = Commit { transition, ..Commit::of_run(thread.clone(), run.clone()) };
        let epoch = self.events().append(scope, commit).await?.epoch;
        // Read anew, because another may have ended it since; under which epoch it was resumed is certain.
        Ok(Run { epoch, ..self.runs().get(scope, thread, run).await? })
    }

    /// Closes what cannot go on, so that the thread's context window is a history which a model can be sent.
    ///
    /// - The run that holds the slot is ended as interrupted, with what it has open. `Conflict` where the claim
    ///   does not hold: somebody may be at work.
    /// - Items that ended runs left open get their `item.completed{interrupted}`.
    /// - Calls of the window's messages that have neither an item nor a result (an imported log may) get an
    ///   item that was interrupted.
    ///
    /// Any number of callers may heal at once: each record is stored once. A queued run that gets the slot
    /// meanwhile is left alone.
    pub async fn heal(
        &self,
        scope: &Scope,
        thread: &ThreadId,
        claim: Claim,
        at: Timestamp,
    ) -> Result<Healed> {
        let mut healed = Healed::default();
        if let Some(run) = self.threads().head(scope, thread).await?.active_run_id {
            let outcome = Outcome::interrupted(Outcome::LEASE_EXPIRED);
            healed.ended = Some(self.interrupt(scope, thread, &run, claim, outcome, at).await?);
        }
        for open in self.open_items(scope, thread, None).await? {
            if self.is_active(scope, thread, &open.item.run_id).await? {
                continue;
            }
            let item = open.item.clone();
            if self.append_once(scope, &item.run_id, interrupted(open, at), &item.thread_id).await?.is_some()
            {
                healed.closed.push(item);
            }
        }
        let window = self.context().load(scope, thread).await?;
        for (run, end) in self.unanswered(scope, &window, at).await? {
            healed.answered.extend(self.append_once(scope, &run, end, thread).await?);
        }
        Ok(healed)
    }

    async fn is_active(&self, scope: &Scope, thread: &ThreadId, run: &RunId) -> Result<bool> {
        Ok(self.threads().head(scope, thread).await?.active_run_id.as_ref() == Some(run))
    }

    /// Appends a late record unless it, or another result of the same call, is there.
    async fn append_once(
        &self,
        scope: &Scope,
        run: &RunId,
        event: EventDraft,
        thread: &ThreadId,
    ) -> Result<Option<u64>> {
        let commit = Commit::of_run(thread.clone(), run.clone()).with_events(vec![event]);
        match self.events().append(scope, commit).await {
            Ok(receipt) => Ok(receipt.seqs.first().copied()),
            Err(Error::Conflict { what: "once_key", .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What ends the calls of a window that have no result and belong to runs that have ended.
    async fn unanswered(
        &self,
        scope: &Scope,
        window: &ContextWindow,
        at: Timestamp,
    ) -> Result<Vec<(RunId, EventDraft)>> {
        let mut ends = Vec::new();
        let calls = window.calls();
        for message in &window.messages {
            let (Some(run), Some(asking)) = (&message.event.run_id, &message.event.item) else { continue };
            let asked: Vec<_> = calls.iter().filter(|call| call.asked_by == message.seq()).collect();
            if asked.iter().all(|call| call.answered_by.is_some())
                || self.is_active(scope, &window.thread_id, run).await?
            {
                continue;
            }
            // An item whose end is no message the model is told of (a note in its place, say) is the call's.
            let mut known = self.items_of(scope, run, message).await?;
            // The window's messages show how large parts begin; the log has what was asked.
            let stored = message.event.content.decode_lossy::<AgentMessage>().ok();
            for (number, call) in asked.iter().enumerate() {
                let call_id = call.request.id.as_deref().and_then(|id| crate::CallId::new(id).ok());
                let own = known.iter().position(|item| item.call_id == call_id).map(|at| known.remove(at));
                if call.answered_by.is_some() {
                    continue;
                }
                let otherwise = ItemMark {
                    call_id,
                    parent_item_id: Some(asking.item_id.clone()),
                    ..ItemMark::new(
                        call_item(&asking.item_id, number),
                        ItemKind::ToolCall,
                        ItemStatus::Interrupted,
                    )
                };
                let mark = own.map_or(otherwise, |item| ItemMark {
                    item_id: item.item_id,
                    kind: item.item_kind,
                    status: ItemStatus::Interrupted,
                    call_id: item.call_id,
                    parent_item_id: item.parent_item_id,
                });
                let written = stored.as_ref().and_then(|message| message.tool_calls.get(number));
                let args = written.map_or(&call.request.args, |request| &request.args);
                let told = ToolCall::asked(call.request.name.as_str(), args.clone());
                let end = EventDraft {
                    caller: message.event.caller.clone(),
                    once_key: Some(EventDraft::result_key(&mark.item_id)),
                    created_at: at,
                    ..EventDraft::item(
                        mark,
                        Category::Message,
                        RawJson::encode("content", &told).unwrap_or_default(),
                    )
                };
                ends.push((run.clone(), end));
            }
        }
        Ok(ends)
    }

    /// The calls that the index has of a message, in the order they began.
    async fn items_of(&self, scope: &Scope, run: &RunId, message: &ContextMessage) -> Result<Vec<ItemEntry>> {
        let thread = &message.event.thread_id;
        let asking = message.event.item.as_ref().map(|item| &item.item_id);
        let filter = ItemFilter { run_id: Some(run.clone()), status: None };
        let mut found = Vec::new();
        let mut range = SeqRange::after(message.seq(), MAX_LIMIT);
        loop {
            let page = self.items().list(scope, thread, &filter, &range).await?;
            let last = page.items.last().map(|item| item.started_seq);
            let own = |item: &ItemEntry| item.item_kind.is_call() && item.parent_item_id.as_ref() == asking;
            found.extend(page.items.into_iter().filter(own));
            match last {
                Some(last) if page.has_more => range = SeqRange::after(last, MAX_LIMIT),
                _ => return Ok(found),
            }
        }
    }
}

/// The end of an item that its run left open, as a late record. The model is told of a call.
fn interrupted(open: OpenItem, at: Timestamp) -> EventDraft {
    let is_call = PendingCall::of(open.clone()).is_some();
    let OpenItem { item, started } = open;
    let (once_key, category) = if is_call {
        (EventDraft::result_key(&item.item_id), Category::Message)
    } else {
        (closing_key(&item.item_id), started.category)
    };
    let mark = ItemMark {
        item_id: item.item_id.clone(),
        kind: item.item_kind,
        status: ItemStatus::Interrupted,
        call_id: item.call_id,
        parent_item_id: item.parent_item_id,
    };
    EventDraft {
        caller: started.caller,
        task_id: started.task_id,
        once_key: Some(once_key),
        created_at: at,
        ..EventDraft::item(mark, category, started.content)
    }
}

/// The item of a call that its message is all there is of: the same for everybody who looks.
fn call_item(message: &ItemId, number: usize) -> ItemId {
    let name = format!("{message}/call-{number}");
    ItemId::new(&name).or_else(|_| ItemId::new(text::fingerprint(&name))).unwrap_or_else(|_| message.clone())
}

/// The once key of the end of an item that is no call.
fn closing_key(item: &ItemId) -> String {
    format!("closed:{}", text::fingerprint(item.as_str()))
}
