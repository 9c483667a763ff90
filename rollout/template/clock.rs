//! `strftime_now`: the directives of C's `strftime` that templates use, in English and in
//! universal time (transformers takes the machine's zone, which would make one run's
//! prompts differ between machines). Days to dates after Howard Hinnant's `chrono`
//! calendar algorithms.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A moment taken apart.
struct Moment {
    seconds: u64,
    year: u64,
    month: u64,
    day: u64,
    /// Days since 1 January.
    of_year: u64,
    /// Days since Sunday.
    weekday: u64,
}

/// `format` with its directives filled in; unknown ones stay as they stand. A `-` after the per
/// cent sign leaves the padding out, as glibc's does.
pub(super) fn strftime(format: &str, time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let days = seconds / 86_400;
    let (year, month, day) = date(days);
    let moment = Moment {
        seconds,
        year,
        month,
        day,
        of_year: (1..=month).fold(day - 1, |sum, m| sum + days_before(m, month, year)),
        weekday: (days + 4) % 7,
    };
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = &rest[at + 1..];
        let bare = directive.strip_prefix('-');
        let Some(c) = bare.unwrap_or(directive).chars().next() else {
            rest = &rest[at..];
            break;
        };
        let end = at + 1 + usize::from(bare.is_some()) + c.len_utf8();
        match moment.directive(c) {
            None => out.push_str(&rest[at..end]),
            Some(text) if bare.is_some() && text.ends_with(|c: char| c.is_ascii_digit()) => {
                let number = text[..text.len() - 1].trim_start_matches(['0', ' ']);
                out.push_str(number);
                out.push_str(&text[text.len() - 1..]);
            }
            Some(text) => out.push_str(&text),
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The days of month `m` if it lies before `month`.
fn days_before(m: u64, month: u64, year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match m {
        _ if m >= month => 0,
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Moment {
    fn directive(&self, c: char) -> Option<String> {
        let Self {
            year, month, day, ..
        } = self;
        let second = self.seconds % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let half = (hour + 11) % 12 + 1;
        let (month_name, weekday) = (MONTHS[*month as usize - 1], DAYS[self.weekday as usize]);
        let clock = format!("{hour:02}:{minute:02}:{second:02}");
        let noon = if hour < 12 { "AM" } else { "PM" };
        Some(match c {
            'Y' => year.to_string(),
            'C' => format!("{:02}", year / 100),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'e' => format!("{day:2}"),
            'j' => format!("{:03}", self.of_year + 1),
            'B' => month_name.to_owned(),
            'b' | 'h' => month_name[..3].to_owned(),
            'A' => weekday.to_owned(),
            'a' => weekday[..3].to_owned(),
            'u' => ((self.weekday + 6) % 7 + 1).to_string(),
            'w' => self.weekday.to_string(),
            'U' => format!("{:02}", (self.of_year + 7 - self.weekday) / 7),
            'W' => format!("{:02}", (self.of_year + 7 - (self.weekday + 6) % 7) / 7),
            'H' => format!("{hour:02}"),
            'k' => format!("{hour:2}"),
            'I' => format!("{half:02}"),
            'l' => format!("{half:2}"),
            'p' => noon.to_owned(),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'f' => "000000".to_owned(),
            's' => self.seconds.to_string(),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year % 100),
            'R' => format!("{hour:02}:{minute:02}"),
            'T' | 'X' => clock,
            'r' => format!("{half:02}:{minute:02}:{second:02} {noon}"),
            'c' => format!(
                "{} {} {day:2} {clock} {year}",
                &weekday[..3],
                &month_name[..3]
            ),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

/// Year, month and day of a day counted from 1 January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}
