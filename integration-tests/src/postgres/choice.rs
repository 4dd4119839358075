//! Which server the tests of this process get: the decision, apart from doing it.

use std::fmt;

/// The variable that leaves only one way.
pub(crate) const FORCED: &str = "RUNLEDGER_TEST_PG";
/// The variable that names a server.
pub(crate) const URL: &str = "RUNLEDGER_TEST_DATABASE_URL";
/// The variable that names the image of a container.
pub(crate) const IMAGE: &str = "RUNLEDGER_TEST_PG_IMAGE";

const DEFAULT_IMAGE: &str = "postgres:17-alpine";

/// A way to get a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Docker,
    Url,
    Local,
}

impl Way {
    const ALL: [Self; 3] = [Self::Docker, Self::Url, Self::Local];
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Docker => "docker",
            Self::Url => "url",
            Self::Local => "local",
        })
    }
}

/// What the environment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wishes {
    forced: Option<String>,
    pub(crate) image: String,
    pub(crate) url: Option<String>,
    ci: bool,
}

impl Wishes {
    /// Reads the variables through `variable`; one that is empty counts as unset.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            forced: set(FORCED),
            image: set(IMAGE).unwrap_or_else(|| DEFAULT_IMAGE.to_owned()),
            url: set(URL),
            ci: set("CI").is_some_and(|value| value == "true" || value == "1"),
        }
    }

    /// Whether a missing service is a failure rather than a skip.
    pub(crate) fn is_ci(&self) -> bool {
        self.ci
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<T> {
    /// A server, the way it came, and why the ways before it gave none.
    Server { way: Way, server: T, passed_over: Vec<String> },
    /// None, and the line to print for it.
    Skip(String),
    /// None where there must be one, and why.
    Fail(String),
}

/// Tries the ways in order until one gives a server; `attempt` answers why it cannot.
pub(crate) fn choose<T>(wishes: &Wishes, mut attempt: impl FnMut(Way) -> Result<T, String>) -> Choice<T> {
    let ways = match &wishes.forced {
        None => Way::ALL.to_vec(),
        Some(forced) => match Way::ALL.into_iter().find(|way| way.to_string() == *forced) {
            Some(way) => vec![way],
            None => {
                return Choice::Fail(format!("{FORCED}={forced} is not a way: set docker, url or local"));
            }
        },
    };
    let mut passed_over = Vec::new();
    for way in ways {
        match attempt(way) {
            Ok(server) => return Choice::Server { way, server, passed_over },
            Err(reason) => passed_over.push(format!("{way}: {reason}")),
        }
    }
    let reasons = passed_over.join("; ");
    if let Some(forced) = &wishes.forced {
        Choice::Fail(format!("{FORCED}={forced} cannot be had ({reasons})"))
    } else if wishes.ci {
        Choice::Fail(format!("no PostgreSQL, and CI=true makes that a failure ({reasons})"))
    } else {
        Choice::Skip(format!(
            "SKIPPED on PostgreSQL ({reasons}). Three ways to run it: a Docker engine with the image of {IMAGE} \
             (`just image` makes one without a registry); {URL}=postgres://... of a user who may create \
             databases; PostgreSQL's server binaries on this machine (PG_BIN, /usr/lib/postgresql or PATH)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pretty_assertions::assert_eq;

    use super::*;

    fn wishes(variables: &[(&str, &str)]) -> Wishes {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Wishes::read(|name| variables.get(name).map(|value| (*value).to_owned()))
    }

    /// A machine on which exactly `there` work.
    fn on(there: &[Way]) -> impl FnMut(Way) -> Result<&'static str, String> {
        move |way| if there.contains(&way) { Ok("running") } else { Err("absent".to_owned()) }
    }

    #[test]
    fn nothing_set_and_empty_variables_are_the_defaults() {
        let defaults = Wishes { forced: None, image: "postgres:17-alpine".to_owned(), url: None, ci: false };
        assert_eq!(wishes(&[]), defaults);
        assert_eq!(wishes(&[(FORCED, ""), (IMAGE, ""), (URL, ""), ("CI", "")]), defaults);
    }

    #[test]
    fn the_order_is_container_url_local() {
        let server = |way, passed_over: &[&str]| Choice::Server {
            way,
            server: "running",
            passed_over: passed_over.iter().map(|reason| (*reason).to_owned()).collect(),
        };
        let none = wishes(&[]);
        assert_eq!(choose(&none, on(&Way::ALL)), server(Way::Docker, &[]));
        assert_eq!(choose(&none, on(&[Way::Url, Way::Local])), server(Way::Url, &["docker: absent"]));
        assert_eq!(choose(&none, on(&[Way::Local])), server(Way::Local, &["docker: absent", "url: absent"]));
    }

    #[test]
    fn a_forced_way_is_the_only_one_tried() {
        for way in Way::ALL {
            let forced = wishes(&[(FORCED, &way.to_string())]);
            assert_eq!(
                choose(&forced, on(&Way::ALL)),
                Choice::Server { way, server: "running", passed_over: Vec::new() }
            );
            assert_eq!(
                choose(&forced, on(&[])),
                Choice::Fail(format!("RUNLEDGER_TEST_PG={way} cannot be had ({way}: absent)"))
            );
        }
        assert_eq!(
            choose(&wishes(&[(FORCED, "podman")]), on(&Way::ALL)),
            Choice::Fail("RUNLEDGER_TEST_PG=podman is not a way: set docker, url or local".to_owned())
        );
    }

    #[test]
    fn without_a_server_people_are_told_the_ways_and_ci_fails() {
        let Choice::Skip(line) = choose(&wishes(&[]), on(&[])) else {
            panic!("a person's machine without a server must skip");
        };
        assert_eq!(
            line,
            "SKIPPED on PostgreSQL (docker: absent; url: absent; local: absent). Three ways to run it: a Docker \
             engine with the image of RUNLEDGER_TEST_PG_IMAGE (`just image` makes one without a registry); \
             RUNLEDGER_TEST_DATABASE_URL=postgres://... of a user who may create databases; PostgreSQL's server \
             binaries on this machine (PG_BIN, /usr/lib/postgresql or PATH)"
        );
        assert_eq!(
            choose(&wishes(&[("CI", "true")]), on(&[])),
            Choice::Fail(
                "no PostgreSQL, and CI=true makes that a failure (docker: absent; url: absent; local: absent)"
                    .to_owned()
            )
        );
    }
}
