//! What a commit is refused for before a database is asked, and what is cut or cleaned in it.

use super::{
    Commit, ContentSize, Limits, MAX_COMMIT_BYTES, MAX_COST_NANOS, MAX_COUNT, MAX_EVENTS, Transition,
};
use std::collections::HashSet;

use crate::record::{
    BlobHash, BlobUse, Budget, ItemKind, ItemStatus, MAX_EVENT_BLOBS, NewBlob, NewInteraction, Outcome,
    TerminalStatus, WhenTaken, blob_refs,
};
use crate::{Category, Error, EventDraft, EventType, ONCE_TERMINAL, RawJson, Result, UsageDraft, text};

pub(super) fn check_shape(commit: &Commit) -> Result<()> {
    if commit.events.len() > MAX_EVENTS {
        return Err(Error::invalid(
            "events",
            format!("has {} events; split it, at most {MAX_EVENTS} go into one commit", commit.events.len()),
        ));
    }
    if commit.usage.len() > MAX_EVENTS {
        return Err(Error::invalid(
            "usage",
            format!("has {} calls; split it, at most {MAX_EVENTS} go into one commit", commit.usage.len()),
        ));
    }
    let empty = commit.events.is_empty() && commit.usage.is_empty() && commit.progress.is_empty();
    if empty && commit.transition.is_none() {
        return Err(Error::invalid("events", "is empty, and so is everything else in the commit"));
    }
    if let Some(new) = &commit.create_missing
        && new.thread_id != commit.thread_id
    {
        return Err(Error::invalid("create_missing.thread_id", "is not the commit's thread_id"));
    }
    if commit.create_missing.as_ref().is_some_and(|new| new.spawn.is_some()) {
        return Err(Error::invalid("create_missing.spawn", "is given; create a sub-agent's thread first"));
    }
    if commit.create_missing.as_ref().is_some_and(|new| new.fork.is_some()) {
        return Err(Error::invalid("create_missing.fork", "is given; create the thread of a fork first"));
    }
    if commit.run_id.is_none() {
        check_thread_level(commit)?;
    }
    check_once_keys(&commit.events)?;
    let terminal =
        commit.events.iter().filter(|event| event.once_key.as_deref() == Some(ONCE_TERMINAL)).count();
    match (&commit.transition, terminal) {
        (Some(Transition::Finish { .. }), 1) => {}
        (Some(Transition::Finish { .. }), _) => {
            return Err(Error::invalid(
                "events",
                format!(
                    "has {terminal} events with the once key {ONCE_TERMINAL:?}; the end of a run has exactly one"
                ),
            ));
        }
        (_, 0) => {}
        (_, _) => {
            return Err(Error::invalid(
                "once_key",
                format!("{ONCE_TERMINAL:?} is for the end of a run only"),
            ));
        }
    }
    match (&commit.transition, commit.mark) {
        (Some(Transition::Start { .. } | Transition::Finish { .. }), None) => Err(Error::invalid(
            "mark",
            "is missing; a run is started and finished under the epoch it was admitted with",
        )),
        (Some(Transition::Admit(_) | Transition::Acquire { .. }), Some(_)) => {
            Err(Error::invalid("mark", "is given; an admission opens the epoch that marks count in"))
        }
        (Some(Transition::Interrupt { .. }), Some(_)) => {
            Err(Error::invalid("mark", "is given; a run is ended from outside without its journal"))
        }
        (Some(Transition::Resume { .. } | Transition::Fold(_)), Some(_)) => {
            Err(Error::invalid("mark", "is given; it counts what a journal sends, and no journal sends this"))
        }
        (
            Some(Transition::Acquire { .. } | Transition::Interrupt { .. } | Transition::Resume { .. }),
            None,
        ) => check_bare(commit),
        (Some(Transition::Fold(_)), None) => check_note(commit),
        (Some(Transition::Admit(admission)), None)
            if admission.multitask_strategy.when_taken() == WhenTaken::Wait =>
        {
            if !commit.blobs.is_empty() {
                let reason = "is given; an input that may have to wait is kept as one document";
                return Err(Error::invalid("blobs", reason));
            }
            check_json(&commit.events)
        }
        _ => Ok(()),
    }
}

