//! What Runledger reads where `serde_json/arbitrary_precision` is on.
//!
//! The feature is switched on for a whole build by any crate of it, and changes how numbers pass through
//! serde's buffered forms: a decimal under a flattened field, or in an enum told apart by its content, is
//! a map then, and cannot be read. Nothing of ours is such a form. The tests here are built with the feature:
//! the conformance kit, what the journal stores of a recording, and records with numbers that only text can hold.
