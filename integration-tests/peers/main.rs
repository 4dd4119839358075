//! Measures the ledger beside its limits and its peers: the same generated work, in one run, in turns.
//!
//! | module | holds |
//! |---|---|
//! | `work` | the events that every contender is given |
//! | `contender` | who is measured: ours, the bare drivers, the peers |
//! | `workload` | what they are asked to do |
//! | `measure` | times and medians |
//! | `machine` | what was measured on |
//! | `report`, `chart`, `document` | the tables, the curves of growth, and where they go |

mod arguments;
mod chart;
mod contender;
mod document;
mod machine;
mod measure;
mod report;
mod work;
mod workload;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use runledger_core::BoxError;
use runledger_integration_tests::postgres;

use arguments::Arguments;
use contender::python::Peers;
use contender::{About, Backend, Place};
use report::{Report, say};
use work::Work;

/// What all workloads share.
pub(crate) struct Bench {
    pub(crate) arguments: Arguments,
    pub(crate) work: Arc<Work>,
    pub(crate) place: Place,
    pub(crate) peers: Peers,
    pub(crate) report: Report,
}

impl Bench {
    /// Whether a contender is to be measured at a workload.
    pub(crate) fn wants(&self, group: &str, workload: &str, about: &About) -> bool {
        self.arguments.wants(&line(group, workload, about))
    }

    /// Says that a contender failed. Of a peer that is all, unless this is a test: what others do is not ours to mend.
    pub(crate) fn failed(
        &self,
        group: &str,
        workload: &str,
        about: &About,
        error: &BoxError,
    ) -> Result<(), BoxError> {
        let what = format!("{}: {error}", line(group, workload, about));
        let is_peer = self.peers.all.iter().any(|peer| peer.about.name == about.name);
        if !is_peer || self.arguments.smoke {
            return Err(what.into());
        }
        say(&format!("FAILED {what}"));
        Ok(())
    }

    /// Whether the backend is there.
    pub(crate) fn has(&self, backend: Backend) -> bool {
        backend != Backend::Postgresql || self.place.postgresql.is_some()
    }
}

/// How a contender at a workload is named on stderr.
pub(crate) fn line(group: &str, workload: &str, about: &About) -> String {
    format!("{group} {workload}: {}, {}", about.name, about.backend)
}

/// Where the tables go.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

async fn measure(arguments: Arguments) -> Result<(), BoxError> {
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    // To make a database takes a second where it has to be on the disk.
    let postgresql = if arguments.smoke { postgres::server() } else { postgres::durable_server() };
    let place = Place { folder, postgresql };
    let work = Arc::new(Work::generate());
    let mut report = Report { machine: machine::describe(&place).await?, ..Report::default() };
    let target = target();
    std::fs::create_dir_all(&target)?;
    // Ours and the limits can be asked for alone, without Python.
    let peers =
        if arguments.wants_peers() { Peers::find(&target, &place, &work).await? } else { Peers::none() };
    for peer in &peers.all {
        let told = (peer.about.name.clone(), peer.version.clone());
        if !report.peers.contains(&told) {
            report.peers.push(told);
        }
    }
    let mut bench = Bench { arguments, work, place, peers, report };
    workload::append::run(&mut bench).await?;
    workload::read::run(&mut bench).await?;
    let markdown = bench.report.markdown();
    std::fs::write(target.join("table.md"), &markdown)?;
    std::fs::write(target.join("table.json"), bench.report.json()?)?;
    if let Some(chart) = chart::growth(&bench.report)? {
        std::fs::write(target.join("growth.svg"), chart)?;
    }
    if let Some(document) = &bench.arguments.document {
        let text = std::fs::read_to_string(document)?;
        std::fs::write(document, document::replaced(&text, &markdown)?)?;
    }
    say(&markdown);
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("peers: {error}"));
            ExitCode::FAILURE
        }
    }
}
