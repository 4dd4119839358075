//! Time: UTC, truncated to microseconds, so that what is read equals what was written.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{Error, Result};

/// A moment in UTC with microseconds, the resolution of every backend, in the years 0 to 9999: the
/// text of any other is read by nobody, and does not sort.
///
/// The order of events comes from `seq`, never from a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

/// The first and the last moment there is, in microseconds since the Unix epoch.
const FIRST: i64 = -62_167_219_200_000_000;
const LAST: i64 = 253_402_300_799_999_999;

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

    /// The moment that many microseconds after the Unix epoch; `InvalidInput` outside the years 0 to 9999.
    pub fn from_unix_micros(micros: i64) -> Result<Self> {
        Some(micros)
            .filter(|micros| (FIRST..=LAST).contains(micros))
            .and_then(DateTime::from_timestamp_micros)
            .map(Self)
            .ok_or_else(|| {
                Error::invalid(
                    "timestamp",
                    format!("{micros} is not in the years 0 to 9999; give microseconds since 1970"),
                )
            })
    }

    /// Reads RFC 3339 with any offset.
    pub fn parse(field: &'static str, text: &str) -> Result<Self> {
        let at = DateTime::parse_from_rfc3339(text)
            .map_err(|error| Error::invalid(field, format!("{text:?} is not RFC 3339: {error}")))?;
        Self::from_unix_micros(at.timestamp_micros())
            .map_err(|_| Error::invalid(field, format!("{text:?} is not in the years 0 to 9999 of UTC")))
    }

    /// Reads RFC 3339, or a day as `2026-11-21`, which begins at midnight in UTC.
    pub fn parse_day(field: &'static str, text: &str) -> Result<Self> {
        let moment =
            if text.contains(['T', 't', ' ']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
        Self::parse(field, &moment).map_err(|_| {
            Error::invalid(field, format!("{text:?} is no date; give 2026-11-21 or 2026-11-21T08:00:00Z"))
        })
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

    /// The moment that much later, or the last one there is.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self::nearest(self.unix_micros().saturating_add(signed_micros(duration)))
    }

    /// The moment that much earlier, or the first one there is.
    #[must_use]
    pub fn before(self, duration: std::time::Duration) -> Self {
        Self::nearest(self.unix_micros().saturating_sub(signed_micros(duration)))
    }

    fn nearest(micros: i64) -> Self {
        Self(DateTime::from_timestamp_micros(micros.clamp(FIRST, LAST)).unwrap_or_default())
    }
}

fn signed_micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A moment outside the years 0 to 9999 becomes the nearest within.
impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self::nearest(at.timestamp_micros())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use pretty_assertions::assert_eq;
    use std::time::Duration;

    #[test]
    fn every_moment_there_is_reads_as_it_was_written() {
        for (micros, text) in
            [(FIRST, "0000-01-01T00:00:00.000000+00:00"), (LAST, "9999-12-31T23:59:59.999999+00:00")]
        {
            let at = Timestamp::from_unix_micros(micros).unwrap();
            assert_eq!(at.to_string(), text);
            assert_eq!(Timestamp::parse("at", text).unwrap(), at);
        }
    }

    #[test]
    fn there_is_no_moment_outside_the_years_that_can_be_read() {
        for micros in [i64::MIN, FIRST - 1, LAST + 1, 1_700_000_000_000_000_000, i64::MAX] {
            assert_eq!(Timestamp::from_unix_micros(micros).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        for text in ["0000-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"] {
            assert_eq!(Timestamp::parse("at", text).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let (first, last) = (Timestamp::nearest(FIRST), Timestamp::nearest(LAST));
        assert_eq!((Timestamp::from(DateTime::<Utc>::MIN_UTC), first), (first, first));
        assert_eq!(Timestamp::from(DateTime::<Utc>::MAX_UTC), last);
        assert_eq!(Timestamp::now().after(Duration::MAX), last);
        assert_eq!(Timestamp::now().before(Duration::MAX), first);
    }
}
