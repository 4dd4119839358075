//! A connection in between that breaks: a TCP proxy that cuts connections off at chosen bytes.
//!
//! A server on the same machine never loses an answer. In between, a connection can end with half a
//! request delivered, or with the request delivered and no word, or half of one, of the answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Where a connection is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// After so many bytes of requests; what is beyond them is not delivered.
    Request(u64),
    /// After so many bytes of answers; every request before is delivered.
    Answer(u64),
}

/// A proxy in front of a server. Dropping it ends it and cuts every connection off.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    listening: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of this machine for connections to `server`. `cut_of` says where
    /// connection number 0, 1 and so on is cut off; `None` leaves it alone.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(
        server: String,
        cut_of: impl Fn(u64) -> Option<Cut> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        let listening = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                let (server, cuts, cut) = (server.clone(), Arc::clone(&counted), cut_of(number));
                number += 1;
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(server).await
                        && carry(client, server, cut).await
                    {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { address, cuts, listening: listening.abort_handle() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it cut off so far.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Carries bytes both ways until one side ends or the connection is cut off, which it tells.
async fn carry(client: TcpStream, server: TcpStream, cut: Option<Cut>) -> bool {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (requests, answers) = match cut {
        None => (u64::MAX, u64::MAX),
        Some(Cut::Request(bytes)) => (bytes, u64::MAX),
        Some(Cut::Answer(bytes)) => (u64::MAX, bytes),
    };
    // Whichever direction ends first takes the other with it, and both sockets are closed.
    tokio::select! {
        was_cut = pass(from_client, to_server, requests) => was_cut,
        was_cut = pass(from_server, to_client, answers) => was_cut,
    }
}

/// Passes on at most so many bytes; true once there would be more.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut left: u64) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        let allowed = usize::try_from(left).map_or(read, |left| left.min(read));
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return false;
        }
        left -= allowed as u64;
        if allowed < read {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    /// A server that answers each byte with two.
    async fn doubling() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while let Ok(byte) = client.read_u8().await {
                        if client.write_all(&[byte, byte]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn connections_are_cut_off_where_it_was_said() {
        let server = doubling().await.to_string();
        let proxy = Proxy::start(server, |number| match number {
            0 => None,
            1 => Some(Cut::Request(2)),
            _ => Some(Cut::Answer(3)),
        })
        .await
        .unwrap();
        let mut heard = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(proxy.address()).await.unwrap();
            let mut answers = Vec::new();
            for byte in 1..=3_u8 {
                if client.write_all(&[byte]).await.is_err() {
                    break;
                }
                let mut answer = [0; 2];
                match client.read_exact(&mut answer).await {
                    Ok(_) => answers.push(byte),
                    Err(_) => break,
                }
            }
            heard.push(answers);
        }
        assert_eq!(heard, [vec![1, 2, 3], vec![1, 2], vec![1]]);
        assert_eq!(proxy.cuts(), 2);
    }
}
