//! Numbers, durations, costs, times and ids as people read them.

use maud::{Markup, html};
use runledger_core::{RunTotals, Timestamp};

use super::text::Shown;

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most five characters: `999`, `12.3k`, `4.5M`.
pub(super) fn short(number: u64) -> String {
    for (unit, sign) in [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')] {
        if number >= unit {
            let tenths = number / (unit / 10);
            return if tenths >= 1_000 {
                format!("{}{sign}", tenths / 10)
            } else {
                format!("{}.{}{sign}", tenths / 10, tenths % 10)
            };
        }
    }
    number.to_string()
}

/// A count, short, with all its digits for those who point at it.
pub(super) fn count(number: u64) -> Markup {
    html! { span.num title=(grouped(number)) { (short(number)) } }
}

/// Billionths of a dollar; a dash where nothing was priced.
pub(super) fn cost(nanos: u64) -> String {
    let (dollars, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    match nanos {
        0 => "–".to_owned(),
        // Less than a cent: two digits that say something.
        1..10_000_000 => {
            let digits = format!("{rest:09}");
            let first = digits.bytes().position(|digit| digit != b'0').unwrap_or(0);
            let kept = digits.get(..(first + 2).min(digits.len())).unwrap_or(&digits);
            format!("$0.{}", kept.trim_end_matches('0'))
        }
        10_000_000..1_000_000_000 => format!("${dollars}.{:04}", rest / 100_000),
        _ => format!("${}.{:02}", grouped(dollars), rest / 10_000_000),
    }
}

/// How long something took.
pub(super) fn lasted(millis: u64) -> String {
    let seconds = millis / 1_000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{seconds}.{} s", millis % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", grouped(seconds / 3_600), seconds / 60 % 60),
    }
}

/// A moment, as it is to be read now and as it is.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    let clock = at.to_chrono();
    html! {
        time datetime=(at) title=(clock.format("%Y-%m-%d %H:%M:%S UTC")) data-ago { (ago(at, now)) }
    }
}

/// A moment with the hour beside it, where there is room.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        (time(at, now)) " " span.clock { (at.to_chrono().format("%Y-%m-%d %H:%M")) }
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.millis_since(at) / 1_000;
    match seconds {
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..2_592_000 => format!("{} d ago", seconds / 86_400),
        _ => at.to_chrono().format("%Y-%m-%d").to_string(),
    }
}

/// An id: how it ends where it is long, for ids that are made later differ there, and all of it for those who point.
pub(super) fn id(text: &str) -> Markup {
    const LONG: usize = 16;
    const KEPT: usize = 8;
    let length = text.chars().count();
    if length <= LONG {
        return html! { code.id { bdi { (Shown(text)) } } };
    }
    let end: String = text.chars().skip(length - KEPT).collect();
    html! { code.id title=(Shown(text)) { "…" bdi { (Shown(&end)) } } }
}

/// What a run used, in a line.
pub(super) fn totals(totals: &RunTotals) -> Markup {
    html! {
        @if totals.llm_calls > 0 {
            span.fact { (count(totals.total_tokens)) " tokens" }
            @if totals.cost_nanos > 0 { span.fact { (cost(totals.cost_nanos)) } }
            span.fact { (grouped(totals.llm_calls)) (if totals.llm_calls == 1 { " call" } else { " calls" }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn numbers_are_short_and_never_wrong() {
        let shown: Vec<String> =
            [0, 999, 1_000, 12_345, 999_999, 1_000_000, 123_456_789].map(short).into_iter().collect();
        assert_eq!(shown, ["0", "999", "1.0k", "12.3k", "999k", "1.0M", "123M"]);
        assert_eq!([1, 1_000, 1_234_567].map(grouped), ["1", "1,000", "1,234,567"]);
        assert_eq!(short(u64::MAX), "18446744T");
    }

    #[test]
    fn costs_and_durations_keep_what_matters() {
        assert_eq!(
            [0, 1_500, 9_999_999, 12_345_678, 1_234_560_000_000].map(cost),
            ["–", "$0.0000015", "$0.0099", "$0.0123", "$1,234.56"]
        );
        assert_eq!([7, 1_250, 61_000, 3_725_000].map(lasted), ["7 ms", "1.2 s", "1 min 01 s", "1 h 02 min"]);
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp::from_unix_micros(1_700_000_000_000_000).unwrap();
        let at = |seconds: i64| {
            ago(Timestamp::from_unix_micros(now.unix_micros() - seconds * 1_000_000).unwrap(), now)
        };
        assert_eq!(
            [-9, 0, 59, 120, 7_200, 172_800, 9_000_000].map(at),
            ["just now", "just now", "59 s ago", "2 min ago", "2 h ago", "2 d ago", "2023-08-02"]
        );
    }
}
