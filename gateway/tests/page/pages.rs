//! What each page has, and who sees it.

use pretty_assertions::assert_eq;
use runledger_core::{
    Admission, Category, EventDraft, ItemId, ItemKind, ItemMark, ItemStatus, NewThread, Outcome, OwnerId,
    RunId, Scope, ThreadId, Timestamp, Visibility,
};
use serde_json::json;

use crate::script::{Script, json_of};
use crate::site::{Page, Site, owner};
use crate::story;

async fn told() -> Site {
    let site = Site::new();
    story::tell(&site.ledger, &Scope::System).await;
    site
}

const CODING: &str = "/threads/0199f2a4-7c11-7f2e-9a55-4f0b6c1d2e3f";

fn count(page: &Page, class: &str) -> usize {
    page.with_class(class).len()
}

#[tokio::test]
async fn the_list_of_runs_is_filtered_and_paged() {
    let site = told().await;
    let first = site.page("/").await;
    assert_eq!(count(&first, "row"), 44);
    assert!(first.text.contains("Upgrade the driver to version 9"));
    let failed = site.page("/?status=error").await;
    assert_eq!((count(&failed, "row"), count(&failed, "bad")), (1, 1));
    assert!(failed.text.contains("refused the connection after 3 tries"));
    assert_eq!(count(&site.page("/?thread=daily-01").await, "row"), 3);
    assert_eq!(site.get(Some("system"), "/?status=nonsense").await.status, 422);
    assert_eq!(site.get(Some("system"), "/?cursor=nonsense").await.status, 422);
}

#[tokio::test]
async fn the_pages_of_a_list_have_every_row_once() {
    let site = Site::new();
    for number in 0..120 {
        let thread = NewThread::new(ThreadId::new(format!("t{number}")).unwrap());
        let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
        let run =
            Script::begin(&site.ledger, &Scope::System, thread, "r", &format!("Question {number}."), asked)
                .await;
        run.finish(Outcome::success()).await;
    }
    for list in ["/", "/threads"] {
        let mut titles: Vec<String> = Vec::new();
        let mut next = Some(list.to_owned());
        while let Some(path) = next {
            let page = site.page(&path).await;
            titles.extend(
                page.with_class("row-title")
                    .iter()
                    .filter_map(|tag| tag.attribute("href").map(str::to_owned)),
            );
            next = page.rel("next").map(str::to_owned);
        }
        let all = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!((all, titles.len()), (120, 120), "{list}");
    }
}

#[tokio::test]
async fn a_thread_is_readable_without_scripts() {
    let site = told().await;
    let page = site.page(CODING).await;
    for said in [
        "Do not just raise the timeout.",
        "It probably reads a wall clock.",
        "rg -n retries_are_bounded -A 30 src",
        "test retry::tests::retries_are_bounded ... FAILED",
        "+    #[tokio::test(start_paused = true)]",
        "tokio test start_paused Instant elapsed",
        "Compare the whole duration instead of a bound",
        "500 passed, 0 failed in 3.1 s",
        "It passed 500 times in a row.",
        "core/src/pool.rs:88",
        "exit 101",
    ] {
        assert!(page.text.contains(said), "{said}");
    }
    // Folded parts open without a script, and nothing waits for one to be shown.
    let folded = page.tags.iter().filter(|tag| tag.name == "details").count();
    let summaries = page.tags.iter().filter(|tag| tag.name == "summary").count();
    assert!(folded > 8 && folded == summaries);
    assert!(page.tags.iter().all(|tag| tag.attribute("hidden").is_none()));
    let turns: Vec<_> = page
        .with_class("turn")
        .iter()
        .filter_map(|turn| turn.attribute("data-run").map(str::to_owned))
        .collect();
    assert_eq!(turns, ["0199f2a4-8001-7aaa-8bbb-0000000000a1", "0199f2a4-8002-7aaa-8bbb-0000000000a2"]);
    assert_eq!(count(&page, "child"), 1);
    assert!(page.links().contains(&"/threads/0199f2a4-9001-7aaa-8bbb-0000000000c1"));
}

#[tokio::test]
async fn what_a_run_asked_failed_and_spent_is_told() {
    let site = told().await;
    let asking = site.page("/threads/0199f1d0-3333-7000-8000-000000000d01").await;
    assert!(asking.text.contains("Delete 41 merged branches?") && count(&asking, "question") == 1);
    let failed = site
        .page("/threads/0199f1c0-2222-7000-8000-000000000c01/runs/0199f1c0-2222-7000-8000-000000000c02")
        .await;
    assert!(failed.text.contains("ConnectionRefused") && count(&failed, "failure") == 1);
    assert!(failed.text.contains("3,120 of 20,000"));
    let events = site.page("/threads/0199f1c0-2222-7000-8000-000000000c01/runs/0199f1c0-2222-7000-8000-000000000c02?view=events").await;
    assert!(events.text.contains("run.failed") && events.text.contains("item.completed"));
}

