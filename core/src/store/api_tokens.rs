//! Tokens of an API.

use std::fmt;

use async_trait::async_trait;

use crate::record::ApiToken;
use crate::{ApiTokenId, ListRange, OwnerId, Page, Result, Scope, Timestamp};

/// Which tokens to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiTokenFilter {
    /// Only those that speak on behalf of this owner.
    pub owner_id: Option<OwnerId>,
}

/// Keeps tokens. Making them, finding them and revoking them is the system's: `InvalidInput` for an owner.
///
/// The tokens of an owner who is erased are removed. They are no part of archives and copies: a token is let in
/// by one server, and one that was revoked there must not come back elsewhere.
#[async_trait]
pub trait ApiTokenStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a token. `AlreadyExists` where its id or its hash is taken, `InvalidInput` where the hash is none.
    async fn create(&self, scope: &Scope, token: ApiToken) -> Result<()>;

    /// The token with this hash, whether or not it is still good. `NotFound` where there is none.
    async fn find(&self, scope: &Scope, token_hash: &str) -> Result<ApiToken>;

    /// Tokens, newest first.
    async fn list(&self, scope: &Scope, filter: &ApiTokenFilter, range: &ListRange)
    -> Result<Page<ApiToken>>;

    /// Revokes a token; one that was revoked before keeps its time.
    async fn revoke(&self, scope: &Scope, token: &ApiTokenId, at: Timestamp) -> Result<ApiToken>;
}
