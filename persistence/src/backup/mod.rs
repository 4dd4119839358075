//! A copy of a SQLite database while it is in use, and giving its free space back.
//!
//! PostgreSQL has tools of its own for both, and the errors name them.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use runledger_core::{Error, Result};
use sea_orm::{ConnectionTrait, Statement};

use crate::SqlLedger;
use crate::dialect::Dialect;
use crate::disk::{self, FileError, blocking};
use crate::error_map;
use crate::retention::FileSpace;
use crate::retention::space;

const BACKING_UP: &str = "to back up";

impl SqlLedger {
    /// Writes the database as it is now to a new file, while others write to it: everything that was
    /// acknowledged before the call is in it, and nothing half-done. The file is a database like any other.
    ///
    /// It is written under the name with `.tmp` added, and takes its place once it is whole and on the disk.
    /// `AlreadyExists` where one of the two is there; a failure leaves neither, and the end of the process at
    /// most the `.tmp`, to be removed by hand. Of a SQLite file only: `Unsupported` for one in memory, and on
    /// PostgreSQL.
    pub async fn backup(&self, path: &Path) -> Result<()> {
        if self.database.dialect != Dialect::Sqlite {
            return Err(Error::Unsupported { operation: "a backup to a file (use pg_dump)" });
        }
        if space::file_bytes(&self.database).await?.is_none() {
            return Err(Error::Unsupported { operation: "a backup of a database in memory" });
        }
        let path = path.to_owned();
        let copy = blocking(BACKING_UP, move || Copy::begin(path)).await??;
        let Some(temporary) = copy.temporary.to_str() else {
            return Err(Error::invalid("path", "is not UTF-8, which SQLite needs; give another name"));
        };
        let reader = &self.database.reader;
        let sql = "VACUUM INTO $1";
        let statement =
            Statement::from_sql_and_values(reader.get_database_backend(), sql, [temporary.into()]);
        reader.execute_raw(statement).await.map_err(|error| error_map::map(BACKING_UP, error))?;
        blocking(BACKING_UP, move || copy.finish()).await?
    }

    /// Gives the space of a SQLite file back that deletions left free, in steps while others write, and empties its
    /// write-ahead log. `None` for a database in memory. `Unsupported` on PostgreSQL, whose autovacuum reuses
    /// such space by itself.
    pub async fn vacuum(&self) -> Result<Option<FileSpace>> {
        let database = &*self.database;
        if database.dialect != Dialect::Sqlite {
            return Err(Error::Unsupported { operation: "giving space back (autovacuum sees to it)" });
        }
        let Some(bytes_before) = space::file_bytes(database).await? else { return Ok(None) };
        let shrinks = space::give_back(database).await?;
        Ok(Some(FileSpace { bytes_before, bytes_after: space::file_bytes(database).await?, shrinks }))
    }
}

/// A copy that is being written. Dropped, it leaves nothing.
#[derive(Debug)]
struct Copy {
    path: PathBuf,
    temporary: PathBuf,
}

impl Copy {
    /// Takes the name it is written under, so that nobody else writes there.
    fn begin(path: PathBuf) -> Result<Self> {
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Error::already_exists("file", path.display()));
        }
        let temporary = disk::temporary(&path);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(_) => Ok(Self { path, temporary }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::already_exists("file", temporary.display()))
            }
            Err(error) => Err(failed(&temporary, error)),
        }
    }

    /// Puts the copy in its place, unless something is there by now.
    fn finish(self) -> Result<()> {
        let written = OpenOptions::new().write(true).open(&self.temporary);
        written.and_then(|file| file.sync_all()).map_err(|error| failed(&self.temporary, error))?;
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::already_exists("file", self.path.display()));
            }
            Err(error) => return Err(failed(&self.path, error)),
        }
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            disk::sync_folder(folder).map_err(|error| error.into_error(BACKING_UP))?;
        }
        Ok(())
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Where it took its place, this was its other name. What cannot be removed stays, and the next
        // backup to this name tells.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    FileError::new(path, error).into_error(BACKING_UP)
}
