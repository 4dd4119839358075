//! Records in the shapes that consumers of other systems know.
//!
//! Projections: pure, total, and never written anywhere. Each system has a module of its own.

pub mod deerflow;
