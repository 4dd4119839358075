//! The command, for the binary `runledger-migrate` and for any program that mounts
//! [`MigrateArgs`] as a subcommand.
//!
//! Reports go to standard output, as text or as one JSON document; errors as text go to
//! standard error, with `--json` they are a JSON document on standard output.

use std::{error::Error as _, fmt, io, num::NonZeroU32, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    CheckReport, DEFAULT_DATABASE_URL, DownOptions, DownReport, Error, MigrationState, Plan, StatusReport,
    UpOptions, UpReport, UsersTable, Verdict, check, down, plan, redacted, status, up,
};

const EXIT_CODES: &str = "Exit codes:
  0  done; for check: the schema fits
  1  the schema does not fit: check found a difference, or a newer version migrated it
  2  wrong usage or input
  3  the database cannot be reached or stayed locked; try again later
  4  refused, by the database or because it cannot be done there; nothing was changed";

/// Arguments of the command. Mount it as a subcommand with clap's `Args`.
#[derive(Args, Clone)]
#[command(after_help = EXIT_CODES)]
pub struct MigrateArgs {
    /// The database: sqlite://PATH or postgres://USER@HOST/DATABASE.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "RUNLEDGER_DATABASE_URL",
        hide_env_values = true,
        default_value = DEFAULT_DATABASE_URL
    )]
    pub database_url: String,

    /// Report as one JSON document.
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub operation: Operation,
}

impl fmt::Debug for MigrateArgs {
    // By hand: the URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateArgs")
            .field("database_url", &redacted(&self.database_url))
            .field("json", &self.json)
            .field("operation", &self.operation)
            .finish()
    }
}

/// What the command can do.
#[derive(Subcommand, Debug, Clone)]
pub enum Operation {
    /// List the migrations and which of them are applied.
    Status,
    /// Apply what is pending, all or nothing; a missing SQLite file is created.
    Up(UpArgs),
    /// Take migrations back, newest first. The data in their tables is deleted.
    Down(DownArgs),
    /// Print the SQL that `up` would run; nothing is run.
    Plan(PlanArgs),
    /// Say, also by the exit code, whether the schema fits this program.
    Check,
}

/// Arguments of `up`.
#[derive(Args, Debug, Clone)]
pub struct UpArgs {
    #[command(flatten)]
    what: PlanArgs,

    #[command(flatten)]
    wait: WaitArgs,
}

/// Arguments of `plan`, and of `up` as far as they say what to do.
#[derive(Args, Debug, Clone)]
pub struct PlanArgs {
    /// Apply at most this many pending migrations.
    #[arg(long, value_name = "N")]
    steps: Option<NonZeroU32>,

    /// Make agent runs refer to this table of the application: when a user is deleted, the
    /// owner of their agent runs becomes NULL. On SQLite only possible when the ledger is
    /// created.
    #[arg(long, value_name = "TABLE", requires = "users_key")]
    users_table: Option<String>,

    /// The unique text column of the users table that holds what the ledger calls an owner.
    #[arg(long, value_name = "COLUMN", requires = "users_table")]
    users_key: Option<String>,

    /// The schema of the users table (PostgreSQL).
    #[arg(long, value_name = "SCHEMA", requires = "users_table")]
    users_schema: Option<String>,
}

/// Arguments of `down`.
#[derive(Args, Debug, Clone)]
pub struct DownArgs {
    /// How many migrations to take back.
    #[arg(long, value_name = "N")]
    steps: NonZeroU32,

    /// Yes, delete the data in the tables of these migrations.
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    wait: WaitArgs,
}

/// How long to wait for others.
#[derive(Args, Debug, Clone)]
struct WaitArgs {
    /// How many seconds to wait while another program migrates.
    #[arg(long, value_name = "SECONDS", default_value_t = UpOptions::DEFAULT_WAIT.as_secs())]
    wait: u64,
}

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// Done; for `check`: the schema fits.
    Done,
    /// The schema does not fit this program.
    SchemaMismatch,
    /// Wrong usage or input.
    Usage,
    /// The database cannot be reached or stayed locked.
    Unavailable,
    /// Refused; nothing was changed.
    Refused,
}

