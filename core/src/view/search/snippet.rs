//! Snippets: the part of a text that shows why it was found.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// About how many characters a snippet has.
pub const SNIPPET_CHARS: usize = 200;

/// How many characters before the first match are shown.
const BEFORE: usize = 60;

/// How many of them are given up so that no word is begun in its middle.
const WORD: usize = 20;

/// The part of a text around its first match, on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Snippet {
    /// The part, with one space for all white space and control characters that follow each other.
    pub text: String,
    /// What was looked for, in characters of `text` from 0: the first of each match, and the one after its last.
    pub marks: Vec<(usize, usize)>,
    /// Whether the text begins before this part.
    pub cut_before: bool,
    /// Whether the text goes on after this part.
    pub cut_after: bool,
}

/// The snippet of a text in which these ranges of bytes were found, ascending and apart from each other.
#[must_use]
pub fn snippet(text: &str, found: &[Range<usize>]) -> Snippet {
    let first = found.first().cloned().unwrap_or(0..0);
    let (before, after) = (text.get(..first.start).unwrap_or(""), text.get(first.end..).unwrap_or(""));
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let from = before.char_indices().rev().nth(BEFORE - 1).map_or(0, |(at, _)| at);
    let shown_before = &before[from..];
    let from = match shown_before.char_indices().take(WORD).find(|(_, c)| is_gap(*c)) {
        Some((gap, _)) if from > 0 => from + gap,
        _ => from,
    };
    let shown = before[from..].chars().count() + text[first.clone()].chars().take(SNIPPET_CHARS).count();
    let room = SNIPPET_CHARS.saturating_sub(shown);
    let match_end =
        text[first.clone()].char_indices().nth(SNIPPET_CHARS).map_or(first.end, |(at, _)| first.start + at);
    let to = match after.char_indices().nth(room) {
        None if match_end == first.end => text.len(),
        _ if match_end < first.end => match_end,
        Some((at, _)) => first.end + after[..at].rfind(is_gap).unwrap_or(at),
        None => first.end,
    };
    let mut snippet = Snippet { cut_before: from > 0, cut_after: to < text.len(), ..Snippet::default() };
    let mut ranges = found.iter().filter(|range| range.start < to).peekable();
    let (mut chars, mut gap, mut began) = (0, false, 0);
    for (at, c) in text[from..to].char_indices() {
        let at = from + at;
        if is_gap(c) {
            gap = chars > 0;
        } else {
            if gap {
                snippet.text.push(' ');
                chars += 1;
                gap = false;
            }
            if ranges.peek().is_some_and(|range| range.start == at) {
                began = chars;
            }
            snippet.text.push(c);
            chars += 1;
        }
        let end = at + c.len_utf8();
        if ranges.next_if(|range| range.end == end || (range.end > to && end == to)).is_some() {
            snippet.marks.push((began, chars));
        }
    }
    snippet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::search::{SearchQuery, Words};
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn of(query: &str, text: &str) -> Snippet {
        let found = SearchQuery::parse(query).unwrap().find(&Words::of(text)).unwrap();
        snippet(text, &found)
    }

    fn marked(snippet: &Snippet) -> Vec<String> {
        let part = |(from, to): &(usize, usize)| snippet.text.chars().skip(*from).take(to - from).collect();
        snippet.marks.iter().map(part).collect()
    }

    #[test]
    fn a_short_text_is_shown_whole_on_one_line() {
        let snippet = of("b \"c d\"", "  a\t\tB\n\u{1b}c  d é b ");
        assert_eq!(snippet.text, "a B c d é b");
        assert_eq!(marked(&snippet), ["B", "c d", "b"]);
        assert!(!snippet.cut_before && !snippet.cut_after);
    }

    #[test]
    fn a_long_text_is_shown_around_its_first_match() {
        let text = format!("{} needle {} needle", "hay ".repeat(500), "straw ".repeat(500));
        let snippet = of("needle", &text);
        assert!(snippet.text.starts_with("hay hay") && snippet.text.ends_with("straw"), "{snippet:?}");
        assert!(snippet.text.chars().count() <= SNIPPET_CHARS, "{snippet:?}");
        assert_eq!(marked(&snippet), ["needle"]);
        assert!(snippet.cut_before && snippet.cut_after);
        let end = of("needle", &format!("{}needle", "é".repeat(1_000) + " "));
        assert!(end.text.ends_with(" needle") && end.cut_before && !end.cut_after, "{end:?}");
    }

    #[test]
    fn a_match_that_is_longer_than_a_snippet_is_cut() {
        let snippet = of("x*", &"x".repeat(1_000));
        assert_eq!((snippet.text.len(), &snippet.marks[..]), (SNIPPET_CHARS, &[(0, SNIPPET_CHARS)][..]));
    }

    proptest! {
        /// A snippet is of the text, has the first match, and no more than it may have.
        #[test]
        fn a_snippet_shows_the_first_match(text in "[ab .\\n日é]{0,700}", query in "[ab日]{1,2}\\*?") {
            let query = SearchQuery::parse(&query).unwrap();
            if let Some(found) = query.find(&Words::of(&text)) {
                let snippet = snippet(&text, &found);
                let first: String = text[found[0].clone()].chars().take(SNIPPET_CHARS).collect();
                let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                prop_assert_eq!(marked(&snippet)[0].clone(), one_line(&first));
                prop_assert!(one_line(&text).contains(&snippet.text));
                prop_assert!(snippet.text.chars().count() <= SNIPPET_CHARS);
            }
        }
    }
}
