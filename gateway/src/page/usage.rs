//! `/usage`: what model calls took, by day and by model.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::Html;
use maud::{Markup, html};
use runledger_core::{Timestamp, UsageBy, UsageOf, UsageQuery, UsageSum};
use serde::Deserialize;

use super::chart::{Bar, columns, rows};
use super::format::{cost, count, grouped, short};
use super::frame::{Frame, Section, nothing};
use super::link::with_query;
use super::text::Shown;
use super::viewer::{QueryOf, Refused, Viewer};
use crate::app::App;

const DAY: Duration = Duration::from_secs(86_400);
/// Models and callers that a chart has a bar for.
const BARS: usize = 12;

/// Over how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Span {
    #[serde(rename = "7")]
    Week,
    #[default]
    #[serde(rename = "30")]
    Month,
    #[serde(rename = "90")]
    Quarter,
}

impl Span {
    const ALL: [Self; 3] = [Self::Week, Self::Month, Self::Quarter];

    fn days(self) -> u32 {
        match self {
            Self::Week => 7,
            Self::Month => 30,
            Self::Quarter => 90,
        }
    }
}

/// The parameters of the page.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    days: Span,
}

/// The page.
pub(super) async fn show(
    State(app): State<App>,
    viewer: Viewer,
    QueryOf(wanted): QueryOf<Wanted>,
) -> Result<Html<String>, Refused> {
    let site = &viewer.site;
    let from = first_day(viewer.now, wanted.days);
    let report = async |by: UsageBy| {
        let query = UsageQuery { from: Some(from), ..UsageQuery::new(UsageOf::All, by) };
        app.ledger.usage().report(&viewer.scope, &query).await
    };
    let days = all_days(report(UsageBy::Day).await?, from, wanted.days);
    let mut models = report(UsageBy::Model).await?;
    let mut callers = report(UsageBy::Caller).await?;
    let total = report(UsageBy::Total).await?.pop().unwrap_or_default();
    let most_first = |sum: &UsageSum| std::cmp::Reverse((sum.tokens.total, sum.cost_nanos));
    models.sort_by_key(most_first);
    callers.sort_by_key(most_first);
    Ok(Frame::new("Usage", Section::Usage, site).page(html! {
        div.page-head {
            h1 { "Usage" }
            nav.tabs aria-label="Over how long" {
                @for span in Span::ALL {
                    @let days = span.days().to_string();
                    a href=(with_query(&site.page("/usage"), &[("days", Some(&days))])) aria-current=[(span == wanted.days).then_some("page")] { (days) " days" }
                }
            }
        }
        @if total.llm_calls == 0 {
            (nothing("No model calls in this time.", "Usage is counted when a model answers."))
        } @else {
            (totals(&total))
            section.charts {
                figure { figcaption { "Tokens by day" } (columns("Tokens by day", "tokens", &bars(&days, tokens))) }
                figure { figcaption { "Cost by day" } (columns("Cost by day", "cost", &bars(&days, dollars))) }
                figure { figcaption { "Tokens by model" } (rows("Tokens by model", "tokens", &bars(first(&models), tokens))) }
                figure { figcaption { "Cost by model" } (rows("Cost by model", "cost", &bars(first(&models), dollars))) }
            }
            (table("By model", "Model", &models))
            (table("By caller", "Caller", &callers))
            details.fold { summary { span.name { "By day" } } (table("By day", "Day (UTC)", &days.iter().rev().filter(|day| day.llm_calls > 0).cloned().collect::<Vec<_>>())) }
        }
    }))
}

/// The first moment of the first day that is told.
fn first_day(now: Timestamp, span: Span) -> Timestamp {
    let back = now.before(DAY * (span.days() - 1));
    let into = back.unix_micros().rem_euclid(86_400_000_000);
    back.before(Duration::from_micros(u64::try_from(into).unwrap_or(0)))
}

/// Every day of the span, those without calls too.
fn all_days(sums: Vec<UsageSum>, from: Timestamp, span: Span) -> Vec<UsageSum> {
    let mut known: BTreeMap<String, UsageSum> = sums.into_iter().map(|sum| (sum.key.clone(), sum)).collect();
    let day = |number: u32| from.after(DAY * number).to_chrono().format("%Y-%m-%d").to_string();
    (0..span.days())
        .map(|number| {
            let key = day(number);
            known.remove(&key).unwrap_or_else(|| UsageSum { key, ..UsageSum::default() })
        })
        .collect()
}

fn first(sums: &[UsageSum]) -> &[UsageSum] {
    sums.get(..BARS.min(sums.len())).unwrap_or(sums)
}

fn tokens(sum: &UsageSum) -> (u64, String) {
    (sum.tokens.total, short(sum.tokens.total))
}

fn dollars(sum: &UsageSum) -> (u64, String) {
    (sum.cost_nanos, cost(sum.cost_nanos))
}

fn bars(sums: &[UsageSum], of: fn(&UsageSum) -> (u64, String)) -> Vec<Bar> {
    let bar = |sum: &UsageSum| {
        let (value, shown) = of(sum);
        Bar { name: sum.key.clone(), value, shown }
    };
    sums.iter().map(bar).collect()
}

fn totals(total: &UsageSum) -> Markup {
    html! {
        dl.figures.large {
            div { dt { "Tokens" } dd { (count(total.tokens.total)) } }
            div { dt { "Input" } dd { (count(total.tokens.input)) } }
            div { dt { "Cached" } dd { (count(total.tokens.cache_read)) } }
            div { dt { "Output" } dd { (count(total.tokens.output)) } }
            div { dt { "Model calls" } dd { (count(total.llm_calls)) } }
            div { dt { "Runs" } dd { (count(total.runs)) } }
            div { dt { "Cost" } dd { (cost(total.cost_nanos)) } }
        }
        @if total.unpriced_calls > 0 {
            p.note { "Calls without a price, which are not part of the cost: " (grouped(total.unpriced_calls)) "." }
        }
    }
}

fn table(title: &str, key: &str, sums: &[UsageSum]) -> Markup {
    const ROWS: usize = 200;
    html! {
        div.scroll tabindex="0" role="region" aria-label=(title) {
            table {
                caption { (title) }
                thead { tr { th scope="col" { (key) } @for name in ["Runs", "Calls", "Input", "Cached", "Output", "Reasoning", "Total", "Cost"] { th.number scope="col" { (name) } } } }
                tbody {
                    @for sum in sums.iter().take(ROWS) {
                        tr {
                            th scope="row" { (Shown(&sum.key)) }
                            @for number in [sum.runs, sum.llm_calls, sum.tokens.input, sum.tokens.cache_read, sum.tokens.output, sum.tokens.reasoning, sum.tokens.total] { td.number { (grouped(number)) } }
                            td.number { (cost(sum.cost_nanos)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn every_day_has_its_place() {
        let now = Timestamp::parse("now", "2026-03-01T13:45:00Z").unwrap();
        let from = first_day(now, Span::Week);
        assert_eq!(from.to_string(), "2026-02-23T00:00:00.000000+00:00");
        let sum = UsageSum { key: "2026-02-28".to_owned(), llm_calls: 3, ..UsageSum::default() };
        let days = all_days(vec![sum], from, Span::Week);
        let calls: Vec<(&str, u64)> = days.iter().map(|day| (day.key.as_str(), day.llm_calls)).collect();
        assert_eq!(calls.len(), 7);
        assert_eq!((calls[0], calls[5], calls[6]), (("2026-02-23", 0), ("2026-02-28", 3), ("2026-03-01", 0)));
    }
}
