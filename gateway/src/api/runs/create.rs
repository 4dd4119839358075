//! Admitting runs.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use runledger_core::{
    Admission, AgentRunId, Answer, AssistantId, Budget, InteractionId, MultitaskStrategy, NewAgentRun,
    NewLease, NewRun, NewThread, OperationKind, RawJson, RawObject, RunId, Scope, ThreadId, WorkerId,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::input::{RunInput, first_said};
use super::shown_whole;
use crate::api::params::{read, seconds};
use crate::api::problems::Conflict;
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{Body, Path, ThreadPath};
use crate::page::link::Site;
use crate::problem::Problem;
use crate::wire::WireRun;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A run to be admitted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRun {
    /// The thread it runs on, where the path does not name it. One is made where there is none.
    thread_id: Option<ThreadId>,
    /// Its id; one is made where it has none.
    run_id: Option<RunId>,
    /// The agent definition it runs.
    assistant_id: Option<AssistantId>,
    /// What the person said: durable before any model is called.
    input: Option<RunInput>,
    /// Notes of the application.
    #[schema(value_type = Option<Object>)]
    metadata: Option<RawJson>,
    /// Arguments of the run.
    #[schema(value_type = Option<Object>)]
    kwargs: Option<RawJson>,
    /// Settings of the runtime; kept among the arguments, as `config`.
    #[schema(value_type = Option<Object>)]
    config: Option<RawJson>,
    /// The runtime's context; kept among the arguments, as `context`.
    #[schema(value_type = Option<Object>)]
    context: Option<RawJson>,
    /// What to do where another run is active on the thread.
    #[serde(default)]
    multitask_strategy: Strategy,
    /// What it does with the thread's slot.
    operation_kind: Option<String>,
    /// The model it will mainly use.
    model_name: Option<String>,
    /// What it may use.
    budget: Option<NewBudget>,
    /// The run it answers.
    follow_up_to_run_id: Option<RunId>,
    /// The run that starts it.
    parent_run_id: Option<RunId>,
    /// The agent run whose transcript it is.
    agent_run: Option<AgentRunBody>,
    /// The worker that holds it; without one it waits for whoever acquires it, or is run without a lease.
    lease: Option<NewLeaseBody>,
    /// The question that it answers.
    answer: Option<AnswerBody>,
    /// What to do where there is no such thread.
    #[serde(default)]
    if_not_exists: IfNotExists,
}

/// What to do where another run is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Strategy {
    /// Refuse this one.
    #[default]
    Reject,
    /// Interrupt the other.
    Interrupt,
    /// Undo the other.
    Rollback,
    /// Let this one wait.
    Enqueue,
}

impl From<Strategy> for MultitaskStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::Reject => Self::Reject,
            Strategy::Interrupt => Self::Interrupt,
            Strategy::Rollback => Self::Rollback,
            Strategy::Enqueue => Self::Enqueue,
        }
    }
}

/// What to do where there is no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IfNotExists {
    /// Make it.
    Create,
    /// Refuse.
    #[default]
    Reject,
}

/// What a run may use. What is left out has no limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBudget {
    /// Tokens of all model calls.
    max_tokens: Option<u64>,
    /// Cost in billionths of a US dollar.
    max_cost_nanos: Option<u64>,
    /// Model calls of its own.
    max_iterations: Option<u64>,
}

impl From<NewBudget> for Budget {
    fn from(given: NewBudget) -> Self {
        let NewBudget { max_tokens, max_cost_nanos, max_iterations } = given;
        Self { max_tokens, max_cost_nanos, max_iterations }
    }
}

/// The agent run that a run is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentRunBody {
    /// Its id; one is made where it has none.
    agent_run_id: Option<AgentRunId>,
    /// The agent.
    agent: String,
    /// What it is to reach.
    goal: String,
    /// What it is about, in the application's ids.
    subject_id: Option<String>,
    /// The agent run that delegated to it.
    parent_agent_run_id: Option<AgentRunId>,
}

/// A lease to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLeaseBody {
    /// The worker that holds the run.
    worker_id: WorkerId,
    /// How long the lease lasts without a heartbeat.
    #[schema(minimum = 0.001, maximum = 86400)]
    ttl_seconds: f64,
}

/// The lease that a body asks for.
pub(in crate::api) fn lease_of(given: NewLeaseBody) -> Result<NewLease, Problem> {
    let ttl = seconds("ttl_seconds", given.ttl_seconds, 0.001, 86_400.0)?;
    Ok(NewLease { worker_id: given.worker_id, ttl })
}

/// The answer to a question.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerBody {
    /// The question.
    interaction_id: InteractionId,
    /// The answer, in the application's own shape.
    value: RawJson,
}

