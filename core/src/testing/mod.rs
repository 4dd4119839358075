//! The conformance kit: what every backend promises, one case each.
//!
//! A case is an async function over a fresh [`Ledger`](crate::Ledger). [`conformance_tests!`](crate::conformance_tests)
//! makes a `#[test]` of each for a backend, given a function that opens an empty ledger of it:
//!
//! ```
//! mod my_backend {
//!     use runledger_core::{Ledger, MemoryLedger};
//!
//!     // The second value is kept until the case ends: a temporary folder, a database's handle.
//!     // `None` says that the backend cannot be had here; the case then prints that it is skipped.
//!     async fn open() -> Option<(Ledger, ())> {
//!         Some((MemoryLedger::new().ledger(), ()))
//!     }
//!
//!     runledger_core::conformance_tests!(open);
//! }
//! # fn main() {}
//! ```
//!
//! A backend that does not do everything says so by its [`Capabilities`](crate::Capabilities), and its
//! tests by `conformance_tests!(open, lacks [...])`: what it does not claim are ignored tests.
//!
//! The crate that uses it enables the feature `testing` of this one, in its dev-dependencies.

mod build;
pub mod cases;
mod list;

pub use list::{case_names, claimed_cases};

use std::future::Future;
use std::io::Write as _;

use crate::Capability;

/// Runs one case on a runtime of its own with four workers. The case says `false` where its backend
/// cannot be had.
///
/// # Panics
/// When the case fails, or no runtime can be made.
pub fn run(name: &str, case: impl Future<Output = bool>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    match runtime {
        Ok(runtime) => {
            if !runtime.block_on(case) {
                // Not the print macros: what they write is shown for failed tests only, and a skipped
                // case must be seen. Where nobody reads stderr there is nobody to tell.
                let _ = writeln!(std::io::stderr(), "SKIPPED {name}: this backend cannot be had here");
            }
        }
        Err(error) => panic!("failed to start a runtime: {error}"),
    }
}

/// Checks that what a backend says it lacks is what its tests leave out, and says how many cases it
/// is held to.
///
/// # Panics
/// When it lacks something else.
pub fn check_claims(ledger: &crate::Ledger, lacking: &[Capability]) {
    let capabilities = ledger.capabilities();
    for capability in Capability::ALL {
        let (claimed, tested) = (capabilities.has(*capability), !lacking.contains(capability));
        assert!(claimed == tested, "{capability:?} is claimed: {claimed}; its cases are run: {tested}");
    }
    let (claimed, all) = (claimed_cases(capabilities).len(), case_names().len());
    let _ = writeln!(std::io::stderr(), "{claimed} of {all} cases are claimed");
}
