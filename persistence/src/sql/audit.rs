//! What was deleted, by whom and why.

use runledger_core::{DeletionFilter, ListRange, Result};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement,
};

use super::signed;
use crate::entity::deletion::{Column, Entity};

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn list(
    backend: DatabaseBackend,
    filter: &DeletionFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = Entity::find();
    if let Some(thread) = &filter.thread_id {
        select = select.filter(Column::ThreadId.eq(thread.as_str()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, thread, from_seq) = cursor.seq_position()?;
        let (at, thread, from_seq) =
            (Expr::val(at.to_chrono()), Expr::val(thread), Expr::val(signed(from_seq)));
        let column = |column| Expr::col((Entity, column));
        // Of one thread its id is the same, and its index has no place for it.
        let after = if filter.thread_id.is_some() {
            let row = Expr::tuple([column(Column::DeletedAt), column(Column::FromSeq)]);
            row.lt(Expr::tuple([at, from_seq]))
        } else {
            let row =
                Expr::tuple([column(Column::DeletedAt), column(Column::ThreadId), column(Column::FromSeq)]);
            row.lt(Expr::tuple([at, thread, from_seq]))
        };
        select = select.filter(after);
    }
    select = select.order_by_desc(Column::DeletedAt);
    if filter.thread_id.is_none() {
        select = select.order_by_desc(Column::ThreadId);
    }
    Ok(select.order_by_desc(Column::FromSeq).limit(u64::from(limit) + 1).build(backend))
}
