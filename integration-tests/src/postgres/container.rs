//! PostgreSQL in a container.
//!
//! The bulk of the tests share one container per process; tests that stop, restart or cut off a
//! server take one of their own with [`container`].

use std::{env, io::Write as _, process::Stdio, time::Duration};

use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _,
    core::{IntoContainerPort as _, Mount, client::docker_client_instance},
    runners::AsyncRunner as _,
};

use super::{
    choice::{IMAGE, Wishes},
    local::free_port,
    reaper::Reaper,
    server::{Fsync, until_ready},
};

const PORT: u16 = 5432;
const DATA: &str = "/var/lib/postgresql/data";
/// Images of this name are made on this machine; no registry has them.
const MADE_HERE: &str = "runledger-test-";
/// A guard against a network that swallows packets, not an expectation.
const PULL_GUARD: Duration = Duration::from_mins(10);

/// A running PostgreSQL of one's own. Dropping it removes the container with its data.
#[derive(Debug)]
pub struct Container {
    url: String,
    container: ContainerAsync<GenericImage>,
    _reaper: Reaper,
}

impl Container {
    /// The URL of its database `postgres`, for a superuser, no password asked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server with SIGKILL and starts it anew, on the same data and port. Waits until it answers.
    ///
    /// # Errors
    /// When the engine refuses, or the server does not come up.
    pub async fn kill_and_restart(&self) -> Result<(), String> {
        let killed = tokio::process::Command::new("docker")
            .args(["kill", "--signal", "KILL", self.container.id()])
            .stdout(Stdio::null())
            .status()
            .await
            .map_err(|error| error.to_string())?;
        if !killed.success() {
            return Err(format!("docker kill ended with {killed}"));
        }
        self.container.start().await.map_err(|error| error.to_string())?;
        let running = async || self.container.is_running().await.unwrap_or(true);
        until_ready(std::slice::from_ref(&self.url), running).await.map(drop)
    }

    /// The container itself, to stop, pause or inspect.
    #[must_use]
    pub fn container(&self) -> &ContainerAsync<GenericImage> {
        &self.container
    }

    /// Starts `image` and waits until it answers.
    ///
    /// # Errors
    /// Why there is none: no engine, no image, or a server that does not come up, with its log.
    pub(super) async fn start(image: &str) -> Result<Self, String> {
        Self::start_as(image, Data::Fleeting).await
    }

    async fn start_as(image: &str, data: Data) -> Result<Self, String> {
        make_available(image).await?;
        let request = match data {
            Data::Fleeting => request(image).with_mount(Mount::tmpfs_mount(DATA)),
            // A port that the engine chooses is another one after each start.
            Data::Lasting => {
                let port = free_port().map_err(|error| format!("no free port: {error}"))?;
                request(image).with_mapped_port(port, PORT.tcp())
            }
        };
        let container = request.start().await.map_err(|error| error.to_string())?;
        let reaper = Reaper::new("docker rm -fv \"$1\"", &[container.id()], None)
            .map_err(|error| format!("failed to start a shell: {error}"))?;
        let port = container.get_host_port_ipv4(PORT.tcp()).await.map_err(|error| error.to_string())?;
        let named = container.get_host().await.map_err(|error| error.to_string())?.to_string();
        let urls: Vec<String> = hosts(env::var("DOCKER_HOST").ok().as_deref(), named)
            .iter()
            .map(|host| format!("postgres://postgres@{host}:{port}/postgres"))
            .collect();
        let running = async || container.is_running().await.unwrap_or(true);
        let url = match until_ready(&urls, running).await {
            Ok(url) => url,
            Err(reason) => {
                let log = container.stderr_to_vec().await.unwrap_or_default();
                return Err(format!("{reason}; its log: {}", String::from_utf8_lossy(&log)));
            }
        };
        Ok(Self { url, container, _reaper: reaper })
    }
}

/// Whether a server's data outlives its end.
#[derive(Clone, Copy, Debug)]
enum Data {
    Fleeting,
    Lasting,
}

/// A server of one's own in a container, or `None` with a printed line where there is none.
///
/// # Panics
/// Under `CI=true` when no container can be had: these tests must really run in containers.
pub async fn container() -> Option<Container> {
    container_with(Data::Fleeting).await
}

