//! Times, and what is told of many of them.

use std::process::Command;
use std::time::{Duration, Instant};

/// What one measurement of writes gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) events: u64,
    /// Those and what came before the clock ran.
    pub(crate) stored: u64,
    pub(crate) seconds: f64,
    /// Of the time a commit took, in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Written {
    pub(crate) fn new(events: u64, elapsed: Duration, commits: Vec<Duration>) -> Self {
        let Spread { p50, p99 } = Spread::of(commits);
        Self { events, stored: events, seconds: elapsed.as_secs_f64(), p50, p99 }
    }

    /// Of several writers: from when the first began until the last had ended.
    pub(crate) fn by(events: u64, stints: Vec<Stint>) -> Self {
        let began = stints.iter().map(|stint| stint.began).min();
        let ended = stints.iter().map(|stint| stint.ended).max();
        let elapsed = began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began);
        Self::new(events, elapsed, stints.into_iter().flat_map(|stint| stint.times).collect())
    }

    /// With these many events that were stored before the clock ran.
    pub(crate) fn after(self, events: u64) -> Self {
        Self { stored: self.events + events, ..self }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.events as f64 / self.seconds.max(f64::EPSILON)
    }
}

/// What one of several writers measured by itself: when others wake up, it is well under way.
#[derive(Clone, Debug)]
pub(crate) struct Stint {
    began: Instant,
    ended: Instant,
    times: Vec<Duration>,
}

impl Stint {
    /// Begins now.
    pub(crate) fn begin(commits: usize) -> Self {
        let now = Instant::now();
        Self { began: now, ended: now, times: Vec::with_capacity(commits) }
    }

    /// Notes what began then and ends now.
    pub(crate) fn note(&mut self, began: Instant) {
        self.ended = Instant::now();
        self.times.push(self.ended - began);
    }

    /// Ends now, with what was not noted.
    pub(crate) fn end(mut self) -> Self {
        self.ended = Instant::now();
        self
    }
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Spread {
    /// By the nearest rank; nothing measured is 0.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Self { p50: rank(50), p99: rank(99) }
    }
}

/// Waits until the disk has what the contender before left behind: it is not the next one's to wait for.
pub(crate) async fn settle() {
    // Where there is no such command, the figures are a little worse.
    let _ = tokio::task::spawn_blocking(|| Command::new("sync").status()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The middle one; of an even number the mean of the two in the middle, of none 0.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Does something and says how long it took.
pub(crate) async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<(T, Duration), E> {
    let began = Instant::now();
    let done = work.await?;
    Ok((done, began.elapsed()))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_middle_and_the_ranks() {
        assert_eq!(median([]), 0.0);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(Spread::of(times), Spread { p50: 100.0, p99: 198.0 });
        assert_eq!(Spread::of(vec![Duration::from_micros(7)]), Spread { p50: 7.0, p99: 7.0 });
    }
}
