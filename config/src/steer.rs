//! Steered destinations as they are written: a prefix or an address, a colon, a port or a range of ports.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::model::{PortRange, Steer};
use crate::text::FromText;
use crate::yaml::quoted;

impl FromText for Steer {
    const NAME: &'static str = "Steer";
    const DESCRIPTION: &'static str = "An IP prefix or address with a port or a range of ports, such as \
        203.0.113.0/24:443, 198.51.100.7:8000-8999 or [2001:db8::/64]:443.";
    const PATTERN: &'static str =
        "^([0-9.]+(/[0-9]{1,2})?|\\[[0-9A-Fa-f:.]+(/[0-9]{1,3})?\\]):[0-9]{1,5}(-[0-9]{1,5})?$";
    const EXPECTED: &'static str = "a prefix with ports such as \"203.0.113.0/24:443\"";

    fn from_text(text: &str) -> Result<Self, String> {
        let shown = quoted(text);
        if text.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Net>().is_ok() {
            return Err(format!("{shown} has no brackets around the IPv6 prefix: write `[{text}]:443`"));
        }
        let (prefix, ports) = match text.rsplit_once(':') {
            Some((prefix, ports)) if !prefix.is_empty() && !ports.contains(']') => (prefix, ports),
            _ if text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok() || text.ends_with(']') => {
                return Err(format!("{shown} has no port: write `{text}:443`"));
            }
            _ => return Err(format!("expected {}, found {shown}", Self::EXPECTED)),
        };
        Ok(Self { prefix: self::prefix(prefix)?, ports: self::ports(ports, &shown)? })
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>()
        && address.is_ipv6() == bare.is_some()
    {
        return Ok(address.into());
    }
    let prefix = IpNet::from_text(bare.unwrap_or(text))?;
    match (prefix, bare) {
        (IpNet::V4(_), Some(bare)) => Err(format!("{} has brackets, which are for IPv6: write `{bare}`", quoted(text))),
        (IpNet::V6(_), None) => Err(format!("{} has no brackets: write `[{text}]`", quoted(text))),
        _ => Ok(prefix),
    }
}

fn ports(text: &str, shown: &str) -> Result<PortRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match digits.then(|| text.parse::<u16>().ok()).flatten() {
            Some(0) | None => {
                Err(format!("{shown} has the port {}, which is not a number from 1 to 65535", quoted(text)))
            }
            Some(port) => Ok(port),
        }
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{shown} has a range that ends before it begins: write `{last}-{first}`"));
    }
    Ok(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_addresses_of_both_families_with_ports_and_ranges() {
        for (text, prefix, first, last) in [
            ("203.0.113.0/24:443", "203.0.113.0/24", 443, 443),
            ("198.51.100.7:8000-8999", "198.51.100.7/32", 8000, 8999),
            ("0.0.0.0/0:1-65535", "0.0.0.0/0", 1, 65535),
            ("[2001:db8::/64]:443", "2001:db8::/64", 443, 443),
            ("[2001:db8::7]:8000-8999", "2001:db8::7/128", 8000, 8999),
        ] {
            let steer = Steer { prefix: prefix.parse().unwrap(), ports: PortRange { first, last } };
            assert_eq!(Steer::from_text(text), Ok(steer), "{text}");
        }
    }

    #[test]
    fn errors_say_what_would_be_right() {
        for (text, message) in [
            ("203.0.113.0/24", "`203.0.113.0/24` has no port: write `203.0.113.0/24:443`"),
            ("[2001:db8::/64]", "`[2001:db8::/64]` has no port: write `[2001:db8::/64]:443`"),
            ("2001:db8::/64", "`2001:db8::/64` has no brackets around the IPv6 prefix: write `[2001:db8::/64]:443`"),
            ("2001:db8::/64:443", "`2001:db8::/64` has no brackets: write `[2001:db8::/64]`"),
            ("[10.0.0.0/8]:443", "`[10.0.0.0/8]` has brackets, which are for IPv6: write `10.0.0.0/8`"),
            ("10.1.2.3/8:443", "`10.1.2.3/8` has bits set after the prefix: write `10.0.0.0/8`"),
            ("10.0.0.0/8:0", "`10.0.0.0/8:0` has the port `0`, which is not a number from 1 to 65535"),
            ("10.0.0.0/8:1-", "`10.0.0.0/8:1-` has the port ``, which is not a number from 1 to 65535"),
            ("10.0.0.0/8:9-1", "`10.0.0.0/8:9-1` has a range that ends before it begins: write `1-9`"),
            ("everything", "expected a prefix with ports such as \"203.0.113.0/24:443\", found `everything`"),
            (":443", "expected a prefix with ports such as \"203.0.113.0/24:443\", found `:443`"),
        ] {
            assert_eq!(Steer::from_text(text).unwrap_err(), message);
        }
    }
}
