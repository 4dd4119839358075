//! The optional foreign key from agent runs to the application's users table.
//!
//! An application that keeps ledger and users in one database may want agent runs of a deleted
//! user to stay, without their owner. The key is `ON DELETE SET NULL`. It is an option of `up`
//! and not a migration, because the table it names is the application's. Threads have none: the
//! owner of a thread decides who may see it, and a deleted thread must keep its number.

use sea_orm_migration::{
    sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement},
    sea_query::{Alias, ForeignKey, ForeignKeyAction, ForeignKeyCreateStatement, IntoTableRef},
};

use crate::{Error, m20261121_000001_ledger::AGENT_RUNS, table::render, version::has_table};

/// The name of the foreign key on `agent_runs.owner_id`.
pub const USERS_FOREIGN_KEY: &str = "fk_agent_runs_owner";

const OWNER: &str = "owner_id";

/// The application's users table: where the owner of an agent run is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersTable {
    schema: Option<String>,
    table: String,
    key: String,
}

impl UsersTable {
    /// The table `table` with the unique text column `key`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a name is not a plain identifier.
    pub fn new(table: impl Into<String>, key: impl Into<String>) -> Result<Self, Error> {
        Ok(Self {
            schema: None,
            table: identifier("users table", table.into())?,
            key: identifier("users key", key.into())?,
        })
    }

    /// The same table in a schema of its own (PostgreSQL only).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the name is not a plain identifier.
    pub fn in_schema(mut self, schema: impl Into<String>) -> Result<Self, Error> {
        self.schema = Some(identifier("users schema", schema.into())?);
        Ok(self)
    }

    /// The foreign key to this table, for `CREATE TABLE` and for `ALTER TABLE`.
    pub(crate) fn foreign_key(&self) -> ForeignKeyCreateStatement {
        let table = Alias::new(&self.table);
        let users = match &self.schema {
            Some(schema) => (Alias::new(schema), table).into_table_ref(),
            None => table.into_table_ref(),
        };
        ForeignKey::create()
            .name(USERS_FOREIGN_KEY)
            .from(AGENT_RUNS, OWNER)
            .to(users, Alias::new(&self.key))
            .on_delete(ForeignKeyAction::SetNull)
            .take()
    }

    /// `table` or `schema.table`, each part quoted, as PostgreSQL's `to_regclass` reads it.
    fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("\"{schema}\".\"{}\"", self.table),
            None => format!("\"{}\"", self.table),
        }
    }

    fn shown(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}({})", self.table, self.key),
            None => format!("{}({})", self.table, self.key),
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::UsersTable { users: self.shown(), reason: reason.into() }
    }
}

/// Accepts what every database takes as a name and nobody can confuse with SQL.
fn identifier(field: &'static str, name: String) -> Result<String, Error> {
    // PostgreSQL cuts longer names off in silence.
    const LONGEST: usize = 63;
    let starts_well = |first: char| first.is_ascii_alphabetic() || first == '_';
    let goes_on_well = |next: char| next.is_ascii_alphanumeric() || next == '_' || next == '$';
    if name.len() <= LONGEST && name.starts_with(starts_well) && name.chars().all(goes_on_well) {
        return Ok(name);
    }
    Err(Error::InvalidInput {
        field,
        reason: format!(
            "{name:?} is not a plain identifier: use ASCII letters, digits, _ and $, not starting \
             with a digit, {LONGEST} characters at most"
        ),
    })
}

/// How the asked-for foreign key comes into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is there already, or was not asked for.
    Nothing,
    /// It comes with `CREATE TABLE`.
    WithTable,
    /// It is added by this statement.
    Alter(String),
}

/// What `up` has to do for `users`. `creates_table` says whether this `up` creates `agent_runs`.
pub(crate) async fn step(
    connection: &impl ConnectionTrait,
    users: Option<&UsersTable>,
    creates_table: bool,
) -> Result<Step, Error> {
    let Some(users) = users else {
        return Ok(Step::Nothing);
    };
    let backend = connection.get_database_backend();
    if backend == DbBackend::Sqlite && users.schema.is_some() {
        return Err(users.refuse("SQLite has no schemas; leave the users schema out"));
    }
    let target = target(connection, users).await?;
    if !creates_table {
        if !has_table(connection, AGENT_RUNS).await? {
            return Err(users.refuse("agent_runs is not created by these steps; raise --steps"));
        }
        match current(connection).await? {
            Some(there) if there == target => return Ok(Step::Nothing),
            Some(there) => {
                return Err(users
                    .refuse(format!("agent_runs already refers to {there}; drop that foreign key first")));
            }
            None if backend == DbBackend::Sqlite => {
                return Err(users.refuse(
                    "agent_runs exists already, and SQLite takes a foreign key only when the table \
                     is created; copy the ledger into a database whose first `up` names the users \
                     table, or, if the ledger is empty, go `down` and `up` again",
                ));
            }
            None => {}
        }
    }
    Ok(if backend == DbBackend::Sqlite {
        Step::WithTable
    } else {
        Step::Alter(render(backend, &users.foreign_key()))
    })
}

