//! Text of others on a page: escaped, with what cannot be seen made visible, and cut where there is too much.

use std::cell::Cell;

use maud::{Escaper, Markup, Render, html};
use runledger_core::{ContentText as _, RawJson};

/// Text of others. Markup is escaped, and characters that have no shape of their own or turn the text around them
/// are shown by name: what a reader sees is what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a>(pub(super) &'a str);

impl Render for Shown<'_> {
    fn render_to(&self, out: &mut String) {
        use std::fmt::Write as _;
        let (mut plain, mut at) = (0, 0);
        loop {
            // Most of a page is what nothing is to be done about, byte for byte.
            at += self.0.bytes().skip(at).take_while(|byte| is_bare(*byte)).count();
            let Some(c) = self.0.get(at..).and_then(|rest| rest.chars().next()) else { break };
            let is_markup = matches!(c, '<' | '>' | '&' | '"');
            if is_plain(c) && !is_markup {
                at += c.len_utf8();
                continue;
            }
            out.push_str(self.0.get(plain..at).unwrap_or_default());
            at += c.len_utf8();
            plain = at;
            if is_markup {
                // Writing to a string does not fail.
                let _ = Escaper::new(out).write_char(c);
                continue;
            }
            match u32::from(c) {
                0x0d if self.0.get(plain..).is_some_and(|rest| rest.starts_with('\n')) => {}
                // Unicode has a picture for each of these.
                code @ 0..0x20 => out.push(char::from_u32(0x2400 + code).unwrap_or('\u{fffd}')),
                0x7f => out.push('\u{2421}'),
                code => {
                    let _ = write!(out, "[U+{code:04X}]");
                }
            }
        }
        out.push_str(self.0.get(plain..).unwrap_or_default());
    }
}

/// Whether a byte is a character that stands on a page as it is.
fn is_bare(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\t') && !matches!(byte, b'<' | b'>' | b'&' | b'"')
}

fn is_plain(c: char) -> bool {
    match c {
        '\n' | '\t' => true,
        // Marks that override the direction of what follows, and separators that are no line breaks here.
        '\u{061c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => false,
        // Noncharacters, the byte order mark, and tags that no font shows.
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => false,
        '\u{fdd0}'..='\u{fdef}' => false,
        c => !c.is_control() && u32::from(c) & 0xfffe != 0xfffe,
    }
}

/// How much text a page still takes. Each part has a limit, and what all parts have together has one too, so that
/// a page stays a page whatever the tools returned.
#[derive(Debug)]
pub(super) struct Room(Cell<usize>);

/// The most bytes of one part.
const PART: usize = 32 << 10;
/// What a part may have where the room is used up.
const LEAST: usize = 2 << 10;

impl Default for Room {
    fn default() -> Self {
        Self(Cell::new(1 << 20))
    }
}

impl Room {
    /// The beginning of a text that there is room for, and how many bytes are left out.
    pub(super) fn take<'a>(&self, text: &'a str) -> (&'a str, usize) {
        let limit = PART.min(self.0.get().max(LEAST));
        let (kept, left_out) = cut(text, limit);
        self.0.set(self.0.get().saturating_sub(kept.len()));
        (kept, left_out)
    }
}

