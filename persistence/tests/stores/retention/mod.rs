//! Removing old events: what goes by a policy, what stays right around it, and that the space comes back.

use crate::backend;

mod batches;
mod policy;
mod scene;
mod space;

/// One test of each database for each case.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => { $(
        mod $case {
            #[tokio::test]
            async fn on_sqlite() {
                let (ledger, fresh) = super::backend::sqlite().await;
                super::$case(&ledger, &fresh).await;
                ledger.close().await;
            }

            #[tokio::test]
            async fn on_postgresql() {
                if let Some((ledger, fresh)) = super::backend::postgresql().await {
                    super::$case(&ledger, &fresh).await;
                    ledger.close().await;
                }
            }
        }
    )+ };
}
use on_both;
