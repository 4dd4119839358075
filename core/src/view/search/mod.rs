//! Full-text search: what of an event is searched, which words it has, what a query asks for, and what a
//! reader is shown of a match.
//!
//! All of it is pure and the same for every backend. A database's own cutting of text into words differs
//! from every other's, so none is used: an index is given the words that are made here, and what it finds
//! is judged by [`SearchQuery::find`] once more.

mod document;
mod query;
mod snippet;
mod words;

pub use document::{Extract, MAX_TEXT_BYTES, extract, is_searched};
pub use query::{MAX_QUERY_WORDS, SearchQuery, Term};
pub use snippet::{SNIPPET_CHARS, Snippet, snippet};
pub use words::{MAX_WORD_CHARS, Words};
