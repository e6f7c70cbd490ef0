//! How clients reach a tenant besides by its hostnames: another name, or an address.

use std::fmt;
use std::net::IpAddr;

use crate::hostname::HostnamePattern;
use crate::text::FromText;
use crate::yaml::quoted;

/// A name or an address that certificates have to cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A DNS name; a wildcard stands for one label.
    Name(HostnamePattern),
    /// An IP address: clients that use one send no server name.
    Address(IpAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl FromText for Endpoint {
    const NAME: &'static str = "Endpoint";
    const DESCRIPTION: &'static str = "A DNS name or an IP address, without a port.";
    const PATTERN: &'static str = "^[-_*.:0-9A-Za-z]+$";
    const EXPECTED: &'static str = "a host name or an IP address in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        match HostnamePattern::parse(text) {
            Ok(name) => Ok(Self::Name(name)),
            Err(error) => Err(format!("{} is no IP address, and as a name it {error}", quoted(text))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let read = |text| Endpoint::from_text(text).map(|endpoint| endpoint.to_string());
        for text in ["203.0.113.7", "2001:db8::7", "k8s.example", "*.k8s.example"] {
            assert_eq!(read(text), Ok(text.to_owned()));
        }
        assert!(matches!(Endpoint::from_text("203.0.113.7"), Ok(Endpoint::Address(_))));
        for text in ["", "203.0.113.7:443", "https://k8s.example", "a b"] {
            assert!(read(text).unwrap_err().contains("is no IP address"), "{text:?}");
        }
    }
}
