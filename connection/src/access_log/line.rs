//! The fields of an access log line. What does not apply to a connection is left out of its line, never null.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::ConnectionId;

/// What is known of a connection at its end. Durations are written as milliseconds with fractions.
#[derive(Clone, Debug, Serialize)]
pub struct AccessLine {
    /// When the connection was accepted; RFC 3339 with milliseconds, UTC.
    #[serde(serialize_with = "rfc_3339")]
    pub time: SystemTime,
    /// The same in both processes' logs.
    pub id: ConnectionId,
    /// The listener's name.
    pub listener: Cow<'static, str>,
    /// The tenant's name, where a route was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Cow<'static, str>>,
    /// `passthrough`, `terminate` or `reject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<&'static str>,
    /// Where the client comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<SocketAddr>,
    /// As the client sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// What the client offered, or what was agreed upon where TLS was terminated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// The hello's fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ja4: Option<String>,
    /// Where the connection went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<SocketAddr>,
    /// `cut_through`, `splice` or `copy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_path: Option<&'static str>,
    /// Bytes that were delivered.
    pub client_to_backend: u64,
    /// Bytes that were delivered.
    pub backend_to_client: u64,
    /// From accept to a complete hello.
    #[serde(serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub hello_ms: Option<Duration>,
    /// The dial.
    #[serde(serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<Duration>,
    /// The TLS handshake.
    #[serde(serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub handshake_ms: Option<Duration>,
    /// From accept to the end.
    #[serde(serialize_with = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<Duration>,
    /// The version that was agreed upon, where TLS was terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<Cow<'static, str>>,
    /// The cipher suite that was agreed upon, where TLS was terminated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cipher: Option<Cow<'static, str>>,
    /// Who the client's certificate says that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_identity: Option<String>,
    /// What the tenant's allow list makes of that identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// `ok` or the documented label.
    pub outcome: Cow<'static, str>,
    /// Why, in words, where it is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
}

impl AccessLine {
    /// A line with outcome `ok` in which nothing else is known yet.
    pub fn new(id: ConnectionId, time: SystemTime, listener: impl Into<Cow<'static, str>>) -> Self {
        Self {
            time,
            id,
            listener: listener.into(),
            tenant: None,
            mode: None,
            client: None,
            server_name: None,
            alpn: Vec::new(),
            ja4: None,
            backend: None,
            data_path: None,
            client_to_backend: 0,
            backend_to_client: 0,
            hello_ms: None,
            connect_ms: None,
            handshake_ms: None,
            total_ms: None,
            tls_version: None,
            tls_cipher: None,
            client_identity: None,
            groups: Vec::new(),
            outcome: Cow::Borrowed("ok"),
            reason: None,
        }
    }
}

#[expect(clippy::ref_option, reason = "the signature that serde's serialize_with calls")]
fn milliseconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Microseconds are what the clock readings around a system call can tell.
    let microseconds = duration.unwrap_or_default().as_micros();
    serializer.serialize_f64(microseconds as f64 / 1_000.0)
}

fn rfc_3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Rfc3339(*time))
}

struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since_epoch.as_secs();
        let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
        let second_of_day = seconds % SECONDS_PER_DAY;
        let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
        let millisecond = since_epoch.subsec_millis();
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

/// Days since 1970-01-01 to year, month and day of the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", civil_from_days): years are counted from March, so that the
/// leap day is the last one of its year.
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + DAYS_FROM_0000_03_01_TO_EPOCH;
    let era = days / DAYS_PER_ERA;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

const SECONDS_PER_DAY: u64 = 86_400;
const DAYS_FROM_0000_03_01_TO_EPOCH: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        // Expected values from date(1): `date -u -d @N +%FT%TZ`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(), expected);
        }
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let mut line = AccessLine::new(ConnectionId(1), UNIX_EPOCH, "tls");
        line.connect_ms = Some(Duration::from_micros(1_234));
        let json = serde_json::to_string(&line).unwrap();
        assert!(!json.contains("null"), "{json}");
        assert!(!json.contains("tenant"), "{json}");
        assert!(json.contains("\"connect_ms\":1.234"), "{json}");
        assert!(json.contains("\"outcome\":\"ok\""), "{json}");
    }

    #[test]
    fn a_hostile_server_name_stays_on_its_line() {
        let mut line = AccessLine::new(ConnectionId(1), UNIX_EPOCH, "tls");
        line.server_name = Some("a\n{\"outcome\":\"forged\"}\u{1b}[31m".into());
        let json = serde_json::to_string(&line).unwrap();
        assert!(!json.contains('\n') && !json.contains('\u{1b}'), "{json}");
    }
}
