//! The peers in Python: processes that are told what to do in lines of JSON (`python/contenders.py`).
//!
//! Their environments are made here, once for each set of requirements. A process serves one workload after the
//! other, each with a store of its own, because starting one takes seconds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runledger_core::BoxError;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{About, Appends, Backend, Home, Load, Place, Setting};
use crate::measure::{Spread, Written};
use crate::report::say;
use crate::work::Work;

/// A peer with a database that it can use.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    name: String,
    /// Of everything it is made of.
    pub(crate) version: String,
    python: PathBuf,
    pub(crate) about: About,
}

/// The peers, and what they are all given.
pub(crate) struct Peers {
    pub(crate) all: Vec<Peer>,
    work: PathBuf,
    idle: Arc<Mutex<Idle>>,
}

/// Processes that wait for their next workload, by peer and backend.
type Idle = BTreeMap<(String, Backend), Process>;

/// What `contenders.py --list` prints.
#[derive(Deserialize)]
struct Listed {
    name: String,
    venv: String,
    databases: Vec<String>,
}

/// What a process says of itself first.
#[derive(Deserialize)]
#[serde(untagged)]
enum Greeting {
    Skip { skip: String },
    Here { contender: String, version: String, durability: String },
}

impl Peers {
    /// None of them, for those who do not ask for any.
    pub(crate) fn none() -> Self {
        Self { all: Vec::new(), work: PathBuf::new(), idle: Arc::default() }
    }

    /// Makes the environments below `target` and asks each peer who it is. What is missing is said, and skipped.
    pub(crate) async fn find(target: &Path, place: &Place, work: &Work) -> Result<Self, BoxError> {
        let path = target.join("work.jsonl");
        work.write(&path)?;
        let mut peers = Self { work: path, ..Self::none() };
        let listed = match list().await {
            Ok(listed) => listed,
            Err(error) => {
                say(&format!("SKIPPED the peers in Python: {error}"));
                return Ok(peers);
            }
        };
        let mut pythons: BTreeMap<String, Option<PathBuf>> = BTreeMap::new();
        for Listed { name, venv, databases } in listed {
            if !pythons.contains_key(&venv) {
                let made = environment(target, &venv).await;
                let made = made.map_err(|error| say(&format!("SKIPPED the peers of {venv}: {error}"))).ok();
                pythons.insert(venv.clone(), made);
            }
            let Some(Some(python)) = pythons.get(&venv) else { continue };
            for database in databases {
                let backend = if database == "postgresql" { Backend::Postgresql } else { Backend::Sqlite };
                if backend == Backend::Postgresql && place.postgresql.is_none() {
                    continue;
                }
                match Process::start(python, &name).await {
                    Ok((process, mut about, version)) => {
                        about.backend = backend;
                        let limit = match backend {
                            Backend::Postgresql => Setting::Postgresql,
                            _ => Setting::SqliteNormal,
                        };
                        about.limit = Some(limit.limit_name());
                        lock(&peers.idle).insert((name.clone(), backend), process);
                        peers.all.push(Peer { name: name.clone(), version, python: python.clone(), about });
                    }
                    Err(error) => say(&format!("SKIPPED {name} on {backend}: {error}")),
                }
            }
        }
        Ok(peers)
    }

    /// The peer with a new store.
    pub(crate) async fn open(&self, peer: &Peer, place: &Place) -> Result<PythonPeer, BoxError> {
        let key = (peer.name.clone(), peer.about.backend);
        let idle = lock(&self.idle).remove(&key);
        let mut process = match idle {
            Some(process) => process,
            None => Process::start(&peer.python, &peer.name).await?.0,
        };
        let folder = place.new_folder()?;
        let database = match (peer.about.backend, place.postgresql) {
            (Backend::Postgresql, Some(server)) => Some(server.empty_database().await),
            _ => None,
        };
        let url = database.as_ref().map(|database| database.url().replacen("postgres:", "postgresql:", 1));
        process.ask(json!({"op": "open", "folder": folder.path(), "url": url, "work": self.work})).await?;
        let mut homes = vec![Home::Folder(folder)];
        homes.extend(database.map(Home::Database));
        Ok(PythonPeer { process, key, idle: Arc::clone(&self.idle), stored: 0, _homes: homes })
    }
}

fn lock(idle: &Mutex<Idle>) -> std::sync::MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python")
}

