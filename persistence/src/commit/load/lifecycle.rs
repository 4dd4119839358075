//! What steps of runs are judged by, beyond what every commit is: leases, open items, the queue.

use std::collections::BTreeSet;
use std::time::Duration;

use runledger_core::{
    CancelAction, Error, Event, InteractionId, InteractionStatus, NewLease, Prepared, RunId, ThreadId,
    Transition, WhenTaken, WorkerId,
};
use sea_orm::FromQueryResult;

use super::{Failure, count, text, unreadable};
use crate::commit::decide::{Facts, LeaseFacts, Of, Waiting};
use crate::commit::rows;
use crate::commit::statement::{Connection, Statement};
use crate::dialect::Dialect;
use crate::entity::run_event::Model;

/// Reads it for the commits that take a step. Runs that end from outside lock their leases, so that
/// a renewal comes before or finds the lease gone.
pub(super) async fn load(
    connection: &mut Connection,
    facts: &mut Facts,
    commits: &[&Prepared],
) -> Result<(), Failure> {
    let (mut leased, mut idle, mut closed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut freed, mut queued, mut asked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for commit in commits {
        let (Some(transition), Some(run)) = (&commit.transition, &commit.run_id) else { continue };
        let thread = &commit.thread_id;
        let key = || (thread.clone(), run.clone());
        match transition {
            Transition::Finish { asks, .. } => {
                leased.insert(key());
                freed.insert(thread.clone());
                asked.extend(asks.iter().map(|ask| [thread.to_string(), ask.interaction_id.to_string()]));
            }
            Transition::Resume { .. } => {
                leased.insert(key());
                idle.insert(thread.clone());
            }
            Transition::Acquire { .. } => {
                leased.insert(key());
            }
            Transition::Interrupt { .. } => {
                leased.insert(key());
                idle.insert(thread.clone());
                closed.insert(key());
                freed.insert(thread.clone());
            }
            Transition::Admit(admission) => {
                let answers = admission.answer.iter();
                asked.extend(answers.map(|answer| [thread.to_string(), answer.interaction_id.to_string()]));
                let active = facts.heads.get(thread).and_then(|head| head.active_run_id.as_ref());
                match (admission.multitask_strategy.when_taken(), active) {
                    (WhenTaken::Replace(_), Some(active)) => {
                        leased.insert((thread.clone(), active.clone()));
                        closed.insert((thread.clone(), active.clone()));
                    }
                    (WhenTaken::Wait, Some(_)) => {
                        queued.insert(thread.clone());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    leases(connection, facts, leased).await?;
    interactions(connection, facts, asked).await?;
    idle_logs(connection, facts, idle).await?;
    for key in closed {
        open_items(connection, facts, key).await?;
    }
    for thread in freed {
        waiting(connection, facts, thread).await?;
    }
    for thread in queued {
        queue_end(connection, facts, thread).await?;
    }
    Ok(())
}

async fn leases(
    connection: &mut Connection,
    facts: &mut Facts,
    keys: BTreeSet<Of<RunId>>,
) -> Result<(), Failure> {
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<[String; 2]> =
        keys.into_iter().map(|(thread, run)| [thread.to_string(), run.to_string()]).collect();
    let dialect = connection.dialect();
    let mut select = Statement::new(dialect, "SELECT thread_id, run_id, worker_id, cancel_action, ");
    select.push_age("expires_at").push(" FROM run_leases WHERE ");
    select.is_one_of(["thread_id", "run_id"], &keys).push(" ORDER BY thread_id, run_id");
    if dialect == Dialect::Postgres {
        select.push(" FOR UPDATE");
    }
    for row in connection.rows(select).await? {
        let lease = LeaseFacts {
            worker: text(&row, 2)?.to_owned(),
            ended_for: row.age(4).ok_or_else(|| unreadable(4))?,
            cancel: row.text(3).map(CancelAction::from_stored),
        };
        facts.leases.insert((ThreadId::new(text(&row, 0)?)?, RunId::new(text(&row, 1)?)?), lease);
    }
    Ok(())
}

/// Where the questions stand that are asked or answered. The answer of a run that is hidden, or that ended in the
/// queue, does not count: nothing went on with it.
async fn interactions(
    connection: &mut Connection,
    facts: &mut Facts,
    keys: BTreeSet<[String; 2]>,
) -> Result<(), Failure> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT thread_id, interaction_id, CASE WHEN status = 'answered' AND EXISTS (SELECT 1 FROM runs r \
         WHERE r.thread_id = interactions.thread_id AND r.run_id = interactions.answer_run_id \
         AND (r.visibility <> 'shown' OR (r.epoch = 0 AND r.status <> 'queued'))) \
         THEN 'open' ELSE status END FROM interactions WHERE ",
    );
    select.is_one_of(["thread_id", "interaction_id"], &Vec::from_iter(keys));
    for row in connection.rows(select).await? {
        let key = (ThreadId::new(text(&row, 0)?)?, InteractionId::new(text(&row, 1)?)?);
        facts.interactions.insert(key, InteractionStatus::from_stored(text(&row, 2)?));
    }
    Ok(())
}

async fn idle_logs(
    connection: &mut Connection,
    facts: &mut Facts,
    threads: BTreeSet<ThreadId>,
) -> Result<(), Failure> {
    if threads.is_empty() {
        return Ok(());
    }
    let threads: Vec<[String; 1]> = threads.into_iter().map(|thread| [thread.to_string()]).collect();
    let mut select = Statement::new(connection.dialect(), "SELECT thread_id, ");
    select.push_age("updated_at").push(" FROM thread_heads WHERE ").is_one_of(["thread_id"], &threads);
    for row in connection.rows(select).await? {
        facts.idle.insert(ThreadId::new(text(&row, 0)?)?, row.age(1).ok_or_else(|| unreadable(1))?);
    }
    Ok(())
}

/// The events that started what a run has open.
async fn open_items(connection: &mut Connection, facts: &mut Facts, key: Of<RunId>) -> Result<(), Failure> {
    let columns: Vec<String> = rows::EVENT.iter().map(|(column, _)| format!("e.{column}")).collect();
    let mut select = Statement::new(
        connection.dialect(),
        format!(
            "SELECT {} FROM thread_items i JOIN run_events e \
             ON e.thread_id = i.thread_id AND e.seq = i.started_seq WHERE i.thread_id = ",
            columns.join(", ")
        ),
    );
    select.bind(key.0.as_str()).push(" AND i.status = 'in_progress' AND i.run_id = ").bind(key.1.as_str());
    select.push(" ORDER BY i.started_seq");
    let mut open = Vec::new();
    for row in connection.results(select).await? {
        let stored =
            Model::from_query_result(&row, "").map_err(|error| Error::corrupt("event", error.to_string()))?;
        open.push(Event::try_from(stored)?);
    }
    facts.open.insert(key, open);
    Ok(())
}

/// Who gets the slot when it comes free.
async fn waiting(connection: &mut Connection, facts: &mut Facts, thread: ThreadId) -> Result<(), Failure> {
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT r.run_id, i.input, i.worker_id, i.lease_micros FROM runs r JOIN queued_inputs i \
         ON i.thread_id = r.thread_id AND i.run_id = r.run_id WHERE r.status = 'queued' AND r.thread_id = ",
    );
    select.bind(thread.as_str());
    // The commit may itself end the one that is next.
    select.push(" ORDER BY r.queue_no LIMIT 2");
    for row in connection.rows(select).await? {
        let run = RunId::new(text(&row, 0)?)?;
        let input = serde_json::from_str(text(&row, 1)?)
            .map_err(|error| Error::corrupt("queued input", error.to_string()))?;
        let lease = match (row.text(2), row.count(3)) {
            (Some(worker), Some(micros)) => {
                Some(NewLease { worker_id: WorkerId::new(worker)?, ttl: Duration::from_micros(micros) })
            }
            _ => None,
        };
        facts.waiting.entry(thread.clone()).or_default().push(Waiting { run, input, lease });
    }
    Ok(())
}

async fn queue_end(connection: &mut Connection, facts: &mut Facts, thread: ThreadId) -> Result<(), Failure> {
    let mut select = Statement::new(
        connection.dialect(),
        "SELECT queue_no FROM runs WHERE status = 'queued' AND thread_id = ",
    );
    select.bind(thread.as_str()).push(" ORDER BY queue_no DESC LIMIT 1");
    if let Some(row) = connection.rows(select).await?.first() {
        facts.queue_ends.insert(thread, count(row, 0)?);
    }
    Ok(())
}
