//! What the last line about a flow says beyond its record, as text of a fixed size beside the record: whoever adopts the flow
//! writes the line. What comes back is read as if anybody had written it. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use router_common::cut_through::{Note, TEXT_BYTES};

use super::record::Identity;

/// What the router knows of a connection when the kernel gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The tenant's name, also when it is gone from the configuration by then.
    pub tenant: String,
    /// The listener's name, likewise.
    pub listener: String,
    /// The client, by the word of a trusted sender's PROXY header where there was one.
    pub client: Option<SocketAddr>,
    /// As the client sent it.
    pub server_name: Option<String>,
    /// The hello's fingerprint.
    pub ja4: Option<String>,
    /// What the client offered.
    pub alpn: Vec<String>,
    /// From accept to a complete hello.
    pub hello: Option<Duration>,
    /// The dial.
    pub connect: Option<Duration>,
}

impl Known {
    /// What does not fit is left out: the last ones of a long ALPN list, and the fingerprint beside names that have more than
    /// 350 bytes together. The generation is the flow's and not known here.
    pub fn note(&self, identity: &Identity) -> Box<Note> {
        let mut note = Box::new(Note {
            connection: identity.connection,
            accepted_unix_ms: identity.accepted_unix_ms,
            hello_us: microseconds(self.hello),
            connect_us: microseconds(self.connect),
            ..Note::default()
        });
        let mut text = Writer { text: &mut note.text, used: 0 };
        let client = self.client.map(address_bytes).unwrap_or_default();
        let [server_name, ja4] = [&self.server_name, &self.ja4].map(|text| text.as_deref().unwrap_or_default());
        text.put(self.tenant.as_bytes());
        text.put(self.listener.as_bytes());
        text.put(&client);
        text.put(server_name.as_bytes());
        text.put(ja4.as_bytes());
        for protocol in &self.alpn {
            text.put(protocol.as_bytes());
        }
        note
    }

    /// `None` also for the note of another flow, which had the same place.
    pub(super) fn of_flow(note: &Note, generation: u32) -> Option<Self> {
        if note.generation == generation { Self::of(note) } else { None }
    }

    /// `None` for what no router has written.
    pub(super) fn of(note: &Note) -> Option<Self> {
        let mut text = Reader(&note.text);
        let tenant = text.name()?;
        let listener = text.name()?;
        Some(Self {
            tenant,
            listener,
            client: text.next().and_then(address),
            server_name: text.string(),
            ja4: text.string(),
            alpn: std::iter::from_fn(|| text.string()).collect(),
            hello: duration(note.hello_us),
            connect: duration(note.connect_us),
        })
    }
}

/// Strings behind their lengths; an empty one is none.
struct Writer<'t> {
    text: &'t mut [u8; TEXT_BYTES],
    used: usize,
}

impl Writer<'_> {
    /// Nothing of a string that does not fit, and a place for it where that does.
    fn put(&mut self, string: &[u8]) {
        let room = self.text.get_mut(self.used..self.used + 1 + string.len());
        match (room, u8::try_from(string.len())) {
            (Some(room), Ok(length)) => {
                room[0] = length;
                room[1..].copy_from_slice(string);
                self.used += room.len();
            }
            _ => self.used = (self.used + 1).min(TEXT_BYTES),
        }
    }
}

struct Reader<'t>(&'t [u8]);

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<&'t [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (string, rest) = rest.split_at_checked((*length).into())?;
        self.0 = rest;
        (!string.is_empty()).then_some(string)
    }

    fn string(&mut self) -> Option<String> {
        Some(str::from_utf8(self.next()?).ok()?.to_owned())
    }

    /// Of the configuration.
    fn name(&mut self) -> Option<String> {
        let is_of_name =
            |character: u8| character.is_ascii_lowercase() || character.is_ascii_digit() || character == b'-';
        self.string().filter(|name| name.bytes().all(is_of_name))
    }
}

fn microseconds(duration: Option<Duration>) -> u32 {
    duration.and_then(|duration| u32::try_from(duration.as_micros()).ok()).unwrap_or(u32::MAX)
}

fn duration(microseconds: u32) -> Option<Duration> {
    (microseconds != u32::MAX).then(|| Duration::from_micros(microseconds.into()))
}

fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            tenant: "acme".to_owned(),
            listener: "tls".to_owned(),
            client: Some("192.0.2.7:50000".parse().unwrap()),
            server_name: Some("api.acme.example".to_owned()),
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".to_owned()),
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
            hello: Some(Duration::from_micros(250)),
            connect: Some(Duration::from_millis(3)),
        }
    }

    fn back(known: &Known) -> Known {
        Known::of(&known.note(&Identity::default())).unwrap()
    }

    #[test]
    fn what_is_written_down_comes_back() {
        assert_eq!(back(&known()), known());
        let client = Some("[2001:db8::7]:443".parse().unwrap());
        let bare =
            Known { client, server_name: None, ja4: None, alpn: Vec::new(), hello: None, connect: None, ..known() };
        assert_eq!(back(&bare), bare);
        let fingerprint_alone = Known { server_name: None, alpn: Vec::new(), ..known() };
        assert_eq!(back(&fingerprint_alone), fingerprint_alone);
    }

    #[test]
    fn a_note_of_the_places_former_flow_is_none() {
        let note = Note { generation: 7, ..*known().note(&Identity::default()) };
        assert_eq!(Known::of_flow(&note, 7), Some(known()));
        assert_eq!(Known::of_flow(&note, 8), None);
    }

    #[test]
    fn the_last_ones_are_left_out_of_what_is_too_long() {
        let many = Known { alpn: (0..100).map(|number| format!("protocol-{number}")).collect(), ..known() };
        let read = back(&many);
        assert!(read.alpn.len() > 20 && many.alpn.starts_with(&read.alpn), "{read:?}");
        assert_eq!(Known { alpn: Vec::new(), ..read }, Known { alpn: Vec::new(), ..many });
        let name = |length| "n".repeat(length);
        let long = Known {
            tenant: name(63),
            listener: name(63),
            client: Some("[2001:db8::7]:443".parse().unwrap()),
            server_name: Some(name(253)),
            ..known()
        };
        let read = back(&long);
        assert_eq!(Known { ja4: long.ja4.clone(), alpn: long.alpn.clone(), ..read.clone() }, long);
        assert_eq!((read.ja4, read.alpn), (None, vec!["h2".to_owned()]));
    }

    #[test]
    fn anything_may_be_read_and_only_names_are_names() {
        let random = |seed: u8| {
            let mut state = u32::from(seed) | 1;
            std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 & seed
            })
        };
        for seed in 0..=255 {
            let _ = Known::of(&Note { text: random(seed), ..Note::default() });
        }
        assert_eq!(Known::of(&Note::default()), None);
        let strange = Known { tenant: "a\"b".to_owned(), ..known() };
        assert_eq!(Known::of(&strange.note(&Identity::default())), None);
    }
}
