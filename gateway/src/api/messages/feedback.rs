//! What the caller thinks of messages, beside them.

use std::collections::BTreeMap;

use runledger_core::{
    ErrorKind, Event, Feedback, FeedbackFilter, ListRange, MAX_LIMIT, RunId, Scope, ThreadId,
};

use crate::app::App;
use crate::problem::Problem;
use crate::wire::{WireMessageFeedback, WireMessageRow};

/// The rows with the caller's feedback: on the message itself, else at the last message of the agent what is said of the
/// run as a whole.
pub(super) async fn added(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    rows: Vec<(Event, WireMessageRow)>,
) -> Result<Vec<WireMessageRow>, Problem> {
    let mut runs: Vec<RunId> = rows.iter().filter_map(|(event, _)| event.run_id.clone()).collect();
    runs.sort();
    runs.dedup();
    let given = match given(app, scope, thread, &runs).await {
        Ok(given) => given,
        Err(error) if error.kind() == ErrorKind::Unsupported => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    let rated: Vec<RunId> = given.keys().cloned().collect();
    let last = if rated.is_empty() {
        BTreeMap::new()
    } else {
        app.ledger.events().last_visible_ai_seq_by_run(scope, thread, &rated).await?
    };
    let of = |event: &Event| {
        let run = event.run_id.as_ref()?;
        let given = given.get(run)?;
        let item = event.item.as_ref().map(|item| &item.item_id);
        let of_message = given.iter().find(|one| item.is_some() && one.item_id.as_ref() == item);
        let is_last = last.get(run) == Some(&event.seq);
        let of_run = given.iter().find(|one| one.item_id.is_none()).filter(|_| is_last);
        of_message.or(of_run).map(WireMessageFeedback::from)
    };
    Ok(rows.into_iter().map(|(event, row)| row.with_feedback(of(&event))).collect())
}

/// The caller's feedback on these runs and their messages, of those that have any.
async fn given(
    app: &App,
    scope: &Scope,
    thread: &ThreadId,
    runs: &[RunId],
) -> runledger_core::Result<BTreeMap<RunId, Vec<Feedback>>> {
    let mut given: BTreeMap<RunId, Vec<Feedback>> = BTreeMap::new();
    if runs.is_empty() {
        return Ok(given);
    }
    let filter = FeedbackFilter { run_ids: runs.to_vec(), item_id: None };
    let mut range = ListRange::newest(MAX_LIMIT);
    loop {
        let page = app.ledger.feedback().list(scope, thread, &filter, &range).await?;
        for one in page.items.into_iter().filter(|one| one.owner_id.as_ref() == scope.owner()) {
            given.entry(one.run_id.clone()).or_default().push(one);
        }
        match page.next_cursor {
            Some(next) => range.cursor = Some(next),
            None => return Ok(given),
        }
    }
}