impl CreateRun {
    fn into_run(self, thread_id: ThreadId, key: Option<Key>) -> Result<NewRun, Problem> {
        let kwargs = self.kwargs.unwrap_or_else(RawJson::empty_object);
        let kwargs = match RawObject::parse(&kwargs) {
            Some(fields) if self.config.is_some() || self.context.is_some() => {
                fields.with_some("config", self.config).with_some("context", self.context).to_json()
            }
            // What is no object is refused by the ledger.
            _ => kwargs,
        };
        let kind = self.operation_kind.as_deref();
        let kind = kind.map(|kind| OperationKind::parse("operation_kind", kind)).transpose()?;
        let agent_run = self.agent_run.map(|given| NewAgentRun {
            agent_run_id: given.agent_run_id.unwrap_or_else(AgentRunId::generate),
            agent: given.agent,
            goal: given.goal,
            subject_id: given.subject_id,
            parent_agent_run_id: given.parent_agent_run_id,
        });
        let admission = Admission {
            assistant_id: self.assistant_id.clone(),
            operation_kind: kind.unwrap_or(OperationKind::Run),
            multitask_strategy: self.multitask_strategy.into(),
            lease: self.lease.map(lease_of).transpose()?,
            model_name: self.model_name,
            metadata: self.metadata.unwrap_or_else(RawJson::empty_object),
            kwargs,
            follow_up_to_run_id: self.follow_up_to_run_id,
            parent_run_id: self.parent_run_id,
            budget: self.budget.map(Budget::from).unwrap_or_default(),
            answer: self
                .answer
                .map(|given| Answer { interaction_id: given.interaction_id, value: given.value }),
            agent_run,
            ..Admission::default()
        };
        let input = match self.input {
            Some(input) => input.into_events(admission.created_at)?,
            None => Vec::new(),
        };
        let (idempotency_key, request_hash) = key.map(|key| (key.key, key.request_hash)).unzip();
        let admission =
            Admission { idempotency_key, request_hash, first_human_message: first_said(&input), ..admission };
        let create_missing = (self.if_not_exists == IfNotExists::Create)
            .then(|| NewThread { assistant_id: self.assistant_id, ..NewThread::new(thread_id.clone()) });
        let run_id = self.run_id.unwrap_or_else(RunId::generate);
        Ok(NewRun { admission, input, create_missing, ..NewRun::new(thread_id, run_id) })
    }
}

/// A key that a request may be sent again with.
struct Key {
    key: String,
    request_hash: String,
}

/// The key of a request, and what tells it from other requests: the path and the body by their values, so that a
/// client may spell it otherwise.
fn key_of(headers: &HeaderMap, path: &str, body: &RawJson) -> Result<Option<Key>, Problem> {
    let Some(given) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = given.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > 255 {
        return Err(Problem::invalid("Idempotency-Key", "has not 1 to 255 visible characters of ASCII"));
    }
    let request = [path, body.canonical().as_str()].join("\n");
    Ok(Some(Key { key: key.to_owned(), request_hash: digest(&request) }))
}

fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The thread that a request without one is on: the same for the same key of the same caller.
fn thread_for(scope: &Scope, key: Option<&Key>) -> Result<ThreadId, Problem> {
    match key {
        None => Ok(ThreadId::generate()),
        Some(key) => {
            let owner = scope.owner().map_or("", |owner| owner.as_str());
            Ok(ThreadId::new(digest(&[owner, &key.key].join("\n")))?)
        }
    }
}

/// Admit a run.
///
/// Its input is stored with it, before it is executed by whoever executes runs. The same request under the same
/// `Idempotency-Key` is answered with the run of the first.
#[utoipa::path(
    post, path = "/threads/{thread_id}/runs", tag = "runs", operation_id = "create_run",
    params(
        ThreadPath,
        ("Idempotency-Key" = Option<String>, Header, description = "The request may be sent again under it"),
    ),
    request_body = CreateRun,
    responses(
        (status = 200, description = "The run: the new one, or the one that the key stands for", body = WireRun,
            headers(
                ("content-location" = String, description = "Where the run is"),
                ("idempotent-replayed" = Option<String>, description = "`true` where the key stood for a run"),
            )),
        Conflict,
    ),
)]
pub(super) async fn create_run(
    State(app): State<App>,
    caller: Caller,
    Path(path): Path<ThreadPath>,
    site: Site,
    headers: HeaderMap,
    Body(body): Body<RawJson>,
) -> Result<Response, Problem> {
    let given: CreateRun = read(&body)?;
    if given.thread_id.as_ref().is_some_and(|thread| *thread != path.thread_id) {
        return Err(Problem::invalid("thread_id", "is not that of the path; leave it out"));
    }
    let key = key_of(&headers, path.thread_id.as_str(), &body)?;
    let new = given.into_run(path.thread_id, key)?;
    admit(&app, &caller, &site, new).await
}

/// Admit a run on a thread that is made for it.
///
/// On the thread that the body names, where it names one. Under an `Idempotency-Key` the thread is the same each time.
#[utoipa::path(
    post, path = "/runs", tag = "runs", operation_id = "create_run_with_thread",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The request may be sent again under it"),
    ),
    request_body = CreateRun,
    responses(
        (status = 200, description = "The run: the new one, or the one that the key stands for", body = WireRun,
            headers(
                ("content-location" = String, description = "Where the run is"),
                ("idempotent-replayed" = Option<String>, description = "`true` where the key stood for a run"),
            )),
        Conflict,
    ),
)]
pub(super) async fn create_run_with_thread(
    State(app): State<App>,
    caller: Caller,
    site: Site,
    headers: HeaderMap,
    Body(body): Body<RawJson>,
) -> Result<Response, Problem> {
    let mut given: CreateRun = read(&body)?;
    let key = key_of(&headers, "", &body)?;
    let thread_id = match given.thread_id.take() {
        Some(thread) => thread,
        None => thread_for(&caller.scope, key.as_ref())?,
    };
    given.if_not_exists = IfNotExists::Create;
    let new = given.into_run(thread_id, key)?;
    admit(&app, &caller, &site, new).await
}

async fn admit(app: &App, caller: &Caller, site: &Site, new: NewRun) -> Result<Response, Problem> {
    let admitted = app.ledger.admit(&caller.scope, new).await?;
    let run = admitted.run;
    // The endpoints are named as the pages are, below where they are.
    let location = site.run(&run.thread_id, &run.run_id);
    let mut response = shown_whole(app, &caller.scope, &run).await?.into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::CONTENT_LOCATION, location);
    }
    if !admitted.created {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}
