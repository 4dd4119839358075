//! The pages in a real browser: a headless Chromium looks at a gateway over a SQLite file.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "in a test an unexpected answer is the finding")]

mod browser;
#[path = "../../../gateway/tests/page/script.rs"]
mod script;
#[path = "../../../gateway/tests/page/story.rs"]
mod story;

use browser::{Looking, Screen, Theme};
use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, ItemId, NewRun, NewThread, Outcome, RawJson, RunId, Scope, ThreadId, Timestamp,
};
use runledger_journal::RunJournal;
use runledger_journal::callbacks::{
    ChainEnd, ChainStart, ChatModelStart, Context, LlmEnd, LlmNewToken, RuntimeCallbacks as _, ToolEnd,
    ToolStart,
};
use serde_json::json;

const THREAD: &str = "/threads/0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f";
const RUN: &str = "/threads/0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f/runs/0199f2a4-8001-7aaa-8bbb-0000000000a1";
const PAGES: [(&str, &str); 9] = [
    ("runs", "/"),
    ("threads", "/threads"),
    ("thread", THREAD),
    ("run", RUN),
    ("asked", "/threads/0199f1d0-3333-7000-8000-000000000d01"),
    ("agent-runs", "/agent-runs"),
    ("agent-run", "/agent-runs/0199f1e0-4444-7000-8000-000000000e03"),
    ("usage", "/usage"),
    ("search", "/search?q=retries"),
];