/// An input that has to wait is kept as one document: what is not JSON could not be part of it.
fn check_json(input: &[EventDraft]) -> Result<()> {
    for event in input {
        for (field, json) in [("content", Some(&event.content)), ("metadata", event.metadata.as_ref())] {
            if let Some(json) = json {
                RawJson::parse(field, json.as_str())?;
            }
        }
    }
    Ok(())
}

/// A fold brings its note and nothing else.
fn check_note(commit: &Commit) -> Result<()> {
    let is_note = |event: &EventDraft| {
        event.category == Category::Message
            && event.item.as_ref().is_some_and(|item| {
                item.kind == ItemKind::ContextCompaction && item.status == ItemStatus::Completed
            })
    };
    if commit.events.len() != 1 || !commit.events.iter().all(is_note) {
        let reason = "must be the note alone: a completed context_compaction of category message";
        return Err(Error::invalid("events", reason));
    }
    for (field, empty) in [
        ("usage", commit.usage.is_empty()),
        ("progress", commit.progress.is_empty()),
        ("create_missing", commit.create_missing.is_none()),
    ] {
        if !empty {
            return Err(Error::invalid(field, "is given; append it in a commit of its own"));
        }
    }
    Ok(())
}

/// A step that writes what it needs by itself brings nothing along.
fn check_bare(commit: &Commit) -> Result<()> {
    for (field, empty) in [
        ("events", commit.events.is_empty()),
        ("usage", commit.usage.is_empty()),
        ("progress", commit.progress.is_empty()),
        ("create_missing", commit.create_missing.is_none()),
    ] {
        if !empty {
            return Err(Error::invalid(field, "is given; append it in a commit of its own"));
        }
    }
    Ok(())
}

/// The longest lease.
const MAX_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Checks how long a lease is to last.
pub fn check_ttl(ttl: std::time::Duration) -> Result<()> {
    if ttl.as_micros() == 0 || ttl > MAX_TTL {
        return Err(Error::invalid(
            "ttl",
            format!("is {ttl:?}; a lease lasts from 1 microsecond to 24 hours"),
        ));
    }
    Ok(())
}

fn check_thread_level(commit: &Commit) -> Result<()> {
    let at_fault = if commit.mark.is_some() {
        Some("a mark")
    } else if commit.transition.is_some() {
        Some("a transition")
    } else if !commit.progress.is_empty() {
        Some("progress")
    } else if commit.events.iter().any(|event| event.item.is_some()) {
        Some("an item")
    } else if commit.events.iter().any(|event| event.once_key.is_some()) {
        Some("a once key")
    } else {
        None
    };
    match at_fault {
        Some(what) => Err(Error::invalid("run_id", format!("is missing; {what} belongs to a run"))),
        None => Ok(()),
    }
}

fn check_once_keys(events: &[EventDraft]) -> Result<()> {
    let mut seen = HashSet::new();
    for key in events.iter().filter_map(|event| event.once_key.as_deref()) {
        if key.is_empty() || key.chars().count() > 128 || key.contains('\0') {
            return Err(Error::invalid("once_key", "must have 1 to 128 characters and no NUL"));
        }
        if !seen.insert(key) {
            return Err(Error::invalid("once_key", format!("{key:?} occurs twice in one commit")));
        }
    }
    Ok(())
}

pub(super) fn prepare_usage(mut call: UsageDraft, limits: &Limits) -> Result<UsageDraft> {
    call.tokens = call.tokens.with_total();
    let t = &call.tokens;
    if let Some(raw) = &call.raw {
        check_size("raw", raw.as_str().len(), limits.content_bytes)?;
    }
    text::require_no_nul("caller", call.caller.as_str())?;
    let counts = [t.input, t.output, t.total, t.cache_read, t.cache_write, t.reasoning];
    let optional = [call.latency_ms, call.round_index];
    let beyond = |count: Option<u64>, most: u64| count.is_some_and(|count| count > most);
    if counts.iter().copied().map(Some).chain(optional).any(|count| beyond(count, MAX_COUNT)) {
        let reason = format!("of {} has a count above {MAX_COUNT}", call.source_id);
        return Err(Error::invalid("usage", reason));
    }
    if call.settles.tokens > MAX_COUNT || call.settles.cost_nanos > MAX_COST_NANOS {
        let reason = format!("of {} is above what one call may use", call.source_id);
        return Err(Error::invalid("settles", reason));
    }
    if beyond(call.cost_nanos, MAX_COST_NANOS) {
        let reason = format!("of {} is above {MAX_COST_NANOS}", call.source_id);
        return Err(Error::invalid("cost_nanos", reason));
    }
    for (field, value) in
        [("provider", &call.provider), ("model", &call.model), ("price_table", &call.price_table)]
    {
        text::require_no_nul(field, value.as_deref().unwrap_or_default())?;
    }
    Ok(call)
}

