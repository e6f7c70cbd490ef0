//! A field of the file as the resolver sees it: missing, wrong or given, with its position.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::error::Position;

/// A value of the file that may be missing or wrong without ending the decoding of its neighbours.
#[derive(Debug)]
pub(crate) struct Field<T> {
    state: State<T>,
    key: Position,
    at: Position,
}

#[derive(Debug)]
enum State<T> {
    Missing,
    /// Its error has been reported.
    Wrong,
    Given(T),
}

impl<T> Field<T> {
    /// The value, when it is given and right by itself.
    pub(crate) fn value(&self) -> Option<&T> {
        match &self.state {
            State::Given(value) => Some(value),
            State::Missing | State::Wrong => None,
        }
    }

    /// Neither right nor wrong: not there, or null.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self.state, State::Missing)
    }

    /// Where the field's name stands; where the value stands for elements of lists.
    pub(crate) fn key(&self) -> Position {
        self.key
    }

    /// Where the value stands.
    pub(crate) fn at(&self) -> Position {
        self.at
    }
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { state: State::Missing, key: Position::START, at: Position::START }
    }
}

/// The schema of a field is that of its value.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Serde asks an absent field for an option, so that one visitor serves absent, null and present fields.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(FieldVisitor(PhantomData))
    }
}

struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its position")
    }

    fn visit_none<E>(self) -> Result<Field<T>, E> {
        Ok(Field::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field<T>, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, self)
    }

    /// The three parts that the decoder gives for [`FIELD`]: two positions, and a value whose error it has reported.
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
        let key = position(&mut parts)?;
        let at = position(&mut parts)?;
        let state = match parts.next_element::<T>() {
            Ok(Some(value)) => State::Given(value),
            Ok(None) | Err(_) => State::Wrong,
        };
        Ok(Field { state, key, at })
    }
}

fn position<'de, A: SeqAccess<'de>>(parts: &mut A) -> Result<Position, A::Error> {
    let packed: u64 =
        parts.next_element()?.ok_or_else(|| de::Error::custom("a field was decoded without its position"))?;
    Ok(unpack(packed))
}

/// A position as one number, for the way through serde.
pub(crate) fn pack(position: Position) -> u64 {
    u64::from(position.line) << 32 | u64::from(position.column)
}

fn unpack(packed: u64) -> Position {
    Position { line: (packed >> 32) as u32, column: packed as u32 }
}

/// The newtype name by which the decoder knows that a [`Field`] asks; no type can have it.
pub(crate) const FIELD: &str = "(field)";
