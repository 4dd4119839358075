//! Recordings of other systems, read whole into plans and then written; rollouts of Codex are streamed.
//!
//! A file is parsed and checked before anything of it is written, so a bad one leaves nothing
//! behind. What is written is the same for the same file: ids, order and marks follow from its
//! content. So a second import finds everything there, and one that was cut off is completed.

pub(crate) mod callbacks;
pub(crate) mod codex;
pub(crate) mod fields;
pub(crate) mod langgraph;
pub(crate) mod mini_swe;
pub(crate) mod plan;
pub(crate) mod source;
mod summary;

pub(crate) use callbacks::RecordedFile;
pub(crate) use plan::{ThreadPlan, check, require_free, write};
pub(crate) use source::files;
pub(crate) use summary::{Summary, counted};
