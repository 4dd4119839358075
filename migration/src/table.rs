//! The vocabulary a migration is written in.
//!
//! A table is data: columns, key, indexes. Its SQL for a backend is a pure function of that
//! data, so what `plan` prints is what `up` runs. The places where the two databases differ
//! (collation of keys, room for updates in place) are here and nowhere in a migration.
//!
//! Released migrations are built from these words: a change here that alters the SQL of one
//! fails the snapshot test.

use sea_orm_migration::{
    sea_orm::DbBackend,
    sea_query::{
        ColumnDef, ColumnType, ConditionalStatement, ForeignKeyCreateStatement, Index as SeaIndex,
        IndexCreateStatement, IndexType, PostgresQueryBuilder, SchemaStatementBuilder, SimpleExpr,
        SqliteQueryBuilder, Table as SeaTable, TableCreateStatement,
    },
};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An id or a label (a status, a kind): text compared byte by byte (`COLLATE "C"` on
    /// PostgreSQL, the default on SQLite), so order and equality are the same everywhere.
    Key,
    /// Text that people or programs wrote; never a key.
    Text,
    /// A counter, a sequence number or an amount: 64-bit.
    Bigint,
    /// A floating-point number: `double precision`.
    Double,
    /// True or false.
    Boolean,
    /// A point in time: `timestamptz` on PostgreSQL, text in UTC on SQLite.
    Instant,
    /// A JSON document that may be queried: `jsonb` on PostgreSQL, text on SQLite.
    Json,
    /// Bytes that no database looks into: `bytea` on PostgreSQL, `blob` on SQLite.
    Bytes,
    /// The words of a text, see [`Table::words`]: a `tsvector` on PostgreSQL, on SQLite the number of the row
    /// of another table that has them.
    Words,
}

/// One column of a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    name: &'static str,
    kind: Kind,
    nullable: bool,
    starts_at_zero: bool,
}

/// A column that always has a value.
#[must_use]
pub(crate) const fn required(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: false, starts_at_zero: false }
}

/// A column that may be NULL.
#[must_use]
pub(crate) const fn optional(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, nullable: true, starts_at_zero: false }
}

/// A 64-bit count that always has a value and starts at 0.
#[must_use]
pub(crate) const fn counter(name: &'static str) -> Column {
    Column { name, kind: Kind::Bigint, nullable: false, starts_at_zero: true }
}

/// One secondary index of a [`Table`].
#[derive(Debug, Clone)]
pub(crate) struct Index {
    name: &'static str,
    columns: &'static [&'static str],
    unique: bool,
    of_words: bool,
    only_where: Option<SimpleExpr>,
}

impl Index {
    /// An index for lists and look-ups.
    #[must_use]
    pub(crate) const fn on(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: false, of_words: false, only_where: None }
    }

    /// An index that refuses a second row with the same values.
    #[must_use]
    pub(crate) const fn unique(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: true, of_words: false, only_where: None }
    }

    /// An index by which rows are found by their words.
    #[must_use]
    pub(crate) const fn of_words(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, unique: false, of_words: true, only_where: None }
    }

    /// Leaves out the rows for which `condition` does not hold.
    #[must_use]
    pub(crate) fn only_where(mut self, condition: SimpleExpr) -> Self {
        self.only_where = Some(condition);
        self
    }

    fn create(&self, table: &'static str, backend: DbBackend) -> IndexCreateStatement {
        let mut create = SeaIndex::create();
        if self.of_words && backend == DbBackend::Postgres {
            create.index_type(IndexType::FullText);
        }
        create.name(self.name).table(table);
        for column in self.columns {
            create.col(*column);
        }
        if self.unique {
            create.unique();
        }
        if let Some(condition) = &self.only_where {
            create.cond_where(condition.clone());
        }
        create
    }
}

/// How the rows of a table change, as far as storage cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    Rarely,
    InPlace,
}

/// PostgreSQL leaves this share of a page free for new versions of the same row, so that an
/// update touches neither another page nor an index.
const ROOM_FOR_UPDATES: &str = "WITH (fillfactor = 70)";

/// One table with its key and its indexes.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    name: &'static str,
    key: &'static [&'static str],
    columns: Vec<Column>,
    indexes: Vec<Index>,
    changes: Changes,
    foreign_key: Option<ForeignKeyCreateStatement>,
    words: Option<&'static str>,
}

