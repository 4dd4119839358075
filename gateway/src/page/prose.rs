//! Messages of agents: text with its white space, and of what models write most only fenced code, headings, bold
//! words and code amid a line. Everything else stays as it was written; nothing is a link.

use maud::{Markup, Render, html};

use super::text::{Room, Shown, block, left_out_note, more};

/// Characters of a message that are shown before "more".
const BEFORE_MORE: usize = 6_000;

/// A message.
pub(super) fn prose(text: &str, room: &Room) -> Markup {
    let (text, left_out) = room.take(text.trim());
    let fold = fold_at(text);
    let (head, rest) = text.split_at_checked(fold).unwrap_or((text, ""));
    html! {
        (parts(head, room))
        @if !rest.is_empty() { (more(rest, parts(rest, room))) }
        (left_out_note(left_out))
    }
}

/// Where a long message is folded: at an empty line outside of code.
fn fold_at(text: &str) -> usize {
    let mut in_code = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at > BEFORE_MORE && line.trim().is_empty() && !in_code {
            return at;
        }
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        at += line.len();
    }
    text.len()
}

enum Part<'a> {
    Text(String),
    Heading(&'a str),
    Code(String),
}

fn parts(text: &str, room: &Room) -> Markup {
    html! {
        div.prose dir="auto" {
            @for part in split(text) {
                @match part {
                    Part::Text(text) => p { (Inline(text.trim_matches('\n'))) },
                    Part::Heading(text) => p.heading { (Inline(text)) },
                    Part::Code(code) => (block(&code, room)),
                }
            }
        }
    }
}

fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut open = String::new();
    let mut fence: Option<&str> = None;
    let flush = |open: &mut String, parts: &mut Vec<Part<'_>>| {
        if !open.trim().is_empty() {
            parts.push(Part::Text(std::mem::take(open)));
        }
        open.clear();
    };
    for line in text.lines() {
        let bare = line.trim_start();
        match fence {
            Some(marks) if bare.trim_end() == marks => {
                parts.push(Part::Code(std::mem::take(&mut open)));
                fence = None;
            }
            None if bare.starts_with("```") => {
                flush(&mut open, &mut parts);
                let marks = bare.len() - bare.trim_start_matches('`').len();
                fence = bare.get(..marks);
            }
            None if heading(bare).is_some() => {
                flush(&mut open, &mut parts);
                parts.extend(heading(bare).map(Part::Heading));
            }
            None if bare.is_empty() => flush(&mut open, &mut parts),
            _ => {
                open.push_str(line);
                open.push('\n');
            }
        }
    }
    match fence {
        // The end is missing where the text was cut.
        Some(_) => parts.push(Part::Code(open)),
        None => flush(&mut open, &mut parts),
    }
    parts
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    (1..=6).contains(&level).then(|| text.strip_prefix(' ')).flatten()
}

/// A line or several, with code and bold words.
struct Inline<'a>(&'a str);

impl Render for Inline<'_> {
    fn render_to(&self, out: &mut String) {
        let mut rest = self.0;
        while let Some(at) = rest.find(['`', '*']) {
            let (before, from) = rest.split_at(at);
            Shown(before).render_to(out);
            let (mark, markup): (&str, fn(&str) -> Markup) = if from.starts_with('`') {
                ("`", |code| html! { code { (Shown(code)) } })
            } else if from.starts_with("**") {
                ("**", |bold| html! { strong { (Shown(bold)) } })
            } else {
                ("", |_| html! {})
            };
            let inner = from.get(mark.len()..).unwrap_or_default();
            let end = inner.find(mark).filter(|end| {
                let marked = inner.get(..*end).unwrap_or_default();
                !mark.is_empty() && !marked.trim().is_empty() && !marked.contains('\n')
            });
            if let Some(end) = end {
                markup(inner.get(..end).unwrap_or_default()).render_to(out);
                rest = inner.get(end + mark.len()..).unwrap_or_default();
            } else {
                let width = mark.len().max(1);
                Shown(from.get(..width).unwrap_or_default()).render_to(out);
                rest = from.get(width..).unwrap_or_default();
            }
        }
        Shown(rest).render_to(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        prose(text, &Room::default()).into_string()
    }

    #[test]
    fn what_models_write_most_is_formatted() {
        let text = "# Plan\nRun **all** of `a<b`:\n```rust\nlet x = \"**\";\n```\n2 * 3 ** 4\n\n- one\n- two";
        assert_eq!(
            shown(text),
            "<div class=\"prose\" dir=\"auto\"><p class=\"heading\">Plan</p><p>Run <strong>all</strong> of \
             <code>a&lt;b</code>:</p><pre class=\"text\" dir=\"auto\">let x = &quot;**&quot;;</pre>\
             <p>2 * 3 ** 4</p><p>- one\n- two</p></div>"
        );
    }

    #[test]
    fn nothing_is_a_link_or_markup() {
        let text = "[x](javascript:alert(1)) <b>**<i>** `<script>` ![](https://example.org/x.png)";
        let expected = "<p>[x](javascript:alert(1)) &lt;b&gt;<strong>&lt;i&gt;</strong> \
             <code>&lt;script&gt;</code> ![](https://example.org/x.png)</p>";
        assert!(shown(text).contains(expected), "{}", shown(text));
    }

    proptest! {
        #[test]
        fn any_text_is_shown_with_all_its_words(text in "[a-z`*#\n ü-]{0,80}") {
            let page = shown(&text);
            for word in text.split(|c: char| !c.is_ascii_lowercase()).filter(|word| !word.is_empty()) {
                prop_assert!(page.contains(word) || text.contains("```"), "{word} of {text:?}");
            }
        }
    }
}
