//! `serve`: the ledger over HTTP, for programs and for a browser.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Args;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use runledger_core::Ledger;
use runledger_gateway::{
    Gateway, LoopbackAuth, Metrics, MetricsText, Options, Origin, Pages, Shutdown, TokenAuth,
};
use runledger_persistence::SqlLedger;
use tokio::net::TcpListener;

use super::prune::span;
use super::token;
use crate::args::DatabaseArgs;
use crate::output::{Output, Tone};
use crate::{Failure, database};

const HELP: &str = "\
Callers are known by tokens: `runledger token create --owner NAME` makes one that sees what NAME sees, `--system` one \
that sees everything. Programs send it as `Authorization: Bearer rl_...`, people paste it on /login. The API is below /api \
and described by /api/openapi.json; /healthz, /readyz and /metrics are for operators.

TLS, and names that the world knows, are the business of a proxy in front of it.";

/// Seconds, from the quick to the slow: where the histogram of durations is cut.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// How often the recorder tidies up where nobody asks for the metrics.
const UPKEEP: Duration = Duration::from_secs(5);

/// Arguments of `serve`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = HELP)]
#[expect(missing_docs, reason = "documented at their types; comments here would be their help")]
pub struct ServeArgs {
    /// Where to listen; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Ask nobody for a token: everybody on this machine sees and changes everything. Only on a loopback address, and
    /// never behind a proxy, which would let in everybody who reaches it.
    #[arg(long)]
    pub no_auth: bool,
    /// A site whose scripts may call this server, as `https://app.example`. May be given several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN", value_parser = |text: &str| Origin::parse(text))]
    pub cors_origins: Vec<Origin>,
    /// The most bytes of a request's body.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub body_limit: usize,
    /// How long a request may take that is no stream and no wait for a run: 30s, 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = |text: &str| span("timeout", text))]
    pub timeout: Duration,
    /// How long requests are waited for when it is told to stop.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = |text: &str| span("grace", text))]
    pub grace: Duration,
    /// Serve programs only, and no pages.
    #[arg(long)]
    pub no_page: bool,
    /// Show the metrics to everybody; without it, a token of the system is needed.
    #[arg(long)]
    pub public_metrics: bool,
    #[command(flatten)]
    pub database: DatabaseArgs,
}

impl ServeArgs {
    fn options(&self, shutdown: Shutdown) -> Options {
        let metrics = match recorder() {
            None => Metrics::Hidden,
            Some(recorder) => {
                let text = MetricsText::new(move || recorder.render());
                if self.public_metrics { Metrics::ForEveryone(text) } else { Metrics::ForSystem(text) }
            }
        };
        Options {
            body_limit: self.body_limit,
            timeout: self.timeout,
            cors_origins: self.cors_origins.clone(),
            pages: if self.no_page { Pages::LeftOut } else { Pages::Served },
            metrics,
            shutdown,
            ..Options::default()
        }
    }
}

/// The recorder of this process's metrics; none where something else records them.
fn recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let durations = Matcher::Suffix("_seconds".to_owned());
        PrometheusBuilder::new().set_buckets_for_metric(durations, &BUCKETS).ok()?.install_recorder().ok()
    };
    RECORDER.get_or_init(install).clone()
}

/// `serve`.
pub(crate) async fn run(args: &ServeArgs, output: &mut Output) -> Result<(), Failure> {
    // Before anything is opened or made.
    let everyone = args.no_auth.then(|| LoopbackAuth::system(args.listen)).transpose().map_err(|error| {
        Failure::Usage(format!(
            "--no-auth: {error}; else leave it out and make a token with `runledger token create`"
        ))
    })?;
    let ledger = database::open_or_make(&args.database.database_url, output).await?;
    let done = serve(args, everyone, &ledger, output).await;
    ledger.close().await;
    done
}

async fn serve(
    args: &ServeArgs,
    everyone: Option<LoopbackAuth>,
    ledger: &SqlLedger,
    output: &mut Output,
) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::io(format!("listen on {}", args.listen), error))?;
    let address = listener.local_addr().map_err(|error| Failure::io("find the address", error))?;
    // Before it is said that all is ready: whoever reads that may stop it at once.
    let stop = Stop::listen()?;
    let shutdown = Shutdown::new();
    let stored: Ledger = (**ledger).clone();
    tell(args, address, &stored, output).await?;
    let gateway = match everyone {
        Some(everyone) => Gateway::new(stored, everyone),
        None => Gateway::new(stored.clone(), TokenAuth::new(stored)),
    };
    let router = gateway.with_options(args.options(shutdown.clone())).router();
    let tidying = tokio::spawn(tidy());
    let ending = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { ending.begun().await });
    let mut server = tokio::spawn(server.into_future());
    let ended = tokio::select! {
        ended = &mut server => Some(ended),
        () = stop.asked() => {
            // Streams end by themselves then; what else was asked for is answered first.
            shutdown.begin();
            tokio::time::timeout(args.grace, &mut server).await.ok()
        }
    };
    tidying.abort();
    match ended {
        Some(Ok(Ok(()))) => output.note("stopped"),
        Some(Ok(Err(error))) => Err(Failure::io("serve", error)),
        Some(Err(error)) => Err(Failure::Refused(format!("the server ended: {error}"))),
        None => {
            server.abort();
            output.note("stopped; requests that were not answered in time were cut off")
        }
    }
}

/// Keeps the recorder small where nobody asks for the metrics.
async fn tidy() {
    let Some(recorder) = recorder() else { return };
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        recorder.run_upkeep();
    }
}

/// Says what is served, to whom, and where.
async fn tell(
    args: &ServeArgs,
    address: SocketAddr,
    ledger: &Ledger,
    output: &mut Output,
) -> Result<(), Failure> {
    let database = runledger_migration::redacted(&args.database.database_url);
    output.note(format!("serving {database}"))?;
    if args.no_auth {
        let warning = "WARNING: nobody is asked for a token; everybody on this machine, and whoever reaches a proxy in front \
             of it, sees and changes everything";
        output.note(output.style().paint(Tone::Bad, warning))?;
    } else {
        output.note("callers are known by their tokens")?;
        if !token::is_any(ledger).await? {
            output.note(
                "there is no token yet: `runledger token create --owner NAME`, or `--system`, makes one",
            )?;
        }
        if !address.ip().is_loopback() {
            output.note("other machines reach it, and without TLS: put a proxy with TLS in front of it")?;
        }
    }
    output.line(format!("http://{address}"))?;
    output.flush()
}

/// The signals that ask a process to stop.
struct Stop {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(|error| Failure::io("listen for signals", error))?,
        })
    }

    /// Returns when the process is asked to stop.
    async fn asked(mut self) {
        #[cfg(unix)]
        let terminated = async {
            self.terminate.recv().await;
        };
        #[cfg(not(unix))]
        let terminated = std::future::pending::<()>();
        tokio::select! {
            () = terminated => {}
            // Where it cannot be listened for, the system's own way to stop is left.
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
    }
}
