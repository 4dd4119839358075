//! Schemas of the values that every record is built of, for documents of APIs that send them (feature
//! `openapi`). Records derive theirs.

use std::borrow::Cow;

use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    AgentRunId, ApiTokenId, AssistantId, CallId, Caller, Category, Decimal, EventType, FeedbackId,
    ImportSource, InteractionId, ItemId, ItemKind, MAX_ID_BYTES, OwnerId, QuarantineId, Rating, RawJson,
    RunId, SeqSpan, SourceId, TaskId, ThreadId, Timestamp, WorkerId,
};

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// Text, with the values that this version knows as examples.
pub(crate) fn text(known: &[&str]) -> RefOr<Schema> {
    string().examples(known.iter().copied()).into()
}

/// A schema without a structure of its own.
macro_rules! schemas {
    ($( $name:ident: $schema:expr, )+) => { $(
        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                $schema.into()
            }
        }
    )+ };
}

fn id() -> Object {
    // Lengths are of bytes: text of other alphabets reaches the limit with fewer characters.
    string().min_length(Some(1)).max_length(Some(MAX_ID_BYTES)).build()
}

schemas! {
    AgentRunId: id(),
    ApiTokenId: id(),
    AssistantId: id(),
    CallId: id(),
    FeedbackId: id(),
    ImportSource: id(),
    InteractionId: id(),
    ItemId: id(),
    OwnerId: id(),
    QuarantineId: id(),
    RunId: id(),
    SourceId: id(),
    TaskId: id(),
    ThreadId: id(),
    WorkerId: id(),
    EventType: string().min_length(Some(1)).max_length(Some(64)),
    Category: string().min_length(Some(1)).max_length(Some(16)).examples(["message", "reasoning", "lifecycle", "trace"]),
    Caller: string().examples(["lead_agent", "subagent:research", "middleware:title"]),
    ItemKind: string().min_length(Some(1)).examples(["user_message", "agent_message", "tool_call"]),
    Rating: ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([1, -1])),
    Decimal: ObjectBuilder::new().schema_type(Type::Number),
    SeqSpan: ArrayBuilder::new()
        .items(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)))
        .min_items(Some(2))
        .max_items(Some(2))
        .description(Some("The first and the last seq.")),
    Timestamp: string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))),
    RawJson: ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Any JSON, kept as it is.")),
}
