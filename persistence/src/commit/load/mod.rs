//! Reads what commits are judged by, under the lock of the threads' heads.
//!
//! Everything below a thread is written under its head's lock, so what is read after the lock was
//! taken holds until the transaction ends.

mod lifecycle;

use std::collections::{BTreeMap, BTreeSet};

use runledger_core::{
    AgentRunId, Category, Error, Event, EventType, HeadState, ItemKind, ItemMark, ItemStatus, OwnerId,
    Prepared, RawJson, RunId, RunStatus, ThreadHead, ThreadId, Timestamp, Transition, UsageRecord,
};
use sea_orm::FromQueryResult;

use super::decide::{Facts, RunFacts};
use super::rows;
use super::statement::{Connection, Row, Statement};
use crate::dialect::Dialect;
use crate::entity::usage_record::Model;

/// Why facts could not be read.
pub(super) enum Failure {
    Driver(sqlx::Error),
    Stored(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Stored(error)
    }
}

/// Locks the heads of the commits' threads and reads everything the commits are judged by.
pub(super) async fn load(connection: &mut Connection, commits: &[&Prepared]) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    heads(connection, &mut facts, commits).await?;
    runs(connection, &mut facts, commits).await?;
    children(connection, &mut facts, commits).await?;
    agent_runs(connection, &mut facts, commits).await?;
    usage(connection, &mut facts, commits).await?;
    once(connection, &mut facts, commits).await?;
    idempotency(connection, &mut facts, commits).await?;
    for commit in commits {
        stored(connection, &mut facts, commit).await?;
    }
    lifecycle::load(connection, &mut facts, commits).await?;
    Ok(facts)
}

/// Locks in the order of the ids, so that two groups cannot wait for each other.
async fn heads(connection: &mut Connection, facts: &mut Facts, commits: &[&Prepared]) -> Result<(), Failure> {
    let threads: BTreeSet<&ThreadId> = commits.iter().map(|commit| &commit.thread_id).collect();
    let threads: Vec<[String; 1]> = threads.into_iter().map(|thread| [thread.to_string()]).collect();
    let dialect = connection.dialect();
    let mut select = Statement::new(
        dialect,
        "SELECT thread_id, owner_id, state, next_seq, message_count, active_run_id, epoch, journal_ordinal, \
         parent_thread_id, last_compact_seq \
         FROM thread_heads WHERE ",
    );
    select.is_one_of(["thread_id"], &threads).push(" ORDER BY thread_id");
    if dialect == Dialect::Postgres {
        // No append changes a key, so one goes past who only keeps the head from being deleted.
        select.push(" FOR NO KEY UPDATE");
    }
    for row in connection.rows(select).await? {
        let head = head(&row)?;
        facts.heads.insert(head.thread_id.clone(), head);
    }
    Ok(())
}

fn head(row: &Row) -> Result<ThreadHead, Error> {
    Ok(ThreadHead {
        thread_id: ThreadId::new(text(row, 0)?)?,
        owner_id: row.text(1).map(OwnerId::new).transpose()?,
        state: HeadState::from_stored(text(row, 2)?),
        next_seq: count(row, 3)?,
        message_count: count(row, 4)?,
        active_run_id: row.text(5).map(RunId::new).transpose()?,
        epoch: count(row, 6)?,
        journal_ordinal: count(row, 7)?,
        parent_thread_id: row.text(8).map(ThreadId::new).transpose()?,
        last_compact_seq: row.count(9),
    })
}

fn unreadable(at: usize) -> Error {
    Error::corrupt("row", format!("column {at} does not have the type of the schema"))
}

fn text(row: &Row, at: usize) -> Result<&str, Error> {
    row.text(at).ok_or_else(|| unreadable(at))
}

fn count(row: &Row, at: usize) -> Result<u64, Error> {
    row.count(at).ok_or_else(|| unreadable(at))
}

