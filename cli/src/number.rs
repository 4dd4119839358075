//! JSON numbers by their digits, never through a binary fraction.

/// A number that is not negative: `digits` times ten to the power of `exponent`. The digits have
/// no zeros at either end; zero has none at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    pub(crate) digits: String,
    pub(crate) exponent: i64,
}

impl Decimal {
    /// `None` where the text is no number, or a negative one.
    pub(crate) fn parse(number: &str) -> Option<Self> {
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
        if negative && !digits.is_empty() {
            return None;
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
        Some(Self { digits, exponent })
    }

    /// The number where it is whole and at most 2^63 - 1.
    pub(crate) fn whole(&self) -> Option<u64> {
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
