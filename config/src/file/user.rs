//! A user as the file names it: a text is a name, a number is a uid.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A user by name or uid.
#[derive(Clone, Debug)]
pub(crate) enum UserFile {
    Name(String),
    Id(u32),
}

impl<'de> Deserialize<'de> for UserFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UserVisitor)
    }
}

impl JsonSchema for UserFile {
    fn schema_name() -> Cow<'static, str> {
        "User".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A user by name or uid.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "integer", "minimum": 1, "maximum": u32::MAX - 1 },
            ],
        })
    }
}

struct UserVisitor;

impl Visitor<'_> for UserVisitor {
    type Value = UserFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user's name or uid")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<UserFile, E> {
        match name {
            "" => Err(E::custom("is empty: write a user's name or uid")),
            "root" => Err(E::custom(ROOT)),
            name if name.contains('\0') => Err(E::custom("has a NUL character, which no user's name can have")),
            name => Ok(UserFile::Name(name.to_owned())),
        }
    }

    fn visit_i64<E: de::Error>(self, uid: i64) -> Result<UserFile, E> {
        match u32::try_from(uid) {
            Ok(0) => Err(E::custom(ROOT)),
            Ok(uid) if uid != u32::MAX => Ok(UserFile::Id(uid)),
            _ => Err(E::custom(format_args!("expected a uid from 1 to {}, found {uid}", u32::MAX - 1))),
        }
    }
}

const ROOT: &str = "is root: the router must drop to a user without privileges";
