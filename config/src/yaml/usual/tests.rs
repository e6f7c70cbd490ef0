//! Against the parser of all of YAML, which is right.

use super::*;
use crate::yaml::parse as parse_all;

fn is_same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Integer(one), Value::Integer(other)) => one == other,
        (Value::Text(one), Value::Text(other)) => one == other,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Group(one), Value::Group(other)) => {
            let entries = || one.iter().zip(other);
            one.len() == other.len()
                && entries().all(|(one, other)| one.0.name == other.0.name && is_same(&one.1, &other.1))
        }
        _ => false,
    }
}

/// Whether it was taken; panics where the parser says something else.
fn is_taken(text: &str) -> bool {
    let Some(node) = parse(text) else { return false };
    match parse_all(text) {
        Ok(right) => assert!(is_same(&node, &right), "{text}\n{node:?}\n{right:?}"),
        Err((position, message)) => panic!("{text}\nis wrong at {position}: {message}\n{node:?}"),
    }
    true
}

#[test]
fn what_is_usual_is_taken() {
    for text in [
        MANY,
        include_str!("../../../tests/files/design.yaml"),
        include_str!("../../../tests/files/minimal.yaml"),
        "a: 1\n",
        "# only …\n\na:   x # what\n\n  # more\nb: { c: [], d: {} }",
        "a:\n- b\n-   c: 1\n    d: 2\nf: 10.0.0.1:443\n",
        "a: /run/x:y\nb: 0\nc: 16MiB\nd: -\n".trim_end_matches("d: -\n"),
        "a:\n  - b:\n    - 1\n    c: 'x: y'\n",
    ] {
        assert!(is_taken(text), "{text}");
    }
}

#[test]
fn what_is_unusual_is_left_alone() {
    for text in [
        "",
        "# nothing\n",
        " a: 1\nb: 2\n",
        "a: 1\na: 2\n",
        "a: 1\n---\nb: 2\n",
        "--- \na: 1\n",
        "a: 1\r\n",
        "a:\t1\n",
        "a: |\n  b\n",
        "a: &b c\n",
        "a: *b\n",
        "a: !t c\n",
        "a: b c\n",
        "a: b\n  c\n",
        "a: \"b\n  c\"\n",
        "a: \"\\n\"\n",
        "a: 'it''s'\n",
        "a: [b,\n  c]\n",
        "a: [b c]\n",
        "a: [b: c]\n",
        "a: {b}\n",
        "a: [b,]\n",
        "a: yes\n",
        "a: NULL\n",
        "a: 1.5\n",
        "a: 0x10\n",
        "a: 010\n",
        "a: 1_000\n",
        "a: 1e3\n",
        "a: 190:20:30\n",
        "a: 1234567890123456789\n",
        "a:\nb: 1\n",
        "a:\n",
        "a: b: c\n",
        "a: b:\n",
        "a: \"b\": c\n",
        "a: \"b\"#c\n",
        "a: b#c\n",
        "a: ü\n",
        "a: 1 # \u{2028}\n",
        "- a\n",
        "a:\n    b: 1\n  c: 2\n",
        "a:\n  - 1\n - 2\n",
        "? a\n: b\n",
        "<<: { a: 1 }\n",
    ] {
        assert!(parse(text).is_none(), "{text}");
    }
    let deep = |depth| format!("a: {}{}\n", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&deep(8)).is_some() && parse(&deep(20)).is_none());
}

#[test]
fn whatever_is_taken_is_what_the_parser_of_all_of_yaml_reads() {
    let mut random = fastrand::Rng::with_seed(7);
    let corpus =
        [MANY, include_str!("../../../tests/files/design.yaml"), include_str!("../../../tests/files/minimal.yaml")];
    let mut taken = 0;
    for round in 0..ROUNDS {
        let mut text = piece(corpus[round % corpus.len()], &mut random);
        for _ in 0..random.usize(0..4) {
            mutate(&mut text, &mut random);
        }
        taken += usize::from(is_taken(&text));
    }
    assert!(taken > ROUNDS / 10, "{taken}");
}

/// A few lines of it.
fn piece(text: &str, random: &mut fastrand::Rng) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let start = random.usize(0..lines.len());
    let indent = lines[start].bytes().take_while(|byte| *byte == b' ').count();
    let of_indent = |line: &&&str| line.as_bytes().iter().take(indent).all(|byte| *byte == b' ') && line.len() > indent;
    let rest = lines[start..].iter().take_while(of_indent).take(random.usize(1..20));
    rest.map(|line| &line[indent..]).collect()
}

fn mutate(text: &mut String, random: &mut fastrand::Rng) {
    let at = text.floor_char_boundary(random.usize(0..=text.len()));
    match random.u8(0..4) {
        0 => text.insert_str(at, PIECES[random.usize(0..PIECES.len())]),
        1 if at < text.len() => drop(text.remove(at)),
        2 => {
            let end = text.floor_char_boundary(random.usize(at..=text.len()));
            let moved = text[at..end].to_owned();
            text.insert_str(text.floor_char_boundary(random.usize(0..=at)), &moved);
        }
        _ => {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            text.insert_str(line, ["  ", " ", "- ", "#"][random.usize(0..4)]);
        }
    }
}

const ROUNDS: usize = 40_000;
const PIECES: [&str; 44] = [
    " ", "  ", "\n", "\n\n", "\n  ", "\n- ", "- ", "-", ":", ": ", ",", ", ", "[", "]", "{", "}", "[]", "{}", "#",
    " #", "\"", "'", "''", "\\", "a", "a: ", "b: c", "x:y", "0", "7", "1.5", "1.2.3.4", "10s", "1e3", "null", "true",
    "yes", "~", "*", "&a ", "!", "|", "---", "\t",
];
const MANY: &str = "runtimeDir: /run/x
workers: 2
admin: { address: \"127.0.0.1:9090\" }
listeners: [{ name: tls, address: \"0.0.0.0:443\" }]
tenants:
  - name: t0
    hostnames: [version-0.bench.test, '*.b.test']
    mode: Passthrough
    idleTimeout: 600s
    backends: [{ address: \"127.0.0.1:1\", weight: 3 }]
  # The other one.
  - name: t1
    hostnames:
      - h1.bench.test
      - \"h2.bench.test\"
    mode: Passthrough # for now
    limits:
      maxConnections: 100
    backends:
    - address: 10.0.0.1:443

    - { address: backend.test:443 }
";
