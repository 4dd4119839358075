//! `turns` and `items`: what happened on a thread, by the item index.

use clap::{Args, ValueEnum};
use runledger_core::{
    Contents, Cursor, Item, ItemFilter, ItemId, ItemQuery, ItemSeq, ItemStatus, Ledger, ListOrder, RunId,
    RunVisibility, SeqRange, ThreadId, TurnPage, TurnQuery, TurnStart, TurnView,
};
use runledger_gateway::wire::{WireItemPage, WireTurnPage, wire_status};

use super::readers::{finish, moment};
use crate::Failure;
use crate::args::ReaderArgs;
use crate::output::{Align, Output, Table, grouped, one_line};

/// How much of a payload a table shows.
const PREVIEW: usize = 120;

/// How much of a turn is shown.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The run alone.
    #[value(name = "not_loaded")]
    NotLoaded,
    /// What the person said first, and the agent's final message.
    Summary,
    /// The items from the first on.
    Full,
}

/// Which come first.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The newest.
    Newest,
    /// The oldest.
    Oldest,
}

impl From<First> for ListOrder {
    fn from(first: First) -> Self {
        match first {
            First::Newest => Self::NewestFirst,
            First::Oldest => Self::OldestFirst,
        }
    }
}

/// Arguments of `turns`.
#[derive(Args, Clone, Debug)]
pub struct TurnsArgs {
    /// The thread.
    #[arg(long)]
    pub thread: ThreadId,

    /// Only this run.
    #[arg(long)]
    pub run: Option<RunId>,

    /// How much of each turn to show.
    #[arg(long, value_enum, default_value = "summary")]
    pub view: View,

    /// Which turns come first.
    #[arg(long, value_enum, default_value = "newest")]
    pub order: First,

    /// Go on after a page: its `next_cursor`.
    #[arg(long)]
    pub cursor: Option<String>,

    /// Go back from a page: its `previous_cursor`.
    #[arg(long, value_name = "CURSOR", conflicts_with = "cursor")]
    pub before: Option<String>,

    /// Turns at most, 1 to 100.
    #[arg(long, default_value_t = 25)]
    pub limit: u32,

    /// Of the full view: items of each turn at most, 1 to 1000, and no more than 1000 in all.
    #[arg(long, default_value_t = 100)]
    pub items: u32,

    /// Show hidden runs too: superseded ones, and those rolled back.
    #[arg(long)]
    pub hidden: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub reader: ReaderArgs,
}

impl TurnsArgs {
    fn query(&self) -> runledger_core::Result<TurnQuery> {
        let start = match (&self.cursor, &self.before) {
            (Some(cursor), _) => TurnStart::After(Cursor::parse(cursor)?),
            (None, Some(cursor)) => TurnStart::Before(Cursor::parse(cursor)?),
            (None, None) => TurnStart::First,
        };
        Ok(TurnQuery {
            run_id: self.run.clone(),
            view: match self.view {
                View::NotLoaded => TurnView::NotLoaded,
                View::Summary => TurnView::Summary,
                View::Full => TurnView::Full,
            },
            visibility: visibility(self.hidden),
            order: self.order.into(),
            start,
            limit: self.limit,
            items: self.items,
        })
    }
}

fn visibility(hidden: bool) -> RunVisibility {
    if hidden { RunVisibility::All } else { RunVisibility::Shown }
}

/// Arguments of `items`.
#[derive(Args, Clone, Debug)]
pub struct ItemsArgs {
    /// The thread.
    #[arg(long)]
    pub thread: ThreadId,

    /// Only items of this run.
    #[arg(long)]
    pub run: Option<RunId>,

    /// Only this item of the run; may be given up to 100 times.
    #[arg(long = "id", value_name = "ITEM", requires = "run", conflicts_with_all = ["after", "before", "after_updated", "status"])]
    pub ids: Vec<ItemId>,

    /// Only items with this status: in_progress, completed, failed, declined, interrupted.
    #[arg(long, value_parser = |text: &str| ItemStatus::parse("status", text))]
    pub status: Option<ItemStatus>,

    /// Which items come first.
    #[arg(long, value_enum, default_value = "oldest")]
    pub order: First,

    /// Only items that began after this seq, the first of them; 0 is the beginning.
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,

    /// Only items that began before this seq; alone, the last of them.
    #[arg(long, value_name = "SEQ")]
    pub before: Option<u64>,