impl Exit {
    /// The process's exit code, 0 to 4, as the command's help lists them.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SchemaMismatch => 1,
            Self::Usage => 2,
            Self::Unavailable => 3,
            Self::Refused => 4,
        }
    }

    const fn of(error: &Error) -> Self {
        match error {
            Error::Url { .. } | Error::InvalidInput { .. } => Self::Usage,
            Error::Unavailable { .. } | Error::Busy { .. } => Self::Unavailable,
            Error::NewerSchema { .. } => Self::SchemaMismatch,
            Error::TableTaken { .. } | Error::UsersTable { .. } | Error::Refused { .. } => Self::Refused,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Runs the command and writes its report to `out` and, as text, its errors to `err`. A reader
/// that went away (a closed pipe) does not change the outcome.
pub async fn run(args: &MigrateArgs, out: &mut dyn io::Write, err: &mut dyn io::Write) -> Exit {
    let (exit, written) = match operate(args).await {
        Ok(report) => (report.exit(), report.write(args, out)),
        Err(error) if args.json => (Exit::of(&error), write_json(out, &ErrorDocument::of(&error))),
        Err(error) => (Exit::of(&error), writeln!(err, "error: {}", Told(&error))),
    };
    // There is nobody left to tell.
    let _ = written;
    exit
}

async fn operate(args: &MigrateArgs) -> Result<Report, Error> {
    let url = &args.database_url;
    Ok(match &args.operation {
        Operation::Status => Report::Status(status(url).await?),
        Operation::Up(up_args) => {
            let mut options = up_args.what.options()?;
            options.wait = up_args.wait.duration();
            Report::Up(up(url, &options).await?)
        }
        Operation::Down(down_args) => {
            if !down_args.yes {
                return Err(Error::InvalidInput {
                    field: "down",
                    reason: "it deletes the data in the tables of these migrations; say --yes".to_owned(),
                });
            }
            let options = DownOptions { steps: down_args.steps.get(), wait: down_args.wait.duration() };
            Report::Down(down(url, &options).await?)
        }
        Operation::Plan(plan_args) => Report::Plan(plan(url, &plan_args.options()?).await?),
        Operation::Check => Report::Check(check(url).await?),
    })
}

impl PlanArgs {
    fn options(&self) -> Result<UpOptions, Error> {
        let users = match (&self.users_table, &self.users_key) {
            (Some(table), Some(key)) => {
                let users = UsersTable::new(table, key)?;
                Some(match &self.users_schema {
                    Some(schema) => users.in_schema(schema)?,
                    None => users,
                })
            }
            _ => None,
        };
        Ok(UpOptions { steps: self.steps.map(NonZeroU32::get), users, ..UpOptions::default() })
    }
}

impl WaitArgs {
    const fn duration(&self) -> Duration {
        Duration::from_secs(self.wait)
    }
}

/// What an operation found or did.
enum Report {
    Status(StatusReport),
    Up(UpReport),
    Down(DownReport),
    Plan(Plan),
    Check(CheckReport),
}

impl Report {
    fn exit(&self) -> Exit {
        match self {
            Self::Check(report) if !report.fits() => Exit::SchemaMismatch,
            Self::Status(_) | Self::Up(_) | Self::Down(_) | Self::Plan(_) | Self::Check(_) => Exit::Done,
        }
    }

    fn write(&self, args: &MigrateArgs, out: &mut dyn io::Write) -> io::Result<()> {
        let database = redacted(&args.database_url);
        if args.json {
            return match self {
                Self::Status(report) => write_json(out, &Document::new(database, report)),
                Self::Up(report) => write_json(out, &Document::new(database, report)),
                Self::Down(report) => write_json(out, &Document::new(database, report)),
                Self::Plan(report) => write_json(out, &Document::new(database, report)),
                Self::Check(report) => write_json(out, &Document::new(database, report)),
            };
        }
        match self {
            Self::Status(report) => write_status(out, &database, report),
            Self::Up(report) => write_up(out, &database, report),
            Self::Down(report) => write_down(out, &database, report),
            Self::Plan(report) => write_plan(out, &database, report),
            Self::Check(report) => write_check(out, &database, report),
        }
    }
}

/// A report with the database it is about.
#[derive(Serialize)]
struct Document<'a, T> {
    database: String,
    #[serde(flatten)]
    report: &'a T,
}

impl<'a, T> Document<'a, T> {
    const fn new(database: String, report: &'a T) -> Self {
        Self { database, report }
    }
}

#[derive(Serialize)]
struct ErrorDocument {
    error: ErrorBody,
}

#[derive(Serialize)]
struct ErrorBody {
    kind: &'static str,
    message: String,
}

impl ErrorDocument {
    fn of(error: &Error) -> Self {
        Self { error: ErrorBody { kind: error.kind(), message: Told(error).to_string() } }
    }
}

/// An error with its causes, on one line.
struct Told<'a>(&'a Error);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        // The driver's error repeats its own causes, so the first says it all.
        match self.0.source() {
            Some(cause) => write!(f, " (cause: {cause})"),
            None => Ok(()),
        }
    }
}

