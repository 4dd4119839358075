// What a page does beyond being read: theme, keyboard, and following a run that goes on.
// Nothing here makes markup of text: fragments come rendered and escaped from the server, deltas are text nodes.
"use strict";
(() => {
  const root = document.documentElement;
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const base = document.body.dataset.base ?? "";

  // --- Theme ---------------------------------------------------------------------------------------------------
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  function switchTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("runledger.theme", root.dataset.theme);
    } catch {
      // It holds for this page, then.
    }
  }
  one("#theme")?.addEventListener("click", switchTheme);

  // --- Times ---------------------------------------------------------------------------------------------------
  function ago(at) {
    const seconds = Math.max(0, Math.floor((Date.now() - at) / 1000));
    if (seconds < 5) return "just now";
    if (seconds < 60) return `${seconds} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
    if (seconds < 2592000) return `${Math.floor(seconds / 86400)} d ago`;
    return null;
  }
  function tellTimes() {
    for (const time of all("time[data-ago]")) {
      const text = ago(Date.parse(time.dateTime));
      if (text !== null && time.textContent !== text) time.textContent = text;
    }
  }
  setInterval(() => document.hidden || tellTimes(), 15000);

  // --- Folding -------------------------------------------------------------------------------------------------
  const folds = () => all("#main details.fold:not(.about)");
  function toggleAll() {
    const open = !folds().every((fold) => fold.open);
    for (const fold of folds()) fold.open = open;
    for (const button of all("[data-toggle-all]")) button.textContent = open ? "Fold all" : "Open all";
  }
  for (const button of all("[data-toggle-all]")) button.addEventListener("click", toggleAll);

  // Whoever comes for one item finds it open.
  function openTarget() {
    // The browser has found it: an address that cannot be decoded has no target.
    const target = one(":target");
    if (!target) return;
    one("details.fold", target)?.setAttribute("open", "");
    target.scrollIntoView({ block: "start" });
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  // --- Keyboard ------------------------------------------------------------------------------------------------
  const shortcuts = one("#shortcuts");
  one("#help")?.addEventListener("click", () => shortcuts.showModal());

  // What j and k go through: rows of a list, or the items of turns and what is folded in them.
  const stops = () => all("#main [data-nav], #main .items > .item, #main .items > .item > .parts > .item");
  let current = null;
  function go(by) {
    const places = stops();
    if (places.length === 0) return;
    let at = places.indexOf(document.activeElement?.closest?.("[data-nav], .item") ?? current);
    if (at < 0) at = places.indexOf(current);
    const next = places[Math.min(places.length - 1, Math.max(0, at + by))] ?? places[0];
    current = next;
    if (!next.hasAttribute("tabindex")) next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
  function open() {
    const place = document.activeElement?.closest?.("[data-nav], .item") ?? current;
    if (!place) return;
    const fold = one(":scope > details.fold", place);
    if (fold) fold.open = !fold.open;
    else one("a.row-title, h2 a", place)?.click();
  }

  let awaitsPage = false;
  const isTyping = (target) => target.closest?.("input, textarea, select, [contenteditable]");
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (shortcuts.open) return;
    if (awaitsPage) {
      awaitsPage = false;
      const page = one(`nav [data-key="${CSS.escape(event.key)}"]`);
      if (page) {
        event.preventDefault();
        page.click();
      }
      return;
    }
    const keys = {
      "/": () => one("#q").focus(),
      j: () => go(1),
      k: () => go(-1),
      o: open,
      e: toggleAll,
      d: switchTheme,
      f: () => one("#follow-toggle")?.click(),
      g: () => (awaitsPage = true),
      "?": () => shortcuts.showModal(),
    };
    // Enter belongs to links, buttons and summaries that have the focus.
    if (event.key === "Enter" && !event.target.closest("a, button, summary")) keys.Enter = open;
    const act = Object.hasOwn(keys, event.key) && keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // --- Fresh parts of a page -----------------------------------------------------------------------------------
  async function load(address) {
    const answer = await fetch(address, { headers: { accept: "text/html" }, credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.status}`);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  }
  async function refresh(selector) {
    const fresh = one(selector, await load(location.href));
    const stale = one(selector);
    if (!fresh || !stale || fresh.innerHTML === stale.innerHTML) return;
    // Where somebody is amid the list, it stays.
    if (stale.contains(document.activeElement)) return;
    stale.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
  }
  const refreshed = one("[data-refresh]");
  if (refreshed) {
    let pause = Number(refreshed.dataset.refresh) * 1000;
    const again = async () => {
      if (!document.hidden) {
        try {
          await refresh("[data-refresh]");
          pause = Number(refreshed.dataset.refresh) * 1000;
        } catch {
          pause = Math.min(pause * 2, 120000);
        }
      }
      setTimeout(again, pause);
    };
    setTimeout(again, pause);
  }

  // --- Following a run -----------------------------------------------------------------------------------------
  const turns = one("#turns[data-live]");
  if (turns) follow(turns);

  function follow(turns) {
    const thread = `${base}/threads/${encodeURIComponent(turns.dataset.thread)}`;
    const streamed = `${base}/api/threads/${encodeURIComponent(turns.dataset.thread)}/stream`;
    const says = one("#live-state");
    const toggle = one("#follow-toggle");
    let through = Number(turns.dataset.through);
    let source = null;
    let isStuck = true;
    let hasEnded = false;
    let wanted = false;
    let busy = false;

    const say = (text, state) => {
      if (says.textContent !== text) says.textContent = text;
      says.dataset.state = state;
    };
    const atBottom = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
    const toBottom = () => scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
    const stick = (stuck) => {
      isStuck = stuck;
      toggle.setAttribute("aria-pressed", String(stuck));
      toggle.textContent = stuck ? "Following" : "Follow";
      if (stuck) toggle.classList.remove("has-news");
    };
    const grew = () => {
      if (isStuck) toBottom();
      else {
        toggle.classList.add("has-news");
        toggle.textContent = "More below ↓";
      }
    };
    toggle.addEventListener("click", () => {
      stick(!isStuck || toggle.classList.contains("has-news"));
      if (isStuck) toBottom();
    });
    // Whoever scrolls up reads; whoever comes back to the end follows.
    let last = scrollY;
    addEventListener("scroll", () => {
      if (scrollY < last - 4 && isStuck && !atBottom()) stick(false);
      else if (scrollY > last && !isStuck && atBottom()) stick(true);
      last = scrollY;
    }, { passive: true });

    const turnOf = (run) => all("[data-run]", turns).find((turn) => turn.dataset.run === run);
    const itemOf = (turn, item) => all("[data-item]", turn).find((found) => found.dataset.item === item);

    // What a reader opened stays open when its item is rendered anew.
    function keepOpen(stale, fresh) {
      const before = all("details", stale);
      all("details", fresh).forEach((fold, at) => {
        if (before[at]?.open) fold.open = true;
      });
    }
    function put(turn, fresh) {
      const stale = itemOf(turn, fresh.dataset.item);
      if (stale) {
        keepOpen(stale, fresh);
        // Only parts that changed come along: the others stay.
        const changed = one(":scope > .parts", fresh);
        const parts = one(":scope > .parts", stale);
        changed?.remove();
        if (parts) fresh.append(parts);
        stale.replaceWith(fresh);
        for (const part of [...(changed?.children ?? [])]) put(turn, part);
        return;
      }
      const parent = fresh.dataset.parent && itemOf(turn, fresh.dataset.parent);
      let list = one(".items", turn);
      if (parent) {
        list = one(":scope > .parts", parent);
        if (!list) {
          list = document.createElement("div");
          list.className = "parts";
          parent.append(list);
        }
      }
      const seq = Number(fresh.dataset.seq);
      const later = [...list.children].find((item) => Number(item.dataset.seq) > seq);
      list.insertBefore(fresh, later ?? null);
    }
    function putTurn(fresh) {
      const turn = turnOf(fresh.dataset.run);
      if (!turn) {
        turns.append(fresh);
        return;
      }
      for (const part of [".turn-head", ".turn-foot"]) {
        const [before, after] = [one(`:scope > ${part}`, turn), one(`:scope > ${part}`, fresh)];
        if (before && after && before.innerHTML !== after.innerHTML) {
          keepOpen(before, after);
          before.replaceWith(after);
        }
      }
      for (const item of [...one(".items", fresh).children]) put(turn, item);
    }

    async function update() {
      wanted = true;
      if (busy) return;
      busy = true;
      try {
        while (wanted) {
          wanted = false;
          const hidden = turns.dataset.hidden ? "&hidden=1" : "";
          const page = await load(`${thread}/fragment?updated_after=${through}${hidden}`);
          const fragment = one(".fragment", page);
          if (!fragment) return;
          for (const turn of [...fragment.children]) putTurn(document.importNode(turn, true));
          through = Number(fragment.dataset.through);
          grew();
          if (fragment.dataset.more) wanted = true;
          else if (!fragment.dataset.live) end();
        }
        if (!hasEnded) say("Live", "live");
      } catch {
        // The stream tells of it again when it is back.
        say("Reconnecting…", "lost");
        setTimeout(update, 3000);
      } finally {
        busy = false;
      }
    }
    let soon = 0;
    const updateSoon = () => {
      clearTimeout(soon);
      soon = setTimeout(update, 60);
    };

    function hear(delta) {
      const turn = turnOf(delta.run_id);
      if (!turn) return updateSoon();
      let item = itemOf(turn, delta.item_id);
      if (!item) {
        item = document.createElement("div");
        item.className = delta.kind === "reasoning" ? "item reasoning streaming" : "item said agent streaming";
        item.dataset.item = delta.item_id;
        item.dataset.seq = String(Number.MAX_SAFE_INTEGER);
        const who = document.createElement("p");
        who.className = "who";
        who.textContent = { text: "Agent", reasoning: "Reasoning", arguments: "Call" }[delta.kind] ?? "Agent";
        const text = document.createElement("pre");
        text.className = "text streamed";
        item.append(who, text);
        one(".items", turn).append(item);
      }
      const text = one("pre.streamed", item);
      // An item without one is complete: its text is all there.
      if (!text) return;
      text.append(delta.text);
      grew();
    }

    function connect() {
      if (source || hasEnded) return;
      source = new EventSource(`${streamed}?after_seq=${through}`);
      source.addEventListener("open", () => say("Live", "live"));
      source.addEventListener("event", updateSoon);
      source.addEventListener("gap", updateSoon);
      source.addEventListener("delta", (frame) => {
        try {
          hear(JSON.parse(frame.data));
        } catch {
          updateSoon();
        }
      });
      source.addEventListener("error", () => {
        if (hasEnded) return;
        say("Reconnecting…", "lost");
        // A stream that was refused is not opened again by the browser.
        if (source?.readyState === EventSource.CLOSED) {
          disconnect();
          setTimeout(() => document.hidden || connect(), 5000);
          setTimeout(update, 5000);
        }
      });
    }
    function disconnect() {
      source?.close();
      source = null;
    }
    function end() {
      hasEnded = true;
      disconnect();
      say("The run has ended", "ended");
      // What was begun and never completed is no record.
      for (const begun of all(".streaming", turns)) begun.remove();
      refresh(".thread-head").catch(() => {});
    }
    // Browsers have few connections for a host; a page that nobody sees gives its own back.
    addEventListener("visibilitychange", () => {
      if (hasEnded) return;
      if (document.hidden) disconnect();
      else {
        update();
        connect();
      }
    });
    addEventListener("pagehide", disconnect);
    say("Connecting…", "lost");
    stick(true);
    if (!location.hash) toBottom();
    if (!document.hidden) connect();
  }
})();
