//! Reads texts in which nothing is unusual, many times as fast as the parser of all of YAML: ASCII outside of comments; block lists and groups;
//! flow ones within a line; plain words, decimal numbers, `true`, `false` and quoted texts without escapes. `None` for
//! everything else, and for whatever is wrong: that is for the parser to judge. Gives no positions.

use std::borrow::Cow;

use super::{Key, Node, Value};
use crate::error::Position;

/// The same tree as the parser of all of YAML gives, less the positions.
pub(super) fn parse(text: &str) -> Option<Node<'_>> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, line: 0, left: MOST_NODES };
    let column = reader.next_content()??;
    let node = reader.group(column, 0)?;
    (column == 0 && reader.next_content()?.is_none()).then_some(node)
}

#[cfg(test)]
mod tests;

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    /// Where the line begins.
    line: usize,
    /// Nodes that the text may still have.
    left: usize,
}

impl<'t> Reader<'t> {
    /// Goes to the next line with more than a comment and gives the column at which it begins; the inner `None` at the end of
    /// the text. Stays where it is in a line that it has gone to already.
    fn next_content(&mut self) -> Option<Option<usize>> {
        loop {
            self.skip_spaces();
            match self.peek() {
                None => return Some(None),
                Some(b'\n') => {
                    self.at += 1;
                    self.line = self.at;
                }
                Some(b'#') => self.skip_comment()?,
                Some(_) => return Some(Some(self.at - self.line)),
            }
        }
    }

    /// Past the end of a value: nothing but a comment may follow in its line.
    fn end_of_line(&mut self) -> Option<()> {
        let end = self.at;
        self.skip_spaces();
        match self.peek() {
            None | Some(b'\n') => Some(()),
            Some(b'#') if self.at > end => self.skip_comment(),
            _ => None,
        }
    }

    /// What stands alone in the lines below, deeper than `column`; a list may be as deep (YAML 1.2, section 8.2.3).
    fn block(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let deeper = self.next_content()??;
        match self.is_item() {
            true if deeper >= column => self.list(deeper, depth),
            false if deeper > column => self.group(deeper, depth),
            _ => None,
        }
    }

    fn list(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let mut elements = Vec::new();
        loop {
            self.at += 1;
            self.skip_spaces();
            let own = self.at - self.line;
            elements.push(match self.is_key() {
                true => self.group(own, deeper(depth)?)?,
                false => self.value(deeper(depth)?)?,
            });
            match self.next_content()? {
                Some(next) if next == column && self.is_item() => {}
                Some(next) if next > column => return None,
                _ => return self.node(Value::List(elements)),
            }
        }
    }

    fn group(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        let mut entries = Vec::new();
        loop {
            let key = self.key(&entries)?;
            let value = match self.peek() {
                Some(b' ') => {
                    self.skip_spaces();
                    match self.peek()? {
                        b'\n' | b'#' => self.below(column, depth)?,
                        _ => self.value(deeper(depth)?)?,
                    }
                }
                _ => self.below(column, depth)?,
            };
            entries.push((key, value));
            match self.next_content()? {
                Some(next) if next == column && !self.is_item() => {}
                Some(next) if next >= column => return None,
                _ => return self.node(Value::Group(entries)),
            }
        }
    }

