//! Queries: what somebody typed, as terms that a text has or has not.

use std::ops::Range;

use super::Words;
use crate::{Error, Result};

/// The most words of a query.
pub const MAX_QUERY_WORDS: usize = 64;

/// What is looked for: every wanted term, and no excluded one.
///
/// | typed | looked for |
/// |---|---|
/// | `word other` | both words, anywhere |
/// | `"some words"` | these words, one after the other |
/// | `wor*` | words that begin like this; `"some wor*"` or `"some wor"*` for the last word of a phrase |
/// | `-word`, `-"some words"` | texts without it |
///
/// What is typed is never refused for how it is spelled: a quote that is not closed is closed at the end, and
/// what parts words (`foo.bar`, `x86_64`) makes a phrase of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery {
    wanted: Vec<Term>,
    excluded: Vec<Term>,
}

/// Words that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    words: Vec<String>,
    is_prefix: bool,
}

impl Term {
    /// The words, at least one, as [`Words`] has them.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether the last word is only how a word begins.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// Whether the words from `at` on are these.
    fn is_at(&self, words: &Words, at: usize) -> bool {
        let last = self.words.len() - 1;
        self.words.iter().enumerate().all(|(place, wanted)| {
            words.get(at + place).is_some_and(|word| {
                if place == last && self.is_prefix {
                    word.starts_with(wanted.as_str())
                } else {
                    word == wanted
                }
            })
        })
    }

    /// Where it is, by the place of its first word.
    fn places(&self, words: &Words) -> impl Iterator<Item = usize> {
        (0..words.len()).filter(|at| self.is_at(words, *at))
    }
}

