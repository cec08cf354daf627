//! Dates and times of day as log files have them: RFC 3339, and the variants of ISO 8601 that serialisers write.

/// A date and time of day, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateTime {
    /// The year; may be before Christ.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
    /// 1 to 31.
    pub day: i8,
    /// 0 to 23.
    pub hour: i8,
    /// 0 to 59.
    pub minute: i8,
    /// 0 to 59.
    pub second: i8,
    /// 0 to 999.
    pub millisecond: i16,
    /// Minutes ahead of UTC; `None` where the text does not say.
    pub offset: Option<i16>,
}

impl DateTime {
    /// Reads `2024-11-22T07:20:00.5Z` and what is like it: a space for the `T`, no seconds, a comma before the fraction,
    /// offsets of the forms `Z`, `UTC`, `+09:00`, `+0900`, `+09`, or none, with a space before it or not. A fraction has
    /// any number of digits; what is finer than a millisecond is cut off.
    pub fn read(text: &str) -> Option<Self> {
        let mut scan = Scan(text.as_bytes());
        let year = scan.digits(4)?;
        let month = scan.byte(b'-').and_then(|()| scan.digits(2))?;
        let day = scan.byte(b'-').and_then(|()| scan.digits(2))?;
        scan.one_of(b"Tt ")?;
        let hour = scan.digits(2)?;
        let minute = scan.byte(b':').and_then(|()| scan.digits(2))?;
        let (mut second, mut millisecond) = (0, 0);
        if scan.byte(b':').is_some() {
            second = scan.digits(2)?;
            if scan.one_of(b".,").is_some() {
                millisecond = scan.fraction()?;
            }
        }
        let offset = scan.offset()?;
        let is_valid = (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&day)
            && hour <= 23
            && minute <= 59
            && second <= 60;
        // All of them have at most four digits. A leap second is one with the second before it.
        is_valid.then_some(Self {
            year: year as i16,
            month: month as i8,
            day: day as i8,
            hour: hour as i8,
            minute: minute as i8,
            second: second.min(59) as i8,
            millisecond: millisecond as i16,
            offset,
        })
    }

    /// Milliseconds since 1970; without an offset it is no instant.
    pub fn unix_ms(&self) -> Option<i64> {
        let day = days_since_1970(self.year.into(), self.month.into(), self.day.into());
        let minutes = (day * 24 + i64::from(self.hour)) * 60 + i64::from(self.minute) - i64::from(self.offset?);
        Some((minutes * 60 + i64::from(self.second)) * 1_000 + i64::from(self.millisecond))
    }
}

/// What is left of a text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// Passes over a byte if it is there.
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.one_of(&[byte])
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| self.0 = rest)
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// A number of so many digits.
    fn digits(&mut self, count: usize) -> Option<u16> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')))?;
        self.0 = rest;
        Some(number)
    }

    /// The digits of a fraction of a second, at least one, as milliseconds.
    fn fraction(&mut self) -> Option<u16> {
        let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        let ms = digits.iter().chain(b"00").take(3).fold(0, |ms, digit| ms * 10 + u16::from(digit - b'0'));
        (len > 0).then_some(ms)
    }

    /// What says the distance from UTC, up to the end of the text; nothing does not say.
    fn offset(&mut self) -> Option<Option<i16>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let _ = self.byte(b' ');
        if self.one_of(b"Zz").or_else(|| self.word(b"UTC")).is_some() {
            return self.0.is_empty().then_some(Some(0));
        }
        let sign = if self.byte(b'+').is_some() { 1 } else { self.byte(b'-').map(|()| -1)? };
        let hours = self.digits(2)?;
        let has_minutes = self.byte(b':').is_some() || !self.0.is_empty();
        let minutes = if has_minutes { self.digits(2)? } else { 0 };
        let is_valid = hours <= 23 && minutes <= 59 && self.0.is_empty();
        is_valid.then_some(Some(sign * (hours * 60 + minutes) as i16))
    }
}

