//! What a model thought before a message, where the log has that as a record of its own.
//!
//! A page of messages begins in the middle of a log, and DeerFlow's shape has the reasoning in the message. So the item
//! index, which has no payloads, is asked for the reasoning near the page, and only that is read.

use std::collections::BTreeMap;

use runledger_core::{
    Category, Contents, ErrorKind, Event, EventType, Item, ItemId, ItemKind, ItemMark, ItemQuery,
    MAX_ITEM_IDS, MAX_LIMIT, RunId, RunVisibility, SeqRange, event_type,
};

use super::Asked;
use crate::app::App;
use crate::problem::Problem;

/// How many records before the first message of a page are looked at. A journal writes the reasoning right before
/// its message.
const BEFORE: u64 = 16;

/// How many numbers before the last message of a page are looked at: of a page that is longer, the earlier messages lack
/// theirs.
const SPAN: u64 = 20_000;

/// How many pages of reasoning are read at most.
const PAGES: usize = 4;

/// The reasoning of each message that has some, by the message's seq.
pub(super) async fn of(
    app: &App,
    asked: &Asked<'_>,
    messages: impl Iterator<Item = &Event> + Clone,
) -> Result<BTreeMap<u64, Event>, Problem> {
    let is_said =
        |event: &&Event| event.item.as_ref().is_some_and(|item| item.kind == ItemKind::AgentMessage);
    let said: Vec<&Event> = messages.filter(is_said).collect();
    let (Some(first), Some(last)) = (said.first(), said.last()) else { return Ok(BTreeMap::new()) };
    let near = match near(app, asked, first.seq, last.seq).await {
        Ok(near) => near,
        // Without an index there is no reasoning of its own.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut wanted: BTreeMap<RunId, Vec<(ItemId, u64)>> = BTreeMap::new();
    for message in said {
        // A message has the reasoning that came last before it, if that is its own.
        let before = near.iter().filter(|item| item.entry.updated_seq < message.seq);
        let Some(thought) = before.max_by_key(|item| item.entry.updated_seq) else { continue };
        let is_own = message.run_id.as_ref() == Some(&thought.entry.run_id)
            && message.item.as_ref().map(|item| &item.item_id) == thought.entry.parent_item_id.as_ref();
        if is_own {
            let of_run = wanted.entry(thought.entry.run_id.clone()).or_default();
            of_run.push((thought.entry.item_id.clone(), message.seq));
        }
    }
    let mut found = BTreeMap::new();
    for (run, thoughts) in wanted {
        for part in thoughts.chunks(MAX_ITEM_IDS) {
            let ids: Vec<ItemId> = part.iter().map(|(item, _)| item.clone()).collect();
            let page = app.ledger.items().read(asked.scope, asked.thread, &run, &ids).await?;
            for item in page.items {
                let of = part.iter().find(|(id, _)| *id == item.entry.item_id);
                if let Some((_, seq)) = of {
                    found.extend(record(item).map(|event| (*seq, event)));
                }
            }
        }
    }
    Ok(found)
}

/// The reasoning items that began near the page.
async fn near(app: &App, asked: &Asked<'_>, first: u64, last: u64) -> runledger_core::Result<Vec<Item>> {
    let mut query = ItemQuery {
        kind: Some(ItemKind::Reasoning),
        visibility: RunVisibility::All,
        contents: Contents::Omitted,
        range: SeqRange {
            limit: MAX_LIMIT,
            after_seq: Some(first.saturating_sub(BEFORE).max(last.saturating_sub(SPAN))),
            before_seq: Some(last),
        },
        ..ItemQuery::default()
    };
    query.filter.run_id = asked.run.cloned();
    let mut near = Vec::new();
    for _ in 0..PAGES {
        let page = app.ledger.items().page(asked.scope, asked.thread, &query).await?;
        let end = page.items.last().map(|item| item.entry.started_seq);
        near.extend(page.items.into_iter().filter(|item| item.entry.parent_item_id.is_some()));
        match end {
            Some(end) if page.has_more => query.range.after_seq = Some(end),
            _ => break,
        }
    }
    Ok(near)
}

/// The record that an item is of.
fn record(item: Item) -> Option<Event> {
    let Item { entry, content, content_bytes, truncated } = item;
    Some(Event {
        thread_id: entry.thread_id,
        seq: entry.updated_seq,
        run_id: Some(entry.run_id),
        journal_ordinal: None,
        event_type: EventType::from_stored(event_type::ITEM_COMPLETED),
        category: Category::Reasoning,
        caller: entry.caller,
        task_id: None,
        item: Some(ItemMark {
            item_id: entry.item_id,
            kind: entry.item_kind,
            status: entry.status,
            call_id: entry.call_id,
            parent_item_id: entry.parent_item_id,
        }),
        once_key: None,
        content: content?,
        content_bytes,
        truncated,
        metadata: None,
        created_at: entry.started_at,
    })
}