    fn below(&mut self, column: usize, depth: usize) -> Option<Node<'t>> {
        self.end_of_line_of_key()?;
        self.block(column, deeper(depth)?)
    }

    /// Behind a colon, of which a space has been skipped or none was there.
    fn end_of_line_of_key(&mut self) -> Option<()> {
        match self.peek()? {
            b'\n' => Some(()),
            b'#' if self.bytes[self.at - 1] == b' ' => self.skip_comment(),
            _ => None,
        }
    }

    /// A name and its colon.
    fn key(&mut self, before: &[(Key<'t>, Node<'t>)]) -> Option<Key<'t>> {
        let name = self.key_ahead()?;
        if before.iter().any(|(known, _)| known.name == name) || is_special(name) {
            return None;
        }
        self.at += name.len() + 1;
        Some(Key { position: Position::START, name: Cow::Borrowed(name) })
    }

    fn is_key(&self) -> bool {
        self.key_ahead().is_some()
    }

    fn key_ahead(&self) -> Option<&'t str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().take(LONGEST_KEY).position(|byte| !byte.is_ascii_alphanumeric())?;
        let is_name = rest[0].is_ascii_alphabetic() && rest[length] == b':';
        let is_end = matches!(rest.get(length + 1), Some(b' ' | b'\n'));
        if is_name && is_end { self.ahead(0, length) } else { None }
    }

    fn is_item(&self) -> bool {
        self.bytes[self.at..].starts_with(b"- ")
    }

    /// The rest of a line.
    fn value(&mut self, depth: usize) -> Option<Node<'t>> {
        let value = self.flow(depth)?;
        self.end_of_line()?;
        Some(value)
    }

    /// A value within a line.
    fn flow(&mut self, depth: usize) -> Option<Node<'t>> {
        match self.peek()? {
            b'[' => {
                let mut elements = Vec::new();
                self.enclosed(b']', |reader| {
                    elements.push(reader.flow(deeper(depth)?)?);
                    Some(())
                })?;
                self.node(Value::List(elements))
            }
            b'{' => {
                let mut entries = Vec::new();
                self.enclosed(b'}', |reader| {
                    let key = reader.key(&entries)?;
                    reader.skip_spaces();
                    entries.push((key, reader.flow(deeper(depth)?)?));
                    Some(())
                })?;
                self.node(Value::Group(entries))
            }
            mark @ (b'"' | b'\'') => self.quoted(mark),
            _ => self.plain(),
        }
    }

    /// What `element` reads, until the bracket closes, with commas between.
    fn enclosed(&mut self, close: u8, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        self.skip_spaces();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            element(self)?;
            self.skip_spaces();
            let mark = self.peek()?;
            self.at += 1;
            if mark == close {
                return Some(());
            }
            if mark != b',' {
                return None;
            }
            self.skip_spaces();
        }
    }

    fn quoted(&mut self, mark: u8) -> Option<Node<'t>> {
        let rest = &self.bytes[self.at + 1..];
        let length = rest.iter().position(|byte| *byte == mark || !matches!(byte, b' '..=b'~') || *byte == b'\\')?;
        // Two marks in a row are one that belongs to the text; behind a quoted text in a flow a colon may make it a key.
        let is_whole = rest[length] == mark && !matches!(rest.get(length + 1), Some(b'\'' | b'"' | b':'));
        let text = is_whole.then(|| self.ahead(1, length))??;
        self.at += length + 2;
        self.node(Value::Text(Cow::Borrowed(text)))
    }

    fn plain(&mut self) -> Option<Node<'t>> {
        let rest = &self.bytes[self.at..];
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'-' | b'_' | b'@' | b':');
        let length = rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len());
        let word = self.ahead(0, length)?;
        let is_whole = matches!(rest.get(length), None | Some(b' ' | b'\n' | b',' | b']' | b'}'));
        let first = *rest.first()?;
        // A colon at the end belongs to a key; what begins with a digit may be a number in some way of writing it.
        let value = match word {
            _ if !is_whole || word.ends_with(':') || is_special(word) => return None,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ if first.is_ascii_digit() => number_or_measure(word)?,
            _ if first.is_ascii_alphabetic() || first == b'/' => Value::Text(Cow::Borrowed(word)),
            _ => return None,
        };
        self.at += length;
        self.node(value)
    }

    fn node(&mut self, value: Value<'t>) -> Option<Node<'t>> {
        self.left = self.left.checked_sub(1)?;
        Some(Node { position: Position::START, value })
    }

    /// So many bytes, `skipped` bytes from here.
    fn ahead(&self, skipped: usize, length: usize) -> Option<&'t str> {
        self.text.get(self.at + skipped..)?.get(..length)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) -> Option<()> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let comment = self.ahead(0, length)?;
        // Of the characters that a text may have (YAML 1.2, section 5.1) those that no version takes for a line's end.
        let is_plain = |c| matches!(c, ' '..='~' | '\u{a1}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}');
        comment.chars().all(is_plain).then_some(())?;
        self.at += length;
        Some(())
    }
}

/// `600`, or `600s`, `16MiB` and `192.0.2.1:443`: digits, and then what no number has.
fn number_or_measure(word: &str) -> Option<Value<'_>> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at(digits);
    let is_number = digits <= LONGEST_NUMBER && (digits == 1 || !number.starts_with('0'));
    match unit.as_bytes() {
        // An IPv4 address, with a port or a prefix: numbers have one dot.
        [b'.', ..] if unit.bytes().filter(|byte| *byte == b'.').count() > 1 => Some(Value::Text(Cow::Borrowed(word))),
        [] if is_number => number.parse().ok().map(Value::Integer),
        [b's' | b'm' | b'h' | b'd' | b'K' | b'M' | b'G', rest @ ..] if rest.iter().all(u8::is_ascii_alphabetic) => {
            Some(Value::Text(Cow::Borrowed(word)))
        }
        _ => None,
    }
}

/// Words that are, or may be taken for, something else than texts.
fn is_special(word: &str) -> bool {
    let is = |other: &&str| word.eq_ignore_ascii_case(other);
    word != "true" && word != "false" && word.len() <= LONGEST_SPECIAL && SPECIAL.iter().any(is)
}

/// The parser recurses.
fn deeper(depth: usize) -> Option<usize> {
    (depth < DEEPEST).then_some(depth + 1)
}

/// Far within the parser's bounds, also if each node were two events and had a name: some 300,000 tenants.
const MOST_NODES: usize = super::MAX_EVENTS / 4;
const DEEPEST: usize = 16;
const LONGEST_KEY: usize = 64;
/// Digits that fit into any number.
const LONGEST_NUMBER: usize = 18;
const SPECIAL: [&str; 12] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
const LONGEST_SPECIAL: usize = 8;
