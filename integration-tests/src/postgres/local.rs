//! PostgreSQL from the binaries of this machine, in a folder that goes with this process.

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{
    reaper::{Identity, Reaper},
    server::{Fsync, until_ready},
};

/// How often a free port is looked for again when somebody else took it meanwhile.
const PORT_TRIES: u32 = 3;

/// A running server. Dropping it ends the server and removes its folder.
#[derive(Debug)]
pub(crate) struct LocalServer {
    pub(crate) url: String,
    pub(crate) binaries: PathBuf,
    _reaper: Reaper,
}

impl LocalServer {
    /// Makes a cluster, starts it on a free port of 127.0.0.1 and waits until it answers.
    pub(crate) async fn start(fsync: Fsync) -> Result<Self, String> {
        let binaries = find_binaries()?;
        let (folder, identity) =
            make_folder(fsync).map_err(|error| format!("failed to make a folder: {error}"))?;
        // Before anything runs there: whatever happens from here on, the folder goes.
        let reaper = Reaper::new(
            "\"$1/pg_ctl\" -D \"$2/data\" -m immediate -w stop; rm -rf \"$2\"",
            &[&binaries.to_string_lossy(), &folder.to_string_lossy()],
            identity,
        )
        .map_err(|error| format!("failed to start a shell: {error}"))?;
        make_cluster(&binaries, &folder, identity)?;
        let mut last = String::new();
        for _ in 0..PORT_TRIES {
            match start_on_free_port(&binaries, &folder, fsync, identity).await {
                Ok(url) => return Ok(Self { url, binaries, _reaper: reaper }),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }
}

fn find_binaries() -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os("PG_BIN") {
        let folder = PathBuf::from(folder);
        return if has_server(&folder) {
            Ok(folder)
        } else {
            Err(format!("PG_BIN={} has no postgres and initdb", folder.display()))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    newest_installed(Path::new("/usr/lib/postgresql"))
        .or_else(|| env::split_paths(&path).find(|folder| has_server(folder)))
        .ok_or_else(|| "no server binaries in PG_BIN, /usr/lib/postgresql or PATH".to_owned())
}

/// The `bin` of the highest version below `root`, compared as numbers.
fn newest_installed(root: &Path) -> Option<PathBuf> {
    let version = |entry: &fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    fs::read_dir(root)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((version(&entry)?, entry.path().join("bin"))))
        .filter(|(_, folder)| has_server(folder))
        .max()
        .map(|(_, folder)| folder)
}

fn has_server(folder: &Path) -> bool {
    ["postgres", "initdb", "pg_ctl"].iter().all(|program| folder.join(program).is_file())
}

/// A folder that only the server's user can enter, in memory where that is enough and there is such a
/// place, and whom to run the server as: PostgreSQL refuses root.
fn make_folder(fsync: Fsync) -> io::Result<(PathBuf, Option<Identity>)> {
    let memory = Path::new("/dev/shm");
    let place = if fsync == Fsync::Off && memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    let folder = tempfile::Builder::new()
        .prefix("runledger-pg-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(place)?;
    let identity = if fs::metadata(folder.path())?.uid() == 0 { Some(server_identity()?) } else { None };
    if let Some(Identity { uid, gid }) = identity {
        chown(folder.path(), Some(uid), Some(gid))?;
    }
    Ok((folder.keep(), identity))
}

fn server_identity() -> io::Result<Identity> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    ["postgres", "nobody"].iter().find_map(|name| identity_of(name, &passwd)).ok_or_else(|| {
        io::Error::other("PostgreSQL refuses root and this machine has no user postgres or nobody")
    })
}

/// The numbers of a user in the text of `/etc/passwd`.
fn identity_of(name: &str, passwd: &str) -> Option<Identity> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    Some(Identity { uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
}

fn make_cluster(binaries: &Path, folder: &Path, identity: Option<Identity>) -> Result<(), String> {
    let mut command = Command::new(binaries.join("initdb"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"])
        .current_dir(folder)
        .stdin(Stdio::null());
    if let Some(identity) = identity {
        identity.apply(&mut command);
    }
    let output = command.output().map_err(|error| format!("failed to run initdb: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

async fn start_on_free_port(
    binaries: &Path,
    folder: &Path,
    fsync: Fsync,
    identity: Option<Identity>,
) -> Result<String, String> {
    let port = free_port().map_err(|error| format!("no free port: {error}"))?;
    let mut server = spawn(binaries, folder, port, fsync, identity)
        .map_err(|error| format!("failed to run postgres: {error}"))?;
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    match until_ready(&[url], async || matches!(server.try_wait(), Ok(None))).await {
        Ok(url) => Ok(url),
        Err(reason) => {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            Err(format!("{reason}; its log: {}", log.trim()))
        }
    }
}

/// A port that nobody listens on now; whoever starts there must be ready to find it taken.
pub(super) fn free_port() -> io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}

fn spawn(
    binaries: &Path,
    folder: &Path,
    port: u16,
    fsync: Fsync,
    identity: Option<Identity>,
) -> io::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    let mut command = Command::new(binaries.join("postgres"));
    command
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .arg("-k")
        .arg(folder)
        .args(fsync.settings().iter().flat_map(|setting| ["-c", setting]))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    if let Some(identity) = identity {
        identity.apply(&mut command);
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_newest_version_is_the_highest_number_that_has_a_server() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "16", "not-a-version"] {
            fs::create_dir_all(root.path().join(version).join("bin")).unwrap();
        }
        assert_eq!(newest_installed(root.path()), None);
        for version in ["9", "15", "not-a-version"] {
            for program in ["postgres", "initdb", "pg_ctl"] {
                fs::write(root.path().join(version).join("bin").join(program), "").unwrap();
            }
        }
        assert_eq!(newest_installed(root.path()), Some(root.path().join("15").join("bin")));
        assert_eq!(newest_installed(&root.path().join("absent")), None);
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:7::/:/bin/sh\npostgres:x:101:103::/:/bin/sh\n";
        let numbers = |name| identity_of(name, passwd).map(|found| (found.uid, found.gid));
        assert_eq!(numbers("postgres"), Some((101, 103)));
        assert_eq!(numbers("nobody"), None);
    }
}