/// The first bytes of a text, whole characters, and how many are left out.
fn cut(text: &str, limit: usize) -> (&str, usize) {
    if text.len() <= limit {
        return (text, 0);
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    (kept, text.len() - kept.len())
}

/// Text in one line, with spaces for white space, of at most so many characters.
pub(super) fn one_line(text: &str, chars: usize) -> String {
    let mut out = String::new();
    let mut left = chars;
    for word in text.split_whitespace() {
        let gap = if out.is_empty() { "" } else { " " };
        for c in gap.chars().chain(word.chars()) {
            if left == 0 {
                out.push('…');
                return out;
            }
            out.push(c);
            left -= 1;
        }
    }
    out
}

/// Lines of a part that are shown before "more".
const LINES: usize = 12;
/// Bytes of a part that are shown before "more".
const BEFORE_MORE: usize = 1_600;

/// Where "more" begins: at the end of a line where there are many, else amid one.
fn fold_at(text: &str) -> Option<usize> {
    let line_end = text.match_indices('\n').nth(LINES - 1).map(|(at, _)| at);
    let at = match line_end {
        Some(at) if at <= BEFORE_MORE => at,
        _ if text.len() > BEFORE_MORE + BEFORE_MORE / 4 => cut(text, BEFORE_MORE).0.len(),
        _ => return None,
    };
    // Two more lines are shown rather than announced.
    let rest = text.get(at..).unwrap_or_default();
    (rest.len() > 200 || rest.trim_end().matches('\n').count() > 2).then_some(at)
}

/// Text with its white space, its first lines and the rest on demand.
pub(super) fn block(text: &str, room: &Room) -> Markup {
    let (text, left_out) = room.take(text.trim_end_matches(['\n', '\r']));
    let fold = fold_at(text);
    let (head, rest) = text.split_at_checked(fold.unwrap_or(text.len())).unwrap_or((text, ""));
    html! {
        pre.text dir="auto" { (Shown(head)) }
        @if fold.is_some() {
            (more(rest, html! { pre.text dir="auto" { (Shown(rest.strip_prefix('\n').unwrap_or(rest))) } }))
        }
        (left_out_note(left_out))
    }
}

/// The rest of something, on demand.
pub(super) fn more(rest: &str, markup: Markup) -> Markup {
    let lines = rest.trim_end().matches('\n').count();
    html! {
        details.more {
            summary { @if lines > 1 { (super::format::grouped(lines as u64)) " more lines" } @else { "more" } }
            (markup)
        }
    }
}

/// Says that a part was too large for the page.
pub(super) fn left_out_note(bytes: usize) -> Markup {
    html! {
        @if bytes > 0 {
            p.note { (super::format::grouped(bytes as u64)) " further bytes are not shown here; the API has them." }
        }
    }
}

/// A JSON document for people: text as text, an object by its fields, anything else indented.
pub(super) fn document(json: &RawJson, room: &Room) -> Markup {
    let json = json.shown();
    if let Some(object) = runledger_core::RawObject::parse(&json) {
        let mut fields = object.fields().peekable();
        if fields.peek().is_none() {
            return html! { p.note { "{}" } };
        }
        return html! {
            dl.fields {
                @for (name, value) in fields.take(200) {
                    div { dt { (Shown(name)) } dd { (value_of(value, room)) } }
                }
            }
        };
    }
    value_of(&json, room)
}

/// Notes of the application, without what is never sent; nothing where there are none.
pub(super) fn notes(title: &str, json: &RawJson, app: &crate::app::App, room: &Room) -> Markup {
    if matches!(json.as_str(), "{}" | "null") {
        return html! {};
    }
    let shown = crate::wire::redacted(json, &app.options.redacted_keys);
    html! { div.part { h4 { (title) } (document(&shown, room)) } }
}

fn value_of(json: &RawJson, room: &Room) -> Markup {
    match json.decode_lossy::<String>() {
        Ok(text) => block(&text, room),
        Err(_) => block(&indented(room.take(json.as_str()).0), room),
    }
}

/// What a message or a tool says: its text, or the document where it has none.
pub(super) fn said(content: &RawJson) -> String {
    let text = content.text();
    if text.is_empty() && !matches!(content.as_str(), "\"\"" | "[]" | "null") {
        return indented(content.shown().as_str());
    }
    text
}

/// A JSON text with line breaks and two spaces a level; what is in it stays as it was spelled.
pub(super) fn indented(json: &str) -> String {
    const DEEPEST: usize = 32;
    let mut out = String::with_capacity(json.len() + json.len() / 4);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(DEEPEST)));
    };
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            (escaped, in_string) = (c == '\\' && !escaped, c != '"' || escaped);
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_seen_is_named() {
        let shown = |text: &str| Shown(text).render().into_string();
        assert_eq!(shown("a\0b\u{1b}[31m\r\nc\rd\te"), "a␀b␛[31m\nc␍d\te");
        assert_eq!(shown("\u{202e}evil\u{2066}\u{85}\u{feff}"), "[U+202E]evil[U+2066][U+0085][U+FEFF]");
        assert_eq!(shown("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;'");
    }

    #[test]
    fn json_is_indented_and_kept_as_it_was_spelled() {
        let text = indented(r#"{"b":[1e400,{}, []],"a":"\"{,:\\"}"#);
        let expected = "{\n  \"b\": [\n    1e400,\n    {},\n    []\n  ],\n  \"a\": \"\\\"{,:\\\\\"\n}";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_page_takes_so_much_text_and_each_part_some_of_it() {
        let room = Room::default();
        let large = "ü".repeat(PART);
        let taken: Vec<usize> = (0..40).map(|_| room.take(&large).0.len()).collect();
        assert_eq!((taken[0], taken[39]), (PART, LEAST));
        assert_eq!(taken.iter().take(32).sum::<usize>(), 1 << 20);
    }

    proptest! {
        #[test]
        fn no_text_leaves_markup_or_is_lost(text in any::<String>()) {
            let shown = Shown(&text).render().into_string();
            prop_assert!(!shown.contains(['<', '>', '"', '\0', '\u{202e}']), "{shown:?}");
            let room = Room::default();
            let (block, one) = (block(&text, &room).into_string(), one_line(&text, 50));
            prop_assert!(one.chars().count() <= 51);
            prop_assert!(block.starts_with("<pre"));
        }

        #[test]
        fn indenting_changes_white_space_only(value in "[\\[\\]{}:,\"\\\\a 1]{0,40}") {
            let kept = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
            prop_assert_eq!(kept(&indented(&value)), kept(&value));
        }
    }
}
