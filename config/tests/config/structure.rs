//! Files whose shape is wrong: no YAML, unknown fields, values of the wrong kind.

use config::Config;

use crate::texts::spoiled;

#[test]
fn what_is_no_yaml_says_where() {
    for (text, message) in [
        ("", "1:1: the file is empty: it needs `listeners` and `tenants`"),
        ("# nothing\n", "1:1: the file is empty: it needs `listeners` and `tenants`"),
        ("tenants", "1:1: expected a group of fields, found `tenants`"),
        ("- a\n- b", "1:1: expected a group of fields, found a list"),
        ("tenants: [", "1:10: not valid YAML: unclosed bracket '['"),
        ("a: b: c", "1:5: not valid YAML: mapping values are not allowed in this context"),
        ("user: 1\nuser: 2", "2:1: not valid YAML: duplicate mapping key `user` is not allowed here"),
        ("user: *nobody", "1:7: not valid YAML: reference to unknown value"),
        ("user: 1\n---\nuser: 2", "3:1: not valid YAML: only single YAML document expected but multiple found"),
        ("? [a]\n: b", "1:1: not valid YAML: the name of a field must be plain text"),
    ] {
        assert_eq!(Config::from_yaml(text).unwrap_err().to_string(), message, "{text:?}");
    }
}

#[test]
fn missing_fields_are_all_named() {
    let errors = Config::from_yaml("workers: 1").unwrap_err();
    assert_eq!(errors.to_string(), "1:1: listeners: is missing\n1:1: tenants: is missing");
    let errors = Config::from_yaml("listeners: []\ntenants: [{}]").unwrap_err();
    let expected = "\
1:12: listeners: is empty: it needs at least one element
2:11: tenants[0].name: is missing
2:11: tenants[0].mode: is missing
2:11: tenants[0].backends: is missing";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn unknown_fields_suggest_the_nearest() {
    spoiled("user: 1000", "usr: 1000", &["1:1: usr: unknown field: did you mean `user`?"]);
    spoiled(
        "    hostnames: [\"k8s.corp.example\"]",
        "    hostNames: []\n    hostnames: [\"k8s.corp.example\"]\n    connect_timeout: 1s",
        &[
            "8:5: tenants[0].hostNames: unknown field: did you mean `hostnames`?",
            "10:5: tenants[0].connect_timeout: unknown field: did you mean `connectTimeout`?",
        ],
    );
    spoiled(
        "{ address: \"10.2.0.9:443\" }",
        "{ address: \"10.2.0.9:443\", zone: a, 7: b }",
        &[
            "10:43: tenants[0].backends[0].zone: unknown field: `address` or `weight`",
            "10:52: tenants[0].backends[0].7: unknown field: `address` or `weight`",
        ],
    );
}

#[test]
fn unknown_values_suggest_the_nearest() {
    spoiled(
        "mode: Passthrough",
        "mode: passthrough",
        &["9:11: tenants[0].mode: unknown value `passthrough`: did you mean `Passthrough`?"],
    );
    spoiled(
        "user: 1000",
        "dataPath: Fast",
        &["1:11: dataPath: unknown value `Fast`: `Auto`, `CutThrough`, `Splice` or `Copy`"],
    );
    spoiled(
        "user: 1000",
        "accessLog: { path: \"-\", format: Text }",
        &["1:33: accessLog.format: unknown value `Text`: `Json`"],
    );
}

