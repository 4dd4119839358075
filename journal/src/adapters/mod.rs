//! Frameworks and formats that drive a journal.

pub mod langchain_recording;
