//! The JSON Schema describes the file that the reader reads.

use serde_json::Value;

const DESIGN: &str = include_str!("../files/design.yaml");

#[test]
fn every_field_of_the_contract_is_in_the_schema() {
    let schema = config::json_schema();
    let file: Value = serde_saphyr::from_str(DESIGN).unwrap();
    walk(&schema, &schema, &file, "");
}

#[test]
fn every_group_is_closed_and_every_field_described() {
    let schema = config::json_schema();
    let groups = schema["$defs"].as_object().unwrap().iter().map(|(name, group)| (name.as_str(), group));
    for (name, group) in groups.chain([("the file", &schema)]) {
        assert!(group["description"].is_string(), "{name} has no description");
        let Some(fields) = group["properties"].as_object() else { continue };
        assert_eq!(group["additionalProperties"], false, "{name} is open");
        for (field, schema) in fields {
            assert!(schema["description"].is_string(), "{name}.{field} has no description");
        }
    }
}

#[test]
fn defaults_and_requirements_are_in_the_schema() {
    let schema = config::json_schema();
    assert_eq!(schema["required"], serde_json::json!(["listeners", "tenants"]));
    assert_eq!(schema["properties"]["uidRange"]["default"], serde_json::json!([61184, 65519]));
    let tenant = &schema["$defs"]["Tenant"];
    assert_eq!(tenant["required"], serde_json::json!(["name", "mode", "backends"]));
    assert_eq!(tenant["properties"]["idleTimeout"]["default"], "10m");
    assert_eq!(schema["$defs"]["ClientHello"]["properties"]["timeout"]["default"], "5s");
}

/// Descends into both, and fails where the schema does not know a field.
fn walk(root: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let field = &schema["properties"][name];
                assert!(!field.is_null(), "the schema does not know {path}.{name}");
                walk(root, field, value, &format!("{path}.{name}"));
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                let element = match schema.get("prefixItems") {
                    Some(places) => &places[index],
                    None => &schema["items"],
                };
                assert!(!element.is_null(), "the schema does not know a list at {path}");
                walk(root, element, value, &format!("{path}[{index}]"));
            }
        }
        _ => assert!(schema.get("properties").is_none(), "the schema wants a group at {path}"),
    }
}
