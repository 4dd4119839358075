//! Which items stand for a turn where only two are shown.
//!
//! The index says which items may be the final message. Whether a message calls itself the answer is in its
//! payload, where the index never looks; so that is decided here, by whoever reads, among the last few.

use crate::record::{AgentMessage, CallerKind, Item, ItemEntry};
use crate::{ItemKind, ItemStatus};

/// How many of a turn's last messages are looked at for the one that calls itself final.
pub const FINAL_LOOK: usize = 32;

/// The phase of a message that says that it is the run's answer.
pub const FINAL_ANSWER: &str = "final_answer";

/// Whether an item may be what the person said first.
#[must_use]
pub fn is_first_candidate(item: &ItemEntry) -> bool {
    item.item_kind == ItemKind::UserMessage
}

/// Whether an item may be a turn's final message: the lead agent's, and completed.
#[must_use]
pub fn is_final_candidate(item: &ItemEntry) -> bool {
    item.item_kind == ItemKind::AgentMessage
        && item.status == ItemStatus::Completed
        && item.caller.as_ref().is_none_or(|caller| caller.kind() == CallerKind::LeadAgent)
}

/// The summary of a turn: what was said first, and of the last messages, newest first, the newest that calls itself
/// the final answer, or the newest of all.
#[must_use]
pub fn summary(first: Option<Item>, last: impl IntoIterator<Item = Item>) -> Vec<Item> {
    let mut newest = None;
    let mut answer = None;
    for message in last {
        if is_answer(&message) {
            answer = Some(message);
            break;
        }
        newest.get_or_insert(message);
    }
    let mut items: Vec<Item> = first.into_iter().chain(answer.or(newest)).collect();
    items.sort_by_key(|item| item.entry.started_seq);
    items
}

fn is_answer(message: &Item) -> bool {
    let content = message.content.as_ref();
    let message = content.and_then(|content| content.decode_lossy::<AgentMessage>().ok());
    message.is_some_and(|message| message.phase.as_deref() == Some(FINAL_ANSWER))
}
