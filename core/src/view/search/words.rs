//! Words: what a text is cut into before it is searched.

use std::ops::Range;

/// The most characters of a word that tell it from others; what comes after them is not looked at.
pub const MAX_WORD_CHARS: usize = 100;

/// The words of a text, in order, in lower case.
///
/// A word is letters, digits and the accents that stand beside them; everything else parts words. Accents
/// count: `é` is not `e`, and not the same as an `e` with an accent of its own. Where a script has no
/// spaces between words (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese), each character is a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    folded: String,
    places: Vec<Place>,
}

/// Where a word is: in the text, and in what was made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    text: Range<usize>,
    folded: Range<usize>,
}

impl Words {
    /// Cuts a text into words.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut words = Self::default();
        let mut open: Option<Open> = None;
        for (at, c) in text.char_indices() {
            if !is_of_word(c) {
                words.close(open.take(), at);
                continue;
            }
            let alone = stands_alone(c);
            if alone {
                words.close(open.take(), at);
            }
            let word = open.get_or_insert(Open { text: at, folded: words.folded.len(), chars: 0 });
            if word.chars < MAX_WORD_CHARS {
                word.chars += 1;
                // The sigma that ends a word is the same letter.
                words.folded.extend(c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c }));
            }
            if alone {
                words.close(open.take(), at + c.len_utf8());
            }
        }
        words.close(open, text.len());
        words
    }

    fn close(&mut self, open: Option<Open>, end: usize) {
        if let Some(open) = open {
            let folded = open.folded..self.folded.len();
            self.places.push(Place { text: open.text..end, folded });
        }
    }

    /// How many words there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The word at a place, from 0.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<&str> {
        self.folded.get(self.places.get(at)?.folded.clone())
    }

    /// The words, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter_map(|place| self.folded.get(place.folded.clone()))
    }

    /// Where words are in the text, in bytes: from the beginning of the first to the end of the last.
    pub(super) fn range(&self, first: usize, last: usize) -> Option<Range<usize>> {
        Some(self.places.get(first)?.text.start..self.places.get(last)?.text.end)
    }
}

/// A word that has begun.
struct Open {
    text: usize,
    folded: usize,
    chars: usize,
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

/// Whether the character is of a script in which words are not told apart by spaces, or not by them alone.
fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' // Thai, Lao
        | '\u{1000}'..='\u{109f}' // Burmese
        | '\u{1780}'..='\u{17ff}' // Khmer
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9d}' // Kana
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' // Han
        | '\u{ac00}'..='\u{d7a3}' // Hangul
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        Words::of(text).iter().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        for (text, expected) in [
            ("", &[][..]),
            ("  -- !", &[]),
            ("Hello, World", &["hello", "world"]),
            ("foo.bar_baz-7 x86_64", &["foo", "bar", "baz", "7", "x86", "64"]),
            ("don't", &["don", "t"]),
            ("ÉCOLE école", &["école", "école"]),
            ("ΟΔΟΣ οδος", &["οδοσ", "οδοσ"]),
            ("ODO\u{3a3} \u{3c2}", &["odoσ", "σ"]),
            ("日本語 test日", &["日", "本", "語", "test", "日"]),
            ("İ", &["i\u{307}"]),
            ("cafe\u{301}", &["cafe\u{301}"]),
            ("a\0b", &["a", "b"]),
        ] {
            assert_eq!(words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_long_word_is_cut_and_keeps_its_place() {
        let text = format!("a {} b", "x".repeat(500));
        let cut = Words::of(&text);
        assert_eq!((cut.len(), cut.get(1)), (3, Some("x".repeat(MAX_WORD_CHARS).as_str())));
        assert_eq!(cut.range(1, 1), Some(2..502));
        assert_eq!(cut.get(3), None);
    }

    proptest! {
        /// A word is where it says it is, and is cut into itself.
        #[test]
        fn words_are_where_they_say(text in "\\PC{0,60}") {
            let cut = Words::of(&text);
            for at in 0..cut.len() {
                let range = cut.range(at, at).unwrap();
                prop_assert_eq!(&words(&text[range])[..], &[cut.get(at).unwrap().to_owned()][..]);
                prop_assert_eq!(words(cut.get(at).unwrap()).len(), 1);
            }
        }

        /// What an index is given has no character by which it would part words once more.
        #[test]
        fn a_word_has_no_punctuation(text in "\\PC{0,60}") {
            for word in words(&text) {
                prop_assert!(word.chars().all(|c| !c.is_ascii() || c.is_ascii_lowercase() || c.is_ascii_digit()), "{word}");
            }
        }
    }
}