impl SearchQuery {
    /// Reads what somebody typed. `InvalidInput` where there is no word to look for, or more than
    /// [`MAX_QUERY_WORDS`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut query = Self { wanted: Vec::new(), excluded: Vec::new() };
        let mut count = 0;
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let unsigned = rest.strip_prefix('-');
            let is_excluded = unsigned.is_some_and(|rest| !rest.starts_with(char::is_whitespace));
            let (typed, is_prefix, after) = typed(unsigned.unwrap_or(rest));
            rest = after.trim_start();
            let words: Vec<String> = Words::of(typed).iter().map(str::to_owned).collect();
            if words.is_empty() {
                continue;
            }
            let term = Term { words, is_prefix };
            let terms = if is_excluded { &mut query.excluded } else { &mut query.wanted };
            if !terms.contains(&term) {
                count += term.words.len();
                terms.push(term);
            }
            // At once, for each term is compared with those before it.
            if count > MAX_QUERY_WORDS {
                let reason = format!("has more than {MAX_QUERY_WORDS} words; leave some out");
                return Err(Error::invalid("query", reason));
            }
        }
        if query.wanted.is_empty() {
            return Err(Error::invalid("query", "has no word to look for; give one of letters or digits"));
        }
        Ok(query)
    }

    /// What a text must have.
    #[must_use]
    pub fn wanted(&self) -> &[Term] {
        &self.wanted
    }

    /// What a text must not have.
    #[must_use]
    pub fn excluded(&self) -> &[Term] {
        &self.excluded
    }

    /// Where the wanted terms are in the text that `words` are of, in bytes, ascending and apart from each
    /// other; `None` where it is not what is looked for.
    #[must_use]
    pub fn find(&self, words: &Words) -> Option<Vec<Range<usize>>> {
        if self.excluded.iter().any(|term| term.places(words).next().is_some()) {
            return None;
        }
        let mut found = Vec::new();
        for term in &self.wanted {
            let before = found.len();
            let last = term.words.len() - 1;
            found.extend(term.places(words).filter_map(|at| words.range(at, at + last)));
            if found.len() == before {
                return None;
            }
        }
        found.sort_by_key(|range| (range.start, range.end));
        found.dedup_by(|next, kept| {
            let overlaps = next.start < kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        Some(found)
    }
}

/// What is typed next, whether it is only a beginning, and what comes after it.
fn typed(rest: &str) -> (&str, bool, &str) {
    if let Some(quoted) = rest.strip_prefix('"') {
        let (phrase, after) = quoted.split_once('"').unwrap_or((quoted, ""));
        return match after.strip_prefix('*') {
            Some(after) => (phrase, true, after),
            None => (phrase, phrase.ends_with('*'), after),
        };
    }
    let end = rest.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(rest.len());
    let (typed, after) = rest.split_at(end);
    (typed, typed.ends_with('*'), after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    /// The query as it is understood: phrases in quotes, a star where the last word is a beginning.
    fn understood(text: &str) -> Vec<String> {
        let query = SearchQuery::parse(text).unwrap();
        let told = |sign: &str, term: &Term| {
            format!("{sign}{}{}", term.words.join("+"), if term.is_prefix { "*" } else { "" })
        };
        let wanted = query.wanted.iter().map(|term| told("", term));
        wanted.chain(query.excluded.iter().map(|term| told("-", term))).collect()
    }

    #[test]
    fn a_query_is_read_as_it_is_typed() {
        for (text, expected) in [
            ("Hello world hello", &["hello", "world"][..]),
            ("\"to be\" or", &["to+be", "or"]),
            ("foo.bar x86_64", &["foo+bar", "x86+64"]),
            ("wor* \"some wor\"* \"some wor*\"", &["wor*", "some+wor*"]),
            ("a -b -\"c d\" -e*", &["a", "-b", "-c+d", "-e*"]),
            ("a - b --c", &["a", "b", "-c"]),
            ("a \"unclosed b", &["a", "unclosed+b"]),
            ("a\"b\"c", &["a", "b", "c"]),
            ("AND OR NOT NEAR(a) ' \\ & | ! : ; %", &["and", "or", "not", "near+a"]),
            ("日本", &["日+本"]),
        ] {
            assert_eq!(understood(text), expected, "{text}");
        }
    }

    #[test]
    fn a_query_without_a_word_is_refused() {
        for text in ["", "  ", "\"\"", "*", "-", "-a", "-\"a b\" ...", "\0"] {
            let error = SearchQuery::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
        }
        let many: Vec<String> = (0..=MAX_QUERY_WORDS).map(|n| n.to_string()).collect();
        assert_eq!(SearchQuery::parse(&many.join(" ")).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(SearchQuery::parse(&many[1..].join(" ")).is_ok());
        assert!(SearchQuery::parse(&vec!["again"; 200].join(" ")).is_ok());
        // It is refused where it has too many: to compare all of them with each other would take minutes.
        let endless: Vec<String> = (0..1_000_000).map(|n| format!("-{n}")).collect();
        let refused = SearchQuery::parse(&endless.join(" ")).unwrap_err();
        assert_eq!(refused.to_string(), "invalid query: has more than 64 words; leave some out");
    }

    #[test]
    fn a_text_has_what_is_wanted_and_nothing_excluded() {
        let text = "The cat sat. The Cat's hat, über-long 日本語";
        for (query, expected) in [
            ("cat", Some(&["cat", "Cat"][..])),
            ("the cat", Some(&["The", "cat", "The", "Cat"])),
            ("\"the cat\"", Some(&["The cat", "The Cat"])),
            ("\"cat hat\"", None),
            ("ha*", Some(&["hat"])),
            ("\"the ca*", Some(&["The cat", "The Cat"])),
            ("ÜBER", Some(&["über"])),
            ("uber", None),
            ("cat -dog", Some(&["cat", "Cat"])),
            ("cat -hat", None),
            ("cat -\"cat hat\"", Some(&["cat", "Cat"])),
            ("cat -ha*", None),
            ("本語", Some(&["本語"])),
            ("日語", None),
            ("sat \"cat sat\"", Some(&["cat sat"])),
        ] {
            let found = SearchQuery::parse(query).unwrap().find(&Words::of(text));
            let found: Option<Vec<&str>> =
                found.map(|found| found.into_iter().map(|range| &text[range]).collect());
            assert_eq!(found.as_deref(), expected, "{query}");
        }
    }

    proptest! {
        /// Whatever is typed is a query or refused, and what is found lies in the text, in order.
        #[test]
        fn any_query_is_taken_or_refused(query in "[ \"*\\-ab.日\\PC]{0,20}", text in "[ .ab日\\PC]{0,40}") {
            if let Ok(query) = SearchQuery::parse(&query)
                && let Some(found) = query.find(&Words::of(&text))
            {
                prop_assert!(!found.is_empty());
                prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
                prop_assert!(found.iter().all(|range| text.get(range.clone()).is_some_and(|part| !part.is_empty())));
            }
        }
    }
}
