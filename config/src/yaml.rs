//! YAML text to a tree in which every value knows its position. Never knows which fields exist.

mod usual;

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::AliasLimits;
use serde_saphyr::{Location, NonFiniteFloatPolicy, Options, SnippetMode, Spanned};

use crate::error::Position;

/// Reads one YAML document within the bounds of [`options`].
pub(crate) fn parse(text: &str) -> Result<Node<'static>, (Position, String)> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("is larger than {} MiB, the bound of a configuration", MAX_TEXT_BYTES >> 20);
        return Err((Position::START, message));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let position = error.location().map_or(Position::START, position);
        (position, message(&error))
    })
}

/// The same in a fraction of the time, less the positions, for texts in which there is nothing unusual and nothing wrong.
pub(crate) fn parse_usual(text: &str) -> Option<Node<'_>> {
    (text.len() <= MAX_TEXT_BYTES).then(|| usual::parse(text)).flatten()
}

/// A value of the document and where it stands.
#[derive(Debug)]
pub(crate) struct Node<'t> {
    pub(crate) position: Position,
    pub(crate) value: Value<'t>,
}

/// What YAML 1.2's core schema knows.
#[derive(Debug)]
pub(crate) enum Value<'t> {
    Null,
    Bool(bool),
    Integer(i64),
    /// An integer above `i64::MAX` too: nothing here is that large.
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Node<'t>>),
    Group(Vec<(Key<'t>, Node<'t>)>),
}

/// The name of a field in the file.
#[derive(Debug)]
pub(crate) struct Key<'t> {
    pub(crate) position: Position,
    pub(crate) name: Cow<'t, str>,
}

/// How a wrong value is named in a message.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "the number {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(_) => f.write_str("a list"),
            Self::Group(_) => f.write_str("a group of fields"),
        }
    }
}

/// A text of the file for a message: short, in one line, and with nothing that a terminal would act upon.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The same between marks.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

fn options() -> Options {
    let mut alias_limits = AliasLimits::default();
    alias_limits.max_total_replayed_events = MAX_ALIAS_EVENTS;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: MAX_EVENTS,
            max_nodes: MAX_EVENTS,
            max_total_scalar_bytes: MAX_TEXT_BYTES,
            max_total_comment_bytes: MAX_TEXT_BYTES,
            max_aliases: MAX_ALIAS_EVENTS,
            max_recorded_anchor_events: MAX_ANCHOR_EVENTS,
            // A thousand tenants may well share one template.
            enforce_alias_anchor_ratio: false,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            // The second is refused by name, instead of as a budget.
            max_documents: 2,
        },
        alias_limits: alias_limits,
        emit_comments: false,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn position(location: Location) -> Position {
    let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
    Position { line: count(location.line()), column: count(location.column()) }
}

/// The parser's words without the place, which the caller prints.
fn message(error: &serde_saphyr::Error) -> String {
    let rendered = error.render_with_options(serde_saphyr::render_options! {
        formatter: &serde_saphyr::UserMessageFormatter,
        snippets: SnippetMode::Off,
    });
    let text = match rendered.split_once(" at line ") {
        Some((text, _)) => text,
        None => &rendered,
    };
    let line = text.lines().next().unwrap_or_default();
    format!("not valid YAML: {line}")
}

impl<'de> Deserialize<'de> for Node<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value<'static>>::deserialize(deserializer)?;
        Ok(Self { position: position(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value<'static> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value<'static>, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value<'static>, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'static>, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'static>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'static>, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'static>, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value<'static>, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value<'static>, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'static>, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'static>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Value<'static>, E> {
        Ok(Value::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value<'static>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'static>, A::Error> {
        let mut group = Vec::new();
        while let Some(key) = entries.next_key::<Node<'static>>()? {
            let name = match key.value {
                Value::Text(name) => name,
                Value::Null => Cow::Borrowed("null"),
                Value::Bool(value) => Cow::Owned(value.to_string()),
                Value::Integer(value) => Cow::Owned(value.to_string()),
                Value::Float(value) => Cow::Owned(value.to_string()),
                Value::List(_) | Value::Group(_) => {
                    return Err(de::Error::custom("the name of a field must be plain text"));
                }
            };
            let key = Key { position: key.position, name };
            group.push((key, entries.next_value()?));
        }
        Ok(Value::Group(group))
    }
}

/// Some 500,000 tenants; the parser holds the text and the tree in memory.
pub(crate) const MAX_TEXT_BYTES: usize = 128 << 20;
/// No more events than a text of that size has in earnest (a value and its separator in eight bytes).
const MAX_EVENTS: usize = MAX_TEXT_BYTES / 8;
/// What aliases may add to the tree: 100,000 tenants with a template of ten values, not a bomb.
const MAX_ALIAS_EVENTS: usize = 1_000_000;
/// What anchors may hold, aliases within them included: templates are small, and bombs end here early.
const MAX_ANCHOR_EVENTS: usize = 100_000;
/// The configuration itself is 6 levels deep; the bound keeps recursion off the end of the stack.
const MAX_DEPTH: usize = 32;
/// Enough to recognise a value by.
const MAX_SHOWN_CHARS: usize = 80;
