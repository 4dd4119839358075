//! What goes by a policy, and what stays.

use std::time::Duration;

use futures_util::StreamExt as _;
use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, AgentRunId, Category, Commit, ErrorKind, ItemFilter, ItemStatus, MultitaskStrategy,
    NewAgentRun, NewRun, OwnerId, Scope, SeqRange, Visibility,
};
use runledger_persistence::SqlLedger;
use runledger_persistence::retention::{PruneMode, PrunePolicy, Volume};

use super::scene::{
    HOUR, MINUTE, admit, ago, append, create, dump, ended, event, finish, is_consistent, item, own, prune,
    query, run, seqs, thread, work,
};
use super::{backend, on_both};
use crate::backend::Fresh;

on_both!(
    runs_go_by_when_they_ended,
    what_is_open_stays,
    a_slow_reader_of_steps_is_given_what_was_folded,
    the_newest_runs_stay_whole,
    only_the_categories_that_are_named_go,
    notes_of_folds_stay,
    a_dry_run_says_what_then_goes,
    a_deletion_tells_the_policy,
    nothing_but_the_log_changes,
    policies_that_cannot_be_are_refused,
);

fn volume(events: u64) -> Volume {
    Volume { events, bytes: events * 10 }
}

/// Just before and just after the cutoff, shown and hidden, of a run and of none.
async fn runs_go_by_when_they_ended(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    ended(ledger, "t", "before", ago(HOUR + MINUTE)).await;
    own(ledger, "t", vec![event(Category::Trace, ago(HOUR + MINUTE))]).await;
    ended(ledger, "t", "hidden", ago(HOUR + MINUTE)).await;
    let visibility = Visibility::Superseded;
    ledger.runs().set_visibility(&Scope::System, &thread("t"), &run("hidden"), visibility).await.unwrap();
    own(ledger, "t", vec![event(Category::Message, ago(HOUR - 10 * MINUTE))]).await;
    // Its events are old, its end is not.
    let epoch = admit(ledger, "t", "after", ago(2 * HOUR), work(ago(2 * HOUR))).await;
    finish(ledger, "t", "after", epoch, ago(HOUR - 10 * MINUTE)).await;
    create(ledger, "empty").await;

    let report = prune(ledger, &PrunePolicy::new(HOUR)).await;
    assert_eq!(seqs(&fresh.url, "t").await, (14..=20).collect::<Vec<_>>());
    assert_eq!((report.threads, report.runs), (1, 2));
    assert_eq!((report.before.events, report.removed.events, report.after.events), (20, 13, 7));
    is_consistent(ledger, &fresh.url, "t").await;
    is_consistent(ledger, &fresh.url, "empty").await;
    assert_eq!(own(ledger, "t", vec![event(Category::Message, ago(HOUR))]).await, [21]);

    // What a run was is still there.
    let gone = ledger.runs().get(&Scope::System, &thread("t"), &run("before")).await.unwrap();
    assert_eq!((gone.first_seq, gone.last_seq, gone.message_count), (Some(1), Some(6), 0));
    // A late record of it is found again, and goes with it.
    let late =
        Commit::of_run(thread("t"), run("before")).with_events(vec![event(Category::Message, ago(MINUTE))]);
    assert_eq!(append(ledger, late).await, [22]);
    is_consistent(ledger, &fresh.url, "t").await;
    assert_eq!(prune(ledger, &PrunePolicy::new(HOUR)).await.removed.events, 2);
    is_consistent(ledger, &fresh.url, "t").await;

    let left = prune(ledger, &PrunePolicy::new(Duration::ZERO)).await;
    assert_eq!((left.removed.events, left.after.events), (7, 0));
    is_consistent(ledger, &fresh.url, "t").await;
}

