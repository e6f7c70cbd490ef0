//! As much HTTP/1.1 as the fakes and the in-process clients need: one request, one answer, then the end.

use std::io::{self, BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// An answer as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, to the end of the connection.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }
}

/// Sends a GET and reads the answer until the peer ends the connection.
pub fn get(stream: &mut (impl Read + Write), host: &str, path: &str) -> Result<Response> {
    ask(stream, "GET", host, path)
}

/// The same with a POST that has no body.
pub fn post(stream: &mut (impl Read + Write), host: &str, path: &str) -> Result<Response> {
    ask(stream, "POST", host, path)
}

fn ask(stream: &mut (impl Read + Write), method: &str, host: &str, path: &str) -> Result<Response> {
    stream
        .write_all(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
        .context("send the request")?;
    stream.flush().context("send the request")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("read the answer")?;
    parse_response(&String::from_utf8_lossy(&bytes))
}

/// The request line of a request whose header has been read to its end; `None` when the client sent none.
pub fn read_request(stream: &mut impl Read) -> io::Result<Option<String>> {
    let mut lines = BufReader::with_capacity(1024, stream.take(MAX_HEADER_BYTES)).lines();
    let Some(request) = lines.next().transpose()? else { return Ok(None) };
    for line in lines {
        if line?.is_empty() {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

/// Answers with JSON and announces the end of the connection.
pub fn respond(stream: &mut impl Write, body: &Value) -> io::Result<()> {
    let body = format!("{body}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

fn parse_response(text: &str) -> Result<Response> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { bail!("no HTTP answer: {text:?}") };
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("status of {head:?}"))?;
    Ok(Response { status, body: body.to_owned() })
}

/// Requests of the test clients are far smaller.
const MAX_HEADER_BYTES: u64 = 16 * 1024;
