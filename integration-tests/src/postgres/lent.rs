//! A database that was made for one test and goes with it.

use std::sync::mpsc;

use super::databases::{Request, Requests};

/// The right to one database; dropping it drops the database.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(super) name: String,
    pub(super) requests: Requests,
    /// Whether the server outlives this process, so that it must be gone before we go on.
    pub(super) lasting: bool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (done, wait) = mpsc::channel();
        let request = Request::Remove { name: std::mem::take(&mut self.name), done };
        // Best effort: a server of our own ends with this process, one that lasts is swept by the next.
        if self.requests.send(request).is_ok() && self.lasting {
            let _ = wait.recv();
        }
    }
}
