use super::*;

const HEAD: &str = r#"
listeners:
  - { name: tls, address: "127.0.0.1:8443", onUnmatched: t1 }
tenants: # everybody
  # the first
"#;
const TAIL: &str = "uidRange: [70000, 70009]\n";

fn passthrough(number: usize) -> String {
    format!(
        "  - name: t{number}\n    hostnames: [\"*.h{number}.example\"]\n\n    mode: Passthrough\n    # one\n    backends: [{{ address: \"127.0.0.1:{}\" }}]\n",
        1000 + number
    )
}

fn terminate(number: usize, more: &str) -> String {
    format!(
        "  - name: t{number}\n    hostnames: [\"h{number}.example\"]\n    mode: Terminate\n    tls: {{ certificates: [{{ secretDir: /t{number} }}] }}\n    backends: [{{ address: \"127.0.0.1:1\" }}]\n{more}"
    )
}

fn file(items: &[String]) -> String {
    format!("{HEAD}{}{TAIL}", items.concat())
}

fn read(text: &str) -> Config {
    Config::from_yaml(text).unwrap()
}

/// Rereads, and compares with reading the whole.
#[track_caller]
fn assert_reread(former: &str, text: &str) -> Config {
    let next = read(former).reread(former, text).expect("not reread");
    assert_eq!(next, read(text));
    next
}

/// Leaves it to reading the whole.
#[track_caller]
fn assert_not_reread(former: &str, text: &str) {
    assert_eq!(read(former).reread(former, text), None, "{text}");
}

fn five() -> Vec<String> {
    vec![passthrough(0), passthrough(1), terminate(2, ""), terminate(3, ""), passthrough(4)]
}

#[test]
fn every_change_gives_what_reading_the_whole_gives() {
    let former = file(&five());
    let mut added = five();
    added.insert(0, passthrough(9));
    let mut removed = five();
    removed.remove(0);
    let mut changed = five();
    changed[4] = terminate(4, "    sandbox: { uid: 70003 }\n");
    let mut reordered = five();
    reordered.reverse();
    for next in [five(), added, removed, changed, reordered] {
        assert_reread(&former, &file(&next));
        assert_reread(&file(&next), &former);
    }
}

#[test]
fn what_has_not_changed_is_shared() {
    let former = file(&five());
    let before = read(&former);
    let mut items = five();
    items[2] = terminate(2, "    idleTimeout: 5m\n");
    let after = before.reread(&former, &file(&items)).unwrap();
    let is_shared = |index: usize| Arc::ptr_eq(&before.tenants[index], &after.tenants[index]);
    assert_eq!([0, 1, 2, 3, 4].map(is_shared), [true, true, false, true, true]);
}

#[test]
fn a_uid_that_another_tenant_takes_moves() {
    let former = file(&five());
    let uid = read(&former).tenant_uid("t2").unwrap();
    let mut items = five();
    items[3] = terminate(3, &format!("    sandbox: {{ uid: {uid} }}\n"));
    let after = assert_reread(&former, &file(&items));
    assert_ne!(after.tenant_uid("t2").unwrap(), uid);
}

#[test]
fn sequences_of_small_changes_never_differ_from_the_whole() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        // xorshift64 (Marsaglia 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut items = five();
    let mut former = file(&items);
    let mut config = read(&former);
    for step in 5..120 {
        match next(4) {
            0 if items.len() > 3 && items.len() < 12 => items.insert(next(items.len()), terminate(step, "")),
            1 if items.len() > 4 => {
                let place = next(items.len());
                if !items[place].contains("name: t1\n") {
                    items.remove(place);
                }
            }
            2 => {
                let (one, other) = (next(items.len()), next(items.len()));
                items.swap(one, other);
            }
            _ => items.push(passthrough(step)),
        }
        let text = file(&items);
        match (config.reread(&former, &text), Config::from_yaml(&text)) {
            (Some(reread), Ok(whole)) => {
                assert_eq!(reread, whole, "{text}");
                (config, former) = (reread, text);
            }
            (None, Err(_)) => items = five().into_iter().chain([passthrough(step)]).collect(),
            (None, Ok(whole)) => (config, former) = (whole, text),
            (Some(_), Err(errors)) => panic!("{errors}\n{text}"),
        }
    }
}

