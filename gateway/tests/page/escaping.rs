//! What others wrote never becomes markup, on any page, and no page needs a script or style that is not a file.

use std::collections::{BTreeSet, VecDeque};

use runledger_core::{
    Admission, AgentRunId, AssistantId, Caller, Category, EventDraft, EventType, InteractionId, ItemId,
    ItemKind, ItemStatus, MemoryLedger, NewAgentRun, NewInteraction, NewThread, Outcome, Scope, Spawn,
    ThreadId, Timestamp, TokenCounts,
};
use serde_json::json;

use crate::script::{Script, json_of};
use crate::site::{Page, Site};
use crate::story;

/// What is tried. Each names an element or attribute `canary`, which no page has of itself.
const CORPUS: &[&str] = &[
    "<canary>hello</canary>",
    "<script canary>alert(1)</script>",
    "\"><canary autofocus onfocus=alert(1)>",
    "' canary='1' onmouseover='alert(1)",
    "\" canary=\"1\" onclick=\"alert(1)",
    "</title><canary></script><canary></style><canary></textarea><canary>",
    "<img src=x onerror=alert(1) canary>",
    "<svg/onload=alert(1) canary><canary/></svg>",
    "<!--><canary>--><canary>",
    "<![CDATA[<canary>]]>",
    "javascript:alert(1)//<canary>",
    "data:text/html,<canary>",
    "[canary](javascript:alert(1)) ![canary](http://example.org/canary.png) **<canary>** `<canary>`",
    "```html\n<canary>\n```\n# <canary>\n<canary",
    "&lt;canary&gt;&#60;canary&#62;&canary;",
    "\u{202e}canary\u{2066}\u{200b}\u{feff}",
    "canary \0\u{1}\u{8}\u{b}\u{c}\u{1b}[31m\u{7f}\u{85}\u{9b}",
    "../../canary/..%2f%00?canary=1#canary",
    "{{canary}} ${canary} <%= canary %> @canary",
    "+ADw-canary+AD4-",
    "<canary style=\"x:expression(alert(1))\"><link rel=stylesheet href=//example.org canary><base href=//example.org canary>",
];