pub(super) fn prepare_event(event: &mut EventDraft, limits: &Limits) -> Result<ContentSize> {
    let bytes = event.content.as_str().len();
    check_labels(event)?;
    if let Some(metadata) = &event.metadata {
        crate::record::require_object("metadata", metadata)?;
        check_size("metadata", metadata.as_str().len(), limits.content_bytes)?;
    }
    let whole = event.whole_bytes.unwrap_or_default();
    let mut truncated = whole > bytes as u64;
    if event.category == Category::Trace {
        if let Some(cut) = text::truncate_json(event.content.as_str(), limits.trace_content_bytes) {
            event.content = RawJson::from_stored(&cut);
            truncated = true;
        }
    } else {
        check_size("content", bytes, limits.content_bytes)?;
    }
    Ok(ContentSize { bytes: whole.max(bytes as u64), truncated })
}

/// What serde read may hold anything.
fn check_labels(event: &EventDraft) -> Result<()> {
    text::require_no_nul("event_type", event.event_type.as_str())?;
    text::require_no_nul("category", event.category.as_str())?;
    text::require_no_nul("caller", event.caller.as_ref().map_or("", |caller| caller.as_str()))?;
    if let Some(mark) = &event.item {
        text::require_no_nul("item_kind", &mark.kind.to_string())?;
        text::require_no_nul("item_status", mark.status.as_str())?;
    }
    Ok(())
}

/// What each payload may have, all of them together may not.
pub(super) fn check_total(events: &[EventDraft], usage: &[UsageDraft], blobs: &[NewBlob]) -> Result<()> {
    let bytes = |json: Option<&RawJson>| json.map_or(0, |json| json.as_str().len());
    let of_events = events.iter().map(|event| event.content.as_str().len() + bytes(event.metadata.as_ref()));
    let of_usage = usage.iter().map(|call| bytes(call.raw.as_ref()));
    let of_blobs = blobs.iter().map(|blob| blob.bytes.len());
    check_size("commit", of_events.chain(of_usage).chain(of_blobs).sum(), MAX_COMMIT_BYTES)
}

/// Which of the events name which blobs, each once.
pub(super) fn blob_uses(events: &[EventDraft]) -> Vec<BlobUse> {
    let mut uses: Vec<BlobUse> = Vec::new();
    for (event, draft) in events.iter().enumerate() {
        let mut of_event = HashSet::new();
        for named in blob_refs(&draft.content) {
            if of_event.insert(named.blob.clone()) {
                uses.push(BlobUse { event, hash: named.blob });
            }
        }
    }
    uses
}

/// Each is a row and a look for the blob.
pub(super) fn check_uses(uses: &[BlobUse]) -> Result<()> {
    match uses.chunk_by(|one, next| one.event == next.event).find(|uses| uses.len() > MAX_EVENT_BLOBS) {
        None => Ok(()),
        Some(uses) => Err(Error::invalid(
            "content",
            format!("names {} blobs; split it, an event names at most {MAX_EVENT_BLOBS}", uses.len()),
        )),
    }
}

/// A blob that no event names would never go.
pub(super) fn check_blobs(blobs: &[NewBlob], uses: &[BlobUse], limits: &Limits) -> Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    let named: HashSet<(usize, &BlobHash)> = uses.iter().map(|named| (named.event, &named.hash)).collect();
    for blob in blobs {
        check_size("blobs", blob.bytes.len(), limits.content_bytes)?;
        blob.check()?;
        if !named.contains(&(blob.event, &blob.hash)) {
            return Err(Error::invalid(
                "blobs",
                format!(
                    "has {}, which the payload of event {} does not name as it is stored",
                    blob.hash, blob.event
                ),
            ));
        }
    }
    Ok(())
}

pub(super) fn check_size(field: &'static str, actual: usize, limit: usize) -> Result<()> {
    if actual > limit {
        return Err(Error::TooLarge { field, limit: limit as u64, actual: actual as u64 });
    }
    Ok(())
}

