//! The reference of the configuration file in Markdown, from its JSON Schema, so that it says what the parser does.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::json_schema;

/// All groups of fields by where they are in the file, then all kinds of values.
pub fn reference() -> String {
    let schema = json_schema();
    let mut reference = Reference {
        types: schema["$defs"].as_object().cloned().unwrap_or_default(),
        groups: String::new(),
        known_groups: Vec::new(),
        kinds: BTreeSet::new(),
    };
    reference.group("", &schema, "The file");
    let Reference { types, groups, kinds, .. } = &reference;
    let mut text = format!("{HEAD}{groups}\n## Values\n");
    for kind in kinds {
        describe_kind(&mut text, kind, &types[kind]);
    }
    text
}

struct Reference {
    types: Map<String, Value>,
    groups: String,
    /// Names of types of groups that have been described, and the paths where.
    known_groups: Vec<(String, String)>,
    /// Types of single values.
    kinds: BTreeSet<String>,
}

impl Reference {
    /// One group of fields, then the groups in it.
    fn group(&mut self, path: &str, schema: &Value, title: &str) {
        let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        let heading = if path.is_empty() { title.to_owned() } else { format!("`{path}`") };
        let _ = write!(self.groups, "\n## {heading}\n\n{}\n\n", sentence(schema));
        self.groups.push_str("| field | value | default | what it says |\n|---|---|---|---|\n");
        let mut inner = Vec::new();
        for (field, schema) in &properties {
            let own_path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
            let value = self.value(&own_path, schema, &mut inner);
            let default = match (&schema["default"], required.contains(&field.as_str())) {
                (_, true) => "required".to_owned(),
                (Value::Null, false) => String::new(),
                (default, false) => format!("`{default}`").replace('"', ""),
            };
            let _ = writeln!(self.groups, "| `{field}` | {value} | {default} | {} |", cell(schema));
        }
        for (path, name) in inner {
            self.known_groups.push((name.clone(), path.clone()));
            let schema = self.types[&name].clone();
            self.group(&path, &schema, &name);
        }
    }

    /// What stands in the table for a field's value. A group that was not seen yet is left in `inner`.
    fn value(&mut self, path: &str, schema: &Value, inner: &mut Vec<(String, String)>) -> String {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            return self.of_type(path, name, inner);
        }
        for variants in ["anyOf", "oneOf"] {
            if let Some(variants) = schema[variants].as_array() {
                let values: Vec<_> = variants.iter().map(|variant| self.value(path, variant, inner)).collect();
                return values.into_iter().filter(|value| value != "null").collect::<Vec<_>>().join(" or ");
            }
        }
        match schema["type"].as_str() {
            Some("array") if schema["prefixItems"].is_array() => {
                let items: Vec<_> = schema["prefixItems"].as_array().into_iter().flatten().cloned().collect();
                let items: Vec<_> = items.iter().map(|item| self.value(path, item, inner)).collect();
                format!("list of {}", items.join(", "))
            }
            Some("array") => format!("list of {}", self.value(&format!("{path}[]"), &schema["items"], inner)),
            Some("integer") => match (&schema["minimum"], &schema["maximum"]) {
                (Value::Null, Value::Null) => "integer".to_owned(),
                (least, Value::Null) => format!("integer from {least}"),
                (least, most) => format!("integer, {least} to {most}"),
            },
            Some(other) => other.to_owned(),
            None => "any".to_owned(),
        }
    }

    fn of_type(&mut self, path: &str, name: &str, inner: &mut Vec<(String, String)>) -> String {
        if self.types[name]["type"] != "object" {
            self.kinds.insert(name.to_owned());
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some((_, known)) = self.known_groups.iter().find(|(known, _)| known == name) {
            return format!("as [`{known}`](#{})", anchor(known));
        }
        if let Some((known, _)) = inner.iter().find(|(_, known)| known == name) {
            return format!("as [`{known}`](#{})", anchor(known));
        }
        inner.push((path.to_owned(), name.to_owned()));
        format!("[fields](#{})", anchor(path))
    }
}

fn describe_kind(text: &mut String, name: &str, schema: &Value) {
    let _ = write!(text, "\n### {name}\n\n{}\n", sentence(schema));
    let variants = schema["oneOf"].as_array().into_iter().flatten().filter(|variant| !variant["const"].is_null());
    for (number, variant) in variants.enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        let value = variant["const"].as_str().unwrap_or_default();
        let _ = writeln!(text, "{gap}- `{value}`: {}", sentence(variant));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        let _ = writeln!(text, "\nOne of {}.", values.join(", "));
    }
}

fn sentence(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().replace('\n', " ")
}

/// Markdown's tables end a cell at a bar.
fn cell(schema: &Value) -> String {
    sentence(schema).replace('|', "\\|")
}

/// As renderers make one from a heading: lower case, without what is no letter, digit or hyphen.
fn anchor(path: &str) -> String {
    path.chars().filter(|letter| letter.is_ascii_alphanumeric()).map(|letter| letter.to_ascii_lowercase()).collect()
}

const HEAD: &str = "# Configuration reference\n\n\
    Made from the types that read the file, by `sni-router schema --markdown`; do not edit. Unknown \
    fields are errors, and so are values of another kind.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(committed == reference(), "sni-router schema --markdown > docs/configuration.md");
    }

    #[test]
    fn every_link_leads_somewhere() {
        let text = reference();
        let headings: BTreeSet<String> = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#')))
            .collect();
        let targets = text.split("](#").skip(1).filter_map(|rest| rest.split(')').next());
        let dead: Vec<_> = targets.filter(|target| !headings.contains(*target)).collect();
        assert!(dead.is_empty(), "{dead:?}");
    }

    #[test]
    fn every_field_says_something() {
        let silent: Vec<_> = reference().lines().filter(|line| line.ends_with("|  |")).map(str::to_owned).collect();
        assert!(silent.is_empty(), "{silent:#?}");
    }
}