async fn list() -> Result<Vec<Listed>, BoxError> {
    let output = Command::new("python3")
        .arg(scripts().join("contenders.py"))
        .arg("--list")
        .output()
        .await
        .map_err(|error| format!("python3 cannot be run ({error})"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The Python of an environment that has these requirements, made where it is not there or had others.
async fn environment(target: &Path, name: &str) -> Result<PathBuf, BoxError> {
    let wanted = scripts().join(format!("requirements-{name}.txt"));
    let folder = target.join(format!("venv-{name}"));
    let (python, had) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let requirements = std::fs::read(&wanted)?;
    if std::fs::read(&had).is_ok_and(|had| had == requirements) {
        return Ok(python);
    }
    say(&format!("making the Python environment {name}"));
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder)).await?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(&wanted)).await?;
    // Last: an environment that is half made is made anew.
    std::fs::write(had, requirements)?;
    Ok(python)
}

async fn run(command: &mut Command) -> Result<(), BoxError> {
    let output = command.stdin(Stdio::null()).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The last line is the one that tells.
    Err(said.trim().lines().last().unwrap_or("it failed without a word").to_owned().into())
}

/// A process, and the lines to and from it. It ends with this value.
struct Process {
    _child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(python: &Path, name: &str) -> Result<(Self, About, String), BoxError> {
        let mut child = Command::new(python)
            .arg(scripts().join("contenders.py"))
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let questions = child.stdin.take().ok_or("a process without a stdin")?;
        let answers = child.stdout.take().ok_or("a process without a stdout")?;
        let mut process = Self { _child: child, questions, answers: BufReader::new(answers).lines() };
        match serde_json::from_value(process.answer().await?)? {
            Greeting::Skip { skip } => Err(skip.into()),
            Greeting::Here { contender, version, durability } => {
                let about = About { name: contender, backend: Backend::Sqlite, durability, limit: None };
                Ok((process, about, version))
            }
        }
    }

    async fn ask(&mut self, question: Value) -> Result<Value, BoxError> {
        self.questions.write_all(format!("{question}\n").as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Value, BoxError> {
        let line = self.answers.next_line().await?.ok_or("the process ended without an answer")?;
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error") {
            Some(error) => Err(error.to_string().into()),
            None => Ok(answer),
        }
    }
}

/// A peer with a store.
pub(crate) struct PythonPeer {
    process: Process,
    key: (String, Backend),
    idle: Arc<Mutex<Idle>>,
    stored: u64,
    _homes: Vec<Home>,
}

/// What an append is answered with.
#[derive(Deserialize)]
struct Appended {
    seconds: f64,
    stored: u64,
    p50_us: f64,
    p99_us: f64,
}

/// What a read is answered with.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Read { p50_us: f64, p99_us: f64 },
    Unsupported { unsupported: String },
}

impl PythonPeer {
    /// Fills a thread, however it likes.
    pub(crate) async fn fill(&mut self, thread: &str, events: u64) -> Result<(), BoxError> {
        self.process.ask(json!({"op": "fill", "thread": thread, "events": events})).await.map(drop)
    }

    /// Asks for a read; `None` where the peer has no such thing.
    pub(crate) async fn read(&mut self, question: Value) -> Result<Option<Spread>, BoxError> {
        match serde_json::from_value(self.process.ask(question).await?)? {
            Answer::Read { p50_us, p99_us } => Ok(Some(Spread { p50: p50_us, p99: p99_us })),
            Answer::Unsupported { unsupported } => {
                say(&format!("{} on {}: {unsupported}", self.key.0, self.key.1));
                Ok(None)
            }
        }
    }
}

#[async_trait]
impl Appends for PythonPeer {
    async fn append(&mut self, _work: &Arc<Work>, load: Load) -> Result<Written, BoxError> {
        let question = json!({
            "op": "append",
            "writers": load.writers,
            "batch": load.batch,
            "events": load.events(),
            "same_thread": load.same_thread,
        });
        let answer: Appended = serde_json::from_value(self.process.ask(question).await?)?;
        if answer.stored < load.events() {
            return Err(format!("{}: {} are there of {}", self.key.0, answer.stored, load.events()).into());
        }
        // What came first, to warm up, is not told.
        let Appended { seconds, p50_us, p99_us, .. } = answer;
        let events = load.events();
        let stored = events + load.warm_up();
        self.stored += stored;
        Ok(Written { events, stored, seconds, p50: p50_us, p99: p99_us })
    }

    async fn stored(&mut self) -> Result<u64, BoxError> {
        Ok(self.stored)
    }

    async fn close(self: Box<Self>) {
        let Self { process, key, idle, .. } = *self;
        lock(&idle).insert(key, process);
    }
}
