//! A text of the usual shape, cut where a tenant begins: `tenants:` alone on a line, below it a block sequence (YAML 1.2,
//! section 8.2.1). Never decides what a line means: any other shape is nobody's.

use std::iter::once;

/// The lines of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Items<'t> {
    /// To the end of the line `tenants:` and of the comments below it.
    head: &'t str,
    /// One tenant each, from its `- ` to the next one's.
    pub(crate) list: Vec<&'t str>,
    /// From the next field of the file on.
    tail: &'t str,
}

impl<'t> Items<'t> {
    /// `None` for a text of another shape, and where tenants may depend on each other's lines.
    pub(crate) fn of(text: &'t str) -> Option<Self> {
        let mut position = 0;
        let mut lines = text.split_inclusive('\n').map(|line| {
            let start = position;
            position += line.len();
            (start, line)
        });
        lines.find(|(_, line)| is_opening(line))?;
        let (first, indent) = lines.find_map(|(start, line)| Some((start, content(line)?)))?;
        let mut starts = vec![first];
        let mut end = text.len();
        if !begins_item(&text[first + indent..]) {
            return None;
        }
        for (start, line) in lines {
            let Some(column) = content(line) else { continue };
            match column.cmp(&indent) {
                // What is deeper belongs to the item.
                std::cmp::Ordering::Greater => (),
                std::cmp::Ordering::Equal if begins_item(&line[column..]) => starts.push(start),
                _ if column == 0 => {
                    end = start;
                    break;
                }
                _ => return None,
            }
        }
        let (head, tail) = (&text[..first], &text[end..]);
        let ends = starts.iter().skip(1).copied().chain(once(end));
        let list: Vec<&str> = starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect();
        // An anchor of one item may be another's alias; a second `tenants:` or document is for the parser to judge.
        let is_independent =
            !text[first..end].contains('&') && !tail.lines().any(|line| is_opening(line) || is_marker(line));
        is_independent.then_some(Self { head, list, tail })
    }

    /// Whether everything but the tenants is the same.
    pub(super) fn has_same_surroundings(&self, other: &Self) -> bool {
        self.head == other.head && self.tail == other.tail
    }

    /// The items that may be those of tenants to which a listener falls back; others may be among them.
    pub(super) fn named_by_listeners(&self) -> Vec<&'t str> {
        let texts = [self.head, self.tail];
        let values = texts.into_iter().flat_map(|text| {
            let after =
                move |name: &'static str| text.match_indices(name).map(move |(start, _)| &text[start + name.len()..]);
            ["onNoServerName", "onUnmatched"].into_iter().flat_map(after)
        });
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let names = values.filter_map(|rest| {
            let name = rest.trim_start_matches([':', ' ', '"', '\'']);
            let (name, _) = name.split_once(|c| !is_part(c))?;
            (name != "Reject").then_some(name)
        });
        let names: Vec<&str> = names.collect();
        match names[..] {
            [] => Vec::new(),
            _ => self.list.iter().copied().filter(|item| names.iter().any(|name| mentions(item, name))).collect(),
        }
    }

    /// The same file with these tenants alone.
    pub(crate) fn text_of(&self, items: &[&str]) -> String {
        let mut text = self.head.to_owned();
        for item in items {
            text.push_str(item);
            if !item.ends_with('\n') {
                text.push('\n');
            }
        }
        text + self.tail
    }
}

/// Whether the name stands there as a word.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    let bytes = text.as_bytes();
    text.match_indices(name).any(|(start, _)| {
        let before = start.checked_sub(1).and_then(|before| bytes.get(before));
        !is_part(before) && !is_part(bytes.get(start + name.len()))
    })
}

/// The column of the first character, for lines that have more than a comment.
fn content(line: &str) -> Option<usize> {
    let column = line.bytes().position(|byte| byte != b' ')?;
    (!matches!(line.as_bytes()[column], b'#' | b'\n' | b'\r')).then_some(column)
}

fn is_opening(line: &str) -> bool {
    line.strip_prefix("tenants:").is_some_and(|rest| {
        let value = rest.trim();
        value.is_empty() || (value.starts_with('#') && rest.starts_with(' '))
    })
}

fn begins_item(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\n', '\r']))
}

/// Of a document's end or of the next one's beginning.
fn is_marker(line: &str) -> bool {
    line.starts_with("---") || line.starts_with("...")
}