async fn told() -> Option<Looking> {
    let looking = Looking::open().await?;
    story::tell(&looking.ledger, &Scope::System).await;
    Some(looking)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_complains_or_scrolls_sideways_and_all_are_pictured() {
    let Some(looking) = told().await else { return };
    for theme in [Theme::Light, Theme::Dark] {
        for (screen, size) in [(Screen::Desktop, "1280x800"), (Screen::Phone, "390x844")] {
            looking.set(screen, theme).await;
            for (name, path) in PAGES {
                looking.go(path).await;
                let widths: (i64, i64) = looking
                    .ask("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
                    .await;
                assert!(widths.0 <= widths.1, "{name} at {size}: {} in {}", widths.0, widths.1);
                looking.picture(&format!("{name}-{size}-{}", theme.name())).await;
                if name == "thread" {
                    looking.press(&["e"]).await;
                    let widths: (i64, i64) = looking
                        .ask("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
                        .await;
                    assert!(widths.0 <= widths.1, "{name} opened at {size}: {} in {}", widths.0, widths.1);
                    looking.picture(&format!("{name}-open-{size}-{}", theme.name())).await;
                }
            }
        }
    }
    looking.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_list_to_a_thread_and_a_call_by_hand_and_by_keys() {
    let Some(looking) = told().await else { return };
    looking.go("/").await;
    assert_eq!(looking.ask::<u64>("document.querySelectorAll('.row').length").await, 44);
    looking.click("a[href*='/threads/0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f']:not(.row-title)").await;
    looking.until("document.querySelector('h1')?.textContent === 'Fix the flaky retry test'").await;

    // A call opens by a click on its line.
    let is_open = |item: &str| format!("document.querySelector('#i-{item} > details').open");
    assert!(!looking.ask::<bool>(&is_open("call-1")).await);
    looking.click("#i-call-1 > details > summary").await;
    looking.until(&is_open("call-1")).await;
    assert!(
        looking
            .ask::<bool>("document.querySelector('#i-call-1').innerText.includes('Counter::default')")
            .await
    );

    // And by keys: to the third place of the page, which is the first turn's reasoning.
    looking.go(THREAD).await;
    looking.press(&["j", "j", "j"]).await;
    looking.until("document.activeElement?.id === 'i-think-1'").await;
    looking.press(&["o"]).await;
    looking.until(&is_open("think-1")).await;
    looking.press(&["k", "j", "Enter"]).await;
    looking.until(&format!("!{}", is_open("think-1"))).await;

    looking.press(&["?"]).await;
    looking.until("document.querySelector('#shortcuts').open").await;
    looking.picture("shortcuts-1280x800-light").await;
    looking.press(&["Escape"]).await;
    looking.until("!document.querySelector('#shortcuts').open").await;
    looking.press(&["g", "u"]).await;
    looking.until("location.pathname === '/usage'").await;
    looking.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_is_typed_and_leads_to_what_was_said() {
    let Some(looking) = told().await else { return };
    looking.go("/").await;
    looking.press(&["/"]).await;
    looking.until("document.activeElement.id === 'q'").await;
    let input = looking.page.find_element("#q").await.expect("a field");
    input.type_str("\"wall clock\"").await.expect("text");
    input.press_key("Enter").await.expect("a key");
    looking
        .until("location.pathname === '/search' && document.querySelectorAll('.hits mark').length > 0")
        .await;
    looking.click(".hits .row-title").await;
    looking.until("location.pathname.includes('/runs/') && document.querySelector(':target') !== null").await;
    assert!(
        looking.ask::<bool>("document.querySelector(':target').innerText.match(/wall.clock/) !== null").await
    );
    looking.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_theme_is_switched_and_stays() {
    let Some(looking) = told().await else { return };
    looking.go("/").await;
    let paper = "getComputedStyle(document.documentElement).backgroundColor";
    let light: String = looking.ask(paper).await;
    looking.click("#theme").await;
    let dark: String = looking.ask(paper).await;
    assert!(light != dark);
    looking.go("/threads").await;
    assert_eq!(looking.ask::<String>(paper).await, dark);
    looking.press(&["d"]).await;
    assert_eq!(looking.ask::<String>(paper).await, light);
    looking.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_read_without_scripts() {
    let Some(looking) = told().await else { return };
    looking.without_scripts().await;
    looking.go(THREAD).await;
    looking.picture("thread-without-scripts-1280x800-light").await;
    // A script of the test still runs; those of the page do not.
    assert!(!looking.ask::<bool>("document.documentElement.classList.contains('has-scripts')").await);
    assert!(looking.ask::<bool>("document.querySelector('#theme').checkVisibility() === false").await);
    looking.click("#i-call-5 > details > summary").await;
    looking.until("document.querySelector('#i-call-5 > details').open").await;
    assert!(looking.ask::<bool>("document.body.innerText.includes('500 passed, 0 failed in 3.1 s')").await);
    looking.click("nav a[href='/usage']").await;
    looking
        .until("location.pathname === '/usage' && document.querySelectorAll('svg.chart').length === 4")
        .await;
    looking.close().await;
}

/// A run that a journal writes while the page is open.
struct Writing {
    journal: RunJournal,
    calls: u32,
}

impl Writing {
    async fn begin(looking: &Looking, said: &str) -> Self {
        let thread = ThreadId::new("live").expect("an id");
        let at = Timestamp::now();
        let input = runledger_journal::user_message(ItemId::generate(), RawJson::string(said), at);
        let named = NewThread {
            display_name: Some("A run that goes on".to_owned()),
            ..NewThread::new(thread.clone())
        };
        looking.ledger.threads().create(&Scope::System, named).await.expect("a thread");
        let new = NewRun {
            admission: Admission {
                first_human_message: Some(said.to_owned()),
                created_at: at,
                ..Admission::default()
            },
            input: vec![input],
            ..NewRun::new(thread, RunId::new("goes-on").expect("an id"))
        };
        let journal = RunJournal::begin(&looking.ledger, &Scope::System, new).await.expect("a run");
        journal.on_chain_start(ChainStart { context: Context::new("chain"), name: Some("live") });
        journal.barrier().await.expect("stored");
        Self { journal, calls: 0 }
    }

    /// What the model says, piece by piece; `between` looks at the page before it is complete.
    async fn says(&mut self, pieces: &[&str], between: impl AsyncFnOnce()) {
        self.calls += 1;
        let id = format!("model-{}", self.calls);
        let context = Context::new(&id).below("chain");
        let shown = RawJson::from_stored("[]");
        self.journal.on_chat_model_start(ChatModelStart { context, messages: &shown });
        self.journal.barrier().await.expect("stored");
        for piece in pieces {
            self.journal.on_llm_new_token(LlmNewToken {
                context,
                token: &RawJson::string(piece),
                chunk: None,
            });
        }
        between().await;
        let text = pieces.concat();
        // The id that a runtime gives a message whose model gave it none.
        let message_id = format!("lc_run--{id}");
        let message = json!({
            "type": "ai", "id": message_id, "content": text, "response_metadata": { "model_name": "scripted" }
        });
        let response = json!({ "generations": [[{ "text": text, "message": message }]] });
        self.journal.on_llm_end(LlmEnd { context, response: &RawJson::from(response) });
        self.journal.barrier().await.expect("stored");
    }

    async fn calls(&self, tool: &str, output: &str) {
        let context = Context::new("tool").below("chain");
        let inputs = RawJson::from(json!({ "path": "README.md" }));
        self.journal.on_tool_start(ToolStart {
            context,
            name: tool,
            inputs: Some(&inputs),
            tool_call_id: Some("call-live"),
        });
        self.journal.on_tool_end(ToolEnd { context, name: Some(tool), output: &RawJson::string(output) });
        self.journal.barrier().await.expect("stored");
    }

    async fn end(self) {
        self.journal.on_chain_end(ChainEnd { context: Context::new("chain"), outputs: None });
        self.journal.finish(Outcome::success()).await.expect("an end");
        self.journal.close().await.expect("an end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_is_followed_to_its_end() {
    let Some(looking) = Looking::open().await else { return };
    let mut run = Writing::begin(&looking, "Count the words of README.md, slowly.").await;
    looking.go("/threads/live").await;
    looking.until("document.querySelector('#live-state').dataset.state === 'live'").await;

    // Pieces are heard while the message is made, and the message takes their place.
    run.says(&["I count ", "<b>word", "</b> by word."], async || {
        looking.until("document.querySelector('.streaming .streamed')?.textContent === 'I count <b>word</b> by word.'").await;
        looking.picture("live-streaming-1280x800-light").await;
    })
    .await;
    looking.until("[...document.querySelectorAll('.said.agent .prose')].some((said) => said.textContent.includes('<b>word</b> by word.'))").await;
    looking.until("document.querySelector('.streaming') === null").await;

    // Calls come, and what a reader opened stays open when more comes.
    run.calls("count_words", "412 words").await;
    looking.until("document.querySelector('.item.call summary .done') !== null").await;
    looking.click(".item.call > details > summary").await;
    for number in 0..40 {
        run.says(&[&format!("Line {number} of many.")], async || ()).await;
    }
    looking.until("document.body.innerText.includes('Line 39 of many.')").await;
    assert!(looking.ask::<bool>("document.querySelector('.item.call > details').open").await);

    // The page follows to its end, and stays where a reader scrolls to.
    let is_at_end = "innerHeight + scrollY >= document.documentElement.scrollHeight - 80";
    looking.until(is_at_end).await;
    looking.ask::<bool>("scrollTo(0, 0) === undefined").await;
    looking.until("document.querySelector('#follow-toggle').getAttribute('aria-pressed') === 'false'").await;
    run.says(&["One more below."], async || ()).await;
    looking.until("document.querySelector('#follow-toggle').classList.contains('has-news')").await;
    assert_eq!(looking.ask::<f64>("scrollY").await, 0.0);
    looking.picture("live-news-1280x800-light").await;
    looking.press(&["f"]).await;
    looking.until(is_at_end).await;

    run.end().await;
    looking.until("document.querySelector('#live-state').dataset.state === 'ended'").await;
    looking.until("document.querySelector('.turn-head .badge').textContent === 'success'").await;
    // What was followed is what is there.
    let followed: Vec<String> =
        looking.ask("[...document.querySelectorAll('[data-item]')].map((item) => item.dataset.item)").await;
    looking.go("/threads/live").await;
    let there: Vec<String> =
        looking.ask("[...document.querySelectorAll('[data-item]')].map((item) => item.dataset.item)").await;
    assert_eq!(followed, there);
    looking.close().await;
}