    /// Only items that began or ended after this seq, in the order of their last change: the
    /// `next_updated_after` of the page before.
    #[arg(long, value_name = "SEQ", conflicts_with_all = ["after", "before"])]
    pub after_updated: Option<u64>,

    /// Items at most, 1 to 1000.
    #[arg(long, default_value_t = runledger_core::DEFAULT_LIMIT)]
    pub limit: u32,

    /// Leave out what they say.
    #[arg(long)]
    pub no_content: bool,

    /// Show items of hidden runs too: superseded ones, and those rolled back.
    #[arg(long)]
    pub hidden: bool,

    #[command(flatten)]
    #[expect(missing_docs, reason = "documented at its type, and a comment here would be its help")]
    pub reader: ReaderArgs,
}

impl ItemsArgs {
    fn query(&self) -> ItemQuery {
        let (by, range) = match self.after_updated {
            Some(after) => (ItemSeq::Updated, SeqRange::after(after, self.limit)),
            None => {
                let range = SeqRange { limit: self.limit, before_seq: self.before, after_seq: self.after };
                (ItemSeq::Started, range)
            }
        };
        ItemQuery {
            filter: ItemFilter { run_id: self.run.clone(), status: self.status.clone() },
            kind: None,
            visibility: visibility(self.hidden),
            by,
            range,
            order: self.order.into(),
            contents: if self.no_content { Contents::Omitted } else { Contents::Read },
        }
    }
}

/// `turns`.
pub(crate) async fn turns(args: &TurnsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let page = ledger.items().turns(&args.reader.scope(), &args.thread, &args.query()?).await?;
    if args.reader.json {
        return output.json(&WireTurnPage::new(page, &[]));
    }
    tell(&page, output)?;
    let next = if args.before.is_some() {
        page.previous.as_ref().map(|cursor| format!("--before {}", cursor.as_str()))
    } else {
        page.next.as_ref().map(|cursor| format!("--cursor {}", cursor.as_str()))
    };
    match next.filter(|_| page.has_more) {
        Some(next) => output.note(format!("there are more: add {}", crate::output::printable(&next))),
        None if page.turns.is_empty() => output.note("no turns"),
        None => Ok(()),
    }
}

fn tell(page: &TurnPage, output: &mut Output) -> Result<(), Failure> {
    for turn in &page.turns {
        let run = &turn.run;
        output.line(format!(
            "{}  {}  {}",
            one_line(run.run_id.as_str(), 128),
            wire_status(&run.status),
            moment(run.created_at)
        ))?;
        if !turn.items.is_empty() {
            output.table(&table(&turn.items))?;
        }
        if turn.has_more {
            let last = turn.items.last().map_or(0, |item| item.entry.started_seq);
            output.line(format!(
                "  it has more items: runledger items --run {} --after {last}",
                one_line(run.run_id.as_str(), 128)
            ))?;
        }
    }
    Ok(())
}

/// `items`.
pub(crate) async fn items(args: &ItemsArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let (scope, query) = (args.reader.scope(), args.query());
    let page = match &args.run {
        Some(run) if !args.ids.is_empty() => {
            ledger.items().read(&scope, &args.thread, run, &args.ids).await?
        }
        _ => ledger.items().page(&scope, &args.thread, &query).await?,
    };
    let table = table(&page.items);
    let page = WireItemPage::new(page, &query);
    if args.reader.json {
        return output.json(&page);
    }
    let next = (page.next_after_seq.map(|seq| format!("--after {seq}")))
        .or_else(|| page.next_before_seq.map(|seq| format!("--before {seq}")))
        .or_else(|| page.next_updated_after.map(|seq| format!("--after-updated {seq}")))
        .filter(|_| page.has_more);
    finish(output, &table, page.items.len(), "items", next)
}

fn table(items: &[Item]) -> Table {
    let mut table = Table::new(&[
        ("seq", Align::Right),
        ("item", Align::Left),
        ("kind", Align::Left),
        ("status", Align::Left),
        ("bytes", Align::Right),
        ("content", Align::Flexible),
    ]);
    for item in items {
        table.row(&[
            &item.entry.started_seq.to_string(),
            item.entry.item_id.as_str(),
            &item.entry.item_kind.to_string(),
            item.entry.status.as_str(),
            &grouped(item.content_bytes),
            &item
                .content
                .as_ref()
                .map_or_else(|| "-".to_owned(), |content| one_line(content.as_str(), PREVIEW)),
        ]);
    }
    table
}