/// Runs that have not ended, and one that ended with an item in progress.
async fn what_is_open_stays(ledger: &SqlLedger, fresh: &Fresh) {
    let long_ago = ago(24 * HOUR);
    create(ledger, "t").await;
    let open = vec![item("tool", ItemStatus::InProgress, Category::Lifecycle, long_ago)];
    let epoch = admit(ledger, "t", "open", long_ago, open).await;
    finish(ledger, "t", "open", epoch, long_ago).await;
    let active = admit(ledger, "t", "active", long_ago, work(long_ago)).await;
    let admission = Admission {
        created_at: long_ago,
        multitask_strategy: MultitaskStrategy::Enqueue,
        ..Admission::default()
    };
    let queued = NewRun { admission, input: work(long_ago), ..NewRun::new(thread("t"), run("queued")) };
    ledger.admit(&Scope::System, queued).await.unwrap();

    let policy = PrunePolicy::new(HOUR);
    assert_eq!(prune(ledger, &policy).await.removed.events, 0);
    assert_eq!(seqs(&fresh.url, "t").await, (1..=7).collect::<Vec<_>>());

    // The item is told to be over: now the run is.
    let late = vec![item("tool", ItemStatus::Completed, Category::Message, long_ago)];
    append(ledger, Commit::of_run(thread("t"), run("open")).with_events(late)).await;
    assert_eq!(prune(ledger, &policy).await.removed.events, 3);
    assert_eq!(seqs(&fresh.url, "t").await, (3..=7).collect::<Vec<_>>());
    is_consistent(ledger, &fresh.url, "t").await;

    // The one that waited gets the slot with its input whole.
    finish(ledger, "t", "active", active, ago(MINUTE)).await;
    let promoted = ledger.runs().get(&Scope::System, &thread("t"), &run("queued")).await.unwrap();
    assert_eq!(promoted.first_seq, Some(10));
    assert_eq!(prune(ledger, &policy).await.removed.events, 0);
    is_consistent(ledger, &fresh.url, "t").await;
}

/// The end of an agent run's steps went with its events, before it was read.
async fn a_slow_reader_of_steps_is_given_what_was_folded(ledger: &SqlLedger, _fresh: &Fresh) {
    create(ledger, "t").await;
    let (at, id) = (ago(2 * HOUR), AgentRunId::new("a").unwrap());
    let agent_run = Some(NewAgentRun::new(id.clone(), "buddy", "Find it"));
    let admission = Admission { created_at: at, agent_run, ..Admission::default() };
    let new = NewRun { admission, input: work(at), ..NewRun::new(thread("t"), run("r")) };
    let epoch = ledger.admit(&Scope::System, new).await.unwrap().run.epoch;
    let poll = Duration::from_millis(10);
    let mut steps = ledger.follow_steps(&Scope::System, &id, None, poll).await.unwrap();
    let mut told = vec![steps.next().await.unwrap().unwrap()];
    let late = vec![item("late", ItemStatus::Completed, Category::Message, at)];
    append(ledger, Commit::of_run(thread("t"), run("r")).with_events(late)).await;
    finish(ledger, "t", "r", epoch, at).await;
    assert_eq!(prune(ledger, &PrunePolicy::new(HOUR)).await.runs, 1);
    told.extend(steps.map(Result::unwrap).collect::<Vec<_>>().await);
    let stored = ledger.agent_runs().get(&Scope::System, &id).await.unwrap().agent_run.steps;
    assert_eq!((stored.len(), told), (3, stored));
}

/// The newest runs, and the thread's own events from where they begin.
async fn the_newest_runs_stay_whole(ledger: &SqlLedger, fresh: &Fresh) {
    for on in ["t", "u"] {
        create(ledger, on).await;
    }
    for n in 1..=4_u32 {
        own(ledger, "t", vec![event(Category::Trace, ago(9 * HOUR))]).await;
        ended(ledger, "t", &format!("r{n}"), ago((9 - n) * HOUR)).await;
    }
    own(ledger, "u", vec![event(Category::Trace, ago(9 * HOUR))]).await;
    ended(ledger, "u", "r1", ago(8 * HOUR)).await;
    own(ledger, "u", vec![event(Category::Trace, ago(9 * HOUR))]).await;

    let keep = |keep_last| PrunePolicy { keep_last, ..PrunePolicy::new(HOUR) };
    assert_eq!(prune(ledger, &keep(4)).await.removed.events, 2);
    // r1 is at 2 to 7, r2 at 9 to 14, r3 at 16 to 21, r4 at 23 to 28.
    assert_eq!(seqs(&fresh.url, "t").await, (2..=28).collect::<Vec<_>>());
    assert_eq!(seqs(&fresh.url, "u").await, (2..=8).collect::<Vec<_>>());
    let report = prune(ledger, &keep(2)).await;
    assert_eq!((report.threads, report.runs, report.removed.events), (1, 2, 14));
    assert_eq!(seqs(&fresh.url, "t").await, (16..=28).collect::<Vec<_>>());
    assert_eq!(seqs(&fresh.url, "u").await, (2..=8).collect::<Vec<_>>());
    // One that waits or runs is the newest too.
    admit(ledger, "t", "active", ago(MINUTE), Vec::new()).await;
    assert_eq!(prune(ledger, &keep(1)).await.removed.events, 13);
    assert_eq!(seqs(&fresh.url, "u").await, (2..=8).collect::<Vec<_>>());
    for on in ["t", "u"] {
        is_consistent(ledger, &fresh.url, on).await;
    }
}