#[test]
fn values_of_the_wrong_kind_say_what_is_right() {
    spoiled("user: 1000", "user: true", &["1:7: user: expected a user's name or uid, found true"]);
    spoiled(
        "user: 1000",
        "workers: two",
        &["1:10: workers: expected a whole number from 0 to 4294967295, found `two`"],
    );
    spoiled(
        "user: 1000",
        "workers: 1.5",
        &["1:10: workers: expected a whole number from 0 to 4294967295, found the number 1.5"],
    );
    spoiled(
        "user: 1000",
        "workers: -1",
        &["1:10: workers: expected a whole number from 0 to 4294967295, found the number -1"],
    );
    spoiled(
        "user: 1000",
        "workers: [1]",
        &["1:10: workers: expected a whole number from 0 to 4294967295, found a list"],
    );
    spoiled("user: 1000", "admin: 127.0.0.1:9901", &["1:8: admin: expected a group of fields, found `127.0.0.1:9901`"]);
    spoiled("user: 1000", "uidRange: 61184-65519", &["1:11: uidRange: expected a list, found `61184-65519`"]);
    spoiled("user: 1000", "uidRange: [61184]", &["1:11: uidRange: expected a list of 2 values, found 1"]);
    spoiled(
        "user: 1000",
        "uidRange: [a, 2]",
        &["1:12: uidRange[0]: expected a whole number from 0 to 4294967295, found `a`"],
    );
    spoiled("name: pinniped", "name: 7", &["7:11: tenants[0].name: expected a name in quotes, found the number 7"]);
    spoiled(
        "onUnmatched: Reject",
        "onUnmatched: 7",
        &["5:18: listeners[0].onUnmatched: expected text, found the number 7: put it in quotes"],
    );
    spoiled(
        "[\"k8s.corp.example\"]",
        "k8s.corp.example",
        &["8:16: tenants[0].hostnames: expected a list, found `k8s.corp.example`"],
    );
    spoiled(
        "[\"k8s.corp.example\"]",
        "[a.example, ~, 12, { name: b.example }]",
        &[
            "8:28: tenants[0].hostnames[1]: expected a value, found nothing",
            "8:31: tenants[0].hostnames[2]: expected a host name in quotes, found the number 12",
            "8:35: tenants[0].hostnames[3]: expected a host name in quotes, found a group of fields",
        ],
    );
    spoiled(
        "      certificates:",
        "      minVersion: 1.2\n      certificates:",
        &["15:19: tenants[1].tls.minVersion: 1.2 without quotes is a number: write \"1.2\""],
    );
    spoiled(
        "      certificates:",
        "      minVersion: 1.1\n      certificates:",
        &["15:19: tenants[1].tls.minVersion: expected `1.2` or `1.3`, found the number 1.1"],
    );
    spoiled(
        "mode: Passthrough",
        "mode: Passthrough\n    idleTimeout: 10\n    connectTimeout: 3 s\n    drainTimeout: soon",
        &[
            "10:18: tenants[0].idleTimeout: expected a duration with a unit, such as 5s, 10m or 250ms, found the number 10",
            "11:21: tenants[0].connectTimeout: expected a duration with a unit, such as 5s, 10m or 250ms, found `3 s`",
            "12:19: tenants[0].drainTimeout: expected a duration with a unit, such as 5s, 10m or 250ms, found `soon`",
        ],
    );
}

#[test]
fn columns_count_characters_and_control_characters_do_not_reach_the_terminal() {
    spoiled(
        "[\"k8s.corp.example\"]",
        "[\"bücher.example\", \"a\\e[2J.example\"]",
        &[
            "8:17: tenants[0].hostnames[0]: `bücher.example` is not ASCII: write its A-label form, as in \
             `xn--bcher-kva.example` for `bücher.example`",
            "8:35: tenants[0].hostnames[1]: `a\\u{1b}[2J.example` has the character '\\u{1b}': a name consists of \
             letters, digits, `-`, `_` and `.`",
        ],
    );
    spoiled("user: 1000", "\"user\\e\": 1", &["1:1: user\\u{1b}: unknown field: did you mean `user`?"]);
}

#[test]
fn errors_beyond_a_screenful_are_counted() {
    let tenants: String = (0..250).map(|_| "  - { bogus: 1 }\n").collect();
    let errors = Config::from_yaml(&format!("listeners: []\ntenants:\n{tenants}")).unwrap_err();
    assert_eq!(errors.iter().count(), 100);
    let rendered = errors.to_string();
    assert_eq!(rendered.lines().last(), Some(format!(" {} more errors", errors.omitted()).as_str()));
}
