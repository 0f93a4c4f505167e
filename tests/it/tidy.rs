//! Rules of the repository that a compiler does not check: which room may know
//! which, and that every file says what it is.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each room may import, as ARCHITECTURE.md tells. `name`, `limits` and
/// `telemetry` are open to all; `device` to all but them.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("name", &[]),
    ("limits", &[]),
    ("telemetry", &[]),
    ("pb", &[]),
    ("device", &[]),
    ("auth", &[]),
    ("wire", &["device"]),
    ("backend", &["device", "wire"]),
    ("journal", &["device"]),
    ("store", &["device"]),
    ("line", &["device", "backend", "journal"]),
    ("fleet", &["device", "backend", "journal", "store", "line"]),
    ("api", &["device", "backend", "journal", "line", "fleet", "auth", "libvirt", "pb"]),
    ("net", &["auth"]),
    ("config", &["auth", "backend", "net"]),
    ("libvirt", &["device"]),
    ("cli", &["pb", "libvirt"]),
    ("server", &["api", "auth", "backend", "config", "fleet", "journal", "net", "store"]),
    ("serve", &["cli", "config", "server"]),
];

const OPEN_TO_ALL: [&str; 3] = ["name", "limits", "telemetry"];

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn room_of(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(src).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// Rooms named after `crate::` outside of tests, also in nested imports.
fn imports(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut outermost = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ if depth == 0 => outermost.push(character),
                    _ => {}
                }
            }
            // Of `api::wire`, only `api` is a room.
            let paths = outermost.split(',').filter_map(|path| path.split("::").next());
            rooms.extend(paths.map(|room| room.trim().to_owned()));
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            rooms.push(rest[..end].to_owned());
        }
    }
    rooms
}

#[test]
fn rooms_import_only_what_the_architecture_allows() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources() {
        let room = room_of(&path);
        let file = path.file_name().unwrap().to_str().unwrap();
        if ["lib", "main"].contains(&room.as_str()) || file == "tests.rs" {
            continue;
        }
        let may = rules.get(room.as_str()).unwrap_or_else(|| panic!("no rule for room {room}"));
        let text = fs::read_to_string(&path).unwrap();
        for import in imports(&text) {
            let known = rules.contains_key(import.as_str());
            let fine = import == room
                || OPEN_TO_ALL.contains(&import.as_str())
                || may.contains(&import.as_str());
            if known && !fine {
                wrong.push(format!("{}: {room} may not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"))
        .collect();
    assert!(wrong.is_empty(), "no module doc: {wrong:?}");
}
