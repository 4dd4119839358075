//! JSON numbers by their digits, never through a binary fraction.

/// A JSON number: `digits` times ten to the power of `exponent`, whatever its spelling. Two that are equal
/// are the same number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Whether it is below zero; zero is not.
    pub is_negative: bool,
    /// Its digits, without zeros at either end; zero has none at all.
    pub digits: String,
    /// The power of ten; 0 for zero.
    pub exponent: i64,
}

impl Decimal {
    /// Reads a JSON number; `None` where the text is none, or its exponent is beyond 64 bits.
    #[must_use]
    pub fn parse(number: &str) -> Option<Self> {
        let (mantissa, exponent) = match number.find(['e', 'E']) {
            Some(at) => (number.get(..at)?, number.get(at + 1..)?.parse::<i64>().ok()?),
            None => (number, 0),
        };
        let (positive, negative) = match mantissa.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (mantissa, false),
        };
        let (whole, fraction) = positive.split_once('.').unwrap_or((positive, ""));
        let all = format!("{whole}{fraction}");
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let kept = all.trim_end_matches('0');
        let dropped = i64::try_from(all.len() - kept.len()).ok()?;
        let digits = kept.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, exponent: 0 });
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
        Some(Self { is_negative: negative, digits, exponent })
    }

    /// The number where it is whole, not negative and at most 2^63 - 1.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        if self.is_negative {
            return None;
        }
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = usize::try_from(self.exponent).ok().filter(|zeros| *zeros <= 19)?;
        let number = format!("{}{}", self.digits, "0".repeat(zeros)).parse::<i64>().ok()?;
        u64::try_from(number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_number_is_the_same_in_every_spelling() {
        for (one, other) in [("1.0", "1"), ("1e2", "100"), ("-0", "0.00e7"), ("-1.50", "-15E-1")] {
            assert_eq!(Decimal::parse(one).unwrap(), Decimal::parse(other).unwrap(), "{one}");
        }
        for (one, other) in [("1", "-1"), ("1", "10"), ("9007199254740993", "9007199254740992")] {
            assert_ne!(Decimal::parse(one).unwrap(), Decimal::parse(other).unwrap(), "{one}");
        }
    }

    #[test]
    fn whole_numbers_are_read_in_every_spelling() {
        let cases = [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1e3", Some(1_000)),
            ("1.5E+1", Some(15)),
            ("1200e-2", Some(12)),
            ("0.000e400", Some(0)),
            ("9223372036854775807", Some(9_223_372_036_854_775_807)),
            ("9223372036854775808", None),
            ("1e40", None),
            ("1e999999999999999999", None),
            ("12.5", None),
            ("1e-1", None),
            ("-5", None),
            ("\"12\"", None),
            ("true", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Decimal::parse(text).and_then(|number| number.whole()), expected, "{text}");
        }
    }
}