#[tokio::test]
async fn a_run_is_paged_both_ways_and_opens_at_an_item() {
    let site = Site::new();
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    let mut run = Script::begin(&site.ledger, &Scope::System, thread, "r", "Go.", asked).await;
    for number in 0..250 {
        run.item(
            &format!("m{number}"),
            ItemKind::AgentMessage,
            ItemStatus::Completed,
            json!({ "content": format!("Line {number}.") }),
        )
        .await;
    }
    run.finish(Outcome::success()).await;
    let items = |page: &Page| -> Vec<String> {
        page.tags.iter().filter_map(|tag| tag.attribute("data-item").map(str::to_owned)).collect()
    };
    let (mut seen, mut pages, mut path) = (Vec::new(), Vec::new(), Some("/threads/t/runs/r".to_owned()));
    while let Some(next) = path {
        let page = site.page(&next).await;
        seen.extend(items(&page));
        path = page.rel("next").map(str::to_owned);
        pages.push(page);
    }
    assert_eq!((seen.len(), pages.len()), (251, 3));
    let back = site.page(pages[2].rel("prev").unwrap()).await;
    assert_eq!(items(&back), items(&pages[1]));
    let at = site.page("/threads/t/runs/r?item=m200").await;
    assert_eq!(items(&at).first().map(String::as_str), Some("m200"));
    assert_eq!(site.get(Some("system"), "/threads/t/runs/r?item=none").await.status, 404);
}

#[tokio::test]
async fn a_page_beyond_all_numbers_is_empty() {
    let site = Site::new();
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    Script::begin(&site.ledger, &Scope::System, thread, "r", "Go.", asked).await;
    for (query, side, way) in [
        ("before=0", "next", "/threads/t/runs/r?after=0"),
        ("after=18446744073709551615", "prev", "/threads/t/runs/r?before=18446744073709551615"),
    ] {
        let page = site.page(&format!("/threads/t/runs/r?{query}")).await;
        assert_eq!((count(&page, "item"), page.rel(side)), (0, Some(way)), "{query}");
        let events = site.page(&format!("/threads/t/runs/r?view=events&{query}")).await;
        assert!(events.text.contains("No events here."), "{query}");
    }
}