/// The users key that `agent_runs.owner_id` refers to now, as `schema.table(key)` on PostgreSQL
/// and `table(key)` on SQLite.
pub(crate) async fn current(connection: &impl ConnectionTrait) -> Result<Option<String>, Error> {
    let sql = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT \"table\" || '(' || \"to\" || ')' FROM pragma_foreign_key_list('agent_runs') \
             WHERE \"from\" = 'owner_id'"
        }
        _ => {
            "SELECT n.nspname || '.' || c.relname || '(' || a.attname || ')' \
             FROM pg_constraint k \
             JOIN pg_class t ON t.oid = k.conrelid \
             JOIN pg_namespace s ON s.oid = t.relnamespace \
             JOIN pg_class c ON c.oid = k.confrelid \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[1] \
             WHERE s.nspname = current_schema() AND t.relname = 'agent_runs' \
             AND k.conname = 'fk_agent_runs_owner'"
        }
    };
    let row = one(connection, sql, Vec::new(), "read the foreign key to the users table").await?;
    row.map(|row| row.try_get_by_index(0))
        .transpose()
        .map_err(Error::while_doing("read the foreign key to the users table"))
}

/// Checks that the users key exists, is unique and is text, and names it as [`current`] does.
async fn target(connection: &impl ConnectionTrait, users: &UsersTable) -> Result<String, Error> {
    let (sql, values) = match connection.get_database_backend() {
        DbBackend::Sqlite => (SQLITE_TARGET, vec![users.table.clone(), users.key.clone()]),
        _ => (POSTGRES_TARGET, vec![users.quoted(), users.key.clone()]),
    };
    let read = |row: QueryResult| -> Result<(String, String, bool), DbErr> {
        Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?))
    };
    let (name, found, unique) = one(connection, sql, values, "look at the users table")
        .await?
        .map(read)
        .transpose()
        .map_err(Error::while_doing("look at the users table"))?
        .ok_or_else(|| users.refuse("there is no such column; create the users table before the ledger"))?;
    let found = found.to_ascii_lowercase();
    if !is_text(&found) {
        return Err(users.refuse(format!(
            "its type is {found}, but owners are text; a uuid or integer key does not match, so \
             point it at a unique text column that holds the same ids"
        )));
    }
    if !unique {
        return Err(users.refuse("the column is not unique; add a unique index to it"));
    }
    Ok(name)
}

/// Per row: the key's name, its declared type, and whether the key alone is unique.
const SQLITE_TARGET: &str = "SELECT m.name || '(' || c.name || ')', c.type, \
     EXISTS (SELECT 1 FROM pragma_index_list(m.name) i WHERE i.\"unique\" AND NOT i.partial \
     AND (SELECT group_concat(name) FROM pragma_index_info(i.name)) = c.name) \
     FROM sqlite_master m, pragma_table_info(m.name) c \
     WHERE m.type = 'table' AND m.name = ? COLLATE NOCASE AND c.name = ? COLLATE NOCASE";

/// As [`SQLITE_TARGET`].
const POSTGRES_TARGET: &str = "SELECT n.nspname || '.' || c.relname || '(' || a.attname || ')', \
     format_type(a.atttypid, NULL), \
     EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique \
     AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indnkeyatts = 1 \
     AND i.indkey[0] = a.attnum) \
     FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE c.oid = to_regclass($1) AND a.attname = $2";

/// Whether values of a declared type (in lower case) compare with text. A uuid does not, not even on SQLite,
/// where SeaORM declares it `uuid_text` and stores bytes.
fn is_text(declared: &str) -> bool {
    !declared.contains("uuid")
        && (declared.starts_with("text")
            || declared.starts_with("varchar")
            || declared.starts_with("character varying"))
}

async fn one(
    connection: &impl ConnectionTrait,
    sql: &str,
    values: Vec<String>,
    doing: &'static str,
) -> Result<Option<QueryResult>, Error> {
    let values = values.into_iter().map(Into::into).collect::<Vec<_>>();
    let backend = connection.get_database_backend();
    connection
        .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
        .await
        .map_err(Error::while_doing(doing))
}

#[cfg(test)]
mod tests {
    use super::{UsersTable, is_text};

    #[test]
    fn names_that_could_be_sql_are_refused() {
        assert!(UsersTable::new("app_users", "id").is_ok());
        let long = "x".repeat(64);
        for name in ["", "1users", "a b", "a\"b", "a;b", "a.b", "bücher", &long] {
            assert!(UsersTable::new(name, "id").is_err(), "{name}");
            assert!(UsersTable::new("users", name).is_err(), "{name}");
        }
    }

    #[test]
    fn only_text_matches_an_owner() {
        for declared in ["text", "character varying", "varchar(36)"] {
            assert!(is_text(declared), "{declared}");
        }
        for declared in ["uuid", "uuid_text", "bigint", "integer", "character", "bytea", ""] {
            assert!(!is_text(declared), "{declared}");
        }
    }
}
