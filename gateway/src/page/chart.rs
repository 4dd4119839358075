//! Bars as SVG, made on the server. Widths and colours are attributes and classes, for a page has no inline style;
//! what a chart says is also in the table below it.

use maud::{Markup, html};

use super::text::Shown;

/// A bar: what it is of, and how much.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: u64,
    /// The value as people read it.
    pub(super) shown: String,
}

const WIDTH: u64 = 640;
const HEIGHT: u64 = 160;
/// Room above for the highest value, and below for the names.
const TOP: u64 = 18;
const BOTTOM: u64 = 20;

/// How much of a length a value takes of the largest one: never nothing where there is something.
fn share(value: u64, most: u64, length: u64) -> u64 {
    let part = u128::from(value) * u128::from(length) / u128::from(most.max(1));
    u64::try_from(part).unwrap_or(length).max(u64::from(value > 0) * 2)
}

/// Bars side by side, in time: a day each.
pub(super) fn columns(title: &str, kind: &str, bars: &[Bar]) -> Markup {
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0);
    let step = WIDTH / (bars.len() as u64).max(1);
    let width = (step * 4 / 5).clamp(1, 40);
    let highest = bars.iter().find(|bar| bar.value == most && most > 0);
    let plot = HEIGHT - TOP - BOTTOM;
    html! {
        svg class={ "chart columns " (kind) } viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
            title { (title) }
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM) {}
            line.grid x1="0" x2=(WIDTH) y1=(TOP) y2=(TOP) {}
            @if let Some(highest) = highest { text.most x="0" y=(TOP - 5) { (Shown(&highest.shown)) } }
            @for (at, bar) in bars.iter().enumerate() {
                @let height = share(bar.value, most, plot);
                @let left = at as u64 * step + (step - width) / 2;
                g.bar {
                    title { (Shown(&bar.name)) ": " (Shown(&bar.shown)) }
                    rect.hit x=(at as u64 * step) y=(TOP) width=(step) height=(plot) {}
                    rect.fill x=(left) y=(HEIGHT - BOTTOM - height) width=(width) height=(height) rx="1.5" {}
                }
            }
            @if let Some(first) = bars.first() { text.name x="0" y=(HEIGHT - 5) { (Shown(&first.name)) } }
            @if bars.len() > 1 { @if let Some(last) = bars.last() { text.name.end x=(WIDTH) y=(HEIGHT - 5) { (Shown(&last.name)) } } }
        }
    }
}

/// Bars below each other, with their names.
pub(super) fn rows(title: &str, kind: &str, bars: &[Bar]) -> Markup {
    const ROW: u64 = 34;
    let most = bars.iter().map(|bar| bar.value).max().unwrap_or(0);
    let height = ROW * bars.len() as u64;
    html! {
        svg class={ "chart bars " (kind) } viewBox={ "0 0 " (WIDTH) " " (height.max(1)) } role="img" aria-label=(title) {
            title { (title) }
            @for (at, bar) in bars.iter().enumerate() {
                @let top = at as u64 * ROW;
                g.bar {
                    title { (Shown(&bar.name)) ": " (Shown(&bar.shown)) }
                    text.name x="0" y=(top + 12) { (Shown(&super::text::one_line(&bar.name, 60))) }
                    text.value.end x=(WIDTH) y=(top + 12) { (Shown(&bar.shown)) }
                    rect.track x="0" y=(top + 18) width=(WIDTH) height="8" rx="2" {}
                    rect.fill x="0" y=(top + 18) width=(share(bar.value, most, WIDTH)) height="8" rx="2" {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    #[test]
    fn a_bar_is_seen_where_there_is_something() {
        assert_eq!([0, 1, 500, 1_000].map(|value| share(value, 1_000, 100)), [0, 2, 50, 100]);
    }

    proptest! {
        #[test]
        fn bars_stay_in_the_picture(values in proptest::collection::vec(any::<u64>(), 0..400)) {
            let bar = |value: u64| Bar { name: value.to_string(), value, shown: value.to_string() };
            let bars: Vec<Bar> = values.iter().copied().map(bar).collect();
            let most = values.iter().copied().max().unwrap_or(0);
            prop_assert!(values.iter().all(|value| share(*value, most, 100) <= 100));
            prop_assert!(columns("t", "k", &bars).into_string().ends_with("</svg>"));
            prop_assert!(rows("t", "k", &bars).into_string().ends_with("</svg>"));
        }
    }
}