fn write_json(out: &mut dyn io::Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

fn write_status(out: &mut dyn io::Write, database: &str, report: &StatusReport) -> io::Result<()> {
    let note = if report.exists { "" } else { " (not created yet)" };
    writeln!(out, "database {database}{note}")?;
    for migration in &report.migrations {
        match (migration.state, migration.applied_at) {
            (MigrationState::Pending, _) => writeln!(out, "pending  {}", migration.name)?,
            (MigrationState::Applied, at) => {
                writeln!(out, "applied  {}{}", migration.name, Since(at))?;
            }
            (MigrationState::Newer, at) => {
                writeln!(out, "newer    {}{}, unknown to this version", migration.name, Since(at))?
            }
        }
    }
    if let Some(users) = &report.users_foreign_key {
        writeln!(out, "owners of agent runs refer to {users}")?;
    }
    Ok(())
}

/// When a migration was applied, if that was recorded.
struct Since(Option<chrono::DateTime<chrono::Utc>>);

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(at) => write!(f, "  {}", at.format("%Y-%m-%d %H:%M:%S UTC")),
            None => Ok(()),
        }
    }
}

fn write_up(out: &mut dyn io::Write, database: &str, report: &UpReport) -> io::Result<()> {
    for name in &report.applied {
        writeln!(out, "applied {name}")?;
    }
    if report.users_foreign_key_added {
        writeln!(out, "added the foreign key to the users table")?;
    }
    if report.applied.is_empty() && !report.users_foreign_key_added {
        writeln!(out, "nothing to do: {database} is up to date")?;
    }
    Ok(())
}

fn write_down(out: &mut dyn io::Write, database: &str, report: &DownReport) -> io::Result<()> {
    for name in &report.reverted {
        writeln!(out, "took back {name}")?;
    }
    if report.reverted.is_empty() {
        writeln!(out, "nothing to do: {database} has no migration applied")?;
    }
    if report.version_table_dropped {
        writeln!(out, "nothing of the ledger is left in {database}")?;
    }
    Ok(())
}

fn write_plan(out: &mut dyn io::Write, database: &str, report: &Plan) -> io::Result<()> {
    if report.statements.is_empty() {
        return writeln!(out, "-- nothing to do: {database} is up to date");
    }
    let mut told = None;
    for statement in &report.statements {
        if statement.migration != told {
            told = statement.migration;
            if let Some(name) = told {
                writeln!(out, "\n-- {name}")?;
            } else {
                writeln!(out)?;
            }
        }
        writeln!(out, "{};", statement.sql)?;
    }
    Ok(())
}

fn write_check(out: &mut dyn io::Write, database: &str, report: &CheckReport) -> io::Result<()> {
    let verdict = match report.verdict {
        Verdict::Fits => "the schema fits",
        Verdict::Absent => "there is no ledger yet",
        Verdict::Behind => "the schema is behind this version",
        Verdict::Newer => "a newer version migrated it",
        Verdict::Damaged => "the schema is damaged",
    };
    writeln!(out, "{verdict}: {database}")?;
    for name in &report.pending {
        writeln!(out, "pending  {name}")?;
    }
    for name in &report.newer {
        writeln!(out, "newer    {name}, unknown to this version")?;
    }
    for object in &report.missing {
        writeln!(out, "missing  {object}")?;
    }
    match report.remedy {
        Some(remedy) => writeln!(out, "remedy: {remedy}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser, Subcommand};
    use pretty_assertions::assert_eq;

    use super::MigrateArgs;

    /// A program that has a database of its own and mounts the command.
    #[derive(Parser)]
    struct Host {
        #[arg(long, global = true, default_value = "sqlite://host.db")]
        database_url: String,
        #[command(subcommand)]
        command: HostCommand,
    }

    #[derive(Subcommand)]
    enum HostCommand {
        Migrate(MigrateArgs),
    }

    #[test]
    fn a_host_can_mount_it_beside_its_own_database_url() {
        Host::command().debug_assert();
        let url = |arguments: &[&str]| {
            let host = Host::try_parse_from(arguments).unwrap();
            let HostCommand::Migrate(args) = host.command;
            (host.database_url, args.database_url)
        };
        let both = |url: &str| (url.to_owned(), url.to_owned());
        assert_eq!(url(&["host", "--database-url", "sqlite:a", "migrate", "up"]), both("sqlite:a"));
        assert_eq!(url(&["host", "migrate", "up", "--database-url", "sqlite:a"]), both("sqlite:a"));
    }

    #[test]
    fn debug_output_hides_the_password() {
        let Host { command, .. } =
            Host::try_parse_from(["host", "migrate", "check", "--database-url", "postgres://u:hunter2@h/d"])
                .unwrap();
        let HostCommand::Migrate(args) = command;
        assert_eq!(
            format!("{args:?}"),
            "MigrateArgs { database_url: \"postgres://u:***@h/d\", json: false, operation: Check }",
        );
    }
}
