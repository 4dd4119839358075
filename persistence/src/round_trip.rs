//! The calls that a test's thread sends to its database, as the test that counts them sees them.
//!
//! Lanes and pools call from tasks. On a runtime of one thread these are on the thread of the test, and a thread that
//! a ledger starts counts with the one that started it; so what is noted by thread is this test's own, whatever runs
//! beside it.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

/// The SQL of each call; `None` while nobody counts.
pub(crate) type Calls = Arc<Mutex<Option<Vec<String>>>>;

thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

/// What this thread notes calls in.
pub(crate) fn calls() -> Calls {
    CALLS.with_borrow(Arc::clone)
}

/// Has this thread note its calls with those of another.
pub(crate) fn count_with(calls: Calls) {
    CALLS.set(calls);
}

/// Notes a call, if somebody counts.
pub(crate) fn note(sql: &str) {
    if let Some(calls) = &mut *calls().lock().unwrap_or_else(PoisonError::into_inner) {
        calls.push(sql.to_owned());
    }
}

/// What a future sends, with its value.
pub(crate) async fn of<T>(call: impl Future<Output = T>) -> (T, Vec<String>) {
    let replace = |now| std::mem::replace(&mut *calls().lock().unwrap_or_else(PoisonError::into_inner), now);
    replace(Some(Vec::new()));
    let value = call.await;
    (value, replace(None).unwrap_or_default())
}
