//! `token`: tokens for `runledger serve`: making them, listing them, revoking them.

use std::time::Duration;

use clap::{Args, Subcommand};
use runledger_core::{
    ApiToken, ApiTokenFilter, ApiTokenId, Ledger, ListRange, OwnerId, Page, Scope, Timestamp,
};
use runledger_gateway::Token;
use runledger_gateway::wire::WirePage;
use serde::Serialize;

use super::prune::span;
use super::readers::{finish, moment};
use crate::args::{DatabaseArgs, ListArgs};
use crate::output::{Align, Output, Table, printable};
use crate::{Failure, database};

/// Arguments of `token`.
#[derive(Args, Clone, Debug)]
pub struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What `token` can do.
#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Make a token and print it: this once, for only its hash is kept.
    Create(TokenCreateArgs),
    /// List tokens, newest first, without what they are.
    List(TokenListArgs),
    /// Revoke a token. A server that knows it takes it for a few seconds more.
    Revoke(TokenRevokeArgs),
}

/// Arguments of `token create`.
#[derive(Args, Clone, Debug)]
#[group(id = "whose", required = true, multiple = false, args = ["owner", "system"])]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct TokenCreateArgs {
    /// On whose behalf it speaks: it sees what this owner sees.
    #[arg(long)]
    pub owner: Option<OwnerId>,
    /// It speaks for the system: it sees and changes everything.
    #[arg(long)]
    pub system: bool,
    /// What it is for.
    #[arg(long)]
    pub label: Option<String>,
    /// How long it is good: a number of days, hours, minutes or seconds, as in 30d. Without it, until it is revoked.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| span("expires_in", text))]
    pub expires_in: Option<Duration>,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `token list`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct TokenListArgs {
    /// Only tokens that speak on behalf of this owner.
    #[arg(long)]
    pub owner: Option<OwnerId>,
    #[command(flatten)]
    pub range: ListArgs,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Arguments of `token revoke`.
#[derive(Args, Clone, Debug)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct TokenRevokeArgs {
    /// Its id, as `token list` tells it.
    #[arg(value_name = "ID")]
    pub token_id: ApiTokenId,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

impl TokenArgs {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            TokenCommand::Create(args) => args.json,
            TokenCommand::List(args) => args.json,
            TokenCommand::Revoke(args) => args.json,
        }
    }
}

/// A token as programs read it: its hash is nobody's business.
#[derive(Debug, Serialize)]
struct WireToken {
    token_id: ApiTokenId,
    owner_id: Option<OwnerId>,
    label: Option<String>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    /// The token itself, where it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl From<ApiToken> for WireToken {
    fn from(token: ApiToken) -> Self {
        Self {
            token_id: token.token_id,
            owner_id: token.owner_id,
            label: token.label,
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            token: None,
        }
    }
}

/// `token`.
pub(crate) async fn run(args: &TokenArgs, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        TokenCommand::Create(args) => {
            let ledger = database::open_or_make(&args.database.database_url, output).await?;
            let done = create(args, &ledger, output).await;
            ledger.close().await;
            done
        }
        TokenCommand::List(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            let done = list(args, &ledger, output).await;
            ledger.close().await;
            done
        }
        TokenCommand::Revoke(args) => {
            let ledger = database::open(&args.database.database_url).await?;
            let done = revoke(args, &ledger, output).await;
            ledger.close().await;
            done
        }
    }
}

async fn create(args: &TokenCreateArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let token =
        Token::generate().map_err(|error| Failure::io("get random bytes of the operating system", error))?;
    let now = Timestamp::now();
    let stored = ApiToken {
        token_id: ApiTokenId::generate(),
        token_hash: token.hash(),
        owner_id: args.owner.clone(),
        label: args.label.clone(),
        created_at: now,
        expires_at: args.expires_in.map(|good| now.after(good)),
        revoked_at: None,
    };
    ledger.api_tokens().create(&Scope::System, stored.clone()).await?;
    if args.json {
        let told = WireToken { token: Some(token.reveal().to_owned()), ..stored.into() };
        return output.json(&told);
    }
    output.line(token.reveal())?;
    let until = stored.expires_at.map_or_else(|| "it is revoked".to_owned(), moment);
    output.note(format!(
        "It is not shown again. It speaks for {} until {until}; `runledger token revoke {}` ends it.",
        whose(stored.owner_id.as_ref()),
        stored.token_id,
    ))
}

fn whose(owner: Option<&OwnerId>) -> String {
    owner.map_or_else(|| "the system".to_owned(), |owner| printable(owner.as_str()).into_owned())
}

async fn list(args: &TokenListArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let filter = ApiTokenFilter { owner_id: args.owner.clone() };
    let page: Page<ApiToken> =
        ledger.api_tokens().list(&Scope::System, &filter, &args.range.range()?).await?;
    let page = WirePage::of(page, WireToken::from);
    if args.json {
        return output.json(&page);
    }
    let mut table = Table::new(&[
        ("token", Align::Left),
        ("for", Align::Left),
        ("made", Align::Left),
        ("stands", Align::Left),
        ("label", Align::Flexible),
    ]);
    let now = Timestamp::now();
    for token in &page.items {
        let stands = match (token.revoked_at, token.expires_at) {
            (Some(at), _) => format!("revoked {}", moment(at)),
            (None, Some(at)) if at <= now => format!("expired {}", moment(at)),
            (None, Some(at)) => format!("good until {}", moment(at)),
            (None, None) => "good".to_owned(),
        };
        table.row(&[
            token.token_id.as_str(),
            token.owner_id.as_ref().map_or("system", OwnerId::as_str),
            &moment(token.created_at),
            &stands,
            token.label.as_deref().unwrap_or("-"),
        ]);
    }
    finish(output, &table, page.items.len(), "tokens", page.next_cursor.map(|c| format!("--cursor {c}")))
}

async fn revoke(args: &TokenRevokeArgs, ledger: &Ledger, output: &mut Output) -> Result<(), Failure> {
    let revoked = ledger.api_tokens().revoke(&Scope::System, &args.token_id, Timestamp::now()).await?;
    let at = revoked.revoked_at.map(moment).unwrap_or_default();
    if args.json {
        return output.json(&WireToken::from(revoked));
    }
    output.line(format!("revoked {} of {} at {at}", args.token_id, whose(revoked.owner_id.as_ref())))
}

/// Whether there is any token.
pub(crate) async fn is_any(ledger: &Ledger) -> runledger_core::Result<bool> {
    let range = ListRange::newest(1);
    let page = ledger.api_tokens().list(&Scope::System, &ApiTokenFilter::default(), &range).await?;
    Ok(!page.items.is_empty())
}
