//! Who hears.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use runledger_core::Hint;
use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::{CHANNEL, read};

/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The one connection that listens, while somebody watches.
pub(super) struct Ear {
    pool: PgPool,
    own: u64,
    listener: Option<PgListener>,
    failures: u32,
}

impl Ear {
    /// Hears all but what `own` tells.
    pub(super) fn new(pool: PgPool, own: u64) -> Self {
        Self { pool, own, listener: None, failures: 0 }
    }

    /// What is told, for as long as anybody asks. It ends with the ledger.
    pub(super) fn hints(self) -> BoxStream<'static, Hint> {
        stream::unfold(self, |mut ear| async move { Some((ear.next().await?, ear)) }).boxed()
    }

    async fn next(&mut self) -> Option<Hint> {
        loop {
            if self.pool.is_closed() {
                return None;
            }
            let Some(listener) = &mut self.listener else {
                match self.listen().await {
                    // What was told meanwhile was not heard.
                    Ok(()) => return Some(Hint::All),
                    Err(error) => {
                        tracing::debug!(%error, "appends of other processes are not heard; they are looked for");
                        let pause = PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
                        self.failures += 1;
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                }
            };
            match listener.try_recv().await {
                Ok(Some(told)) => {
                    if let Some(hint) = read(told.payload(), self.own) {
                        return Some(hint);
                    }
                }
                // The connection broke.
                Ok(None) | Err(_) => self.listener = None,
            }
        }
    }

    async fn listen(&mut self) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        self.failures = 0;
        self.listener = Some(listener);
        Ok(())
    }
}