fn days_of_month(year: u16, month: u16) -> u16 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar: the year is taken to begin in March, so that the day that leap years have more is its
/// last (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: i64 = 1_732_276_800_000;

    fn instant(text: &str) -> Option<i64> {
        DateTime::read(text)?.unix_ms()
    }

    #[test]
    fn the_variants_of_iso_8601_are_read() {
        for (text, ms) in [
            ("2024-11-22T12:00:00Z", 0),
            ("2024-11-22t12:00:00z", 0),
            ("2024-11-22T12:00Z", 0),
            ("2024-11-22 12:00Z", 0),
            ("2024-11-22 12:00:00 UTC", 0),
            ("2024-11-22 12:00:00UTC", 0),
            ("2024-11-22 12:00 UTC", 0),
            ("2024-11-22 12:00:00.25 UTC", 250),
            ("2024-11-22T12:00:00,5Z", 500),
            ("2024-11-22T12:00:00.5Z", 500),
            ("2024-11-22T12:00:00.123456789012345678901234567890Z", 123),
            ("2024-11-22T12:00:00,9999+00:00", 999),
            ("2024-11-22T21:00:00+09", 0),
            ("2024-11-22T21:00:00+0900", 0),
            ("2024-11-22T21:00:00+09:00", 0),
            ("2024-11-22 21:00+09", 0),
            ("2024-11-22 21:00:00.001 +0900", 1),
            ("2024-11-22T08:30:00-0330", 0),
            ("2024-11-22T08:30:00-03:30", 0),
            ("2024-11-22T12:00:00-00:00", 0),
            ("2024-11-21T12:01:00-23:59", 0),
            ("2024-11-22T12:00:60Z", 59_000),
        ] {
            assert_eq!(instant(text), Some(NOON + ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for bad in [
            "",
            "2024-11-22",
            "2024-11-22T",
            "2024-11-22T12Z",
            "2024-11-22T12:00:0Z",
            "2024-11-22T12:00:Z",
            "2024-11-22T12:00:00.Z",
            "2024-11-22T12:00.5Z",
            "2024-11-22T12:00:00",
            "2024-11-22T12:00",
            "2024-11-22T12:00:00 ",
            "2024-11-22T12:00:00  Z",
            "2024-11-22T12:00:00Z ",
            "2024-11-22T12:00:00ZZ",
            "2024-11-22T12:00:00 PST",
            "2024-11-22T12:00:00Z[UTC]",
            "2024-11-22T12:00:00+9",
            "2024-11-22T12:00:00+090",
            "2024-11-22T12:00:00+09:",
            "2024-11-22T12:00:00+09:0",
            "2024-11-22T12:00:00+24:00",
            "2024-11-22T12:00:00+09:60",
            "2024-11-22T12:00:00+09:00:00",
            "2024-11-22T24:00:00Z",
            "2024-11-22T12:60:00Z",
            "2024-11-22T12:00:61Z",
            "2024-02-30T12:00:00Z",
            "2023-02-29T12:00:00Z",
            "2024-00-22T12:00:00Z",
            "2024-13-22T12:00:00Z",
            "20241122T120000Z",
            "24-11-22T12:00:00Z",
            "2024-11-22T12:00:0\u{e9}Z",
            " 2024-11-22T12:00:00Z",
        ] {
            assert_eq!(instant(bad), None, "{bad:?}");
        }
        assert_eq!(instant("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(instant("0000-03-01T00:00:00Z"), Some(-62_162_035_200_000));
    }

    proptest! {
        #[test]
        fn an_instant_is_the_one_that_the_library_for_dates_has(
            ms in 100_000_000_000_i64..100_000_000_000_000,
            offset in -1_439_i32..1_440,
        ) {
            let moment = jiff::Timestamp::from_millisecond(ms).unwrap();
            let zone = jiff::tz::Offset::from_seconds(offset * 60).unwrap();
            let civil = zone.to_datetime(moment);
            let (sign, hours, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / 60, offset.abs() % 60);
            let text = format!("{civil:.3}{sign}{hours:02}:{minutes:02}");
            prop_assert_eq!(instant(&text), Some(ms), "{}", text);
        }
    }
}
