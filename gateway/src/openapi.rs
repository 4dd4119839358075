//! The document of the API (OpenAPI 3.1), made of the endpoints themselves.
//!
//! An endpoint says what is its own. What is the same for all is added here: that requests have a token, and the
//! answers that come before a handler or from below it.

use runledger_core::{
    AgentRunId, AssistantId, Caller, FeedbackId, InteractionId, ItemId, OwnerId, RunId, SourceId, TaskId,
    ThreadId, Timestamp, UsageBy, WorkerId,
};
use serde_json::Value;
use utoipa::ToSchema as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    Components, ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    PathItem, Ref, RefOr, ResponseBuilder, SecurityRequirement, ServerBuilder,
};

use crate::problem::Problem;

/// Where the document is served.
pub(crate) const PATH: &str = "/api/openapi.json";

/// Beginnings of paths that need a caller.
const WITH_CALLER: &str = "/api/";

const ABOUT: &str = "The system of record for AI-agent runs: threads, runs, events and what can be read of them.

Every request below `/api` has a token, as `Authorization: Bearer rl_...`. What belongs to another owner, was \
deleted or never was is the same answer, 404. Errors are problem details (RFC 9457): `type` says what kind it is, \
`field` which part of the request is at fault, `retryable` whether the same request may succeed later. A list of \
`items` goes on at `next_cursor`, a log after `after_seq` or before `before_seq`; both are given back as they were told.";

/// What the endpoints are about.
const TAGS: [(&str, &str); 15] = [
    ("threads", "Conversations; each owns a log."),
    ("runs", "Executions of an agent on a thread, from input to outcome."),
    ("messages", "What was said, as chat front ends show it."),
    ("events", "The log itself, and appends for runtimes in other languages."),
    ("live", "Logs and runs as streams of server-sent events."),
    ("turns", "Runs with what was said, or with their items."),
    ("items", "Visible activities: messages, reasoning, tool calls."),
    ("usage", "Model calls, tokens and cost."),
    ("agent-runs", "Goal-driven runs with their whole transcript."),
    ("context", "What a model would be sent next, and its compaction."),
    ("interactions", "Questions to people."),
    ("search", "Finding what was said and what tools returned."),
    ("blobs", "Large parts of payloads."),
    ("feedback", "What people think of runs and messages."),
    ("health", "Whether the server is there and well."),
];

/// The document before any endpoint is in it.
pub(crate) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Runledger")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build()));
    // Parameters name these; what bodies are made of is found by itself.
    let components = ComponentsBuilder::new()
        .schema_from::<AgentRunId>()
        .schema_from::<AssistantId>()
        .schema_from::<Caller>()
        .schema_from::<FeedbackId>()
        .schema_from::<InteractionId>()
        .schema_from::<ItemId>()
        .schema_from::<OwnerId>()
        .schema_from::<RunId>()
        .schema_from::<SourceId>()
        .schema_from::<TaskId>()
        .schema_from::<ThreadId>()
        .schema_from::<Timestamp>()
        .schema_from::<UsageBy>()
        .schema_from::<WorkerId>()
        .schema_from::<Problem>()
        .build();
    let tags =
        TAGS.map(|(name, about)| -> Tag { TagBuilder::new().name(name).description(Some(about)).build() });
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").description(Some("This server.")).build()]))
        .components(Some(components))
        .tags(Some(tags))
        .build()
}

/// The document of endpoints, with what is the same for all.
fn complete(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token, as `runledger token create` makes it, or the application's own."))
        .build();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    let cookie = ApiKeyValue::with_description("runledger_token", "What `/login` keeps: for reading only.");
    components.add_security_scheme("login", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    for (path, item) in &mut document.paths.paths {
        let needs_caller = path.starts_with(WITH_CALLER);
        for (operation, reads) in operations(item) {
            if needs_caller {
                let mut schemes = vec![requirement("bearer")];
                schemes.extend(reads.then(|| requirement("login")));
                operation.security = Some(schemes);
            }
            for (status, about) in answers(operation, needs_caller) {
                let known = &mut operation.responses.responses;
                known.entry(status.to_owned()).or_insert_with(|| problem(about));
            }
        }
    }
    document
}

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new(scheme, Vec::<String>::new())
}

/// The operations of a path, and whether each only reads.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&mut Operation, bool)> {
    let reading = [item.get.as_mut(), item.head.as_mut()].into_iter().flatten().map(|read| (read, true));
    let writing = [item.post.as_mut(), item.put.as_mut(), item.patch.as_mut(), item.delete.as_mut()];
    reading.chain(writing.into_iter().flatten().map(|write| (write, false)))
}

/// What an operation may be answered with besides what it says itself.
fn answers(operation: &Operation, needs_caller: bool) -> Vec<(&'static str, &'static str)> {
    let mut answers = Vec::new();
    if needs_caller {
        answers.extend([
            ("401", "There is no token, or not a good one."),
            ("403", "The caller may not, or a browser sent it on behalf of another site."),
            ("404", "It is not there, was deleted, or is another owner's."),
            ("501", "This backend does not do that."),
            ("503", "The database is away; the same request may succeed later."),
        ]);
    }
    let parameters = operation.parameters.as_deref().unwrap_or_default();
    if needs_caller || !parameters.is_empty() || operation.request_body.is_some() {
        answers.push(("422", "A part of the request cannot be taken as it is; `field` names it."));
    }
    if operation.request_body.is_some() {
        answers.extend([
            ("413", "The body is larger than this server takes."),
            ("415", "The body is not of the type that is taken."),
        ]);
    }
    answers.extend([
        ("500", "The server failed; its log says more under the answer's `x-request-id`."),
        ("504", "It took too long."),
    ]);
    answers
}

fn problem(about: &str) -> RefOr<utoipa::openapi::Response> {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(about).content("application/problem+json", content).build().into()
}

/// The complete document as text.
pub(crate) fn text(document: OpenApi) -> String {
    let written = serde_json::to_value(complete(document)).and_then(|mut document| {
        simplify(&mut document);
        serde_json::to_string_pretty(&document)
    });
    written.unwrap_or_else(|error| {
        // Its keys are text and its values are of JSON: nothing in it cannot be written.
        tracing::error!(error = &error as &dyn std::error::Error, "the OpenAPI document cannot be written");
        "{}".to_owned()
    })
}

/// Any JSON that may be left out is any JSON: said as one of that and null, a null would be both, and so neither.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let any = fields.get("oneOf").and_then(Value::as_array).and_then(|choices| match &choices[..] {
                [null, any] | [any, null] if null["type"] == "null" && is_any(any) => Some(any.clone()),
                _ => None,
            });
            if let Some(Value::Object(any)) = any {
                fields.remove("oneOf");
                fields.extend(any);
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(values) => values.iter_mut().for_each(simplify),
        _ => {}
    }
}

fn is_any(schema: &Value) -> bool {
    schema["$ref"].as_str().is_some_and(|name| name.ends_with("/RawJson"))
}
