//! `fork` and `blob`: a thread made of the beginning of another, and large parts of payloads.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use runledger_core::{BlobHash, Error, Fork, ForkPoint, ItemId, Ledger, RunId, ThreadId, Timestamp};
use serde::Serialize;

use crate::Failure;
use crate::args::ReaderArgs;
use crate::output::{Output, grouped};

/// Arguments of `fork`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ForkArgs {
    /// The thread to copy from; it is only read.
    pub thread: ThreadId,
    /// Copy through the end of this run.
    #[arg(long, value_name = "RUN", group = "point")]
    pub through_run: Option<RunId>,
    /// Copy what came before this run.
    #[arg(long, value_name = "RUN", group = "point")]
    pub before_run: Option<RunId>,
    /// Copy through this item.
    #[arg(long, value_name = "RUN/ITEM", group = "point", value_parser = parse_item)]
    pub item: Option<ItemOfRun>,
    /// The new thread's id. With the same id a fork that was cut short goes on.
    #[arg(long = "as", value_name = "THREAD")]
    pub id: Option<ThreadId>,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

/// An item of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemOfRun(RunId, ItemId);

fn parse_item(text: &str) -> Result<ItemOfRun, Error> {
    let (run, item) = text.split_once('/').ok_or_else(|| {
        Error::invalid("item", format!("{text:?} is not a run and an item, as in RUN/ITEM"))
    })?;
    Ok(ItemOfRun(RunId::new(run)?, ItemId::new(item)?))
}

impl ForkArgs {
    fn point(&self) -> ForkPoint {
        match (&self.through_run, &self.before_run, &self.item) {
            (Some(run), _, _) => ForkPoint::Run(run.clone()),
            (_, Some(run), _) => ForkPoint::BeforeRun(run.clone()),
            (_, _, Some(ItemOfRun(run, item))) => ForkPoint::Item(run.clone(), item.clone()),
            (None, None, None) => ForkPoint::Latest,
        }
    }
}

/// Arguments of `blob`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct BlobArgs {
    /// The thread.
    pub thread: ThreadId,
    /// The blob, as its ref names it: sha256:...
    #[arg(value_parser = parse_hash)]
    pub hash: BlobHash,
    /// Write it to this file, which must not be there; without it, to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub reader: ReaderArgs,
}

fn parse_hash(text: &str) -> Result<BlobHash, Error> {
    BlobHash::new(text)
}

#[derive(Debug, Serialize)]
struct WireFork<'a> {
    thread_id: &'a ThreadId,
    forked_from_thread_id: &'a ThreadId,
    forked_at_seq: Option<u64>,
    events: u64,
    written: u64,
}

#[derive(Debug, Serialize)]
struct WireBlob<'a> {
    hash: &'a BlobHash,
    media_type: &'a str,
    bytes: usize,
    file: Option<&'a PathBuf>,
}

/// `fork`.
pub(crate) async fn fork(args: &ForkArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let fork = Fork {
        source_thread_id: args.thread.clone(),
        thread_id: args.id.clone().unwrap_or_else(ThreadId::generate),
        through: args.point(),
        at: Timestamp::now(),
    };
    let forked = ledger.fork(&args.reader.scope(), fork).await?;
    let thread = &forked.thread;
    if args.reader.json {
        return output.json(&WireFork {
            thread_id: &thread.thread_id,
            forked_from_thread_id: &args.thread,
            forked_at_seq: thread.forked_at_seq,
            events: forked.events,
            written: forked.written,
        });
    }
    let events = grouped(forked.events);
    output.line(format!("{}  {events} events of {}", thread.thread_id, args.thread))
}

/// `blob`.
pub(crate) async fn blob(args: &BlobArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let blob = ledger.blobs().get(&args.reader.scope(), &args.thread, &args.hash).await?;
    let Some(path) = &args.output else {
        if args.reader.json {
            return output.json(&wire(args, &blob.media_type, blob.bytes.len()));
        }
        return output.bytes(&blob.bytes);
    };
    let failed = |error| Failure::io(format!("write {}", path.display()), error);
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(&blob.bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    if args.reader.json {
        return output.json(&wire(args, &blob.media_type, blob.bytes.len()));
    }
    let bytes = grouped(blob.bytes.len() as u64);
    output.line(format!("{}  {bytes} bytes of {}", path.display(), blob.media_type))
}

fn wire<'a>(args: &'a BlobArgs, media_type: &'a str, bytes: usize) -> WireBlob<'a> {
    WireBlob { hash: &args.hash, media_type, bytes, file: args.output.as_ref() }
}
