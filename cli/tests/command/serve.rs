//! `serve`: the process, from its start to the signal that ends it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use clap::Parser as _;
use pretty_assertions::assert_eq;
use runledger::Cli;
use serde_json::{Value, json};

use crate::Place;

/// A server that is ended with the test.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_runledger"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database-url", &place.url()])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { process, address }
    }

    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Asks it to stop, and gives what it said beside.
    fn stop(mut self) -> String {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn it_asks_for_tokens_and_stops_when_it_is_told_to() {
    let place = Place::new();
    let token = place.json(&["token", "create", "--owner", "alice", "--json"]).await["token"].clone();
    let system = place.json(&["token", "create", "--system", "--json"]).await["token"].clone();
    let bearer = |token: &Value| format!("Authorization: Bearer {}\r\n", token.as_str().unwrap());
    let server = Server::start(&place, &[]);
    assert_eq!(server.get("/readyz", ""), (200, json!({ "status": "ok" }).to_string()));
    assert_eq!(server.get("/api/usage", "").0, 401);
    assert_eq!(server.get("/api/usage", &bearer(&token)).0, 200);
    assert_eq!(server.get("/metrics", &bearer(&token)).0, 403);
    let (status, metrics) = server.get("/metrics", &bearer(&system));
    assert_eq!(status, 200);
    for counted in [
        "runledger_http_requests_total{method=\"GET\",path=\"/api/usage\",status=\"401\"} 1",
        "runledger_http_request_duration_seconds_bucket{method=\"GET\",path=\"/readyz\",le=\"+Inf\"} 1",
    ] {
        assert!(metrics.contains(counted), "{metrics}");
    }
    let said = server.stop();
    assert!(said.ends_with("callers are known by their tokens\nstopped\n"), "{said}");
}

#[tokio::test]
async fn a_new_file_is_set_up_and_whoever_may_come_in_is_told() {
    let place = Place::new();
    let server = Server::start(&place, &["--no-auth", "--no-page", "--public-metrics"]);
    assert_eq!(server.get("/api/usage?by=owner", "").0, 200);
    assert_eq!(server.get("/metrics", "").0, 200);
    assert_eq!(server.get("/threads", "").0, 404);
    let said = server.stop();
    assert!(
        said.contains("made the schema of ") && said.contains("WARNING: nobody is asked for a token"),
        "{said}"
    );
    let server = Server::start(&place, &[]);
    assert!(server.stop().contains("there is no token yet"));
}

#[tokio::test]
async fn nobody_is_let_in_from_elsewhere_without_a_token() {
    let place = Place::new();
    let said = place.run(&["serve", "--no-auth", "--listen", "0.0.0.0:0"]).await;
    assert_eq!((said.code, place.database().exists()), (2, false));
    assert!(said.err.contains("127.0.0.1") && said.err.contains("runledger token create"), "{}", said.err);
    for args in [["--cors-origin", "*"], ["--listen", "here"], ["--timeout", "1"], ["--body-limit", "-1"]] {
        let error = Cli::try_parse_from(["runledger", "serve"].iter().chain(&args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
