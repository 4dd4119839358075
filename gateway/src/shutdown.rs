//! When a server is told to stop: streams, which have no end of their own, end then, and waits for runs are answered.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells everything that is open to end. Its clones are one.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nothing is told to end.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Tells everything to end.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Returns once everything was told to end.
    pub async fn begun(&self) {
        // The sender is held by this.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}
