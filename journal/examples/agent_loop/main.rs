//! An agent loop on a ledger: three sends on one thread, a sub-agent, a compaction, and a process that is killed
//! in the middle of a batch of tool calls, whose run another process goes on with.
//!
//! ```text
//! cargo run -p runledger-journal --example agent_loop
//! cargo run -p runledger-journal --example agent_loop -- postgres://user:password@host/database
//! ```
//!
//! The loop itself is in `agent.rs`. This file gives it a database and lets it live in three processes: this
//! program, and itself twice more.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

mod agent;

use std::path::{Path, PathBuf};
use std::process::Command;

use agent::{Part, Result};
use runledger_persistence::{Config, connect};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next(), arguments.next()) {
        // One of the two further processes.
        (Some(part), Some(url), Some(folder)) => {
            let part = if part == "killed" { Part::Killed } else { Part::Resume { dies: false } };
            act(&url, &PathBuf::from(folder), part).await
        }
        (url, ..) => {
            let folder = tempfile::tempdir()?;
            let file = || format!("sqlite://{}", folder.path().join("ledger.db").display());
            whole(&url.unwrap_or_else(file), folder.path()).await
        }
    }
}

/// The whole story.
async fn whole(url: &str, folder: &Path) -> Result<()> {
    runledger_migration::up(url, &runledger_migration::UpOptions::default()).await?;
    act(url, folder, Part::Sends).await?;
    for (part, task) in [("killed", "dies amid its calls"), ("resume", "goes on with them")] {
        let ended = Command::new(std::env::current_exe()?).arg(part).arg(url).arg(folder).status()?;
        println!("the process that {task} has ended: {ended}");
    }
    println!("\nEach tool call was executed once (process, tool, call):");
    for line in agent::executions(folder)? {
        println!("  {line}");
    }
    println!("\nseasons.txt:\n{}", std::fs::read_to_string(folder.join("seasons.txt"))?);
    Ok(())
}

async fn act(url: &str, folder: &Path, part: Part) -> Result<()> {
    let sql = connect(Config::new(url)).await?;
    let done = agent::act(sql.ledger(), folder, part, &|text| println!("{text}")).await;
    sql.close().await;
    done
}