#[test]
fn what_is_wrong_is_left_to_reading_the_whole() {
    let former = file(&five());
    let with = |item: String| {
        let mut items = five();
        items.push(item);
        file(&items)
    };
    // A name, a hostname and a uid that another tenant has, a field that nobody knows, and no YAML.
    assert_not_reread(&former, &with(passthrough(4).replace("h4", "h9")));
    assert_not_reread(&former, &with(passthrough(4).replace("t4", "t9")));
    let before = file(&[five(), vec![terminate(5, "    sandbox: { uid: 70001 }\n")]].concat());
    let twice =
        [five(), vec![terminate(5, "    sandbox: { uid: 70001 }\n"), terminate(6, "    sandbox: { uid: 70001 }\n")]];
    assert_not_reread(&before, &file(&twice.concat()));
    assert_not_reread(&former, &with(passthrough(9).replace("mode", "mood")));
    assert_not_reread(&former, &with("  - [\n".to_owned()));
    // The target of a listener is gone; all tenants are.
    assert_not_reread(&former, &file(&[passthrough(0)]));
    assert_not_reread(&former, &file(&[]));
    // More tenants than uids.
    let many: Vec<_> = [passthrough(1)].into_iter().chain((10..21).map(|number| terminate(number, ""))).collect();
    assert_not_reread(&former, &file(&many));
}

#[test]
fn another_shape_is_left_to_reading_the_whole() {
    let items = five();
    let former = file(&items);
    // Something beside the tenants has changed.
    assert_not_reread(&former, &former.replace("8443", "8444"));
    assert_not_reread(&former, &former.replace("70009", "70008"));
    // A tenant's lines mean something else where another one's have changed.
    let anchored = former.replacen("hostnames: [\"*.h0.example\"]", "hostnames: &names [\"*.h0.example\"]", 1);
    assert_not_reread(&anchored, &anchored);
    // One line for all.
    let flow = format!("{HEAD}  [{{ name: t1, mode: Passthrough, backends: [{{ address: \"127.0.0.1:1\" }}] }}]\n");
    assert_not_reread(&flow, &flow);
}

#[test]
fn sequences_at_the_margin_and_windows_line_ends_are_cut_too() {
    let margin = |items: &[String]| {
        let lines: Vec<_> = items.concat().lines().map(|line| line.get(2..).unwrap_or("").to_owned()).collect();
        format!("{HEAD}{}\n{TAIL}", lines.join("\n"))
    };
    let (former, next) = (margin(&five()), margin(&five()[..4]));
    assert_reread(&former, &next);
    assert_reread(&former.replace('\n', "\r\n"), &next.replace('\n', "\r\n"));
}

/// More than one piece of a file that is worth it.
fn many() -> Vec<String> {
    let of =
        |number| if number % 7 == 2 { terminate(number, "    sandbox: { gid: 70003 }\n") } else { passthrough(number) };
    (0..2500).map(of).collect()
}

fn wide(items: &[String]) -> String {
    file(items).replace("[70000, 70009]", "[70000, 79999]")
}

#[test]
fn a_file_in_pieces_is_what_reading_the_whole_gives() {
    let text = wide(&many());
    assert_eq!(Config::of_pieces(&text).unwrap(), Config::of_whole(&text).unwrap());
    // Too small to be worth it.
    assert!(Config::of_pieces(&wide(&many()[..100])).is_none());
}

#[test]
fn what_is_wrong_between_pieces_is_found_with_its_place() {
    let mut items = many();
    let place = 1 + HEAD.lines().count() + items.concat().lines().count();
    for (wrong, line, says) in [
        (passthrough(4).replace("h4.", "h9."), 0, "is already the name"),
        (passthrough(4).replace("t4", "u4"), 1, "is claimed by tenant"),
        (passthrough(9).replace("t9", "u9").replace("h9", "u9").replace("mode", "mood"), 0, "is missing"),
        (passthrough(1).replace("t1", "u1").replace("h1.", "u1."), 0, ""),
    ] {
        items.push(wrong);
        let text = wide(&items);
        items.pop();
        match Config::from_yaml(&text) {
            Ok(_) => assert!(says.is_empty(), "{says}"),
            Err(errors) => {
                let first = errors.iter().next().unwrap();
                assert!(first.message.contains(says) && !says.is_empty(), "{first:?}");
                assert_eq!(first.position.line as usize, place + line, "{first:?}");
            }
        }
    }
    // The tenant that a listener names is not there.
    items.remove(1);
    assert!(Config::from_yaml(&wide(&items)).is_err());
}
