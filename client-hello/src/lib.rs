//! Reads the first bytes of a connection and says what they are: a TLS ClientHello, not yet one, or never one.
//!
//! Pure: bytes in, answer out. It owns the record layer up to the end of the ClientHello, the names and lists in it
//! and the JA4 fingerprint. It never touches a socket or a clock, never decrypts, and never changes a byte.
//!
//! ```
//! use client_hello::{ClientHelloParser, NotTls, Parse};
//!
//! let mut parser = ClientHelloParser::new(65_536);
//! assert_eq!(parser.parse(b"\x16\x03\x01"), Parse::Incomplete { needed: 9 });
//! assert_eq!(parser.parse(b"GET / HTTP/1.1\r\n"), Parse::NotTls(NotTls::Http));
//! ```

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod alpn;
mod extensions;
mod hello;
mod ja4;
mod malformed;
mod not_tls;
mod parser;
mod records;
mod server_name;
mod vector;
mod versions;

#[cfg(test)]
mod sample;

pub use alpn::ProtocolNameList;
pub use hello::ClientHello;
pub use malformed::Malformed;
pub use not_tls::NotTls;
pub use parser::{ClientHelloParser, Parse};
pub use server_name::NameError;
pub use versions::{ProtocolVersion, ProtocolVersions};