async fn starts(ledger: &SqlLedger) -> Vec<(String, u64, Option<u64>)> {
    let items = ledger.items();
    let page =
        items.list(&Scope::System, &thread("t"), &ItemFilter::default(), &SeqRange::after(0, 10)).await;
    page.unwrap()
        .items
        .into_iter()
        .map(|it| (it.item_id.to_string(), it.started_seq, it.completed_seq))
        .collect()
}

/// And items follow what is left of them.
async fn only_the_categories_that_are_named_go(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    ended(ledger, "t", "r", ago(2 * HOUR)).await;
    own(ledger, "t", vec![event(Category::new("mine").unwrap(), ago(2 * HOUR))]).await;
    let only =
        |categories: &[Category]| PrunePolicy { categories: categories.to_vec(), ..PrunePolicy::new(HOUR) };

    let report = prune(ledger, &only(&[Category::Trace])).await;
    let told: Vec<_> =
        report.categories.iter().map(|it| (it.category.as_str(), it.before, it.removed)).collect();
    let terminal = Volume { bytes: r#"{"status":"success"}"#.len() as u64 + 10, events: 2 };
    assert_eq!(
        told,
        [
            ("message", volume(3), volume(0)),
            ("lifecycle", terminal, volume(0)),
            ("trace", volume(1), volume(1)),
            ("mine", volume(1), volume(0)),
        ]
    );
    assert_eq!(seqs(&fresh.url, "t").await, [1, 2, 4, 5, 6, 7]);
    is_consistent(ledger, &fresh.url, "t").await;
    let item = |id: &str, started, completed| (id.to_owned(), started, Some(completed));
    assert_eq!(starts(ledger).await, [item("tool", 2, 4), item("answer", 5, 5)]);

    // The start of the call goes, its result stays.
    prune(ledger, &only(&[Category::Lifecycle, Category::new("mine").unwrap()])).await;
    assert_eq!(seqs(&fresh.url, "t").await, [1, 4, 5]);
    assert_eq!(starts(ledger).await, [item("tool", 4, 4), item("answer", 5, 5)]);
    is_consistent(ledger, &fresh.url, "t").await;

    prune(ledger, &only(&[Category::Message])).await;
    assert_eq!((seqs(&fresh.url, "t").await, starts(ledger).await), (vec![], vec![]));
    is_consistent(ledger, &fresh.url, "t").await;
}

async fn notes_of_folds_stay(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    ended(ledger, "t", "r", ago(2 * HOUR)).await;
    own(ledger, "t", vec![event(Category::Context, ago(2 * HOUR))]).await;
    for (compact_seq, note_seq) in [(3, 3), (7, 7)] {
        let time = "created_at FROM threads WHERE thread_id = 't'";
        let sql = format!(
            "INSERT INTO compactions (thread_id, compact_seq, note_seq, folded, active_window, through_seq,
               before_tokens, after_tokens, run_id, created_at)
             SELECT 't', {compact_seq}, {note_seq}, '[]', '[]', {note_seq}, 2, 1, 'r', {time}"
        );
        query(&fresh.url, &sql).await;
    }
    assert_eq!(prune(ledger, &PrunePolicy::new(HOUR)).await.removed.events, 5);
    assert_eq!(seqs(&fresh.url, "t").await, [3, 7]);
    query(&fresh.url, "DELETE FROM compactions WHERE compact_seq = 3").await;
    assert_eq!(prune(ledger, &PrunePolicy::new(HOUR)).await.removed.events, 1);
    assert_eq!(seqs(&fresh.url, "t").await, [7]);
    is_consistent(ledger, &fresh.url, "t").await;
}