#[tokio::test]
async fn an_item_is_shown_once_whatever_it_says_it_is_part_of() {
    let site = Site::new();
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    let mut run = Script::begin(&site.ledger, &Scope::System, thread, "r", "Go.", asked).await;
    let chain: Vec<(String, String)> =
        (1..9).map(|number| (format!("d{number}"), format!("d{}", number - 1))).collect();
    let circles = [("self", "self"), ("a", "b"), ("b", "a"), ("part", "a"), ("orphan", "none")];
    let told = circles.iter().map(|(item, parent)| ((*item).to_owned(), (*parent).to_owned()));
    let told: Vec<(String, String)> = told.chain(chain).collect();
    for (item, parent) in &told {
        let mut mark =
            ItemMark::new(ItemId::new(item).unwrap(), ItemKind::AgentMessage, ItemStatus::Completed);
        mark.parent_item_id = Some(ItemId::new(parent).unwrap());
        run.event(EventDraft::item(mark, Category::Message, json_of(&json!({ "content": item })))).await;
    }
    for path in ["/threads/t", "/threads/t/runs/r", "/threads/t/fragment?updated_after=0"] {
        let page = site.page(path).await;
        let mut shown: Vec<&str> = page
            .tags
            .iter()
            .filter_map(|tag| tag.attribute("data-item"))
            .filter(|id| *id != "r-input")
            .collect();
        shown.sort_unstable();
        let mut expected: Vec<&str> = told.iter().map(|(item, _)| item.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(shown, expected, "{path}");
    }
}

#[tokio::test]
async fn hidden_runs_are_shown_where_they_are_asked_for() {
    let site = told().await;
    let (thread, run) = (ThreadId::new("daily-01").unwrap(), RunId::new("report-1-0").unwrap());
    site.ledger.runs().set_visibility(&Scope::System, &thread, &run, Visibility::Superseded).await.unwrap();
    assert_eq!(count(&site.page("/threads/daily-01").await, "turn"), 2);
    let all = site.page("/threads/daily-01?hidden=1").await;
    assert_eq!((count(&all, "turn"), count(&all, "hidden-run")), (3, 1));
}

#[tokio::test]
async fn agent_runs_usage_and_search_have_what_was_told() {
    let site = told().await;
    assert_eq!(count(&site.page("/agent-runs").await, "row"), 1);
    assert_eq!(count(&site.page("/agent-runs?agent=study*&status=completed").await, "row"), 1);
    assert_eq!(count(&site.page("/agent-runs?agent=study").await, "row"), 0);
    let transcript = site.page("/agent-runs/0199f1e0-4444-7000-8000-000000000e03").await;
    assert!(transcript.text.contains("Week 4: exercises.") && transcript.text.contains("Finite-Dimensional"));
    let usage = site.page("/usage").await;
    assert_eq!(count(&usage, "chart"), 4);
    assert!(usage.text.contains("sonnet-large-2026") && usage.text.contains("haiku-small-2026"));
    let found = site.page("/search?q=wall%20clock").await;
    assert!(count(&found, "row") > 0 && found.tags.iter().any(|tag| tag.name == "mark"));
    assert_eq!(count(&site.page("/search?q=zzzz").await, "row"), 0);
}

#[tokio::test]
async fn a_fragment_has_what_changed_and_goes_on_from_there() {
    let site = Site::new();
    let thread = NewThread::new(ThreadId::new("t").unwrap());
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    let mut run = Script::begin(&site.ledger, &Scope::System, thread, "r", "Go.", asked).await;
    run.says("one", "m", "First.", 1).await;
    let page = site.page("/threads/t").await;
    let turns = page.tags.iter().find(|tag| tag.attribute("id") == Some("turns")).unwrap();
    assert_eq!(turns.attribute("data-live"), Some("1"));
    let through = turns.attribute("data-through").unwrap();
    run.says("two", "m", "Second.", 1).await;
    let fragment = site.page(&format!("/threads/t/fragment?updated_after={through}")).await;
    assert!(fragment.text.contains("Second.") && !fragment.text.contains("First."));
    assert_eq!(fragment.tags[0].attribute("data-live"), Some("1"));
    run.finish(Outcome::success()).await;
    let through = fragment.tags[0].attribute("data-through").unwrap();
    let last = site.page(&format!("/threads/t/fragment?updated_after={through}")).await;
    assert_eq!(last.tags[0].attribute("data-live"), None);
    assert!(last.text.contains("success") && last.with_class("item").is_empty());
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let site = Site::new();
    let thread = NewThread {
        owner_id: Some(OwnerId::new("alice").unwrap()),
        display_name: Some("Alice's plans".to_owned()),
        ..NewThread::new(ThreadId::new("hers").unwrap())
    };
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    let run = Script::begin(&site.ledger, &owner("alice"), thread, "r", "A secret.", asked).await;
    run.finish(Outcome::success()).await;
    let paths = [
        "/threads/hers",
        "/threads/hers/runs/r",
        "/threads/hers/fragment?updated_after=0",
        "/?thread=hers",
        "/search?q=secret&thread=hers",
    ];
    for path in paths {
        assert_eq!(site.get(Some("alice"), path).await.status, 200, "{path}");
        let foreign = site.get(Some("mallory"), path).await;
        let missing = site.get(Some("mallory"), &path.replace("hers", "none")).await;
        assert_eq!((foreign.status, missing.status), (404, 404), "{path}");
        assert_eq!(foreign.text.replace("hers", "none"), missing.text, "{path}");
        assert!(foreign.header("content-type").unwrap().starts_with("text/html"));
    }
    for list in ["/", "/threads", "/search?q=secret", "/usage"] {
        let page = site.get(Some("mallory"), list).await;
        assert!(
            page.status == 200 && !page.text.contains("A secret.") && !page.text.contains("plans"),
            "{list}"
        );
    }
}

#[tokio::test]
async fn who_is_nobody_is_sent_to_the_login_or_told() {
    let page = Site::new().get(None, "/threads").await;
    assert_eq!((page.status, page.header("www-authenticate")), (401, Some("Bearer")));
    assert!(page.text.contains("say who you are"));
    let sent = Site::with_login("/login").get(None, "/threads?status=idle").await;
    assert_eq!((sent.status, sent.header("location")), (303, Some("/login?next=%2Fthreads%3Fstatus%3Didle")));
}

#[tokio::test]
async fn pages_are_not_kept_and_assets_are() {
    let site = Site::new();
    let page = site.page("/").await;
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let assets: Vec<&str> = page
        .tags
        .iter()
        .filter(|tag| matches!(tag.name.as_str(), "script" | "link"))
        .filter_map(|tag| tag.attribute("src").or(tag.attribute("href")))
        .collect();
    assert_eq!(assets.len(), 4);
    for asset in assets {
        let kept = site.get(None, asset).await;
        assert_eq!(
            (kept.status, kept.header("cache-control")),
            (200, Some("public, max-age=31536000, immutable"))
        );
        let (bare, _) = asset.split_once('?').unwrap();
        assert_eq!(site.get(None, bare).await.header("cache-control"), Some("no-cache"));
    }
    assert_eq!(site.get(None, "/assets/none.js").await.status, 404);
}
