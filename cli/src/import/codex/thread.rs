//! Lines of rollouts become records of a thread.
//!
//! Everything is decided by the lines up to now and by what the ledger holds, so that it makes no difference
//! in how many imports a file is read.

use std::collections::{HashMap, HashSet, VecDeque};

use runledger_core::{
    CallId, Category, Contents, Error, ErrorKind, Event, EventDraft, EventFilter, EventType, ItemFilter,
    ItemId, ItemKind, ItemMark, ItemStatus, ListRange, MAX_LIMIT, Outcome, QuarantineId, Quarantined,
    RawJson, RunFilter, RunId, RunProgress, RunStatus, SeqRange, SourceId, ThreadId, Timestamp, TokenCounts,
    ToolCall, UsageDraft, text,
};

use super::header::Rollout;
use super::json::{Members, string};
use super::line::{Record, Source, Written, event_type};
use super::lines::{RawLine, escape};
use super::report::{RolloutReport, Unreadable};
use super::shape::{self, Asked};
use super::writer::{Writer, closing, metadata};
use crate::Failure;
use crate::import::plan;

/// Why a turn was ended whose end no line tells.
const INCOMPLETE: &str = "incomplete";
/// The same of a turn of an old rollout, which has no ends of turns at all.
const UNKNOWN: &str = "unknown";
/// How the id of a turn begins that only what a person said tells.
const IMPLICIT: &str = "turn-";

/// So many lines back, one that repeats another is found.
const RECENT: usize = 256;
/// So many items of the open turn are remembered, and so many bytes of what their calls were asked.
const REMEMBERED: usize = 20_000;
const REMEMBERED_BYTES: usize = 8 << 20;

/// Types of records that are known.
const KINDS: [&str; 13] = [
    "session_meta",
    "response_item",
    "event_msg",
    "turn_context",
    "world_state",
    "compacted",
    "token_usage_record",
    "inter_agent_communication",
    "inter_agent_communication_metadata",
    "security_risk_score",
    "retained_context",
    "realtime_item",
    "ghost_snapshot",
];
/// Types of messages that are known, besides those that have a shape.
const MESSAGES: [&str; 16] = [
    "task_started",
    "turn_started",
    "task_complete",
    "turn_complete",
    "turn_aborted",
    "item_completed",
    "token_count",
    "thread_settings_applied",
    "thread_goal_updated",
    "thread_rolled_back",
    "thread_name_updated",
    "mcp_tool_call_end",
    "sub_agent_activity",
    "agent_message",
    "user_message",
    "error",
];

/// What is known of an item of the open turn.
#[derive(Debug)]
enum State {
    /// A call that has no result; what it was asked, while that is remembered.
    Open(ItemKind, Option<Asked>),
    /// It has ended.
    Ended,
}

/// The turn that holds the slot.
#[derive(Debug)]
struct Open {
    run: RunId,
    epoch: u64,
    is_implicit: bool,
    /// Whether it reviews: its reviewer's turn begins meanwhile, and does not end it.
    is_reviewing: bool,
    is_second_version: bool,
    model: Option<String>,
    items: HashMap<ItemId, State>,
    /// Whether `items` has all of its items.
    is_whole: bool,
    /// Bytes of what is remembered of calls.
    remembered: usize,
    /// Calls whose processes went on after their output.
    going_on: HashSet<ItemId>,
}

/// A thread that lines are read into.
pub(crate) struct Thread<'a> {
    writer: Writer<'a>,
    open: Option<Open>,
    /// Turns that are in the ledger.
    turns: HashSet<RunId>,
    /// What the thread's usage records sum up to.
    counted: TokenCounts,
    /// The responses that are counted; `None` while it is not known which those of earlier imports are. They are all
    /// that grows with a file, by fingerprints.
    responses: Option<HashSet<String>>,
    /// Numbers and fingerprints of the last lines.
    recent: VecDeque<(u64, String)>,
    last_ordinal: Option<u64>,
    last_time: Timestamp,
    /// The thread whose file is read: a base's lines name it as their own.
    reading: ThreadId,
}

/// Where a line is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) rollout: &'a Rollout,
    /// The thread of the base that it is from, where that is in the ledger: what it took is told there.
    pub(crate) base: Option<&'a ThreadId>,
}

/// One line as it is handled.
struct Line<'r> {
    record: Record<'r>,
    written: Written,
    at: Timestamp,
}

impl<'a> Thread<'a> {
    pub(crate) fn new(writer: Writer<'a>, created_at: Timestamp) -> Self {
        Self {
            reading: writer.thread.clone(),
            writer,
            open: None,
            turns: HashSet::new(),
            counted: TokenCounts::default(),
            responses: Some(HashSet::new()),
            recent: VecDeque::new(),
            last_ordinal: None,
            last_time: created_at,
        }
    }

