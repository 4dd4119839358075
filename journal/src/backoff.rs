//! Pauses between tries.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::run_journal::Settings;

/// No pause is longer, whatever the settings say.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Growing pauses between tries, with a random part so that many journals do not return at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    pub(crate) tried: u32,
    next: Duration,
    max: Duration,
    until: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(settings: &Settings) -> Self {
        let until = settings.give_up_after.and_then(|after| Instant::now().checked_add(after));
        let max = settings.retry_max.min(LONGEST);
        Self { tried: 0, next: settings.retry_min.min(max), max, until }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.tried += 1;
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        // Each `RandomState` has keys of its own: enough for a pause.
        let random = std::hash::RandomState::new().build_hasher().finish() % 1_000;
        delay / 2 + delay * u32::try_from(random).unwrap_or(0) / 2_000
    }
}
