//! Addresses and prefixes as they are written in the file. Never resolves a name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::hostname::Hostname;
use crate::text::FromText;
use crate::yaml::quoted;

/// Where a listener or the admin endpoint listens. Port 0 leaves the choice to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) SocketAddr);

impl FromText for ListenAddress {
    const NAME: &'static str = "ListenAddress";
    const DESCRIPTION: &'static str = "An IP address and port to listen on, such as [::]:443 or 127.0.0.1:9901.";
    const PATTERN: &'static str = "^([0-9.]+|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}$";
    const EXPECTED: &'static str = "an address and port such as \"[::]:443\"";

    fn from_text(text: &str) -> Result<Self, String> {
        socket_address(text, 443).map(Self)
    }
}

/// A DNS server; without a port it is asked at port 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress(pub(crate) SocketAddr);

impl FromText for ServerAddress {
    const NAME: &'static str = "ServerAddress";
    const DESCRIPTION: &'static str = "An IP address, with a port if that is not 53: 10.96.0.10 or 127.0.0.1:5353.";
    const PATTERN: &'static str = "^([0-9A-Fa-f.:]+|\\[[0-9A-Fa-f:.%]+\\]:[0-9]{1,5})$";
    const EXPECTED: &'static str = "an address such as 10.96.0.10 or \"127.0.0.1:5353\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let address = match text.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, DNS_PORT),
            Err(_) => socket_address(text, DNS_PORT)?,
        };
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(format!("{} is no address to ask", quoted(text)));
        }
        Ok(Self(address))
    }
}

impl FromText for IpNet {
    const NAME: &'static str = "Prefix";
    const DESCRIPTION: &'static str = "An IP prefix in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32.";
    const PATTERN: &'static str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";
    const EXPECTED: &'static str = "a prefix such as 192.0.2.0/24";

    fn from_text(text: &str) -> Result<Self, String> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => format!("{} has no prefix length: write `{}`", quoted(text), Self::from(address)),
                Err(_) => format!("expected {}, found {}", Self::EXPECTED, quoted(text)),
            });
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(format!("expected {}, found {}", Self::EXPECTED, quoted(text)));
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = decimal(length)
            .and_then(|length| Self::new(address, length).ok())
            .ok_or_else(|| format!("{} has a prefix length that is not from 0 to {most}", quoted(text)))?;
        if prefix.trunc() == prefix {
            Ok(prefix)
        } else {
            Err(format!("{} has bits set after the prefix: write `{}`", quoted(text), prefix.trunc()))
        }
    }
}

/// Digits only: the standard parser lets a sign through.
fn decimal(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Says what is missing, with `port` as the example.
pub(crate) fn socket_address(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let shown = quoted(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
        return Err(format!("{shown} has no port: write `{}`", SocketAddr::new(address, port)));
    }
    Err(match text.rsplit_once(':') {
        Some((host, "")) if !host.is_empty() => format!("{shown} has no port after the colon"),
        Some(("", port)) if port.parse::<u16>().is_ok() => {
            format!("{shown} has no address: write `[::]:{port}` or `0.0.0.0:{port}` for all")
        }
        Some(("*", port)) if port.parse::<u16>().is_ok() => {
            format!("{shown} has no address: write `[::]:{port}` or `0.0.0.0:{port}` for all")
        }
        Some((host, digits)) if host.parse::<IpAddr>().is_ok() || bracketed(host) => {
            format!("{shown} has the port {}, which is not a number up to 65535", quoted(digits))
        }
        Some((host, _)) if Hostname::parse(host).is_ok() => {
            format!("{shown} is a name: write an IP address and port")
        }
        _ => format!("expected an IP address and port, such as `10.2.0.9:{port}` or `[::1]:{port}`, found {shown}"),
    })
}

fn bracketed(host: &str) -> bool {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_they_lack() {
        for (text, message) in [
            ("10.0.0.1", "`10.0.0.1` has no port: write `10.0.0.1:443`"),
            ("::1", "`::1` has no port: write `[::1]:443`"),
            ("[::1]", "`[::1]` has no port: write `[::1]:443`"),
            ("[::1]:", "`[::1]:` has no port after the colon"),
            (":443", "`:443` has no address: write `[::]:443` or `0.0.0.0:443` for all"),
            ("10.0.0.1:70000", "`10.0.0.1:70000` has the port `70000`, which is not a number up to 65535"),
            ("localhost:443", "`localhost:443` is a name: write an IP address and port"),
            ("", "expected an IP address and port, such as `10.2.0.9:443` or `[::1]:443`, found ``"),
        ] {
            assert_eq!(ListenAddress::from_text(text).unwrap_err(), message);
        }
        assert!(ListenAddress::from_text("[::]:443").is_ok());
    }

    #[test]
    fn servers_have_a_port_of_their_own_if_they_say_so() {
        for (text, address) in [("10.96.0.10", "10.96.0.10:53"), ("::1", "[::1]:53"), ("[::1]:5353", "[::1]:5353")] {
            assert_eq!(ServerAddress::from_text(text).unwrap().0.to_string(), address);
        }
        for text in ["dns.example", "0.0.0.0", "127.0.0.1:0", ""] {
            assert!(ServerAddress::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_say_the_right_one() {
        for (text, message) in [
            ("10.1.2.3/8", "`10.1.2.3/8` has bits set after the prefix: write `10.0.0.0/8`"),
            ("10.0.0.1", "`10.0.0.1` has no prefix length: write `10.0.0.1/32`"),
            ("10.0.0.0/33", "`10.0.0.0/33` has a prefix length that is not from 0 to 32"),
            ("::/+3", "`::/+3` has a prefix length that is not from 0 to 128"),
            ("all", "expected a prefix such as 192.0.2.0/24, found `all`"),
        ] {
            assert_eq!(IpNet::from_text(text).unwrap_err(), message);
        }
        assert!(IpNet::from_text("0.0.0.0/0").is_ok() && IpNet::from_text("2001:db8::/32").is_ok());
    }
}