pub(super) fn prepare_transition(transition: Transition, limits: &Limits) -> Result<Transition> {
    match transition {
        Transition::Admit(mut admission) => {
            for (field, document) in [("metadata", &admission.metadata), ("kwargs", &admission.kwargs)] {
                text::require_jsonb(field, document)?;
                check_size(field, document.as_str().len(), limits.content_bytes)?;
            }
            text::require_no_nul("operation_kind", admission.operation_kind.as_str())?;
            text::require_no_nul("multitask_strategy", admission.multitask_strategy.as_str())?;
            for (field, value) in [
                ("idempotency_key", &admission.idempotency_key),
                ("request_hash", &admission.request_hash),
                ("model_name", &admission.model_name),
            ] {
                if let Some(value) = value
                    && (value.is_empty() || value.chars().count() > 255 || value.contains('\0'))
                {
                    return Err(Error::invalid(field, "must have 1 to 255 characters and no NUL"));
                }
            }
            if let Some(lease) = &admission.lease {
                check_ttl(lease.ttl)?;
            }
            check_budget(&admission.budget)?;
            if let Some(answer) = &admission.answer {
                check_size("answer", answer.value.as_str().len(), limits.content_bytes)?;
            }
            if let Some(agent_run) = admission.agent_run.take() {
                check_size("goal", agent_run.goal.len(), limits.content_bytes)?;
                admission.agent_run = Some(agent_run.check()?);
            }
            admission.first_human_message = admission.first_human_message.as_deref().and_then(text::summary);
            Ok(Transition::Admit(admission))
        }
        Transition::Acquire { lease, at } => {
            check_ttl(lease.ttl)?;
            Ok(Transition::Acquire { lease, at })
        }
        Transition::Start { at } => Ok(Transition::Start { at }),
        Transition::Finish { outcome, asks, at } => {
            let waits = outcome.status == TerminalStatus::Interrupted
                && outcome.stop_reason.as_deref() == Some(Outcome::WAITING_FOR_INPUT);
            if !asks.is_empty() && !waits {
                return Err(Error::invalid(
                    "asks",
                    "is given; a run that asks a person ends as interrupted, with the stop reason waiting_for_input",
                ));
            }
            let asks = asks.into_iter().map(|ask| prepare_ask(ask, limits)).collect::<Result<Vec<_>>>()?;
            let ids: HashSet<_> = asks.iter().map(|ask| &ask.interaction_id).collect();
            if ids.len() < asks.len() {
                return Err(Error::invalid("interaction_id", "occurs twice in one commit"));
            }
            Ok(Transition::Finish { outcome: clean(outcome), asks, at })
        }
        Transition::Resume { claim, lease, at } => {
            if let Some(lease) = &lease {
                check_ttl(lease.ttl)?;
            }
            Ok(Transition::Resume { claim, lease, at })
        }
        Transition::Fold(fold) => {
            let beyond = |count: u64| count > MAX_COUNT;
            if beyond(fold.before_tokens) || beyond(fold.after_tokens) || fold.round_index.is_some_and(beyond)
            {
                return Err(Error::invalid("fold", format!("has a count above {MAX_COUNT}")));
            }
            Ok(Transition::Fold(fold))
        }
        Transition::Interrupt { outcome, claim, at } => {
            Ok(Transition::Interrupt { outcome: clean(outcome), claim, at })
        }
    }
}

fn check_budget(budget: &Budget) -> Result<()> {
    for (field, limit) in [
        ("max_tokens", budget.max_tokens),
        ("max_cost_nanos", budget.max_cost_nanos),
        ("max_iterations", budget.max_iterations),
    ] {
        if limit.is_some_and(|limit| limit > i64::MAX as u64) {
            return Err(Error::invalid(field, format!("is above {}", i64::MAX)));
        }
    }
    Ok(())
}

fn prepare_ask(ask: NewInteraction, limits: &Limits) -> Result<NewInteraction> {
    EventType::new(&ask.kind).map_err(|_| {
        Error::invalid("kind", format!("of {} must have 1 to 64 printable characters", ask.interaction_id))
    })?;
    check_size("request", ask.request.as_str().len(), limits.content_bytes)?;
    Ok(ask)
}

fn clean(outcome: Outcome) -> Outcome {
    let clean = |value: Option<String>| value.map(|value| text::clean(&value).into_owned());
    Outcome { error: clean(outcome.error), stop_reason: clean(outcome.stop_reason), ..outcome }
}