impl Table {
    /// A table whose primary key is `key`, named `pk_` and the table's name.
    #[must_use]
    pub(crate) fn new(
        name: &'static str,
        key: &'static [&'static str],
        columns: impl IntoIterator<Item = Column>,
    ) -> Self {
        Self {
            name,
            key,
            columns: columns.into_iter().collect(),
            indexes: Vec::new(),
            changes: Changes::Rarely,
            foreign_key: None,
            words: None,
        }
    }

    /// Says that the column `words` holds the words of each row. SQLite keeps words in tables of their own:
    /// there it is the number of a row of the table of this name, which goes with its row here. That table
    /// keeps neither texts nor where in a text a word is, and takes words as they are given to it: the
    /// store makes them, so that both databases find the same.
    #[must_use]
    pub(crate) const fn words(mut self, table: &'static str) -> Self {
        self.words = Some(table);
        self
    }

    /// The table that has the words of this one's rows, on SQLite.
    #[must_use]
    pub(crate) const fn words_table(&self) -> Option<&'static str> {
        self.words
    }

    /// Adds a secondary index.
    #[must_use]
    pub(crate) fn index(mut self, index: Index) -> Self {
        self.indexes.push(index);
        self
    }

    /// Says that rows are updated often, so that PostgreSQL keeps room for it.
    #[must_use]
    pub(crate) const fn updated_in_place(mut self) -> Self {
        self.changes = Changes::InPlace;
        self
    }

    /// Declares a foreign key with the table (on SQLite it cannot come later).
    #[must_use]
    pub(crate) fn foreign_key(mut self, foreign_key: ForeignKeyCreateStatement) -> Self {
        self.foreign_key = Some(foreign_key);
        self
    }

    /// The table's name.
    #[must_use]
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The columns of the primary key, in order.
    #[must_use]
    pub(crate) const fn key(&self) -> &'static [&'static str] {
        self.key
    }

    /// The statements that create the table and its indexes on `backend`.
    #[must_use]
    pub(crate) fn create_sql(&self, backend: DbBackend) -> Vec<String> {
        let mut create = self.create(backend);
        if backend == DbBackend::Postgres && self.changes == Changes::InPlace {
            create.extra(ROOM_FOR_UPDATES);
        }
        let mut statements = self.with_indexes(render(backend, &create), backend);
        if let (Some(words), DbBackend::Sqlite) = (self.words, backend) {
            let table = self.name;
            statements.push(format!(
                "CREATE VIRTUAL TABLE \"{words}\" USING fts5(words, content = '', contentless_delete = 1, \
                 detail = none, tokenize = 'ascii')"
            ));
            statements.push(format!(
                "CREATE TRIGGER \"{words}_go\" AFTER DELETE ON \"{table}\" BEGIN \
                 DELETE FROM \"{words}\" WHERE rowid = OLD.words; END"
            ));
        }
        statements
    }

    /// The statements that drop the table (its indexes go with it) on `backend`. They have no
    /// `CASCADE`: what an application built on top of the table makes them fail.
    #[must_use]
    pub(crate) fn drop_sql(&self, backend: DbBackend) -> Vec<String> {
        let words = self.words.filter(|_| backend == DbBackend::Sqlite);
        let tables = std::iter::once(self.name).chain(words);
        tables.map(|table| render(backend, SeaTable::drop().table(table))).collect()
    }

    /// PostgreSQL only: the same table as `partitions` hash partitions of `column`, with the
    /// same key and indexes. PostgreSQL refuses it unless every unique key contains `column`,
    /// the rule that a distributed PostgreSQL has too.
    #[must_use]
    pub(crate) fn partitioned_sql(&self, column: &str, partitions: u32) -> Vec<String> {
        let mut create = self.create(DbBackend::Postgres);
        create.extra(format!("PARTITION BY HASH (\"{column}\")"));
        let mut statements = self.with_indexes(render(DbBackend::Postgres, &create), DbBackend::Postgres);
        // A partitioned table has no storage of its own: the options go to the partitions.
        let storage = match self.changes {
            Changes::InPlace => format!(" {ROOM_FOR_UPDATES}"),
            Changes::Rarely => String::new(),
        };
        statements.extend((0..partitions).map(|remainder| {
            format!(
                "CREATE TABLE \"{name}_p{remainder}\" PARTITION OF \"{name}\" \
                 FOR VALUES WITH (MODULUS {partitions}, REMAINDER {remainder}){storage}",
                name = self.name,
            )
        }));
        statements
    }

    fn create(&self, backend: DbBackend) -> TableCreateStatement {
        let mut create = SeaTable::create();
        create.table(self.name);
        for column in &self.columns {
            create.col(column.definition(backend));
        }
        let mut key = SeaIndex::create();
        key.name(format!("pk_{}", self.name));
        for column in self.key {
            key.col(*column);
        }
        create.primary_key(&mut key);
        if let Some(foreign_key) = &self.foreign_key {
            create.foreign_key(&mut foreign_key.clone());
        }
        create
    }

    fn with_indexes(&self, create: String, backend: DbBackend) -> Vec<String> {
        let indexes = self.indexes.iter().map(|index| render(backend, &index.create(self.name, backend)));
        std::iter::once(create).chain(indexes).collect()
    }
}

impl Column {
    fn definition(&self, backend: DbBackend) -> ColumnDef {
        let mut definition = ColumnDef::new_with_type(self.name, self.kind.column_type(backend));
        if self.kind == Kind::Key && backend == DbBackend::Postgres {
            definition.extra("COLLATE \"C\"");
        }
        if !self.nullable {
            definition.not_null();
        }
        if self.starts_at_zero {
            definition.default(0);
        }
        definition
    }
}

impl Kind {
    fn column_type(self, backend: DbBackend) -> ColumnType {
        match self {
            Self::Words if backend == DbBackend::Postgres => ColumnType::custom("tsvector"),
            Self::Key | Self::Text => ColumnType::Text,
            Self::Bigint | Self::Words => ColumnType::BigInteger,
            Self::Double => ColumnType::Double,
            Self::Boolean => ColumnType::Boolean,
            Self::Instant => ColumnType::TimestampWithTimeZone,
            Self::Json => ColumnType::JsonBinary,
            Self::Bytes => ColumnType::Blob,
        }
    }
}

/// The text of a schema statement in the dialect of `backend`.
pub(crate) fn render(backend: DbBackend, statement: &impl SchemaStatementBuilder) -> String {
    match backend {
        DbBackend::Sqlite => statement.to_string(SqliteQueryBuilder),
        // The crate opens SQLite and PostgreSQL only.
        _ => statement.to_string(PostgresQueryBuilder),
    }
}
