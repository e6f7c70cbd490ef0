//! No text makes the reader panic, run away or fill the memory.

use std::time::{Duration, Instant};

use config::Config;

use crate::texts::BASE;

const DESIGN: &str = include_str!("../files/design.yaml");

#[test]
fn every_prefix_of_the_contract_has_an_answer() {
    for end in (0..DESIGN.len()).filter(|end| DESIGN.is_char_boundary(*end)) {
        let _ = Config::from_yaml(&DESIGN[..end]);
    }
}

#[test]
fn no_damaged_byte_makes_it_panic() {
    let damage: [&str; 14] = ["", "\0", "\t", "\n", ":", "-", "[", "{", "*", "&a ", "!", "\"", "ü", "<<: "];
    for text in [BASE, DESIGN] {
        let places = (0..text.len() - 1).filter(|at| text.is_char_boundary(*at) && text.is_char_boundary(at + 1));
        for (at, with) in places.zip(damage.iter().cycle()) {
            let _ = Config::from_yaml(&format!("{}{with}{}", &text[..at], &text[at + 1..]));
        }
    }
}

#[test]
fn deep_nesting_and_alias_bombs_are_refused_quickly() {
    let began = Instant::now();
    let deep = "[".repeat(100_000);
    assert!(Config::from_yaml(&deep).is_err());
    let deep_blocks: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(Config::from_yaml(&deep_blocks).is_err());
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    let error = Config::from_yaml(&bomb).unwrap_err().to_string();
    assert!(error.contains("not valid YAML"), "{error}");
    let long_key = format!("{}: 1\nlisteners: []\ntenants: []", "k".repeat(900));
    let error = Config::from_yaml(&long_key).unwrap_err().to_string();
    assert!(error.len() < 1000, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_text_beyond_the_bound_is_refused_unread() {
    let text = "#".repeat((128 << 20) + 1);
    let error = Config::from_yaml(&text).unwrap_err().to_string();
    assert_eq!(error, "1:1: is larger than 128 MiB, the bound of a configuration");
}
