//! Time: UTC, truncated to microseconds, so that what is read equals what was written.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{Error, Result};

/// A moment in UTC with microseconds, the resolution of every backend.
///
/// The order of events comes from `seq`, never from a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The system clock's time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(Utc::now())
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// The moment that many microseconds after the Unix epoch, where chrono can hold it.
    pub fn from_unix_micros(micros: i64) -> Result<Self> {
        DateTime::from_timestamp_micros(micros)
            .map(Self)
            .ok_or_else(|| Error::invalid("timestamp", format!("{micros} is out of range")))
    }

    /// Reads RFC 3339 with any offset.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self::from(at.with_timezone(&Utc)))
            .map_err(|error| Error::invalid(field, format!("{text:?} is not RFC 3339: {error}")))
    }

    /// The moment as chrono knows it.
    #[must_use]
    pub fn to_chrono(self) -> DateTime<Utc> {
        self.0
    }

    /// Milliseconds from `earlier` to this moment; 0 where the clock went backwards.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from((self.0 - earlier.0).num_milliseconds()).unwrap_or(0)
    }

    /// The moment that much later; where chrono cannot hold it, this moment.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        let later = chrono::Duration::from_std(duration).ok().and_then(|by| self.0.checked_add_signed(by));
        later.map_or(self, Self::from)
    }

    /// The moment that much earlier; where chrono cannot hold it, this moment.
    #[must_use]
    pub fn before(self, duration: std::time::Duration) -> Self {
        let earlier = chrono::Duration::from_std(duration).ok().and_then(|by| self.0.checked_sub_signed(by));
        earlier.map_or(self, Self::from)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_rfc3339_opts(SecondsFormat::Micros, false))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse("timestamp", &text).map_err(serde::de::Error::custom)
    }
}

/// Where records get their times from.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that moves a fixed step at each reading, for replays and tests whose output must not vary.
#[derive(Debug)]
pub struct SteppingClock {
    next_micros: AtomicI64,
    step_micros: i64,
}

impl SteppingClock {
    /// A clock that first says `start` and then `step_micros` more each time.
    #[must_use]
    pub fn new(start: Timestamp, step_micros: i64) -> Self {
        Self { next_micros: AtomicI64::new(start.unix_micros()), step_micros }
    }

    /// Moves the clock so that its next reading is `at`.
    pub fn set(&self, at: Timestamp) {
        self.next_micros.store(at.unix_micros(), Ordering::Relaxed);
    }
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        let micros = self.next_micros.fetch_add(self.step_micros, Ordering::Relaxed);
        Timestamp::from_unix_micros(micros).unwrap_or_else(|_| Timestamp::now())
    }
}
