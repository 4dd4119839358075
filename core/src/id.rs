//! Ids: short printable text, so that ids of other systems carry over unchanged.

use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Checks the rule every id obeys: 1 to 128 bytes, every character printable.
fn check(field: &'static str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(field, "is empty; an id has 1 to 128 bytes"));
    }
    if text.len() > MAX_ID_BYTES {
        return Err(Error::invalid(
            field,
            format!("has {} bytes; an id has at most {MAX_ID_BYTES}", text.len()),
        ));
    }
    match text.chars().find(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        Some(c) => {
            Err(Error::invalid(field, format!("contains the unprintable character U+{:04X}", u32::from(c))))
        }
        None => Ok(()),
    }
}

macro_rules! id_types {
    ($( $(#[$meta:meta])* $name:ident = $field:literal; )+) => { $(
        $(#[$meta])*
        ///
        /// 1 to 128 bytes of printable text; cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes an id as it is; [`Error::InvalidInput`] names the rule it breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                check($field, text)?;
                Ok(Self(text.into()))
            }

            /// Makes a new id: a UUID of version 7, so ids made later sort later.
            #[must_use]
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string().into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    )+ };
}

id_types! {
    /// A token of an API.
    ApiTokenId = "token_id";
    /// A piece of feedback. Unique within its thread.
    FeedbackId = "feedback_id";
    /// One conversation, the owner of one log.
    ThreadId = "thread_id";
    /// One execution of an agent on a thread.
    RunId = "run_id";
    /// One visible activity of a run: a message, a tool call, a fold. Unique within its run.
    ItemId = "item_id";
    /// Who may see a thread and all below it.
    OwnerId = "owner_id";
    /// The agent definition a thread or run uses.
    AssistantId = "assistant_id";
    /// A tool call as the model named it.
    CallId = "call_id";
    /// A delegated task whose events share it.
    TaskId = "task_id";
    /// A goal-driven run with its whole transcript.
    AgentRunId = "agent_run_id";
    /// A question to a person. Unique within its thread.
    InteractionId = "interaction_id";
    /// A process that executes runs, new at each start.
    WorkerId = "worker_id";
    /// One model call, in the ids of whoever counted it. Unique within its thread.
    SourceId = "source_id";
    /// What an import reads, by what it holds: a file keeps it when it is moved.
    ImportSource = "source";
    /// Part of a source that is no record. Unique within its thread.
    QuarantineId = "quarantine_id";
}

/// What tells the id of a call that the run was told of from one that it saw itself.
const EXTERNAL: &str = "/external/";

impl SourceId {
    /// The id of a model call that was counted elsewhere (by a sub-agent's collector, say) and
    /// reported to `run` under `id`. It cannot clash with the id of a call that the run saw itself.
    ///
    /// An id that would not fit is replaced by its fingerprint; the same id is the same call.
    #[must_use]
    pub fn external(run: &RunId, id: &str) -> Self {
        let whole = format!("{run}{EXTERNAL}{id}");
        let id = if check("source_id", &whole).is_ok() {
            whole
        } else {
            let head = if run.as_str().len() <= 64 {
                run.to_string()
            } else {
                crate::text::fingerprint(run.as_str())
            };
            format!("{head}{EXTERNAL}#{}", crate::text::fingerprint(id))
        };
        Self(id.into())
    }

    /// The id of a model call that `run` made itself and names `id`: runtimes number their calls
    /// anew in each run.
    ///
    /// An id that would not fit, or that looks like an external one, is replaced by its fingerprint;
    /// the same id is the same call.
    #[must_use]
    pub fn of_call(run: &RunId, id: &str) -> Self {
        let whole = format!("{run}/{id}");
        match Self::new(&whole) {
            Ok(source) if !source.is_external() => source,
            Ok(_) | Err(_) => Self(format!("#{}", crate::text::fingerprint(&whole)).into()),
        }
    }

    /// The id under which a sub-agent's run is charged to the run that spawned it: the same run is the same id.
    #[must_use]
    pub fn of_child(thread: &ThreadId, run: &RunId) -> Self {
        // The length says where the thread's id ends, so that no two runs look alike.
        let whole = format!("{}:{thread}/{run}", thread.as_str().len());
        Self(format!("child/{}", crate::text::fingerprint(&whole)).into())
    }

    /// The id of a model call whose answer is this item, where items have ids of their own on the
    /// whole thread.
    #[must_use]
    pub fn of_item(id: &ItemId) -> Self {
        Self(Arc::clone(&id.0))
    }

    /// Whether it was made by [`SourceId::external`].
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.0.contains(EXTERNAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn external_calls_have_ids_of_their_own() {
        let run = RunId::new("run-1").unwrap();
        assert_eq!(SourceId::external(&run, "a").as_str(), "run-1/external/a");
        for odd in ["", "a\0b", &"x".repeat(400)] {
            let id = SourceId::external(&run, odd);
            assert!(id.is_external() && SourceId::new(id.as_str()).is_ok(), "{id}");
            assert_eq!(id, SourceId::external(&run, odd));
        }
        let long = SourceId::external(&RunId::new("r".repeat(128)).unwrap(), "a");
        assert!(long.is_external() && SourceId::new(long.as_str()).is_ok());
        assert!(!SourceId::of_call(&run, "external/a").is_external());
        assert_eq!(SourceId::of_call(&run, "lc-1").as_str(), "run-1/lc-1");
    }

    #[test]
    fn ids_of_other_systems_carry_over() {
        for text in ["a", "call_w1", "lc_run--0-0", "项目/1", &"x".repeat(128)] {
            assert_eq!(ThreadId::new(text).map(|id| id.to_string()).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn unprintable_empty_and_long_ids_are_refused_by_name() {
        for text in ["", "a\0b", "a\nb", "a\u{2028}b", &"x".repeat(129)] {
            let error = RunId::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with("invalid run_id: "), "{error}");
        }
    }

    #[test]
    fn ids_are_checked_when_they_are_deserialised() {
        assert!(serde_json::from_str::<ItemId>(r#""a\u0000b""#).is_err());
        assert_eq!(serde_json::from_str::<ItemId>(r#""a""#).ok(), ItemId::new("a").ok());
    }
}
