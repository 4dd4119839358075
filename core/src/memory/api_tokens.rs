//! Tokens of an API.

use async_trait::async_trait;

use crate::record::ApiToken;
use crate::store::{ApiTokenFilter, ApiTokenStore, require_system_scope};
use crate::{ApiTokenId, Cursor, Error, ListRange, Page, Result, Scope, Timestamp};

use super::MemoryLedger;
use super::read::newest_first;

#[async_trait]
impl ApiTokenStore for MemoryLedger {
    async fn create(&self, scope: &Scope, token: ApiToken) -> Result<()> {
        require_system_scope(scope, "keeps tokens")?;
        let token = token.checked()?;
        let mut state = self.state();
        let is_taken = state.api_tokens.contains_key(&token.token_id)
            || state.api_tokens.values().any(|known| known.token_hash == token.token_hash);
        if is_taken {
            return Err(Error::already_exists("token", &token.token_id));
        }
        state.api_tokens.insert(token.token_id.clone(), token);
        Ok(())
    }

    async fn find(&self, scope: &Scope, token_hash: &str) -> Result<ApiToken> {
        require_system_scope(scope, "finds tokens")?;
        let state = self.state();
        let found = state.api_tokens.values().find(|token| token.token_hash == token_hash);
        found.cloned().ok_or_else(|| Error::not_found("token", "with this hash"))
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &ApiTokenFilter,
        range: &ListRange,
    ) -> Result<Page<ApiToken>> {
        require_system_scope(scope, "lists tokens")?;
        let limit = range.checked_limit()?;
        let end = range.cursor.as_ref().map(Cursor::position).transpose()?;
        let state = self.state();
        let tokens = state.api_tokens.values();
        let found = tokens.filter(|token| {
            filter.owner_id.as_ref().is_none_or(|owner| token.owner_id.as_ref() == Some(owner))
        });
        Ok(newest_first(
            found,
            limit,
            end,
            |token| (token.created_at, token.token_id.as_str()),
            |token| Cursor::at(token.created_at, token.token_id.as_str()),
        ))
    }

    async fn revoke(&self, scope: &Scope, token: &ApiTokenId, at: Timestamp) -> Result<ApiToken> {
        require_system_scope(scope, "revokes tokens")?;
        let mut state = self.state();
        let found = state.api_tokens.get_mut(token).ok_or_else(|| Error::not_found("token", token))?;
        found.revoked_at.get_or_insert(at);
        Ok(found.clone())
    }
}
