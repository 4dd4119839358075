//! Costs: US dollars as people and files write them, billionths of them as the ledger keeps them.

use runledger_core::Decimal;

/// Digits of a dollar that the ledger keeps.
const DIGITS: i64 = 9;

/// The billionths of a JSON number of dollars; half a billionth counts up. `None` where it is no
/// number, is negative, or is more than 2^63 - 1 billionths.
pub(crate) fn nanos(number: &str) -> Option<u64> {
    let Decimal { digits, exponent, .. } = Decimal::parse(number).filter(|number| !number.is_negative)?;
    let exponent = exponent.checked_add(DIGITS)?;
    if exponent >= 0 {
        return Decimal { is_negative: false, digits, exponent }.whole();
    }
    let dropped = usize::try_from(exponent.checked_neg()?).ok()?;
    let split = digits.len().checked_sub(dropped);
    let whole = split.and_then(|at| digits.get(..at)).filter(|text| !text.is_empty());
    let up = split.and_then(|at| digits.as_bytes().get(at)).is_some_and(|digit| *digit >= b'5');
    let kept = whole.map_or(Some(0), |text| text.parse::<u64>().ok())?.checked_add(u64::from(up))?;
    i64::try_from(kept).is_ok().then_some(kept)
}

/// Billionths of a dollar for people: four digits, all of them where it is less than a cent.
pub(crate) fn shown(nanos: u64) -> String {
    if nanos == 0 {
        return "-".to_owned();
    }
    let (dollars, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if nanos < 10_000_000 {
        return format!("${dollars}.{}", format!("{rest:09}").trim_end_matches('0'));
    }
    format!("${dollars}.{:04}", rest / 100_000)
}

/// Billionths of a dollar, all digits of them.
pub(crate) fn exact(nanos: u64) -> String {
    let (dollars, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let cents = format!("{rest:09}");
    let (cents, below) = cents.split_at(2);
    format!("${dollars}.{cents}{}", below.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn dollars_are_read_digit_by_digit() {
        let cases = [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("0.3445306", Some(344_530_600)),
            ("1.2e-05", Some(12_000)),
            ("12E3", Some(12_000_000_000_000)),
            ("0.0000000005", Some(1)),
            ("0.00000000049999", Some(0)),
            ("0.1234567895", Some(123_456_790)),
            ("5e-11", Some(0)),
            ("5e-10", Some(1)),
            ("1e400", None),
            ("1e-400", Some(0)),
            ("9223372036.854775807", Some(9_223_372_036_854_775_807)),
            ("9223372036.854775808", None),
            ("-1", None),
            ("null", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nanos(text), expected, "{text}");
        }
    }

    #[test]
    fn small_costs_are_shown_whole() {
        assert_eq!(
            [0, 12_000, 344_530_600, 2_000_000_000].map(shown),
            ["-", "$0.000012", "$0.3445", "$2.0000"]
        );
    }

    #[test]
    fn sums_of_costs_are_shown_to_the_last_digit() {
        assert_eq!(
            [0, 12_000, 344_530_600, 2_000_000_000, 7_100_000_001].map(exact),
            ["$0.00", "$0.000012", "$0.3445306", "$2.00", "$7.100000001"]
        );
    }
}
