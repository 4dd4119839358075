//! The tables a thread is stored in, as their entities describe them, in the order of an archive.

use std::sync::LazyLock;

use sea_orm::{ColumnTrait, ColumnType, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn};

use crate::entity::{
    agent_run, blob, compaction, deletion, event_blob, feedback, interaction, quarantined, queued_input, run,
    run_event, thread, thread_head, thread_item, usage_record,
};

/// The column that every one of these tables has.
pub(super) const THREAD: &str = "thread_id";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// jsonb on PostgreSQL, text on SQLite.
    Json,
    Integer,
    Real,
    Boolean,
    Time,
    /// In base64 where rows are text.
    Bytes,
}

impl Kind {
    fn of(column: &ColumnType) -> Option<Self> {
        match column {
            ColumnType::String(_) | ColumnType::Text => Some(Self::Text),
            ColumnType::JsonBinary => Some(Self::Json),
            ColumnType::BigInteger => Some(Self::Integer),
            ColumnType::Double => Some(Self::Real),
            ColumnType::Boolean => Some(Self::Boolean),
            ColumnType::TimestampWithTimeZone => Some(Self::Time),
            ColumnType::Blob => Some(Self::Bytes),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) is_nullable: bool,
}

/// A table, and how its rows are read in pages.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    /// The columns that tell a thread's rows apart, by their places: the primary key but for the thread.
    pub(super) key: Vec<usize>,
    /// A column that says how many bytes a row has, where rows may be so large that a page of them is not
    /// to be read before that is known.
    pub(super) weight: Option<&'static str>,
    /// The most rows that are read at once.
    pub(super) page: usize,
}

impl Table {
    fn of<E: EntityTrait>(page: usize) -> Self {
        let columns: Vec<Column> = E::Column::iter()
            .filter_map(|column| {
                let definition = column.def();
                let kind = Kind::of(definition.get_column_type())?;
                Some(Column { name: column.as_str(), kind, is_nullable: definition.is_null() })
            })
            .collect();
        let primary: Vec<&str> = E::PrimaryKey::iter().map(|key| key.into_column().as_str()).collect();
        let is_key = |column: &Column| column.name != THREAD && primary.contains(&column.name);
        let key = columns.iter().enumerate().filter(|(_, column)| is_key(column)).map(|(place, _)| place);
        Self { name: E::default().table_name(), key: key.collect(), columns, weight: None, page }
    }

    /// The place of a column.
    pub(super) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|known| known.name == column)
    }

    /// The table of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }
}

/// Everything of a thread but who holds its runs: that ends with the process that does.
pub(super) static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    vec![
        Table::of::<thread_head::Entity>(1),
        Table::of::<thread::Entity>(1),
        Table::of::<run::Entity>(64),
        Table::of::<queued_input::Entity>(16),
        Table { weight: Some("content_bytes"), ..Table::of::<run_event::Entity>(1_000) },
        Table::of::<thread_item::Entity>(1_000),
        Table { weight: Some("bytes"), ..Table::of::<blob::Entity>(64) },
        Table::of::<event_blob::Entity>(1_000),
        Table::of::<usage_record::Entity>(64),
        Table::of::<compaction::Entity>(16),
        Table::of::<interaction::Entity>(16),
        Table::of::<feedback::Entity>(64),
        Table::of::<deletion::Entity>(1_000),
        Table::of::<quarantined::Entity>(16),
        Table::of::<agent_run::Entity>(4),
    ]
});

#[cfg(test)]
mod tests {
    use super::super::database::NOT_CARRIED;
    use super::*;
    use pretty_assertions::assert_eq;
    use sea_orm::{ConnectionTrait, Statement};

    #[tokio::test]
    async fn every_column_below_a_thread_is_archived() {
        let connecting = crate::Connecting::open(crate::Config::new("sqlite::memory:")).await.unwrap();
        runledger_migration::up_on(connecting.database(), &Default::default()).await.unwrap();
        let sql = "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c \
                   WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1";
        let database = connecting.database();
        let question = Statement::from_string(database.get_database_backend(), sql);
        let rows = database.query_all_raw(question).await.unwrap();
        let mut stored: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
        // Where an import stands and what lets somebody in is not a thread's, and words are kept beside the texts
        // that have them.
        let others =
            ["api_tokens.", "import_cursors.", "runledger_migrations.", "search_words.", "search_words_"];
        let not_carried = NOT_CARRIED.map(|table| format!("{table}."));
        let left_out: Vec<&str> = not_carried.iter().map(String::as_str).chain(others).collect();
        stored.retain(|column| !left_out.iter().any(|table| column.starts_with(table)));
        let of =
            |table: &Table| table.columns.iter().map(|it| format!("{}.{}", table.name, it.name)).collect();
        let mut archived: Vec<String> =
            TABLES.iter().flat_map(|table| -> Vec<String> { of(table) }).collect();
        archived.sort();
        assert_eq!(archived, stored);
        connecting.ledger().await.unwrap().close().await;
    }

    #[test]
    fn keys_and_documents_are_known() {
        let items = Table::named("thread_items").unwrap();
        let key: Vec<&str> = items.key.iter().map(|place| items.columns[*place].name).collect();
        assert_eq!(key, ["run_id", "item_id"]);
        let runs = Table::named("runs").unwrap();
        assert_eq!(runs.columns[runs.place("kwargs").unwrap()].kind, Kind::Json);
    }
}