async fn runs(connection: &mut Connection, facts: &mut Facts, commits: &[&Prepared]) -> Result<(), Failure> {
    let mut keys: BTreeSet<[String; 2]> = BTreeSet::new();
    for commit in commits {
        let mut add = |run: &RunId| keys.insert([commit.thread_id.to_string(), run.to_string()]);
        commit.run_id.as_ref().map(&mut add);
        if let Some(Transition::Admit(admission)) = &commit.transition {
            admission.follow_up_to_run_id.as_ref().map(&mut add);
            admission.parent_run_id.as_ref().map(&mut add);
            // It may be ended by this admission.
            let head = facts.heads.get(&commit.thread_id);
            head.and_then(|head| head.active_run_id.as_ref()).map(&mut add);
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT thread_id, run_id, status, epoch, agent_run_id FROM runs WHERE ",
    );
    select.is_one_of(["thread_id", "run_id"], &Vec::from_iter(keys));
    for row in connection.rows(select).await? {
        let run = RunFacts {
            status: RunStatus::from_stored(text(&row, 2)?),
            epoch: count(&row, 3)?,
            agent_run: row.text(4).map(AgentRunId::new).transpose()?,
        };
        facts.runs.insert((ThreadId::new(text(&row, 0)?)?, RunId::new(text(&row, 1)?)?), run);
    }
    Ok(())
}

/// Not locked: an owner that changes now changed before or after, and the head of a child is
/// somebody else's to lock.
async fn children(
    connection: &mut Connection,
    facts: &mut Facts,
    commits: &[&Prepared],
) -> Result<(), Failure> {
    let threads: BTreeSet<&ThreadId> = commits.iter().flat_map(|commit| commit.child_threads()).collect();
    let threads: Vec<[String; 1]> = threads.into_iter().map(|thread| [thread.to_string()]).collect();
    for threads in threads.chunks(10_000) {
        let mut select =
            Statement::new(connection.dialect(), "SELECT thread_id, owner_id FROM thread_heads WHERE ");
        select.is_one_of(["thread_id"], threads);
        for row in connection.rows(select).await? {
            let owner = row.text(1).map(OwnerId::new).transpose()?;
            facts.children.insert(ThreadId::new(text(&row, 0)?)?, owner);
        }
    }
    Ok(())
}

/// Not locked: an agent run that begins now has its key to lose.
async fn agent_runs(
    connection: &mut Connection,
    facts: &mut Facts,
    commits: &[&Prepared],
) -> Result<(), Failure> {
    let mut ids: BTreeSet<[String; 1]> = BTreeSet::new();
    for commit in commits {
        if let Some(Transition::Admit(admission)) = &commit.transition
            && let Some(new) = &admission.agent_run
        {
            ids.insert([new.agent_run_id.to_string()]);
            ids.extend(new.parent_agent_run_id.as_ref().map(|parent| [parent.to_string()]));
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let mut select =
        Statement::new(connection.dialect(), "SELECT agent_run_id, owner_id FROM agent_runs WHERE ");
    select.is_one_of(["agent_run_id"], &Vec::from_iter(ids));
    for row in connection.rows(select).await? {
        let owner = row.text(1).map(OwnerId::new).transpose()?;
        facts.agent_runs.insert(AgentRunId::new(text(&row, 0)?)?, owner);
    }
    Ok(())
}

async fn usage(connection: &mut Connection, facts: &mut Facts, commits: &[&Prepared]) -> Result<(), Failure> {
    let keys: BTreeSet<[String; 2]> = commits
        .iter()
        .flat_map(|commit| {
            commit.usage.iter().map(|call| [commit.thread_id.to_string(), call.source_id.to_string()])
        })
        .collect();
    let keys = Vec::from_iter(keys);
    let columns: Vec<&str> = rows::USAGE.iter().map(|(column, _)| *column).collect();
    // SQLite takes so many values in one statement.
    for keys in keys.chunks(10_000) {
        let mut select = Statement::new(
            connection.dialect(),
            format!("SELECT {} FROM usage_records WHERE ", columns.join(", ")),
        );
        select.is_one_of(["thread_id", "source_id"], keys);
        for row in connection.results(select).await? {
            let stored = Model::from_query_result(&row, "")
                .map_err(|error| Error::corrupt("usage record", error.to_string()))?;
            let call = UsageRecord::try_from(stored)?;
            facts.usage.insert((call.thread_id.clone(), call.source_id.clone()), call);
        }
    }
    Ok(())
}

async fn once(connection: &mut Connection, facts: &mut Facts, commits: &[&Prepared]) -> Result<(), Failure> {
    let mut keys: BTreeSet<[String; 3]> = BTreeSet::new();
    for commit in commits {
        let Some(run) = &commit.run_id else { continue };
        for key in commit.events.iter().filter_map(|event| event.once_key.as_ref()) {
            keys.insert([commit.thread_id.to_string(), run.to_string(), key.clone()]);
        }
    }
    let keys = Vec::from_iter(keys);
    for keys in keys.chunks(10_000) {
        let mut select = Statement::new(
            connection.dialect(),
            "SELECT thread_id, run_id, once_key, seq FROM run_events WHERE once_key IS NOT NULL AND ",
        );
        select.is_one_of(["thread_id", "run_id", "once_key"], keys);
        for row in connection.rows(select).await? {
            let key =
                (ThreadId::new(text(&row, 0)?)?, RunId::new(text(&row, 1)?)?, text(&row, 2)?.to_owned());
            facts.once.insert(key, count(&row, 3)?);
        }
    }
    Ok(())
}

async fn idempotency(
    connection: &mut Connection,
    facts: &mut Facts,
    commits: &[&Prepared],
) -> Result<(), Failure> {
    let mut keys: BTreeSet<[String; 2]> = BTreeSet::new();
    for commit in commits {
        if let Some(Transition::Admit(admission)) = &commit.transition
            && let Some(key) = &admission.idempotency_key
        {
            keys.insert([commit.thread_id.to_string(), key.clone()]);
        }
    }
    if keys.is_empty() {
        return Ok(());
    }
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT thread_id, idempotency_key, run_id FROM runs WHERE idempotency_key IS NOT NULL AND ",
    );
    select.is_one_of(["thread_id", "idempotency_key"], &Vec::from_iter(keys));
    for row in connection.rows(select).await? {
        let key = (ThreadId::new(text(&row, 0)?)?, text(&row, 1)?.to_owned());
        facts.idempotency.insert(key, RunId::new(text(&row, 2)?)?);
    }
    Ok(())
}

/// Reads the events that an earlier try of the commit may have stored.
async fn stored(connection: &mut Connection, facts: &mut Facts, commit: &Prepared) -> Result<(), Failure> {
    let (Some(mark), Some(run), Some(head)) =
        (commit.mark, &commit.run_id, facts.heads.get(&commit.thread_id))
    else {
        return Ok(());
    };
    let count_of = commit.events.len() as u64;
    let known = facts.runs.get(&(commit.thread_id.clone(), run.clone()));
    let ended = known.is_some_and(|run| run.status.is_terminal() && run.epoch == mark.epoch);
    let sought = if head.active_run_id.as_ref() == Some(run) && head.epoch == mark.epoch {
        head.journal_ordinal.saturating_sub(mark.ordinal).min(count_of)
    } else if ended && matches!(commit.transition, Some(Transition::Finish { .. })) {
        count_of
    } else {
        // Refused, whatever is stored.
        0
    };
    if sought == 0 {
        return Ok(());
    }
    let end = mark.ordinal.saturating_add(count_of);
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT seq, journal_ordinal, once_key, event_type, category, item_id, item_kind, item_status, call_id, \
         parent_item_id, content, content_bytes, metadata FROM run_events WHERE thread_id = ",
    );
    // The range of the run's seqs, because events have no index by run.
    select.bind(commit.thread_id.as_str()).push(" AND run_id = ").bind(run.as_str());
    select.push(" AND seq >= (SELECT first_seq FROM runs WHERE thread_id = ").bind(commit.thread_id.as_str());
    select.push(" AND run_id = ").bind(run.as_str());
    select.push(") AND seq <= (SELECT last_seq FROM runs WHERE thread_id = ").bind(commit.thread_id.as_str());
    select.push(" AND run_id = ").bind(run.as_str());
    select.push(") AND journal_ordinal >= ").bind(signed(mark.ordinal));
    // From the end, and no further than what is there: it was sent lately, and the run may be long.
    select.push(" AND journal_ordinal < ").bind(signed(end)).push(" ORDER BY seq DESC LIMIT ");
    select.bind(signed(sought));
    let mut found = BTreeMap::new();
    for row in connection.rows(select).await?.iter().rev() {
        // The newest of an ordinal comes last, and stays.
        found.insert(count(row, 1)?, event(row, commit)?);
    }
    let known = facts.stored.entry((commit.thread_id.clone(), run.clone())).or_default();
    known.extend(found);
    Ok(())
}

/// A stored event, as far as it is compared with the one that is sent again.
fn event(row: &Row, commit: &Prepared) -> Result<Event, Error> {
    let item = match (row.text(5), row.text(6), row.text(7)) {
        (Some(id), Some(kind), Some(status)) => Some(ItemMark {
            call_id: row.text(8).map(str::parse).transpose()?,
            parent_item_id: row.text(9).map(str::parse).transpose()?,
            ..ItemMark::new(id.parse()?, ItemKind::from_stored(kind), ItemStatus::from_stored(status))
        }),
        _ => None,
    };
    Ok(Event {
        thread_id: commit.thread_id.clone(),
        seq: count(row, 0)?,
        run_id: commit.run_id.clone(),
        journal_ordinal: row.count(1),
        event_type: EventType::from_stored(text(row, 3)?),
        category: Category::from_stored(text(row, 4)?),
        caller: None,
        task_id: None,
        item,
        once_key: row.text(2).map(str::to_owned),
        content: RawJson::from_stored(text(row, 10)?),
        content_bytes: count(row, 11)?,
        truncated: false,
        metadata: row.text(12).map(RawJson::from_stored),
        // Times are not compared.
        created_at: Timestamp::from_unix_micros(0)?,
    })
}