/// It writes nothing; the real one then says the same, and a second one finds nothing.
async fn a_dry_run_says_what_then_goes(ledger: &SqlLedger, fresh: &Fresh) {
    for on in ["t", "u", "v"] {
        create(ledger, on).await;
        for n in 1..=3_u32 {
            own(ledger, on, vec![event(Category::Trace, ago(9 * HOUR))]).await;
            ended(ledger, on, &format!("r{n}"), ago((4 - n) * HOUR)).await;
        }
    }
    ledger.threads().delete(&Scope::System, &thread("v")).await.unwrap();
    let policies = [
        PrunePolicy { categories: vec![Category::Trace, Category::Message], ..PrunePolicy::new(2 * HOUR) },
        PrunePolicy { keep_last: 2, ..PrunePolicy::new(HOUR) },
        PrunePolicy::new(MINUTE),
    ];
    for policy in policies {
        let before = dump(&fresh.url).await;
        let mut dry = prune(ledger, &PrunePolicy { mode: PruneMode::DryRun, ..policy.clone() }).await;
        assert_eq!(dump(&fresh.url).await, before);
        let real = prune(ledger, &policy).await;
        assert!(real.removed.events > 0 && dry.mode == PruneMode::DryRun && real.cutoff >= dry.cutoff);
        (dry.mode, dry.cutoff, dry.file) = (real.mode, real.cutoff, real.file);
        assert_eq!(dry, real);
        let after = dump(&fresh.url).await;
        let again = prune(ledger, &policy).await;
        assert_eq!((again.before, again.removed, again.threads), (real.after, Volume::default(), 0));
        assert_eq!(dump(&fresh.url).await, after);
        for on in ["t", "u"] {
            is_consistent(ledger, &fresh.url, on).await;
        }
    }
}

async fn a_deletion_tells_the_policy(ledger: &SqlLedger, fresh: &Fresh) {
    create(ledger, "t").await;
    ended(ledger, "t", "r", ago(2 * HOUR)).await;
    let policy = PrunePolicy { categories: vec![Category::Message], ..PrunePolicy::new(90 * MINUTE) };
    prune(ledger, &policy).await;
    let rows =
        query(&fresh.url, "SELECT from_seq, through_seq, reason FROM deletions ORDER BY from_seq").await;
    let rows: Vec<(i64, i64, String)> = rows
        .iter()
        .map(|row| {
            let cell = |at| row.try_get_by_index::<i64>(at).unwrap();
            (cell(0), cell(1), row.try_get_by_index(2).unwrap())
        })
        .collect();
    let reason = "pruned: older than 90m; category message".to_owned();
    assert_eq!(rows, [(1, 1, reason.clone()), (4, 5, reason)]);
}

/// Not even the time at which the log last grew, by which sweepers judge; and a run is found by all it was.
async fn nothing_but_the_log_changes(ledger: &SqlLedger, _: &Fresh) {
    create(ledger, "t").await;
    ended(ledger, "t", "r", ago(2 * HOUR)).await;
    let look = async || {
        let run = ledger.runs().get(&Scope::System, &thread("t"), &run("r")).await.unwrap();
        let head = ledger.threads().head(&Scope::System, &thread("t")).await.unwrap();
        (run, head, ledger.threads().get(&Scope::System, &thread("t")).await.unwrap())
    };
    let (mut run, mut head, kept) = look().await;
    prune(ledger, &PrunePolicy::new(HOUR)).await;
    (run.message_count, head.message_count) = (0, 0);
    assert_eq!(look().await, (run, head, kept));
}

async fn policies_that_cannot_be_are_refused(ledger: &SqlLedger, _: &Fresh) {
    let owner = Scope::Owner(OwnerId::new("o").unwrap());
    let policy = PrunePolicy::new(HOUR);
    let refused = ledger.prune(&owner, &policy, |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let longest = PrunePolicy::new(PrunePolicy::MAX_AGE);
    assert_eq!(prune(ledger, &longest).await.removed.events, 0);
    let longer = PrunePolicy::new(Duration::MAX);
    let refused = ledger.prune(&Scope::System, &longer, |_| ()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    let keeping_all = PrunePolicy { keep_last: u32::MAX, ..policy };
    assert_eq!(prune(ledger, &keeping_all).await.removed.events, 0);
}
