//! The work that every contender is given: contents of events, made anew in each run and always the same.

use std::fmt::Write as _;
use std::path::Path;

use runledger_core::{
    BoxError, Category, EventDraft, EventType, ItemId, ItemKind, ItemMark, ItemStatus, RawJson, SourceId,
    TokenCounts, UsageDraft,
};

/// How many contents there are; events take them in turns.
const CONTENTS: usize = 10_000;
/// The sizes are log-normal: a mean of 1,000 bytes with 5.5 KB at the 99th percentile.
const LOG_MEDIAN: f64 = 6.492;
const LOG_DEVIATION: f64 = 0.912;
/// The largest, of which there is one.
const LARGEST: usize = 67_000;
const SMALLEST: usize = 60;

const WORDS: [&str; 24] = [
    "the",
    "file",
    "of",
    "a",
    "run",
    "was",
    "read",
    "and",
    "its",
    "tests",
    "pass",
    "after",
    "this",
    "change",
    "to",
    "parser",
    "which",
    "fails",
    "on",
    "\\n",
    "naïve",
    "\\\"quoted\\\"",
    "日本",
    "0.25",
];

/// The contents.
pub(crate) struct Work {
    contents: Vec<RawJson>,
}

impl Work {
    pub(crate) fn generate() -> Self {
        let mut random = Random(0x5eed);
        let contents = (0..CONTENTS).map(|number| {
            let size = if number == CONTENTS / 2 { LARGEST } else { random.size() };
            content(&mut random, number, size)
        });
        Self { contents: contents.collect() }
    }

    /// The content of an event.
    pub(crate) fn content(&self, number: u64) -> &RawJson {
        &self.contents[(number % CONTENTS as u64) as usize]
    }

    /// Bytes of the contents of these many events.
    pub(crate) fn bytes(&self, events: u64) -> u64 {
        (0..events).map(|number| self.content(number).as_str().len() as u64).sum()
    }

    /// A line for each content, for contenders that are other processes.
    pub(crate) fn write(&self, path: &Path) -> Result<(), BoxError> {
        let mut text = String::new();
        for (number, content) in self.contents.iter().enumerate() {
            let kind = if is_item(number as u64) { "message" } else { "event" };
            writeln!(text, "{{\"kind\": \"{kind}\", \"content\": {}}}", content.as_str())?;
        }
        Ok(std::fs::write(path, text)?)
    }
}

/// Whether an event is a message, which is an item that is completed at once: 40 % are.
pub(crate) fn is_item(number: u64) -> bool {
    number % 5 < 2
}

/// The id of an event's item.
pub(crate) fn item_id(number: u64) -> String {
    format!("item-{number}")
}

/// What is stored of an event beside its ids and its content.
pub(crate) struct Envelope {
    pub(crate) event_type: &'static str,
    pub(crate) category: &'static str,
    pub(crate) item_kind: Option<&'static str>,
    pub(crate) item_status: Option<&'static str>,
}

impl Envelope {
    pub(crate) fn of(number: u64) -> Self {
        let item = is_item(number);
        Self {
            event_type: if item { "item.completed" } else { "llm.started" },
            category: if item { "message" } else { "lifecycle" },
            item_kind: item.then_some("agent_message"),
            item_status: item.then_some("completed"),
        }
    }
}

/// An event as a journal would hand it in.
pub(crate) fn draft(work: &Work, number: u64) -> Result<EventDraft, BoxError> {
    let content = work.content(number).clone();
    if !is_item(number) {
        return Ok(EventDraft::new(EventType::new("llm.started")?, Category::Lifecycle, content));
    }
    let mark = ItemMark::new(ItemId::new(item_id(number))?, ItemKind::AgentMessage, ItemStatus::Completed);
    Ok(EventDraft::item(mark, Category::Message, content))
}

/// The model calls among these events: one for ten.
pub(crate) fn calls(numbers: std::ops::Range<u64>) -> Result<Vec<UsageDraft>, BoxError> {
    numbers
        .filter(|number| number % 10 == 0)
        .map(|number| {
            Ok(UsageDraft::new(SourceId::new(format!("call-{number}"))?, TokenCounts::of(1_200, 300)))
        })
        .collect()
}

fn content(random: &mut Random, number: usize, size: usize) -> RawJson {
    let mut text = format!(r#"{{"id":"msg-{number}","role":"assistant","text":""#);
    let end = "\"}";
    while text.len() + end.len() < size {
        text.push_str(WORDS[random.below(WORDS.len())]);
        text.push(' ');
    }
    text.push_str(end);
    RawJson::from_stored(&text)
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn size(&mut self) -> usize {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        let size = LOG_DEVIATION.mul_add(normal, LOG_MEDIAN).exp();
        (size as usize).clamp(SMALLEST, LARGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_json_of_the_sizes_that_are_promised() {
        let work = Work::generate();
        let mut sizes: Vec<usize> = work.contents.iter().map(|content| content.as_str().len()).collect();
        for content in &work.contents {
            assert!(RawJson::parse("content", content.as_str()).is_ok(), "{}", content.as_str());
        }
        sizes.sort_unstable();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((900..=1_100).contains(&mean), "mean {mean}");
        let p99 = sizes[sizes.len() * 99 / 100];
        assert!((5_000..=6_000).contains(&p99), "p99 {p99}");
        assert!((LARGEST..LARGEST + 20).contains(&sizes[sizes.len() - 1]));
    }
}
