//! The tree to the types of the file. Reports every unknown field and every value of the wrong kind, and goes on.

use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, U64Deserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::error::Position;
use crate::field::{FIELD, pack};
use crate::report::{Path, Report};
use crate::suggest::{nearest, one_of};
use crate::yaml::{Key, Node, Value, quoted, shown};

/// Reads one node of the tree as a type of the file.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'de, 'p> {
    node: &'de Node<'de>,
    /// Where the name of the field stands whose value this is.
    key: Position,
    path: &'p Path<'p>,
    report: &'p Report,
}

impl<'de, 'p> Decoder<'de, 'p> {
    /// A decoder of the whole document.
    pub(crate) fn document(node: &'de Node<'de>, report: &'p Report) -> Self {
        Self { node, key: node.position, path: &Path::Root, report }
    }

    fn expected(self, what: impl fmt::Display) -> DecodeError {
        DecodeError(format!("expected {what}, found {}", self.node.value))
    }

    fn list(self) -> Result<ListAccess<'de, 'p>, DecodeError> {
        match &self.node.value {
            Value::List(elements) => Ok(ListAccess { elements: elements.iter().enumerate(), parent: self }),
            _ => Err(self.expected("a list")),
        }
    }

    fn integer(self, low: i64, high: i64) -> Result<i64, DecodeError> {
        match self.node.value {
            Value::Integer(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(self.expected(format_args!("a whole number from {low} to {high}"))),
        }
    }
}

/// Why a value could not be read; the field that holds it knows where.
#[derive(Debug)]
pub(crate) struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            Unexpected::Str(text) => quoted(text),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a group of fields".to_owned(),
            other => other.to_string(),
        };
        Self(format!("expected {expected}, found {found}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("unknown value {}: {}", quoted(variant), one_of(variant, expected)))
    }
}

impl<'de> Deserializer<'de> for Decoder<'de, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => visitor.visit_seq(self.list()?),
            Value::Group(entries) => {
                visitor.visit_map(GroupAccess { entries: entries.iter(), known: None, value: None, parent: self })
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        if name == FIELD {
            visitor.visit_seq(FieldAccess { part: 0, field: self })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Value::Group(entries) = &self.node.value else {
            return Err(self.expected("a group of fields"));
        };
        let is_unknown = |key: &Key<'_>| !known.contains(&key.name.as_ref());
        let mut has_unknown = false;
        for (key, _) in entries {
            if is_unknown(key) {
                has_unknown = true;
                self.report.error(
                    key.position,
                    &self.path.field(&shown(&key.name)),
                    format!("unknown field: {}", one_of(&key.name, known)),
                );
            }
        }
        let known = has_unknown.then_some(known);
        visitor.visit_map(GroupAccess { entries: entries.iter(), known, value: None, parent: self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(self.list()?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let list = self.list()?;
        if list.elements.len() != length {
            let found = list.elements.len();
            return Err(DecodeError(format!("expected a list of {length} values, found {found}")));
        }
        visitor.visit_seq(list)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_enum(text.as_ref().into_deserializer()),
            Value::Float(_) | Value::Integer(_) => {
                // `minVersion: 1.2` is a number to YAML.
                let written = match self.node.value {
                    Value::Float(value) => value.to_string(),
                    Value::Integer(value) => value.to_string(),
                    _ => String::new(),
                };
                match nearest(&written, variants) {
                    Some(variant) if variant == written => {
                        Err(DecodeError(format!("{written} without quotes is a number: write \"{written}\"")))
                    }
                    _ => Err(self.expected(one_of("", variants))),
                }
            }
            _ => Err(self.expected(one_of("", variants))),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                Err(DecodeError(format!("expected text, found {}: put it in quotes", self.node.value)))
            }
            _ => Err(self.expected("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.expected("true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i64(self.integer(0, i64::from(u32::MAX))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_i64(self.integer(0, i64::MAX)?)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple_struct map identifier
        ignored_any
    }
}

struct ListAccess<'de, 'p> {
    elements: std::iter::Enumerate<std::slice::Iter<'de, Node<'de>>>,
    parent: Decoder<'de, 'p>,
}

impl<'de> SeqAccess<'de> for ListAccess<'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.elements.next() else {
            return Ok(None);
        };
        let path = self.parent.path.index(index);
        if matches!(node.value, Value::Null) {
            let message = "expected a value, found nothing";
            self.parent.report.error(node.position, &path, message);
        }
        let decoder = Decoder { node, key: node.position, path: &path, report: self.parent.report };
        seed.deserialize(decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

struct GroupAccess<'de, 'p> {
    entries: std::slice::Iter<'de, (Key<'de>, Node<'de>)>,
    /// Other fields have been reported and are passed over; `None` gives all.
    known: Option<&'static [&'static str]>,
    value: Option<&'de (Key<'de>, Node<'de>)>,
    parent: Decoder<'de, 'p>,
}

impl<'de> MapAccess<'de> for GroupAccess<'de, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let known = self.known;
        self.value = self.entries.find(|(key, _)| known.is_none_or(|known| known.contains(&key.name.as_ref())));
        self.value.map(|(key, _)| seed.deserialize(BorrowedStrDeserializer::new(&key.name))).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let (key, node) =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its field"))?;
        let path = self.parent.path.field(&key.name);
        seed.deserialize(Decoder { node, key: key.position, path: &path, report: self.parent.report })
    }
}

/// The parts of a [`Field`](crate::field::Field): position of its key, position of its value, and the value.
struct FieldAccess<'de, 'p> {
    part: u8,
    field: Decoder<'de, 'p>,
}

impl<'de> SeqAccess<'de> for FieldAccess<'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Decoder { node, key, path, report } = self.field;
        self.part += 1;
        match self.part {
            1 => seed.deserialize(U64Deserializer::new(pack(key))).map(Some),
            2 => seed.deserialize(U64Deserializer::new(pack(node.position))).map(Some),
            _ => seed.deserialize(self.field).map(Some).inspect_err(|error| {
                report.error(node.position, path, error.to_string());
            }),
        }
    }
}
