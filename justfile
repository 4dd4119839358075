# Everything that is done to this repository. CI runs `.ci/run`, which runs `just ci`.

crates := "--workspace --locked"

# lists the recipes
default:
    @just --list --unsorted

# runs the scripted agent, then shows its replay and where the data is
demo:
    cargo run --locked -- demo

# compiles everything without running it
check:
    cargo check {{crates}} --all-targets

# formats the code
fmt:
    cargo fmt --all

# fails if `just fmt` would change anything
fmt-check:
    cargo fmt --all -- --check

# runs clippy on each feature set, warnings being errors
lint:
    cargo clippy {{crates}} --all-targets -- -D warnings
    cargo clippy {{crates}} --all-targets --no-default-features -- -D warnings
    cargo clippy {{crates}} --all-targets --all-features -- -D warnings

# runs all tests, on PostgreSQL too where one can be had
test:
    cargo test {{crates}}

# looks at the pages in a headless Chromium, and leaves pictures in target/screenshots (part of `test`)
browser:
    timeout 600 cargo test {{crates}} --test browser

# tests that everything is read the same where another crate switches serde_json/arbitrary_precision on
precision:
    cargo fmt --manifest-path precision/Cargo.toml -- --check
    cargo test --manifest-path precision/Cargo.toml --locked

# breaks things on purpose (short or long) and prints what was broken and what was found
chaos form="short":
    .ci/chaos {{form}}

# asks a server everything that its document of the API says (short or long), and prints what was answered
api-fuzz form="short":
    .ci/api-fuzz {{form}}

# writes gateway/openapi.json anew, which is committed and compared
openapi:
    RUNLEDGER_WRITE_OPENAPI=1 cargo test {{crates}} --test gateway -- openapi::

# writes docs/statements.md anew, which is committed and compared (RUNLEDGER_TEST_DATABASE_URL names a PostgreSQL server)
statements:
    RUNLEDGER_WRITE_STATEMENTS=1 cargo test {{crates}} --lib sql::statements::a_call

# builds the API documentation, warnings being errors
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc {{crates}} --no-deps

# proves that each crate depends on what it may and nothing else
arrows:
    .ci/arrows

# checks licences, banned and doubled crates, and where crates come from
deny:
    cargo deny --all-features --locked check --hide-inclusion-graph bans licenses sources

# finds dependencies that nobody uses
machete:
    cargo machete

# makes the PostgreSQL image for tests out of this machine's server, without a registry
image:
    integration-tests/image/build.sh

# runs what must pass each time, with the seconds of each step
ci:
    @JUST={{just_executable()}} .ci/timed fmt-check arrows deny machete lint doc test precision peers-smoke chaos api-fuzz

# measures ours beside the bare drivers and the peers, and writes target/peers (`just peers --help`)
peers *arguments:
    cargo run --release --locked -p runledger-integration-tests --features peers --bin peers -- {{arguments}}

# has `just peers` do a little of everything, and counts what each contender stored
peers-smoke:
    cargo test {{crates}} --features runledger-integration-tests/peers --bin peers --test peers

# measures pure functions (criterion)
bench *arguments:
    cargo bench --locked -p runledger-core {{arguments}}

# runs what takes longer or needs the network, after `just ci`
ci-long: ci (chaos "long") (api-fuzz "long")
    cargo deny --all-features --locked check advisories
    cargo bench --locked -p runledger-core