/// An id cannot have what is not printable, nor more than 128 bytes.
fn id_of(text: &str) -> String {
    let kept: String =
        text.chars().filter(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')).collect();
    kept.chars().take(60).collect()
}

/// A ledger in which everything that can be named or said is this.
async fn tell(ledger: &runledger_core::Ledger, evil: &str) {
    let (scope, id) = (Scope::System, id_of(evil));
    let thread = ThreadId::new(&id).unwrap();
    let label: String = id.chars().take(16).collect();
    let new = NewThread {
        display_name: Some(evil.to_owned()),
        assistant_id: Some(AssistantId::new(&id).unwrap()),
        model: Some(evil.to_owned()),
        system_prompt: Some(evil.to_owned()),
        metadata: json_of(&json!({ evil: evil })),
        owner_id: Some(runledger_core::OwnerId::new(&id).unwrap()),
        ..NewThread::new(thread.clone())
    };
    let agent = NewAgentRun {
        subject_id: Some(id.clone()),
        ..NewAgentRun::new(AgentRunId::new(&id).unwrap(), id.clone(), evil)
    };
    let admission = Admission {
        assistant_id: Some(AssistantId::new(&id).unwrap()),
        model_name: Some(id.clone()),
        agent_run: Some(agent),
        metadata: json_of(&json!({ evil: evil })),
        created_at: Timestamp::now(),
        ..Admission::default()
    };
    let mut run = Script::begin(ledger, &scope, new, &id, evil, admission).await;
    let spawn = Spawn::new(thread, runledger_core::RunId::new(&id).unwrap());
    for (number, kind) in ItemKind::KNOWN
        .iter()
        .cloned()
        .chain([ItemKind::from_stored("canary.kind"), ItemKind::from_stored("canary")])
        .enumerate()
    {
        let item = format!("{number}{id}");
        let call = json!({ "name": evil, "args": { evil: evil, "list": [evil] } });
        if kind.is_call() {
            let detail = json!({
                "command": [evil], "cwd": evil, "exit_code": 1, "stderr": evil, "server": evil, "query": evil, "path": evil,
                "changes": { evil: { "type": evil, "unified_diff": format!("@@ {evil}\n+{evil}\n-{evil}"), "move_path": evil, "content": evil } },
                "receiver_thread_ids": [id], "prompt": evil, "namespace": evil, "saved_path": evil, "action": { evil: evil },
            });
            let end =
                json!({ "content": evil, "detail": detail, "error": { "type": evil, "message": evil } });
            run.call(&item, kind, call, end, 5).await;
        } else {
            let content = json!({
                "content": evil, "text": evil, "model": evil, "phase": evil, "questions": { evil: evil }, "tool_calls": [{ "id": evil, "name": evil, "args": {} }],
                "description": evil, "activity": evil, "agent_thread_id": id, "hint": evil, "target": evil, "output": evil, "detail": evil,
            });
            run.item(&item, kind, ItemStatus::Completed, content).await;
        }
    }
    let shapeless = json!([evil, { evil: [evil] }]);
    run.item("shapeless", ItemKind::AgentMessage, ItemStatus::Completed, shapeless).await;
    let mut event = EventDraft::new(
        EventType::new(&label).unwrap_or_else(|_| EventType::new("x").unwrap()),
        Category::new(&label).unwrap_or(Category::Trace),
        json_of(&json!(evil)),
    );
    event.caller = Some(Caller::new(&id).unwrap());
    run.event(event).await;
    run.used(&id, &id, TokenCounts::of(10, 5), Some(10));
    run.asks(NewInteraction {
        interaction_id: InteractionId::new(&id).unwrap(),
        kind: id.clone(),
        request: json_of(&json!({ evil: evil })),
        item_id: None,
    });
    run.finish(Outcome { error: Some(evil.to_owned()), ..Outcome::interrupted(Outcome::WAITING_FOR_INPUT) })
        .await;
    let child = NewThread {
        display_name: Some(evil.to_owned()),
        spawn: Some(spawn.by_item(ItemId::new(format!("7{id}")).unwrap())),
        ..NewThread::new(ThreadId::new(format!("child {id}")).unwrap())
    };
    let asked = Admission { created_at: Timestamp::now(), ..Admission::default() };
    Script::begin(ledger, &scope, child, &id, evil, asked).await.finish(Outcome::error(evil)).await;
}

/// What the pages are made of, and no more.
const ELEMENTS: &[&str] = &[
    "a",
    "article",
    "bdi",
    "body",
    "button",
    "caption",
    "circle",
    "code",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "figcaption",
    "figure",
    "form",
    "g",
    "h1",
    "h2",
    "h4",
    "head",
    "header",
    "html",
    "input",
    "kbd",
    "label",
    "li",
    "line",
    "link",
    "main",
    "mark",
    "meta",
    "nav",
    "ol",
    "option",
    "p",
    "path",
    "pre",
    "rect",
    "script",
    "section",
    "select",
    "span",
    "strong",
    "summary",
    "svg",
    "table",
    "tbody",
    "td",
    "text",
    "tfoot",
    "th",
    "thead",
    "time",
    "title",
    "tr",
];

fn check(path: &str, page: &Page) {
    for tag in &page.tags {
        assert!(ELEMENTS.contains(&tag.name.as_str()), "{path}: an element {}", tag.name);
        for (name, value) in &tag.attributes {
            let is_known = name.starts_with("data-")
                || name.starts_with("aria-")
                || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            assert!(
                is_known && !name.starts_with("on") && name != "style" && !name.contains("canary"),
                "{path}: {name} of {}",
                tag.name
            );
            assert!(!value.contains(is_invisible), "{path}: {value:?} in {name}");
        }
        for name in ["href", "src", "action"] {
            let Some(address) = tag.attribute(name) else { continue };
            let is_ours =
                (address.starts_with('/') && !address.starts_with("//")) || address.starts_with('#');
            assert!(is_ours, "{path}: {name} is {address}");
        }
        assert!(tag.name != "script" || tag.attribute("src").is_some(), "{path}: a script without a file");
    }
    assert!(!page.text.contains(is_invisible), "{path}: a character that cannot be seen");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
}

fn is_invisible(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{feff}')
}

/// Looks at every page that can be reached.
async fn crawl(site: &Site, start: &[String]) -> usize {
    let mut seen = BTreeSet::new();
    let mut queue: VecDeque<String> = start.iter().cloned().collect();
    while let Some(path) = queue.pop_front() {
        let bare = path.split('#').next().unwrap_or_default().to_owned();
        if bare.is_empty() || !seen.insert(bare.clone()) || seen.len() > 90 {
            continue;
        }
        let page = site.get(Some("system"), &bare).await;
        check(&bare, &page);
        assert!(page.status < 500, "{bare} is {}: {}", page.status, page.text);
        queue.extend(page.links().into_iter().map(str::to_owned));
    }
    seen.len()
}

#[tokio::test]
async fn what_others_wrote_never_becomes_markup() {
    for evil in CORPUS {
        let site = Site::new();
        tell(&site.ledger, evil).await;
        let mut encoded = String::new();
        for byte in evil.bytes() {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        let mut start: Vec<String> =
            ["/", "/threads", "/agent-runs", "/usage", "/search?q=canary"].map(str::to_owned).to_vec();
        start.extend(
            [
                "/?status=",
                "/?thread=",
                "/?cursor=",
                "/search?q=",
                "/threads?metadata=a%3D",
                "/agent-runs?agent=",
                "/threads/",
                "/usage?days=",
            ]
            .map(|path| format!("{path}{encoded}")),
        );
        let pages = crawl(&site, &start).await;
        assert!(pages > 20, "{evil:?}: {pages} pages");
        // It was there to be seen, all the same.
        let list = site.page("/").await;
        assert!(list.text.contains("canary"), "{evil:?} is not on {}", list.text);
        let thread: String = id_of(evil).bytes().map(|byte| format!("%{byte:02X}")).collect();
        let fragment = site.page(&format!("/threads/{thread}/fragment?updated_after=0")).await;
        check("a fragment", &fragment);
        assert!(fragment.text.matches("canary").count() > 20, "{evil:?}");
    }
}

#[tokio::test]
async fn every_page_of_a_story_keeps_the_policy_and_links_to_pages_that_are_there() {
    let site = Site::new();
    story::tell(&site.ledger, &Scope::System).await;
    let mut queue = VecDeque::from(["/".to_owned(), "/search?q=retries".to_owned()]);
    let mut seen = BTreeSet::new();
    while let Some(path) = queue.pop_front() {
        let bare = path.split('#').next().unwrap_or_default().to_owned();
        if bare.is_empty() || !seen.insert(bare.clone()) {
            continue;
        }
        let page = site.page(&bare).await;
        check(&bare, &page);
        queue.extend(page.links().into_iter().map(str::to_owned));
    }
    assert!(seen.len() > 100, "{}", seen.len());
}

#[tokio::test]
async fn below_a_path_of_the_application_every_address_begins_with_it() {
    let ledger = MemoryLedger::new().ledger();
    tell(&ledger, "canary").await;
    let site = Site::below(ledger, "/ledger");
    for path in [
        "/ledger",
        "/ledger/threads",
        "/ledger/threads/canary",
        "/ledger/threads/canary/runs/canary",
        "/ledger/usage",
    ] {
        let page = site.page(path).await;
        let addresses =
            page.tags.iter().flat_map(|tag| ["href", "src", "action"].map(|name| tag.attribute(name)));
        for address in addresses.flatten() {
            assert!(address.starts_with("/ledger") || address.starts_with('#'), "{path}: {address}");
        }
    }
    assert_eq!(site.get(Some("system"), "/ledger/threads/none").await.status, 404);
}
