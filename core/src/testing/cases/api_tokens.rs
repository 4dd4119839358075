//! Tokens of an API.

use pretty_assertions::assert_eq;

use crate::testing::build::*;
use crate::{
    ApiToken, ApiTokenFilter, ApiTokenId, Cursor, Erasure, ErrorKind, Ledger, ListRange, OwnerId, Scope,
};

fn id(text: &str) -> ApiTokenId {
    ok(ApiTokenId::new(text))
}

fn bob() -> OwnerId {
    ok(OwnerId::new("bob"))
}

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A token that speaks for bob.
fn token(name: &str, digit: char) -> ApiToken {
    ApiToken {
        token_id: id(name),
        token_hash: hash(digit),
        owner_id: Some(bob()),
        label: Some("laptop".to_owned()),
        created_at: at(1),
        expires_at: Some(at(100)),
        revoked_at: None,
    }
}

/// What is kept is found by its hash, whole, whether or not it is still good.
pub async fn a_token_is_found_by_its_hash(ledger: &Ledger) {
    let store = ledger.api_tokens();
    let of_system = ApiToken { owner_id: None, label: None, expires_at: None, ..token("s", 'b') };
    let old = ApiToken { expires_at: Some(at(2)), revoked_at: Some(at(3)), ..token("old", 'c') };
    for kept in [token("t", 'a'), of_system, old] {
        ok(store.create(&Scope::System, kept.clone()).await);
        assert_eq!(ok(store.find(&Scope::System, &kept.token_hash).await), kept);
    }
    for unknown in [hash('d').as_str(), "", "a\0", "A", &"é".repeat(32)] {
        let error = refused(store.find(&Scope::System, unknown).await);
        assert_eq!(error.kind(), ErrorKind::NotFound);
        // Who asks with a token that is none learns nothing of what he asked with.
        assert!(unknown.is_empty() || unknown == "A" || !error.to_string().contains(unknown), "{error}");
    }
}

/// Neither its id nor its hash is taken twice, and a hash is one.
pub async fn a_token_is_kept_once(ledger: &Ledger) {
    let store = ledger.api_tokens();
    ok(store.create(&Scope::System, token("t", 'a')).await);
    for taken in [token("t", 'b'), token("u", 'a')] {
        assert_eq!(kind(store.create(&Scope::System, taken).await), ErrorKind::AlreadyExists);
    }
    for odd in ["", "a", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), &"\0".repeat(64)] {
        let odd = ApiToken { token_hash: odd.to_owned(), ..token("u", 'b') };
        assert_eq!(kind(store.create(&Scope::System, odd).await), ErrorKind::InvalidInput);
    }
    let labelled = ApiToken { label: Some("a\0b".to_owned()), ..token("u", 'b') };
    ok(store.create(&Scope::System, labelled).await);
    let stored = ok(store.find(&Scope::System, &hash('b')).await);
    assert_eq!(stored.label.as_deref(), Some("a\u{fffd}b [1 NUL character replaced]"));
}

/// A token is revoked once: the first time holds.
pub async fn a_token_is_revoked_once(ledger: &Ledger) {
    let store = ledger.api_tokens();
    ok(store.create(&Scope::System, token("t", 'a')).await);
    let revoked = ApiToken { revoked_at: Some(at(5)), ..token("t", 'a') };
    for second in [5, 9] {
        assert_eq!(ok(store.revoke(&Scope::System, &id("t"), at(second)).await), revoked);
        assert_eq!(ok(store.find(&Scope::System, &hash('a')).await), revoked);
    }
    assert_eq!(kind(store.revoke(&Scope::System, &id("none"), at(5)).await), ErrorKind::NotFound);
}

/// Tokens are listed in pages, the newest first, of all owners or of one.
pub async fn tokens_are_listed_in_pages(ledger: &Ledger) {
    let store = ledger.api_tokens();
    for (number, digit) in ['a', 'b', 'c', 'd', 'e'].into_iter().enumerate() {
        let owner_id = if number == 2 { None } else { Some(bob()) };
        let created_at = at(10 + i64::try_from(number / 2).unwrap_or_default());
        let kept = ApiToken { owner_id, created_at, ..token(&format!("t{number}"), digit) };
        ok(store.create(&Scope::System, kept).await);
    }
    let of_bob = ApiTokenFilter { owner_id: Some(bob()) };
    let of_nobody_known = ApiTokenFilter { owner_id: Some(ok(OwnerId::new("carol"))) };
    let expected: [(ApiTokenFilter, &[&str]); 3] = [
        (ApiTokenFilter::default(), &["t4", "t3", "t2", "t1", "t0"]),
        (of_bob, &["t4", "t3", "t1", "t0"]),
        (of_nobody_known, &[]),
    ];
    for (filter, expected) in expected {
        let mut seen = Vec::new();
        let mut range = ListRange::newest(2);
        loop {
            let page = ok(store.list(&Scope::System, &filter, &range).await);
            seen.extend(page.items.iter().map(|token| token.token_id.to_string()));
            match page.next_cursor {
                Some(cursor) => range.cursor = Some(ok(Cursor::parse(cursor.as_str()))),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{filter:?}");
    }
}

/// An owner neither makes nor sees tokens, not even its own.
pub async fn tokens_are_the_systems(ledger: &Ledger) {
    let (store, scope) = (ledger.api_tokens(), Scope::Owner(bob()));
    ok(store.create(&Scope::System, token("t", 'a')).await);
    for answer in [
        kind(store.create(&scope, token("u", 'b')).await),
        kind(store.find(&scope, &hash('a')).await),
        kind(store.list(&scope, &ApiTokenFilter::default(), &ListRange::default()).await),
        kind(store.revoke(&scope, &id("t"), at(5)).await),
    ] {
        assert_eq!(answer, ErrorKind::InvalidInput);
    }
    assert_eq!(ok(store.find(&Scope::System, &hash('a')).await), token("t", 'a'));
}

/// Nobody speaks for an owner who was erased.
pub async fn an_erased_owner_has_no_tokens(ledger: &Ledger) {
    let store = ledger.api_tokens();
    for erasure in [Erasure::Anonymise, Erasure::Delete] {
        let of_system = ApiToken { owner_id: None, ..token("s", 'b') };
        ok(store.create(&Scope::System, token("t", 'a')).await);
        ok(ledger.erase_owner(&Scope::System, &bob(), erasure, at(50)).await);
        assert_eq!(kind(store.find(&Scope::System, &hash('a')).await), ErrorKind::NotFound);
        if erasure == Erasure::Anonymise {
            ok(store.create(&Scope::System, of_system.clone()).await);
        }
        assert_eq!(ok(store.find(&Scope::System, &hash('b')).await), of_system);
    }
}