    pub(crate) fn writer(&mut self) -> &mut Writer<'a> {
        &mut self.writer
    }

    /// Goes on with a thread that the ledger has: what a turn has open, what was counted, what came last.
    pub(crate) async fn resume(&mut self, rollout: &str) -> Result<(), Failure> {
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        let thread = self.writer.thread.clone();
        self.responses = None;
        let totals = ledger.usage().by_thread(scope, &thread, true).await?.totals;
        self.counted = TokenCounts {
            input: totals.input_tokens,
            output: totals.output_tokens,
            total: totals.total_tokens,
            cache_read: totals.cache_read_tokens,
            cache_write: totals.cache_write_tokens,
            reasoning: totals.reasoning_tokens,
        };
        let range = SeqRange::last(RECENT as u32);
        let last = ledger.events().list_events(scope, &thread, &EventFilter::default(), &range).await?;
        for event in &last.items {
            self.last_time = event.created_at;
            let Some(written) = Written::read(event) else { continue };
            if written.rollout.as_deref().unwrap_or(thread.as_str()) != rollout {
                continue;
            }
            let content = ledger.whole(scope, &thread, &event.content).await?;
            let line = written.line(Source::of(event, &content)).unwrap_or_default();
            if let Some(ordinal) = written.ordinal {
                self.last_ordinal = self.last_ordinal.max(Some(ordinal));
                self.remember(ordinal, text::fingerprint(&line));
            }
        }
        let head = ledger.threads().head(scope, &thread).await?;
        let Some(run) = head.active_run_id else { return Ok(()) };
        let stored = ledger.runs().get(scope, &thread, &run).await?;
        if stored.status == RunStatus::Pending {
            self.writer.start(&run, head.epoch, stored.created_at).await?;
        }
        let mut open = Open {
            is_implicit: run.as_str().contains(IMPLICIT),
            is_reviewing: self.is_reviewing(&run).await?,
            is_second_version: false,
            model: None,
            items: HashMap::new(),
            is_whole: false,
            remembered: 0,
            going_on: HashSet::new(),
            epoch: head.epoch,
            run,
        };
        let context = self.last_of(&open.run, "codex.turn_context").await?;
        if let Some(context) = context.as_ref().and_then(|event| Members::parse(event.content.as_str())) {
            open.hear(&context);
        }
        if self.writer.has_open_items(&open.run).await? {
            open.going_on = self.going_on(&open.run).await?;
        }
        self.turns.insert(open.run.clone());
        self.open = Some(open);
        Ok(())
    }

    /// Turns to a file. One that is begun goes on with the numbers of what it goes on from.
    pub(crate) fn turn_to(&mut self, rollout: &Rollout, is_beginning: bool) {
        self.reading = rollout.thread.clone();
        if is_beginning {
            self.recent.clear();
            self.last_ordinal = rollout.base.as_ref().and_then(|base| base.end_ordinal?.checked_sub(1));
        }
    }

    /// The last event of this type.
    async fn last_of(&self, run: &RunId, event_type: &str) -> Result<Option<Event>, Failure> {
        let filter = EventFilter {
            event_types: vec![EventType::new(event_type)?],
            ..EventFilter::of_run(run.clone())
        };
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        let page =
            ledger.events().list_events(scope, &self.writer.thread, &filter, &SeqRange::last(1)).await?;
        Ok(page.items.into_iter().next())
    }

    /// Whether a turn began with a review that goes on.
    async fn is_reviewing(&self, run: &RunId) -> Result<bool, Failure> {
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        let filter = ItemFilter { run_id: Some(run.clone()), status: None };
        let list =
            |range| async move { ledger.items().list(scope, &self.writer.thread, &filter, &range).await };
        let has = |kind: ItemKind, items: &[runledger_core::ItemEntry]| {
            items.iter().any(|item| item.item_kind == kind)
        };
        let first = list.clone()(SeqRange::after(0, 10)).await?;
        if !has(ItemKind::ReviewEntered, &first.items) {
            return Ok(false);
        }
        let last = list(SeqRange::last(1_000)).await?;
        Ok(!has(ItemKind::ReviewExited, &last.items))
    }

    /// The calls whose last output says that their process goes on.
    async fn going_on(&self, run: &RunId) -> Result<HashSet<ItemId>, Failure> {
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        let filter = EventFilter {
            event_types: vec![EventType::new("codex.response_item")?],
            ..EventFilter::of_run(run.clone())
        };
        let (mut found, mut after) = (HashSet::new(), 0);
        loop {
            let range = SeqRange::after(after, 200);
            let page = ledger.events().list_events(scope, &self.writer.thread, &filter, &range).await?;
            for event in &page.items {
                after = event.seq;
                // A large output is kept apart: how it begins says it.
                let shown = event.content.shown();
                let Some(output) = Members::parse(shown.as_str()) else { continue };
                let id = output.string("call_id").and_then(|id| ItemId::new(id).ok());
                found.extend(id.filter(|_| goes_on(&output)));
            }
            if !page.has_more {
                return Ok(found);
            }
        }
    }

    /// Reads a line. One that is no record is kept beside the log.
    pub(crate) async fn read(
        &mut self,
        from: From<'_>,
        line: &RawLine,
        report: &mut RolloutReport,
    ) -> Result<(), Failure> {
        report.lines += 1;
        let unreadable = |reason| Unreadable {
            offset: line.at,
            bytes: line.to - line.at - u64::from(line.is_whole),
            reason,
        };
        let Some(bytes) = &line.bytes else {
            let found = unreadable("too_long");
            return self.keep_apart(from, found, None, report).await;
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            report.blank += 1;
            return Ok(());
        }
        let text = match readable(bytes) {
            Ok(text) => text,
            Err(reason) => return self.keep_apart(from, unreadable(reason), Some(bytes), report).await,
        };
        let Some(record) = Record::parse(text) else {
            return self.keep_apart(from, unreadable("invalid_json"), Some(bytes), report).await;
        };
        if !self.is_new(&record, from.rollout, report) {
            return Ok(());
        }
        let time = record.timestamp.as_deref().and_then(|text| Timestamp::parse("timestamp", text).ok());
        self.last_time = time.unwrap_or(self.last_time);
        let mut written = Written::of(&record, line.at, line.to);
        if from.rollout.id != self.writer.thread.as_str() {
            written.rollout = Some(from.rollout.id.clone());
        }
        let at = self.last_time;
        self.handle(from, Line { record, written, at }, report).await?;
        report.imported += 1;
        Ok(())
    }

    /// Whether the last part of a file, which no line feed ends, is a record as it stands.
    pub(crate) fn is_record(bytes: &[u8]) -> Result<(), &'static str> {
        let text = readable(bytes)?;
        Record::parse(text).map(drop).ok_or("torn_tail")
    }

    async fn keep_apart(
        &mut self,
        from: From<'_>,
        found: Unreadable,
        bytes: Option<&[u8]>,
        report: &mut RolloutReport,
    ) -> Result<(), Failure> {
        let content = bytes.map(escape);
        let rollout = &from.rollout.id;
        let id = format!("{rollout}:{:012}", found.offset);
        let part = Quarantined {
            quarantine_id: QuarantineId::new(&id).or_else(|_| {
                QuarantineId::new(format!("{}:{:012}", text::fingerprint(rollout), found.offset))
            })?,
            seq: None,
            source: Some(format!("rollout {rollout}, byte {}", found.offset)),
            reason: found.reason.to_owned(),
            content_hash: text::fingerprint(content.as_deref().unwrap_or_default()),
            content,
            created_at: self.last_time,
        };
        report.quarantined.add(found);
        self.writer.quarantine(part).await
    }

    /// Notes what is odd about the line's number; `false` where it repeats a line byte for byte.
    fn is_new(&mut self, record: &Record<'_>, rollout: &Rollout, report: &mut RolloutReport) -> bool {
        let Some(ordinal) = record.ordinal else {
            report.ordinals.lacking += u64::from(rollout.is_paginated);
            return true;
        };
        let hash = text::fingerprint(record.text);
        let mut same = self.recent.iter().filter(|(known, _)| *known == ordinal).peekable();
        if same.peek().is_some() {
            if same.any(|(_, known)| *known == hash) {
                report.duplicates += 1;
                return false;
            }
            report.ordinals.reused.add(ordinal);
        } else {
            match self.last_ordinal {
                Some(last) if ordinal < last => report.ordinals.decreasing.add(ordinal),
                Some(last) if ordinal > last + 1 => report.ordinals.missing.add([last + 1, ordinal - 1]),
                _ => {}
            }
        }
        self.last_ordinal = Some(self.last_ordinal.map_or(ordinal, |last| last.max(ordinal)));
        self.remember(ordinal, hash);
        true
    }

    fn remember(&mut self, ordinal: u64, hash: String) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((ordinal, hash));
    }

    async fn handle(
        &mut self,
        from: From<'_>,
        line: Line<'_>,
        report: &mut RolloutReport,
    ) -> Result<(), Failure> {
        let (record, rollout) = (&line.record, from.rollout);
        let inherited = rollout.own_from.zip(record.ordinal).is_some_and(|(own, ordinal)| ordinal < own);
        if inherited {
            return self.event(None, line).await;
        }
        let kind = record.payload_kind();
        if let Some(unknown) = unknown(record, &kind) {
            *report.unknown_kinds.entry(unknown).or_default() += 1;
        }
        match (record.kind.as_str(), kind.as_str()) {
            ("event_msg", "task_started" | "turn_started") => self.begin(line).await,
            ("event_msg", "task_complete" | "turn_complete" | "turn_aborted") => self.end(line, &kind).await,
            ("event_msg", "item_completed") => match record.members.object("item") {
                Some(item) if record.turn().is_some() => self.item(line, &item).await,
                _ => self.plain(line).await,
            },
            ("event_msg", "token_count") => self.token_count(from, line).await,
            ("event_msg", "user_message") if !rollout.is_paginated => {
                if self.open.as_ref().is_none_or(|open| open.is_implicit) {
                    let id = match &line.written.rollout {
                        Some(rollout) => format!("{rollout}:{IMPLICIT}{}", line.written.at),
                        None => format!("{IMPLICIT}{}", line.written.at),
                    };
                    self.enter(&id, line.at, false).await?;
                }
                self.message(line, &kind).await
            }
            ("event_msg", _) if !rollout.is_paginated && shape::of_payload(&kind).is_some() => {
                self.message(line, &kind).await
            }
            ("token_usage_record", _) => self.usage(from, line).await,
            ("turn_context", _) => self.context(line).await,
            ("response_item", "function_call" | "custom_tool_call" | "local_shell_call") => {
                self.call(line, &kind).await
            }
            ("response_item", "function_call_output" | "custom_tool_call_output") => {
                self.output(line, &kind).await
            }
            _ => self.plain(line).await,
        }
    }

    /// The run of a turn, which is admitted where it is new.
    ///
    /// What begins beside a review, and what is another thread's, gets no slot: its end is in another file.
    async fn enter(&mut self, turn: &str, at: Timestamp, is_foreign: bool) -> Result<RunId, Failure> {
        let run = RunId::new(turn).or_else(|_| RunId::new(format!("turn#{}", text::fingerprint(turn))))?;
        if self.turns.contains(&run) {
            return Ok(run);
        }
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        match ledger.runs().get(scope, &self.writer.thread, &run).await {
            Ok(stored) => {
                if stored.status == RunStatus::Queued {
                    // An import was cut short between its admission and its end.
                    self.writer.interrupt(&run, 0, INCOMPLETE, at).await?;
                }
                self.turns.insert(run.clone());
                return Ok(run);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        match &self.open {
            Some(open) if open.is_reviewing || is_foreign => {
                self.writer.begin_ended(&run, INCOMPLETE, at).await?;
            }
            _ => {
                self.leave(at).await?;
                let epoch = self.writer.begin(&run, at).await?;
                self.open = Some(Open {
                    is_implicit: turn.contains(IMPLICIT),
                    is_reviewing: false,
                    is_second_version: false,
                    model: None,
                    items: HashMap::new(),
                    is_whole: true,
                    remembered: 0,
                    going_on: HashSet::new(),
                    epoch,
                    run: run.clone(),
                });
            }
        }
        self.turns.insert(run.clone());
        Ok(run)
    }

    /// Ends the open turn, of which no line tells the end.
    pub(crate) async fn leave(&mut self, at: Timestamp) -> Result<(), Failure> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let reason = if open.is_implicit { UNKNOWN } else { INCOMPLETE };
        self.writer.interrupt(&open.run, open.epoch, reason, at).await
    }

    /// The run that a line belongs to: the turn that it names, or the one that is open.
    async fn run_of(&mut self, line: &Line<'_>) -> Result<Option<RunId>, Failure> {
        let Some(turn) = line.record.turn() else {
            return Ok(self.open.as_ref().map(|open| open.run.clone()));
        };
        let thread = line.record.members.string("thread_id");
        let is_foreign = thread.is_some_and(|thread| thread != self.reading.as_str());
        self.enter(&turn, line.at, is_foreign).await.map(Some)
    }

    /// The open turn, if it is this one.
    fn open(&mut self, run: &RunId) -> Option<&mut Open> {
        self.open.as_mut().filter(|open| open.run == *run)
    }

    async fn plain(&mut self, line: Line<'_>) -> Result<(), Failure> {
        let run = self.run_of(&line).await?;
        self.event(run.as_ref(), line).await
    }

    /// A line that is an event of its own.
    async fn event(&mut self, run: Option<&RunId>, line: Line<'_>) -> Result<(), Failure> {
        let event = self.as_event(run, line)?;
        self.writer.add(run, event).await
    }

    fn as_event(&self, run: Option<&RunId>, line: Line<'_>) -> Result<EventDraft, Failure> {
        let content = RawJson::from_stored(line.record.payload);
        let source = Source { thread: &self.writer.thread, run, item: None, content: &content };
        let metadata = metadata(line.written.keep(&line.record, source))?;
        let category = Category::new("codex")?;
        Ok(EventDraft { metadata, ..plan::event(&event_type(&line.record), category, content, line.at) })
    }

    async fn begin(&mut self, line: Line<'_>) -> Result<(), Failure> {
        // Only a turn that says which one it is can begin.
        let Some(turn) = line.record.turn() else { return self.event(None, line).await };
        let run = self.enter(&turn, line.at, false).await?;
        self.event(Some(&run), line).await
    }

    async fn end(&mut self, line: Line<'_>, kind: &str) -> Result<(), Failure> {
        let Some(run) = self.run_of(&line).await? else { return self.event(None, line).await };
        if self.open(&run).is_none() {
            return self.event(Some(&run), line).await;
        }
        let (members, at) = (&line.record.members, line.at);
        let outcome = if kind == "turn_aborted" {
            Outcome::interrupted(members.string("reason").unwrap_or_else(|| "interrupted".to_owned()))
        } else {
            match members.get("error").filter(|error| *error != "null") {
                Some(error) => {
                    let message = Members::parse(error).and_then(|error| error.string("message"));
                    Outcome::error(message.unwrap_or_else(|| error.to_owned()))
                }
                None => Outcome::success(),
            }
        };
        if let Some(said) = members.string("last_agent_message") {
            let progress = RunProgress { last_ai_message: Some(said), ..RunProgress::default() };
            self.writer.tell(&run, progress).await?;
        }
        let started = self.writer.open_items(&run).await?;
        let Some(open) = self.open.take() else { return Ok(()) };
        // A process outlives the turn that began it: its item comes when it ends.
        let left = started.iter().filter(|started| {
            started.item.as_ref().is_some_and(|item| !open.going_on.contains(&item.item_id))
        });
        for end in left.filter_map(|started| closing(started, at)) {
            self.writer.add(Some(&run), end).await?;
        }
        let last = self.as_event(Some(&run), line)?;
        self.writer.finish(&run, open.epoch, outcome, last, at).await
    }

    /// Whether the turn has an item, and whether it has ended.
    async fn state_of(&mut self, run: &RunId, item: &ItemId) -> Result<Option<State>, Failure> {
        if let Some(open) = self.open(run) {
            match open.items.get(item) {
                Some(State::Open(kind, Some(asked))) => {
                    return Ok(Some(State::Open(kind.clone(), Some(asked.clone()))));
                }
                Some(State::Ended) => return Ok(Some(State::Ended)),
                None if open.is_whole => return Ok(None),
                Some(State::Open(_, None)) | None => {}
            }
        }
        self.writer.flush().await?;
        let (ledger, scope) = (self.writer.ledger(), self.writer.scope());
        match ledger.items().get(scope, &self.writer.thread, run, item).await {
            Ok(entry) if entry.status != ItemStatus::InProgress => Ok(Some(State::Ended)),
            Ok(entry) => {
                let call = match self.writer.event(entry.started_seq).await? {
                    Some(event) => ledger
                        .whole(scope, &self.writer.thread, &event.content)
                        .await?
                        .decode::<ToolCall>()
                        .ok(),
                    None => None,
                };
                let asked = call.map(|call| Asked { name: call.name, args: call.args });
                Ok(Some(State::Open(entry.item_kind, asked)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The result of reading a shape as the record of an item.
    async fn record(&mut self, run: &RunId, made: Made, line: Line<'_>) -> Result<(), Failure> {
        let Made { id, kind, status, category, content, shape, is_item, at } = made;
        let mut mark = ItemMark::new(id, kind, status);
        if mark.kind.is_call() || shape == "function_call" || shape == "custom_tool_call" {
            mark.call_id = CallId::new(mark.item_id.as_str()).ok();
        }
        let mut written = line.written;
        written.shape = Some(shape);
        written.is_item = is_item;
        let source =
            Source { thread: &self.writer.thread, run: Some(run), item: Some(&mark), content: &content };
        let metadata = metadata(written.keep(&line.record, source))?;
        let event = EventDraft { metadata, ..plan::item(mark, category, content, at) };
        self.writer.add(Some(run), event).await
    }

    async fn item(&mut self, line: Line<'_>, item: &Members<'_>) -> Result<(), Failure> {
        let Some(run) = self.run_of(&line).await? else { return self.event(None, line).await };
        let name = item.string("type").unwrap_or_default();
        let id =
            item.string("id").and_then(|id| ItemId::new(id).ok()).map_or_else(|| place("item", &line), Ok)?;
        let known = self.state_of(&run, &id).await?;
        let asked = if let Some(State::Open(_, asked)) = &known { asked.as_ref() } else { None };
        let (kind, content, status) = match shape::of_item(&name) {
            Some(shape) => {
                let told = shape.read(item, asked);
                (shape.kind.clone(), told.content, status(told.status.as_deref()))
            }
            None => {
                let content = line.record.members.get("item").unwrap_or("null");
                (extension(&name, item), RawJson::from_stored(content), ItemStatus::Completed)
            }
        };
        let mut line = line;
        let thread = line.record.members.string("thread_id");
        line.written.thread = thread.filter(|thread| thread != self.writer.thread.as_str());
        let number = |name| line.record.members.get(name).map(RawJson::from_stored);
        line.written.started_at_ms = number("started_at_ms");
        line.written.completed_at_ms = number("completed_at_ms");
        let completed = line.record.members.count("completed_at_ms").filter(|ms| *ms > 0);
        let at = completed
            .and_then(|ms| Timestamp::from_unix_micros(i64::try_from(ms).ok()?.checked_mul(1_000)?).ok())
            .unwrap_or(line.at);
        self.progress(&run, &kind, &content).await?;
        if let Some(open) = self.open(&run) {
            match kind {
                ItemKind::ReviewEntered => open.is_reviewing = true,
                ItemKind::ReviewExited => open.is_reviewing = false,
                _ => {}
            }
            if status != ItemStatus::InProgress {
                open.note(id.clone(), State::Ended);
            }
        }
        let category = category(&kind, known.as_ref());
        let made = Made { id, kind, status, category, content, shape: name, is_item: true, at };
        self.record(&run, made, line).await
    }

    /// A message of a rollout that has no items is one.
    async fn message(&mut self, line: Line<'_>, name: &str) -> Result<(), Failure> {
        let (Some(run), Some(shape)) = (self.run_of(&line).await?, shape::of_payload(name)) else {
            return self.plain(line).await;
        };
        let kind = shape.kind.clone();
        let given = line.record.members.string("call_id").and_then(|id| ItemId::new(id).ok());
        let id = given.map_or_else(|| place(&kind.to_string(), &line), Ok)?;
        let known = self.state_of(&run, &id).await?;
        let asked = if let Some(State::Open(_, asked)) = &known { asked.as_ref() } else { None };
        let told = shape.read(&line.record.members, asked);
        self.progress(&run, &kind, &told.content).await?;
        if let Some(open) = self.open(&run) {
            open.note(id.clone(), State::Ended);
        }
        let category = category(&kind, known.as_ref());
        let status = status(told.status.as_deref());
        let (content, at) = (told.content, line.at);
        let made = Made { id, kind, status, category, content, shape: name.to_owned(), is_item: false, at };
        self.record(&run, made, line).await
    }

    /// What a message says of its run.
    async fn progress(&mut self, run: &RunId, kind: &ItemKind, content: &RawJson) -> Result<(), Failure> {
        let said = || {
            use runledger_core::ContentText as _;
            let content = Members::parse(content.as_str())?;
            Some(RawJson::from_stored(content.get("content")?).text()).filter(|text| !text.is_empty())
        };
        let progress = match kind {
            ItemKind::UserMessage => RunProgress { first_human_message: said(), ..RunProgress::default() },
            ItemKind::AgentMessage => RunProgress { last_ai_message: said(), ..RunProgress::default() },
            _ => return Ok(()),
        };
        if progress.is_empty() { Ok(()) } else { self.writer.tell(run, progress).await }
    }

    /// A call begins an item.
    async fn call(&mut self, line: Line<'_>, name: &str) -> Result<(), Failure> {
        let id = line.record.members.string("call_id").and_then(|id| ItemId::new(id).ok());
        let (Some(id), Some(run), Some(shape)) = (id, self.run_of(&line).await?, shape::of_payload(name))
        else {
            return self.plain(line).await;
        };
        if self.state_of(&run, &id).await?.is_some() {
            return self.event(Some(&run), line).await;
        }
        let told = shape.read(&line.record.members, None);
        let tool = line.record.members.string("name").unwrap_or_else(|| "local_shell".to_owned());
        let namespace = line.record.members.string("namespace");
        let is_second = self.open(&run).is_some_and(|open| open.is_second_version);
        let kind = shape::kind_of_tool(&tool, namespace.as_deref(), is_second);
        if let Some(open) = self.open(&run) {
            let asked = told.content.decode::<ToolCall>().ok();
            let asked = asked.map(|call| Asked { name: call.name, args: call.args });
            open.note(id.clone(), State::Open(kind.clone(), asked));
        }
        let (content, at, status) = (told.content, line.at, ItemStatus::InProgress);
        let (shape, category) = (name.to_owned(), Category::Lifecycle);
        let made = Made { id, kind, status, category, content, shape, is_item: false, at };
        self.record(&run, made, line).await
    }

    /// What the model is told of a call completes it where nothing else did.
    async fn output(&mut self, line: Line<'_>, name: &str) -> Result<(), Failure> {
        let id = line.record.members.string("call_id").and_then(|id| ItemId::new(id).ok());
        let (Some(id), Some(run), Some(shape)) = (id, self.run_of(&line).await?, shape::of_payload(name))
        else {
            return self.plain(line).await;
        };
        let Some(State::Open(kind, asked)) = self.state_of(&run, &id).await? else {
            return self.event(Some(&run), line).await;
        };
        if kind == ItemKind::CommandExecution && goes_on(&line.record.members) {
            if let Some(open) = self.open(&run) {
                open.going_on.insert(id);
            }
            return self.event(Some(&run), line).await;
        }
        let told = shape.read(&line.record.members, asked.as_ref());
        let status = outcome_of(&line.record.members);
        if let Some(open) = self.open(&run) {
            open.note(id.clone(), State::Ended);
        }
        let (content, at) = (told.content, line.at);
        let (shape, category) = (name.to_owned(), Category::Message);
        let made = Made { id, kind, status, category, content, shape, is_item: false, at };
        self.record(&run, made, line).await
    }

    async fn context(&mut self, line: Line<'_>) -> Result<(), Failure> {
        let run = self.run_of(&line).await?;
        if let Some(open) = run.as_ref().and_then(|run| self.open(run)) {
            open.hear(&line.record.members);
            if let (Some(run), Some(model)) = (&run, open.model.clone()) {
                let progress = RunProgress { model_name: Some(model), ..RunProgress::default() };
                self.writer.tell(run, progress).await?;
            }
        }
        self.event(run.as_ref(), line).await
    }

    async fn usage(&mut self, from: From<'_>, line: Line<'_>) -> Result<(), Failure> {
        let run = self.run_of(&line).await?;
        let told = response(&line.record.members, &line.written)?;
        let at = line.at;
        // Those of the log are asked for before this one is of it.
        let is_counted = match &told {
            Some((source, _)) => self.is_counted(source).await?,
            None => true,
        };
        self.event(run.as_ref(), line).await?;
        match told {
            Some((source, used)) if !is_counted => {
                if used.total > 0 {
                    self.responses.get_or_insert_default().insert(text::fingerprint(source.as_str()));
                }
                self.count(from, run, source, used, at).await
            }
            _ => Ok(()),
        }
    }

    /// Whether a response was counted before: told again, under another number, it takes nothing more.
    async fn is_counted(&mut self, source: &SourceId) -> Result<bool, Failure> {
        if self.responses.is_none() {
            self.responses = Some(self.responses_of_the_log().await?);
        }
        let known = self.responses.as_ref();
        Ok(known.is_some_and(|known| known.contains(&text::fingerprint(source.as_str()))))
    }

    /// The responses that earlier imports counted in turns.
    async fn responses_of_the_log(&mut self) -> Result<HashSet<String>, Failure> {
        self.writer.flush().await?;
        let (ledger, scope, thread) = (self.writer.ledger(), self.writer.scope(), &self.writer.thread);
        let filter = RunFilter {
            thread_id: Some(thread.clone()),
            contents: Contents::Omitted,
            ..RunFilter::default()
        };
        let (mut found, mut range) = (HashSet::new(), ListRange::newest(MAX_LIMIT));
        loop {
            let page = ledger.runs().list(scope, &filter, &range).await?;
            for run in page.items.iter().filter(|run| run.totals.total_tokens > 0) {
                let mut after = None;
                loop {
                    let calls = ledger
                        .usage()
                        .list_by_run(scope, thread, &run.run_id, after.as_ref(), MAX_LIMIT)
                        .await?;
                    let counted = calls.iter().filter(|call| call.tokens.total > 0);
                    found.extend(counted.map(|call| text::fingerprint(call.source_id.as_str())));
                    match calls.last() {
                        Some(last) if calls.len() >= MAX_LIMIT as usize => {
                            after = Some(last.source_id.clone())
                        }
                        _ => break,
                    }
                }
            }
            match page.next_cursor {
                Some(next) => range.cursor = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Counts what the thread took beyond what was told call by call.
    async fn token_count(&mut self, from: From<'_>, line: Line<'_>) -> Result<(), Failure> {
        let run = self.run_of(&line).await?;
        let info = line.record.members.object("info");
        let total = info.and_then(|info| tokens(&info.object("total_token_usage")?));
        let (place, at) = (line.written.at, line.at);
        let source = match &line.written.rollout {
            Some(rollout) => format!("{rollout}:token-count-{place}"),
            None => format!("token-count-{place}"),
        };
        self.event(run.as_ref(), line).await?;
        match total {
            Some(total) if total.total > self.counted.total => {
                let known = self.counted;
                let more = TokenCounts {
                    input: total.input.saturating_sub(known.input),
                    output: total.output.saturating_sub(known.output),
                    total: total.total - known.total,
                    cache_read: total.cache_read.saturating_sub(known.cache_read),
                    cache_write: total.cache_write.saturating_sub(known.cache_write),
                    reasoning: total.reasoning.saturating_sub(known.reasoning),
                };
                self.count(from, run, SourceId::new(source)?, more, at).await
            }
            _ => Ok(()),
        }
    }

    async fn count(
        &mut self,
        from: From<'_>,
        run: Option<RunId>,
        source: SourceId,
        tokens: TokenCounts,
        at: Timestamp,
    ) -> Result<(), Failure> {
        self.counted.add(&tokens);
        let model = run.as_ref().and_then(|run| self.open(run)).and_then(|open| open.model.clone());
        let call = UsageDraft {
            provider: from.rollout.provider.clone(),
            child_thread_id: from.base.cloned(),
            created_at: at,
            model,
            ..UsageDraft::new(source, tokens)
        };
        self.writer.add_usage(run.as_ref(), call).await
    }
}

/// The record of an item, before it is one.
struct Made {
    id: ItemId,
    kind: ItemKind,
    status: ItemStatus,
    category: Category,
    content: RawJson,
    shape: String,
    is_item: bool,
    at: Timestamp,
}

impl Open {
    fn note(&mut self, id: ItemId, state: State) {
        if self.items.len() >= REMEMBERED {
            self.items.clear();
            (self.is_whole, self.remembered) = (false, 0);
        }
        let state = match state {
            State::Open(kind, Some(asked)) => {
                self.remembered += asked.args.as_str().len();
                State::Open(kind, Some(asked).filter(|_| self.remembered < REMEMBERED_BYTES))
            }
            other => other,
        };
        if let Some(State::Open(_, Some(asked))) = self.items.insert(id, state) {
            self.remembered = self.remembered.saturating_sub(asked.args.as_str().len());
        }
    }

    /// What a turn's context says.
    fn hear(&mut self, context: &Members<'_>) {
        self.model = context.string("model").filter(|model| !model.contains('\0')).or(self.model.take());
        self.is_second_version = context.string("multi_agent_version").as_deref() == Some("v2");
    }
}

/// A line's bytes as text, or why they are none.
fn readable(bytes: &[u8]) -> Result<&str, &'static str> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("nul_block");
    }
    std::str::from_utf8(bytes).map_err(|_| "invalid_utf8")
}

/// The kind of a record that is not known, as reports name it.
fn unknown(record: &Record<'_>, kind: &str) -> Option<String> {
    if !KINDS.contains(&record.kind.as_str()) {
        return Some(record.kind.clone());
    }
    if record.kind != "event_msg" {
        return None;
    }
    if kind == "item_completed" {
        let name = record.members.object("item").and_then(|item| item.string("type")).unwrap_or_default();
        return (shape::of_item(&name).is_none() && name != "Extension")
            .then(|| format!("item_completed/{name}"));
    }
    let is_known = MESSAGES.contains(&kind) || shape::of_payload(kind).is_some();
    (!is_known).then(|| format!("event_msg/{kind}"))
}

/// The id of an item that has none: its place in the file.
fn place(what: &str, line: &Line<'_>) -> Result<ItemId, Error> {
    match &line.written.rollout {
        Some(rollout) => ItemId::new(format!("{rollout}:{what}-{}", line.written.at)),
        None => ItemId::new(format!("{what}-{}", line.written.at)),
    }
}

/// Whether a call's output says that its process goes on.
fn goes_on(output: &Members<'_>) -> bool {
    const HEAD: usize = 400;
    let text = output.get("output").and_then(string).unwrap_or_default();
    let end = text.char_indices().nth(HEAD).map_or(text.len(), |(end, _)| end);
    text.get(..end).is_some_and(|head| head.contains("Process running with session ID"))
}

/// How a call ended, as far as the text for the model says it.
fn outcome_of(output: &Members<'_>) -> ItemStatus {
    let text = output.get("output").and_then(string).unwrap_or_default();
    let code = |line: &str| -> Option<i64> {
        let code =
            line.strip_prefix("Process exited with code ").or_else(|| line.strip_prefix("Exit code: "));
        code?.trim().parse().ok()
    };
    let told = Members::parse(&text).and_then(|told| told.object("metadata")?.get("exit_code")?.parse().ok());
    let exit_code = told.or_else(|| text.lines().take(8).find_map(code));
    let fails =
        ["unsupported call: ", "failed to parse function arguments", "apply_patch verification failed"];
    if exit_code.is_some_and(|code| code != 0) || fails.iter().any(|start| text.starts_with(start)) {
        ItemStatus::Failed
    } else if text.starts_with("aborted by user") || text.contains("\naborted by user") {
        ItemStatus::Interrupted
    } else {
        ItemStatus::Completed
    }
}

/// Codex's word for where an item stands; each type of its has a spelling of its own.
fn status(word: Option<&str>) -> ItemStatus {
    match word {
        Some("in_progress" | "inProgress") => ItemStatus::InProgress,
        Some("failed") => ItemStatus::Failed,
        Some("declined") => ItemStatus::Declined,
        Some("interrupted") => ItemStatus::Interrupted,
        _ => ItemStatus::Completed,
    }
}

/// What an item's end is about. A call has one result; what comes later is no message.
fn category(kind: &ItemKind, known: Option<&State>) -> Category {
    match kind {
        _ if matches!(known, Some(State::Ended)) => Category::Lifecycle,
        ItemKind::UserMessage | ItemKind::AgentMessage | ItemKind::Plan => Category::Message,
        ItemKind::Reasoning => Category::Reasoning,
        ItemKind::SubAgentActivity => Category::Subagent,
        ItemKind::HookPrompt => Category::Context,
        ItemKind::CommandExecution
        | ItemKind::FileChange
        | ItemKind::McpToolCall
        | ItemKind::ToolCall
        | ItemKind::WebSearch
        | ItemKind::ImageView
        | ItemKind::ImageGeneration
        | ItemKind::CollabAgentCall => Category::Message,
        ItemKind::ContextCompaction
        | ItemKind::ReviewEntered
        | ItemKind::ReviewExited
        | ItemKind::Extension { .. }
        | ItemKind::Unknown(_) => Category::Lifecycle,
    }
}

/// The kind of an item that has no shape: an extension says its own, any other is one of Codex's.
fn extension(name: &str, item: &Members<'_>) -> ItemKind {
    let own = item.string("kind").filter(|_| name == "Extension");
    let own = own.as_deref().and_then(|kind| kind.split_once('.'));
    let kind = own.and_then(|(space, kind)| ItemKind::extension(space, kind).ok());
    kind.or_else(|| ItemKind::extension("codex", &snake(name)).ok())
        .unwrap_or_else(|| ItemKind::Extension { namespace: "codex".into(), kind: "unknown".into() })
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The response that a usage record tells of, and what it took.
fn response(record: &Members<'_>, written: &Written) -> Result<Option<(SourceId, TokenCounts)>, Error> {
    let Some(used) = record.object("usage").as_ref().and_then(tokens) else { return Ok(None) };
    let source = match SourceId::new(record.string("response_id").unwrap_or_default()) {
        Ok(source) => source,
        // One without an id is known by its place in its file.
        Err(_) => match &written.rollout {
            Some(rollout) => SourceId::new(format!("{rollout}:response-{}", written.at))?,
            None => SourceId::new(format!("response-{}", written.at))?,
        },
    };
    Ok(Some((source, used)))
}

/// Tokens as Codex counts them.
fn tokens(usage: &Members<'_>) -> Option<TokenCounts> {
    let count = |name| usage.count(name).unwrap_or(0).min(runledger_core::MAX_COUNT);
    let tokens = TokenCounts {
        input: count("input_tokens"),
        output: count("output_tokens"),
        total: count("total_tokens"),
        cache_read: count("cached_input_tokens"),
        cache_write: count("cache_write_input_tokens"),
        reasoning: count("reasoning_output_tokens"),
    };
    (!usage.is_empty()).then(|| tokens.with_total())
}
