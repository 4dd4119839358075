//! Ours: the whole product, through what applications call.
//!
//! Every commit is one of a journal: a mark of an admitted run, items, model calls. Where a backend lacks these
//! (files), and where several write to one thread, which one journal never does, the mark is left out.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use runledger_core::{
    BoxError, Commit, EventFilter, JournalMark, Ledger, MAX_LIMIT, MemoryLedger, NewRun, NewThread, RunId,
    Scope, SeqRange, ThreadId,
};
use runledger_persistence::jsonl::{self, JsonlConfig, JsonlLedger};
use runledger_persistence::{Config, Durability, SqlLedger, connect};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Appends, Home, Load, Place, Setting};
use crate::measure::{Stint, Written};
use crate::work::{Work, calls, draft};

/// A new ledger.
pub(crate) async fn open(setting: Setting, place: &Place) -> Result<OpenLedger, BoxError> {
    let (ledger, sql, home) = match setting {
        Setting::SqliteNormal => sql(place, setting, Durability::Normal).await?,
        Setting::SqliteFull => sql(place, setting, Durability::Full).await?,
        Setting::Postgresql => sql(place, setting, Durability::Normal).await?,
        Setting::PostgresqlRelaxed => sql(place, setting, Durability::Relaxed).await?,
        Setting::Jsonl => files(place, jsonl::Durability::Flush).await?,
        Setting::JsonlSynced => files(place, jsonl::Durability::Sync).await?,
        Setting::Memory => (MemoryLedger::new().ledger(), None, None),
    };
    let url = home.as_ref().map(Home::url);
    Ok(OpenLedger { ledger, sql, url, threads: Vec::new(), _home: home })
}

type Parts = (Ledger, Option<SqlLedger>, Option<Home>);

async fn sql(place: &Place, setting: Setting, durability: Durability) -> Result<Parts, BoxError> {
    let home = place.database(setting.backend()).await?;
    let sql = connect(Config::new(home.url()).with_durability(durability)).await?;
    Ok((sql.ledger(), Some(sql), Some(home)))
}

async fn files(place: &Place, durability: jsonl::Durability) -> Result<Parts, BoxError> {
    let folder = place.new_folder()?;
    let config = JsonlConfig { durability, ..JsonlConfig::default() };
    let ledger = JsonlLedger::open(folder.path(), config).await?.ledger();
    Ok((ledger, None, Some(Home::Folder(folder))))
}

/// A ledger that is open.
pub(crate) struct OpenLedger {
    pub(crate) ledger: Ledger,
    pub(crate) sql: Option<SqlLedger>,
    /// Where bare drivers find what it stored.
    pub(crate) url: Option<String>,
    pub(crate) threads: Vec<ThreadId>,
    _home: Option<Home>,
}

/// One that writes: the thread, and the run under its epoch where there are runs.
struct Writer {
    thread: ThreadId,
    run: RunId,
    epoch: Option<u64>,
}

impl OpenLedger {
    /// A new thread, with a run on it where the backend knows runs.
    async fn writer(&mut self) -> Result<Writer, BoxError> {
        let (thread, run) = (ThreadId::generate(), RunId::generate());
        self.threads.push(thread.clone());
        let missing = NewThread::new(thread.clone());
        let epoch = if self.ledger.capabilities().runs {
            let new = NewRun { create_missing: Some(missing), ..NewRun::new(thread.clone(), run.clone()) };
            Some(self.ledger.admit(&Scope::System, new).await?.run.epoch)
        } else {
            self.ledger.threads().create(&Scope::System, missing).await?;
            None
        };
        Ok(Writer { thread, run, epoch })
    }

    /// The writer's commits, made before the clock runs.
    fn commits(
        &self,
        writer: &Writer,
        number: usize,
        work: &Work,
        load: Load,
    ) -> Result<Vec<Commit>, BoxError> {
        let made = (0..=load.commits).map(|commit| {
            let numbers = load.numbers(number, commit);
            let events = numbers.clone().map(|number| draft(work, number)).collect::<Result<Vec<_>, _>>()?;
            let mut made = Commit::of_run(writer.thread.clone(), writer.run.clone()).with_events(events);
            if let Some(epoch) = writer.epoch {
                made.mark = (!load.same_thread).then_some(JournalMark { epoch, ordinal: numbers.start });
                made.usage = calls(numbers)?;
            }
            Ok(made)
        });
        made.collect()
    }
}

#[async_trait]
impl Appends for OpenLedger {
    async fn append(&mut self, work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let mut writers = Vec::with_capacity(load.writers);
        for number in 0..load.writers {
            if number == 0 || !load.same_thread {
                writers.push(self.writer().await?);
            }
        }
        let ready = Arc::new(Barrier::new(load.writers + 1));
        let mut tasks = JoinSet::new();
        for number in 0..load.writers {
            let writer = &writers[number % writers.len()];
            let mut commits = self.commits(writer, number, work, load)?.into_iter();
            let (ledger, ready) = (self.ledger.clone(), Arc::clone(&ready));
            tasks.spawn(async move {
                let warm = match commits.next() {
                    Some(commit) => ledger.events().append(&Scope::System, commit).await.map(drop),
                    None => Ok(()),
                };
                ready.wait().await;
                warm?;
                let mut stint = Stint::begin(commits.len());
                for commit in commits {
                    let began = Instant::now();
                    ledger.events().append(&Scope::System, commit).await?;
                    stint.note(began);
                }
                Ok::<Stint, BoxError>(stint)
            });
        }
        ready.wait().await;
        let mut stints = Vec::with_capacity(load.writers);
        while let Some(done) = tasks.join_next().await {
            stints.push(done??);
        }
        Ok(Written::by(load.events(), stints).after(load.warm_up()))
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        let mut stored = 0;
        for thread in &self.threads {
            let mut after = 0;
            loop {
                let range = SeqRange::after(after, MAX_LIMIT);
                let filter = EventFilter::default();
                let page = self.ledger.events().list_events(&Scope::System, thread, &filter, &range).await?;
                stored += page.items.len() as u64;
                let Some(last) = page.items.last().filter(|_| page.has_more) else { break };
                after = last.seq;
            }
        }
        Ok(stored)
    }

    async fn close(self: Box<Self>) {
        if let Some(sql) = self.sql {
            sql.close().await;
        }
    }
}
