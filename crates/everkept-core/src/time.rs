//! Times inside an event's `data`, as its readers see them: RFC 3339 in UTC, to the microsecond.
//!
//! Never a clock: a time that comes in is written down. One outside the years 0 to 9999 is shown as the nearest in them.

use crate::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const FIRST: i64 = days_before(0, 1, 1) * DAY;
const LAST: i64 = days_before(10_000, 1, 1) * DAY - 1;

pub(crate) mod rfc3339 {
    use super::{Timestamp, parse, show};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not a time as RFC 3339 writes it in UTC"))
    }
}

pub(crate) mod rfc3339_or_null {
    use super::{Timestamp, parse, show};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(show).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let read = |text: String| parse(&text).ok_or_else(|| D::Error::custom("not a time as RFC 3339 writes it in UTC"));
        text.map(read).transpose()
    }
}

fn show(at: Timestamp) -> String {
    let at = at.0.clamp(FIRST, LAST);
    let (days, within) = (at.div_euclid(DAY), at.rem_euclid(DAY));
    let (year, month, day) = date(days);
    let (seconds, micros) = (within / SECOND, within % SECOND);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{year:04}-{month:02}-{day:02}T{clock}{}Z", fraction.trim_end_matches('0'))
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let three = |text: &str, between: char| {
        let mut fields = text.split(between).map(number);
        let three = (fields.next()??, fields.next()??, fields.next()??);
        fields.next().is_none().then_some(three)
    };
    let ((year, month, day), (hours, minutes, seconds)) = (three(date, '-')?, three(clock, ':')?);
    let fits = (0..=9_999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hours > 23 || minutes > 59 || seconds > 59 || fraction.len() > 6 {
        return None;
    }
    let micros = number(&format!("{fraction:0<6}"))?;
    Some(Timestamp(days_before(year, month, day) * DAY + (hours * 3_600 + minutes * 60 + seconds) * SECOND + micros))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March here, so that a leap day is a year's last.
const fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year, month and day that are `days` after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_written_as_the_calendar_has_it() {
        for (at, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (4_107_456_000_000_000, "2100-02-28T00:00:00Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00Z"),
            (13_574_563_200_000_000, "2400-02-29T00:00:00Z"),
            (1_700_000_000_500_000, "2023-11-14T22:13:20.5Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(show(Timestamp(at)), shown);
            assert_eq!(parse(shown).map(show).as_deref(), Some(shown));
        }
        for wrong in [
            "",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00+01:00",
            "1970-01-01T00:00:00.1234567Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_time_that_was_written_reads_back(at in FIRST..=LAST) {
            prop_assert_eq!(parse(&show(Timestamp(at))), Some(Timestamp(at)));
        }
    }
}
