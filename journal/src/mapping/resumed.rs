//! The journal of a run that another process began: what the log has of it, so that the next record is the one
//! that process would have made.

use runledger_core::{
    Caller, Category, Event, EventFilter, EventType, ItemEntry, ItemKind, ItemMark, ItemStatus, Ledger,
    MAX_LIMIT, OpenItem, PendingCall, Result, Run, Scope, SeqRange, SubAgentActivity, Timestamp, ToolCall,
    UsageBy, UsageOf, UsageQuery, UsageSum, event_type,
};
use serde::Deserialize;

use super::run::Subagent;
use super::{Billing, Mapper, OpenItem as Opened, Recorded};

/// The type of the event that keeps the memory context.
const MEMORY: &str = "context:memory";

/// Reads what the log has of a run: its part of the item index, the events that began what is open, and a few
/// single records. It costs what the run has of items, not what it has of events.
pub(crate) async fn read(ledger: &Ledger, scope: &Scope, run: &Run, billing: Billing) -> Result<Mapper> {
    let mut mapper = Mapper::new(run.run_id.clone(), billing, &[]);
    mapper.sources.resumed = Some(run.epoch);
    mapper.named_model = run.model_name.is_some();
    mapper.earlier_calls = earlier_calls(ledger, scope, run).await?;
    mapper.lead_calls = rounds(ledger, scope, run).await?;
    let mut open = ledger.open_items(scope, &run.thread_id, Some(&run.run_id)).await?.into_iter().peekable();
    let filter = runledger_core::ItemFilter { run_id: Some(run.run_id.clone()), status: None };
    let mut after = 0;
    loop {
        let range = SeqRange::after(after, MAX_LIMIT);
        let page = ledger.items().list(scope, &run.thread_id, &filter, &range).await?;
        for item in &page.items {
            mapper.know(item, open.next_if(|open| open.item.item_id == item.item_id));
        }
        match page.items.last() {
            Some(last) if page.has_more => after = last.started_seq,
            _ => break,
        }
    }
    for told in singles(ledger, scope, run).await? {
        match told.event_type.as_str() {
            event_type::RUN_STARTED => mapper.run.started = true,
            event_type::RUN_DELIVERY => mapper.delivered = true,
            _ => mapper.memory_context = true,
        }
    }
    Ok(mapper)
}

/// What a run records once, as far as it did.
async fn singles(ledger: &Ledger, scope: &Scope, run: &Run) -> Result<Vec<Event>> {
    let types = [event_type::RUN_STARTED, event_type::RUN_DELIVERY, MEMORY];
    let mut found = Vec::new();
    for event_type in types {
        found.extend(last(ledger, scope, run, event_type).await?);
    }
    Ok(found)
}

/// The run's last event of a type.
async fn last(ledger: &Ledger, scope: &Scope, run: &Run, event_type: &str) -> Result<Option<Event>> {
    let event_types = vec![EventType::from_stored(event_type)];
    let filter = EventFilter { event_types, ..EventFilter::of_run(run.run_id.clone()) };
    let page = ledger.events().list_events(scope, &run.thread_id, &filter, &SeqRange::last(1)).await?;
    Ok(page.items.into_iter().next())
}

/// How many model calls of the run were begun: each start and each answer says which it was.
async fn earlier_calls(ledger: &Ledger, scope: &Scope, run: &Run) -> Result<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        call_index: Option<u64>,
    }
    let number = |event: Event| event.content.decode_lossy::<Numbered>().ok()?.call_index;
    let mut most = 0;
    for event_type in [event_type::LLM_STARTED, event_type::LLM_FAILED] {
        most = most.max(last(ledger, scope, run, event_type).await?.and_then(number).unwrap_or(0));
    }
    let runs = std::slice::from_ref(&run.run_id);
    let answers = ledger.events().last_visible_ai_seq_by_run(scope, &run.thread_id, runs).await?;
    if let Some(seq) = answers.get(&run.run_id) {
        let range = SeqRange::after(seq.saturating_sub(1), 1);
        let filter = EventFilter::default();
        let page = ledger.events().list_events(scope, &run.thread_id, &filter, &range).await?;
        most = most.max(page.items.into_iter().find_map(number).unwrap_or(0));
    }
    Ok(most)
}

/// How many rounds of the agent's loop have counted calls.
async fn rounds(ledger: &Ledger, scope: &Scope, run: &Run) -> Result<u64> {
    let of = UsageOf::Run(run.thread_id.clone(), run.run_id.clone());
    let mut query = UsageQuery::new(of, UsageBy::Round);
    let mut rounds = 0;
    loop {
        let sums = ledger.usage().report(scope, &query).await?;
        let number = |sum: &UsageSum| sum.key.rsplit('/').next()?.parse::<u64>().ok();
        rounds = sums.iter().filter_map(number).map(|round| round + 1).fold(rounds, u64::max);
        match sums.last() {
            Some(last) if sums.len() >= MAX_LIMIT as usize => query.after = Some(last.key.clone()),
            _ => return Ok(rounds),
        }
    }
}

impl Mapper {
    /// Takes in an item of an earlier process, with its start where it is open.
    fn know(&mut self, item: &ItemEntry, open: Option<OpenItem>) {
        self.ids.note(item.item_id.clone());
        self.human.recorded |= item.item_kind == ItemKind::UserMessage;
        let mark = ItemMark {
            item_id: item.item_id.clone(),
            kind: item.item_kind.clone(),
            status: ItemStatus::InProgress,
            call_id: item.call_id.clone(),
            parent_item_id: item.parent_item_id.clone(),
        };
        let caller = item.caller.clone();
        let Some(OpenItem { started, .. }) = open else {
            if item.item_kind.is_call() {
                self.tools.know_ended(&mark, caller.unwrap_or_else(Caller::lead_agent));
            }
            return;
        };
        if let (ItemKind::SubAgentActivity, Some(task)) = (&item.item_kind, &started.task_id) {
            let description =
                started.content.shown().decode::<SubAgentActivity>().ok().and_then(|told| told.description);
            let caller = caller.unwrap_or_else(|| Caller::from_stored("subagent:unknown"));
            self.subagents.insert(task.clone(), Subagent { mark, caller, description });
        } else if item.item_kind.is_call()
            && let Ok(asked) = ToolCall::read(&started.content)
        {
            let call_id = mark.call_id.as_ref().map(ToString::to_string);
            let caller = caller.unwrap_or_else(Caller::lead_agent);
            self.tools.open(&mark, call_id, &asked.name, asked.args, caller);
        } else {
            // Its start is no message; what ends a call is one.
            let is_call = mark.is_call(&started.content);
            let category = if is_call { Category::Message } else { started.category };
            self.open_items.push(Opened { mark, category, caller, content: started.content });
        }
    }

    /// A call ended, in the words of its item. One that has ended already is left as it is.
    pub(crate) fn end_call(
        &mut self,
        call: &PendingCall,
        status: ItemStatus,
        result: ToolCall,
        at: Timestamp,
    ) -> Recorded {
        let item = &call.item.item_id;
        let event = match self.tools.of_item(item) {
            Some(index) => self.call_ended(index, status, result, at),
            None => {
                let known = self.open_items.iter().position(|open| open.mark.item_id == *item);
                known.map(|at| self.open_items.remove(at));
                let tells = known.is_some() && self.tools.gives_result(item);
                tells.then(|| call.ended(status, &result, at))
            }
        };
        Recorded { events: event.into_iter().collect(), ..Recorded::default() }
    }
}