/// As [`container`], one that can be [killed and restarted](Container::kill_and_restart).
///
/// # Panics
/// As [`container`].
pub async fn lasting_container() -> Option<Container> {
    container_with(Data::Lasting).await
}

async fn container_with(data: Data) -> Option<Container> {
    let wishes = Wishes::read(|name| env::var(name).ok());
    match Container::start_as(&wishes.image, data).await {
        Ok(container) => Some(container),
        Err(reason) if wishes.is_ci() => {
            panic!("no container of {}, and CI=true makes that a failure: {reason}", wishes.image)
        }
        Err(reason) => {
            // Past libtest's capture, which hides what a passing test prints.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED without a container of {} ({reason}). It needs a Docker engine and the image of \
                 {IMAGE}; `just image` makes one without a registry",
                wishes.image
            );
            None
        }
    }
}

/// An image that is on the engine is taken as it is; another one is pulled, unless its name says
/// that no registry has it.
async fn make_available(image: &str) -> Result<(), String> {
    if !is_on_path("docker") {
        return Err("the command docker is not on PATH; it removes the container afterwards".to_owned());
    }
    let docker = docker_client_instance().await.map_err(|error| error.to_string())?;
    docker.ping().await.map_err(|_| "no engine answers".to_owned())?;
    if docker.inspect_image(image).await.is_ok() {
        return Ok(());
    }
    if image.starts_with(MADE_HERE) {
        return Err(format!("the engine has no image {image}: make it with `just image`"));
    }
    let _ = writeln!(std::io::stderr(), "pulling {image} for the tests on PostgreSQL");
    match tokio::time::timeout(PULL_GUARD, request(image).pull_image()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(format!("{image} is not on the engine and cannot be pulled")),
    }
}

fn request(image: &str) -> ContainerRequest<GenericImage> {
    let (name, tag) = name_and_tag(image);
    let settings = Fsync::Off.settings().iter().flat_map(|setting| ["-c", setting]);
    GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
        .with_env_var("PGDATA", DATA)
        .with_cmd(settings)
}

/// A colon before the last slash is a registry's port, not a tag.
fn name_and_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// Where a published port may be reached. An engine behind a socket is on this machine and publishes
/// for IPv4 (which `localhost` need not mean) on the loopback unless we are in a container
/// ourselves; whether we are cannot be told for sure, so both are tried.
fn hosts(docker_host: Option<&str>, named: String) -> Vec<String> {
    let is_elsewhere = docker_host.is_some_and(|url| url.starts_with("tcp:") || url.starts_with("http"));
    if is_elsewhere {
        return vec![named];
    }
    let mut hosts = vec!["127.0.0.1".to_owned()];
    if named != "localhost" {
        hosts.push(named);
    }
    hosts
}

fn is_on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn an_image_name_is_cut_at_its_tag_only() {
        assert_eq!(name_and_tag("postgres:17-alpine"), ("postgres", "17-alpine"));
        assert_eq!(name_and_tag("postgres"), ("postgres", "latest"));
        assert_eq!(name_and_tag("localhost:5000/our/postgres"), ("localhost:5000/our/postgres", "latest"));
        assert_eq!(name_and_tag("localhost:5000/postgres:15"), ("localhost:5000/postgres", "15"));
    }

    #[test]
    fn a_published_port_is_looked_for_where_the_engine_is() {
        let hosts = |docker_host, named: &str| super::hosts(docker_host, named.to_owned());
        assert_eq!(hosts(None, "localhost"), ["127.0.0.1"]);
        assert_eq!(hosts(Some("unix:///run/docker.sock"), "172.17.0.1"), ["127.0.0.1", "172.17.0.1"]);
        assert_eq!(hosts(Some("tcp://builder:2375"), "builder"), ["builder"]);
    }

    #[tokio::test]
    async fn an_image_that_only_this_machine_makes_is_never_pulled() {
        let reason = Container::start("runledger-test-absent:0").await.unwrap_err();
        // Without an engine there is nothing to be asked for it.
        if !reason.contains("docker") && !reason.contains("engine answers") {
            assert_eq!(reason, "the engine has no image runledger-test-absent:0: make it with `just image`");
        }
    }
}
