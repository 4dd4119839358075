//! A caller that is believed because it is on this machine.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use runledger_core::Scope;

use crate::auth::{Auth, AuthError, Caller};

/// [`Auth`] that lets everyone in who reaches a listener on loopback: everyone on this machine.
///
/// Not behind a proxy: most ask under the address they were given, 127.0.0.1, and so whoever reaches the proxy would be
/// let in as the system. Use [`TokenAuth`](crate::TokenAuth) there.
///
/// For one developer on a machine of their own. A request is refused whose `Host` is not this machine's, so that a
/// site cannot reach it under a name of its own that leads here; and what a browser sends on behalf of another site is
/// refused for every [`Auth`].
#[derive(Clone, Debug)]
pub struct LoopbackAuth(Caller);

/// A listener that others than this machine reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is reached from other machines; without tokens only a loopback address is served, as 127.0.0.1")]
pub struct NotLoopback(pub SocketAddr);

impl LoopbackAuth {
    /// Everyone who reaches this listener sees and does everything.
    pub fn system(listener: SocketAddr) -> Result<Self, NotLoopback> {
        if listener.ip().is_loopback() {
            Ok(Self(Caller::new(Scope::System)))
        } else {
            Err(NotLoopback(listener))
        }
    }
}

#[async_trait]
impl Auth for LoopbackAuth {
    async fn authenticate(&self, request: &Parts) -> Result<Caller, AuthError> {
        let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = named.or_else(|| request.uri.authority().map(Authority::as_str));
        match host {
            Some(host) if is_loopback_host(host) => Ok(self.0.clone()),
            _ => Err(AuthError::Forbidden(
                "the request's Host is not this machine; ask for localhost or 127.0.0.1".to_owned(),
            )),
        }
    }
}

/// Whether a `Host` is a name of this machine that nobody else can give.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn only_names_of_this_machine_are_taken() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.1.2.3", "[::1]:8080"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "::",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn other_listeners_are_refused() {
        let open: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        assert_eq!(LoopbackAuth::system(open).unwrap_err(), NotLoopback(open));
        assert!(LoopbackAuth::system("[::1]:8080".parse().unwrap()).is_ok());
    }
}
