//! Values that are written as text with a syntax of their own, and the one way in which they enter the file's types.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A value that has a textual syntax.
pub(crate) trait FromText: Sized {
    /// The name of its schema.
    const NAME: &'static str;
    /// What it is, with its syntax, for the schema.
    const DESCRIPTION: &'static str;
    /// A regular expression of its syntax for editors; it may let more through than [`from_text`](Self::from_text).
    const PATTERN: &'static str;
    /// How to write one, for messages: `a duration such as 5s`.
    const EXPECTED: &'static str;

    /// Reads the value; the error says what is wrong and what would be right.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// A [`FromText`] value of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

/// As it would be written, for defaults in the schema.
impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": T::DESCRIPTION, "pattern": T::PATTERN })
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
        T::from_text(text).map(Text).map_err(E::custom)
    }
}
