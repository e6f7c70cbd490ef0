//! The values of rules for client certificates: which certificates a rule means, and the groups of those it lets in.
//! Pure; whoever verified the certificate asks.

use crate::text::FromText;
use crate::yaml::quoted;

/// A URI in which `*` stands for exactly one segment of the path, such as `spiffe://acme/prod/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriPattern {
    /// Scheme, authority and what else comes before the first `/` of the path.
    origin: String,
    /// The path's segments; `None` is a `*`.
    segments: Vec<Option<String>>,
}

impl UriPattern {
    /// Whether a URI is meant. Compared byte by byte, as SPIFFE IDs are (SPIFFE-ID section 2): nothing is decoded.
    pub fn matches(&self, uri: &str) -> bool {
        let Some((origin, segments)) = split(uri) else { return false };
        let mut segments = segments.into_iter().flatten();
        origin == self.origin
            && self.segments.iter().all(|wanted| {
                segments.next().is_some_and(|segment| match wanted {
                    Some(wanted) => segment == wanted,
                    None => !matches!(segment, "" | "." | ".."),
                })
            })
            && segments.next().is_none()
    }
}

/// What comes before the path, and the path's segments; `None` where there is no path.
fn split(uri: &str) -> Option<(&str, Option<std::str::Split<'_, char>>)> {
    let after_scheme = uri.find("://")? + "://".len();
    match uri[after_scheme..].find('/') {
        Some(slash) => {
            let (origin, path) = uri.split_at(after_scheme + slash);
            Some((origin, Some(path[1..].split('/'))))
        }
        None => Some((uri, None)),
    }
}

impl FromText for UriPattern {
    const NAME: &'static str = "UriPattern";
    const DESCRIPTION: &'static str =
        "A URI such as spiffe://acme/prod/*, in which each * stands for exactly one segment of the path.";
    const PATTERN: &'static str = "^[A-Za-z][-+.A-Za-z0-9]*://[^*\\s/]+(/[^\\s]*)?$";
    const EXPECTED: &'static str = "a URI such as spiffe://acme/prod/*";

    fn from_text(text: &str) -> Result<Self, String> {
        let refuse = |what: &str| Err(format!("{} {what}", quoted(text)));
        let Some((origin, segments)) = split(text) else {
            return refuse("is no URI: write one such as spiffe://acme/prod/*");
        };
        if origin.contains('*') || origin.ends_with("://") || origin.starts_with(':') {
            return refuse("needs a scheme and an authority without `*`, such as spiffe://acme");
        }
        let mut pattern = Self { origin: origin.to_owned(), segments: Vec::new() };
        for segment in segments.into_iter().flatten() {
            pattern.segments.push(match segment {
                "*" => None,
                text if text.contains('*') => {
                    return refuse("has a `*` beside other characters: it stands for a whole segment");
                }
                text => Some(text.to_owned()),
            });
        }
        Ok(pattern)
    }
}

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl FromText for Sha256 {
    const NAME: &'static str = "Sha256";
    const DESCRIPTION: &'static str = "A SHA-256 digest: 64 hexadecimal digits, with or without colons.";
    const PATTERN: &'static str = "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$";
    const EXPECTED: &'static str = "64 hexadecimal digits in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut digest = [0; 32];
        let pairs = digits.chunks(2);
        let is_digest = digits.len() == 64
            && pairs.zip(&mut digest).all(|(pair, byte)| {
                let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
                pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).map(|value| *byte = value).is_some()
            });
        if is_digest {
            Ok(Self(digest))
        } else {
            Err(format!("{} is no SHA-256 digest: write its 64 hexadecimal digits", quoted(text)))
        }
    }
}

/// The name of a group of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group(pub(crate) String);

impl FromText for Group {
    const NAME: &'static str = "Group";
    const DESCRIPTION: &'static str = "The name of a group: letters, digits and - _ . : / @.";
    const PATTERN: &'static str = "^[-_.:/@A-Za-z0-9]{1,253}$";
    const EXPECTED: &'static str = "a group's name in quotes";

    fn from_text(text: &str) -> Result<Self, String> {
        // Backends get the groups of a client with commas between them.
        let characters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte));
        if characters && (1..=MAX_GROUP_BYTES).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is no group: use 1 to {MAX_GROUP_BYTES} of a-z, A-Z, 0-9 and - _ . : / @", quoted(text)))
        }
    }
}

/// As long as a DNS name, which many group names are made from.
const MAX_GROUP_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_segment_and_nothing_else() {
        let pattern = UriPattern::from_text("spiffe://acme/ns/*/sa/web").unwrap();
        assert!(pattern.matches("spiffe://acme/ns/prod/sa/web"));
        for uri in [
            "spiffe://acme/ns/prod/x/sa/web",
            "spiffe://acme/ns//sa/web",
            "spiffe://acme/ns/../sa/web",
            "spiffe://acme/ns/prod/sa/web/",
            "spiffe://acme/ns/prod/sa",
            "spiffe://acme.evil/ns/prod/sa/web",
            "spiffe://ACME/ns/prod/sa/web",
            "https://acme/ns/prod/sa/web",
            "spiffe://acme",
            "",
        ] {
            assert!(!pattern.matches(uri), "{uri}");
        }
        let last = UriPattern::from_text("spiffe://acme/prod/*").unwrap();
        assert!(last.matches("spiffe://acme/prod/web") && !last.matches("spiffe://acme/prod/"));
        assert!(!last.matches("spiffe://acme/prod"));
        let bare = UriPattern::from_text("spiffe://acme").unwrap();
        assert!(bare.matches("spiffe://acme") && !bare.matches("spiffe://acme/") && !bare.matches("spiffe://acme/x"));
    }

    #[test]
    fn patterns_that_mean_something_else_than_they_look_are_refused() {
        for text in ["acme/prod", "spiffe://*/prod", "spiffe://acme/prod*", "spiffe:///prod", "://acme", ""] {
            assert!(UriPattern::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn digests_are_read_with_and_without_colons() {
        let digest = Sha256::from_text(&"0f".repeat(32)).unwrap();
        assert_eq!(digest, Sha256([15; 32]));
        assert_eq!(Sha256::from_text(&["0F"; 32].join(":")).unwrap(), digest);
        for text in ["0f", &"0g".repeat(32), &"+f".repeat(32), &"0f".repeat(33)] {
            assert!(Sha256::from_text(text).is_err(), "{text}");
        }
    }
}
