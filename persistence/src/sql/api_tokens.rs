//! Tokens of an API. They are the system's: no statement asks for an owner's scope.

use std::sync::Arc;

use async_trait::async_trait;
use runledger_core::{
    ApiToken, ApiTokenFilter, ApiTokenId, ApiTokenStore, Cursor, Error, ListRange, OwnerId, Page, Result,
    Scope, Timestamp, require_system_scope,
};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Statement,
};

use super::{execute, position, record, records};
use crate::connect::Database;
use crate::entity::api_token::{ActiveModel, Column, Entity, Model};

/// Tokens over SQL.
#[derive(Debug)]
pub(crate) struct ApiTokens(pub(crate) Arc<Database>);

#[async_trait]
impl ApiTokenStore for ApiTokens {
    async fn create(&self, scope: &Scope, token: ApiToken) -> Result<()> {
        require_system_scope(scope, "keeps tokens")?;
        let token = token.checked()?;
        self.0
            .transaction("to keep the token", move |txn| {
                let token = token.clone();
                Box::pin(async move {
                    let statement = insert(txn.get_database_backend(), &token);
                    match execute(txn, "to keep the token", statement).await?.rows_affected() {
                        0 => Err(Error::already_exists("token", &token.token_id)),
                        _ => Ok(()),
                    }
                })
            })
            .await
    }

    async fn find(&self, scope: &Scope, token_hash: &str) -> Result<ApiToken> {
        require_system_scope(scope, "finds tokens")?;
        let absent = || Error::not_found("token", "with this hash");
        // What is no hash, PostgreSQL may not even take.
        if !ApiToken::is_hash(token_hash) {
            return Err(absent());
        }
        let statement = find(self.0.reader.get_database_backend(), token_hash);
        record::<Model, ApiToken>(&self.0.reader, "to find the token", statement).await?.ok_or_else(absent)
    }

    async fn list(
        &self,
        scope: &Scope,
        filter: &ApiTokenFilter,
        range: &ListRange,
    ) -> Result<Page<ApiToken>> {
        require_system_scope(scope, "lists tokens")?;
        let limit = range.checked_limit()?;
        let statement = list(self.0.reader.get_database_backend(), filter, range, limit)?;
        let found = records::<Model, ApiToken>(&self.0.reader, "to list tokens", statement).await?;
        Ok(Page::from_rows(found, limit, |it| Cursor::at(it.created_at, it.token_id.as_str())))
    }

    async fn revoke(&self, scope: &Scope, token: &ApiTokenId, at: Timestamp) -> Result<ApiToken> {
        require_system_scope(scope, "revokes tokens")?;
        let token = token.clone();
        self.0
            .transaction("to revoke the token", move |txn| {
                let token = token.clone();
                Box::pin(async move {
                    let backend = txn.get_database_backend();
                    execute(txn, "to revoke the token", revoke(backend, &token, at)).await?;
                    record::<Model, ApiToken>(txn, "to read the token", get(backend, &token))
                        .await?
                        .ok_or_else(|| Error::not_found("token", &token))
                })
            })
            .await
    }
}

fn insert(backend: DatabaseBackend, token: &ApiToken) -> Statement {
    let time = |at: Option<Timestamp>| at.map(Timestamp::to_chrono);
    let row = ActiveModel {
        token_id: ActiveValue::Set(token.token_id.to_string()),
        token_hash: ActiveValue::Set(token.token_hash.clone()),
        owner_id: ActiveValue::Set(token.owner_id.as_ref().map(OwnerId::to_string)),
        label: ActiveValue::Set(token.label.clone()),
        created_at: ActiveValue::Set(token.created_at.to_chrono()),
        expires_at: ActiveValue::Set(time(token.expires_at)),
        revoked_at: ActiveValue::Set(time(token.revoked_at)),
    };
    Entity::insert(row).on_conflict(OnConflict::new().do_nothing().to_owned()).build(backend)
}

fn revoke(backend: DatabaseBackend, token: &ApiTokenId, at: Timestamp) -> Statement {
    let sql = "UPDATE api_tokens SET revoked_at = $2 WHERE token_id = $1 AND revoked_at IS NULL";
    Statement::from_sql_and_values(backend, sql, [token.as_str().into(), at.to_chrono().into()])
}

pub(super) fn get(backend: DatabaseBackend, token: &ApiTokenId) -> Statement {
    Entity::find().filter(Column::TokenId.eq(token.as_str())).build(backend)
}

pub(super) fn find(backend: DatabaseBackend, token_hash: &str) -> Statement {
    Entity::find().filter(Column::TokenHash.eq(token_hash)).build(backend)
}

/// `InvalidInput` for a cursor that no listing made.
pub(super) fn list(
    backend: DatabaseBackend,
    filter: &ApiTokenFilter,
    range: &ListRange,
    limit: u32,
) -> Result<Statement> {
    let mut select = Entity::find();
    if let Some(owner) = &filter.owner_id {
        select = select.filter(Column::OwnerId.eq(owner.as_str()));
    }
    if let Some(cursor) = &range.cursor {
        let (at, id) = position(cursor)?;
        let place = Expr::tuple([Column::CreatedAt, Column::TokenId].map(Expr::col));
        select = select.filter(place.lt(Expr::tuple([Expr::val(at), Expr::val(id)])));
    }
    Ok(select
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::TokenId)
        .limit(u64::from(limit) + 1)
        .build(backend))
}
