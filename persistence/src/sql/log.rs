//! Pages of rows that are numbered by the log: events and items.

use runledger_core::{RunId, SeqScan, ThreadId};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select};

use super::signed;
use crate::entity::run::{Column as RunColumn, Entity as Runs};

/// Cuts `select` to one page over `seq`, with one row more than the page holds.
///
/// `of_run` narrows the range to the one that the run's events are in: a run has no index of its
/// own, because at most one run is active and so its events are nearly contiguous.
pub(super) fn page<E: EntityTrait>(
    select: Select<E>,
    seq: impl ColumnTrait,
    scan: &SeqScan,
    of_run: Option<(&ThreadId, &RunId)>,
) -> Select<E> {
    let (after, before) = (signed(scan.after), signed(scan.before));
    let select = match of_run {
        None => {
            let select = select.filter(seq.gt(after));
            // Most pages have no upper end.
            if before == i64::MAX { select } else { select.filter(seq.lt(before)) }
        }
        // One bound at each end: SQLite uses only one of two for its index, and not always the closer.
        Some((thread, run)) => select
            .filter(seq.into_expr().gte(later_of(after.saturating_add(1), RunColumn::FirstSeq, thread, run)))
            .filter(seq.into_expr().lte(earlier_of(
                before.saturating_sub(1),
                RunColumn::LastSeq,
                thread,
                run,
            ))),
    };
    let order = if scan.from_end { Order::Desc } else { Order::Asc };
    select.order_by(seq, order).limit(u64::from(scan.limit) + 1)
}

fn later_of(seq: i64, column: RunColumn, thread: &ThreadId, run: &RunId) -> Expr {
    bound(column, column.gt(seq), seq, thread, run)
}

fn earlier_of(seq: i64, column: RunColumn, thread: &ThreadId, run: &RunId) -> Expr {
    bound(column, column.lt(seq), seq, thread, run)
}

/// The run's own bound if `closer`, else `seq`; NULL, which no row matches, for a run that is missing
/// or has no events.
fn bound(column: RunColumn, closer: Expr, seq: i64, thread: &ThreadId, run: &RunId) -> Expr {
    let choice = CaseStatement::new().case(closer, Expr::col(column)).finally(seq);
    let mut bound = Query::select();
    bound
        .expr(choice)
        .from(Runs)
        .and_where(RunColumn::ThreadId.eq(thread.as_str()))
        .and_where(RunColumn::RunId.eq(run.as_str()))
        .and_where(column.is_not_null());
    Expr::SubQuery(None, Box::new(bound.into()))
}
