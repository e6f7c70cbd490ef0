//! Moments of certificates: seconds since 1970, shown to people as a date and a time in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

/// Seconds since 1970; negative before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl Moment {
    /// What the system's clock says.
    pub(crate) fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ASN1Time::from_timestamp(self.0) {
            Ok(time) => {
                let time = time.to_datetime();
                let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
                write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", time.hour(), time.minute())
            }
            Err(_) => write!(f, "{} s since 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_dates() {
        assert_eq!(Moment(951_782_399).to_string(), "2000-02-28 23:59 UTC");
        assert_eq!(Moment(0).to_string(), "1970-01-01 00:00 UTC");
        assert!(Moment::now() > Moment(1_700_000_000));
    }
}
