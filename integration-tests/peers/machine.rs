//! What was measured on: figures without it mean nothing.

use std::path::Path;
use std::process::Command;

use runledger_core::BoxError;
use runledger_integration_tests::postgres::Server;

use crate::contender::{Place, postgres_limit};

/// Each thing and what it is, in the order in which they are told. What cannot be found out is left out.
pub(crate) async fn describe(place: &Place) -> Result<Vec<(&'static str, String)>, BoxError> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|found| found.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism()?;
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map(|kibibytes| format!("{:.0} GiB", kibibytes / 1024.0 / 1024.0));
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let folder = place.folder.canonicalize()?;
    let rust = Command::new("rustc").arg("--version").output().ok();
    let rust = rust.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let sqlite = format!("{}, pages of 8 KiB, log-ahead, no checkpoint inside a commit", rusqlite::version());
    let facts = [
        ("processor", field(&read("/proc/cpuinfo"), "model name")),
        ("cores", Some(cores.to_string())),
        ("memory", memory),
        ("kernel", Some(kernel)),
        ("file system", file_system(&read("/proc/mounts"), &folder)),
        ("SQLite", Some(sqlite)),
        ("PostgreSQL", postgresql(place.postgresql).await?),
        ("Rust", rust),
    ];
    Ok(facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|it| !it.is_empty())?)))
        .collect())
}

/// The type of the mount that a folder is on: the one with the longest name above it.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts
        .filter(|(at, _)| folder.starts_with(at))
        .max_by_key(|(at, _)| at.len())
        .map(|(_, kind)| kind.to_owned())
}

/// The version, and the settings that the figures depend on.
async fn postgresql(server: Option<&Server>) -> Result<Option<String>, BoxError> {
    let Some(server) = server else { return Ok(None) };
    let client = postgres_limit::connect(server.url()).await?;
    let version: String = client.query_one("SHOW server_version", &[]).await?.get(0);
    let mut told = version.split(' ').next().unwrap_or_default().to_owned();
    for setting in ["fsync", "full_page_writes", "shared_buffers", "max_wal_size"] {
        let value: String = client.query_one(&format!("SHOW {setting}"), &[]).await?.get(0);
        told.push_str(&format!(", {setting} = {value}"));
    }
    Ok(Some(told))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "dev / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs".to_owned()));
        assert_eq!(file_system(mounts, Path::new("/tmpfiles")), Some("ext4".to_owned()));
    }
}
