//! Times as people say them.
//!
//! Never: where a program reads; there they stay as they came.

use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// `3 min ago`; a time that cannot be read stays as it is.
pub fn ago(at: &str, now: Timestamp) -> String {
    let Ok(then) = at.parse::<Timestamp>() else { return at.to_owned() };
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3_600 => format!("{} min ago", seconds / 60),
        3_600..86_400 => format!("{} h ago", seconds / 3_600),
        86_400..2_592_000 => format!("{} d ago", seconds / 86_400),
        _ => then.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string(),
    }
}

/// The time of day here.
pub fn clock(at: &str) -> String {
    match at.parse::<Timestamp>() {
        Ok(then) => then.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string(),
        Err(_) => at.to_owned(),
    }
}

pub fn took(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_told_by_its_largest_unit() {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let told =
            ["2026-03-01T12:00:05Z", "2026-03-01T11:59:30Z", "2026-03-01T11:01:00Z", "2026-02-28T12:00:00Z", "2026-01-01T00:00:00Z", "?"];
        assert_eq!(told.map(|at| ago(at, now)), ["just now", "30 s ago", "59 min ago", "1 d ago", "2026-01-01", "?"]);
    }

    #[test]
    fn a_duration_keeps_two_units() {
        let told = [900, 61_000, 3_720_000].map(|ms| took(Duration::from_millis(ms)));
        assert_eq!(told, ["0.9 s", "1 min 1 s", "1 h 2 min"]);
    }
}
