//! Where a backend listens: an IP address or a name, and always a port. Never resolves the name.

use std::fmt;
use std::net::SocketAddr;

use crate::address::socket_address;
use crate::hostname::Hostname;
use crate::text::FromText;
use crate::yaml::quoted;

/// Where a backend, or each backend behind a name, listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// One address.
    Ip(SocketAddr),
    /// All addresses that this name has at a time, each with this port.
    Name(BackendName, u16),
}

/// A name that stands for backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendName {
    host: Hostname,
    /// Written with a dot at the end: no search list applies.
    is_absolute: bool,
}

impl BackendAddress {
    /// The port to connect to.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }

    /// The name, where it is one.
    pub fn name(&self) -> Option<&BackendName> {
        match self {
            Self::Ip(_) => None,
            Self::Name(name, _) => Some(name),
        }
    }

    /// Whether it is known to be on this host.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Ip(address) if address.ip().is_loopback())
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl BackendName {
    /// Reads a name in any case; a dot at the end makes it absolute.
    pub fn parse(text: &str) -> Option<Self> {
        let host = Hostname::parse(text).ok()?;
        Some(Self { host, is_absolute: text.ends_with('.') })
    }

    /// Without the dot at the end.
    pub fn host(&self) -> &Hostname {
        &self.host
    }

    /// Whether no search list applies.
    pub fn is_absolute(&self) -> bool {
        self.is_absolute
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, if self.is_absolute { "." } else { "" })
    }
}

impl FromText for BackendAddress {
    const NAME: &'static str = "BackendAddress";
    const DESCRIPTION: &'static str = "An IP address or a name, and a port, such as 10.2.0.9:443, [2001:db8::9]:443 or \
                                       svc.ns.svc:443. A dot at the end of the name keeps the search list of \
                                       resolv.conf away.";
    const PATTERN: &'static str = "^[^\\s]+:[0-9]{1,5}$";
    const EXPECTED: &'static str = "an address and port such as \"10.2.0.9:443\" or \"svc.ns.svc:443\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let shown = quoted(text);
        let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let address = match (BackendName::parse(host), port) {
            (Some(name), None) => return Err(format!("{shown} has no port: write `{name}:443`")),
            (Some(_), Some("")) => return Err(format!("{shown} has no port after the colon")),
            (Some(name), Some(digits)) => {
                let port = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
                let wrong = || format!("{shown} has the port {}, which is not a number up to 65535", quoted(digits));
                Self::Name(name, port.ok_or_else(wrong)?)
            }
            (None, _) => Self::Ip(socket_address(text, 443)?),
        };
        if address.port() == 0 {
            return Err(format!("{shown} has port 0: write the backend's port"));
        }
        if matches!(address, Self::Ip(address) if address.ip().is_unspecified()) {
            return Err(format!("{shown} is no address to connect to: write the backend's own"));
        }
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_and_written_alike() {
        for text in ["10.2.0.9:443", "[2001:db8::9]:443", "svc:80", "svc.ns.svc:443", "db.example.:5432", "my_db:1"] {
            let address = BackendAddress::from_text(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.name().is_some(), text.starts_with(char::is_alphabetic), "{text}");
        }
        let name = BackendAddress::from_text("Svc.Example:443").unwrap();
        assert_eq!((name.to_string(), name.port()), ("svc.example:443".to_owned(), 443));
        assert!(!name.name().unwrap().is_absolute() && BackendName::parse("a.").unwrap().is_absolute());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, message) in [
            ("svc.internal", "`svc.internal` has no port: write `svc.internal:443`"),
            ("svc:", "`svc:` has no port after the colon"),
            ("svc:+1", "`svc:+1` has the port `+1`, which is not a number up to 65535"),
            ("svc:70000", "`svc:70000` has the port `70000`, which is not a number up to 65535"),
            ("svc:0", "`svc:0` has port 0: write the backend's port"),
            ("10.0.0.1:0", "`10.0.0.1:0` has port 0: write the backend's port"),
            ("0.0.0.0:80", "`0.0.0.0:80` is no address to connect to: write the backend's own"),
            ("10.0.0.1", "`10.0.0.1` has no port: write `10.0.0.1:443`"),
        ] {
            assert_eq!(BackendAddress::from_text(text).unwrap_err(), message);
        }
        assert!(BackendAddress::from_text("a..b:443").is_err());
    }
}
