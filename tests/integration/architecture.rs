//! The floors of the house: `src/lib.rs` names them, the highest first, and no import goes up.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the first table of floors in `text`, a line each without what is before its first bar.
fn table(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.find('|').map(|start| line[start..].trim_end()));
    lines
        .skip_while(|line| !line.starts_with("| floor |"))
        .skip(2)
        .take_while(|line| line.starts_with("| [`"))
        .collect()
}

/// The floors, the highest first.
fn floors() -> Vec<String> {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let name = |row: &str| row.split('`').nth(1).unwrap().trim_start_matches("mod@").to_string();
    table(&map).into_iter().map(name).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What `code` names below `crate::`, with the groups of `use crate::{...}` taken apart; comments are left out.
fn imports(code: &str) -> BTreeSet<String> {
    let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        let group = rest.strip_prefix('{').and_then(|group| group.split(';').next());
        for path in group.map_or(vec![rest], |group| group.split(',').collect()) {
            let path = path.trim_start();
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
            found.insert(path[..end].to_string());
        }
    }
    found
}

/// The imports of `code`, in a file of `floor`, that go up.
fn upward(floors: &[String], floor: &str, code: &str) -> Vec<String> {
    let level = |path: &str| floors.iter().position(|name| path.split("::").next() == Some(name));
    let own = level(floor);
    imports(code).into_iter().filter(|path| level(path).is_some_and(|level| Some(level) < own)).collect()
}

/// The file that `path`, below `crate::`, is in.
fn file_of(path: &str) -> String {
    let mut parts: Vec<&str> = path.split("::").collect();
    while !parts.is_empty() {
        let stem = format!("src/{}", parts.join("/"));
        if let Some(file) =
            [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|f| root().join(f).is_file())
        {
            return file;
        }
        parts.pop();
    }
    "src/lib.rs".into()
}

#[test]
fn no_import_goes_up() {
    let floors = floors();
    let mut files = vec![];
    sources(&root().join("src"), &mut files);
    let mut wrong = vec![];
    for file in files {
        let name = file.strip_prefix(root()).unwrap();
        let Some(floor) = name.components().nth(1).filter(|_| name.components().count() > 2) else { continue };
        let floor = floor.as_os_str().to_str().unwrap();
        // The command line stands beside the C ABI, on top of all.
        if floor != "bin" {
            let code = fs::read_to_string(&file).unwrap();
            let up = upward(&floors, floor, &code);
            wrong.extend(up.iter().map(|path| format!("{} imports {} (crate::{path})", name.display(), file_of(path))));
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_goes_up_is_seen() {
    let floors: Vec<String> = ["train", "data", "base"].map(String::from).into();
    let code = "use crate::base::{Error, Result};\nuse crate::{Error, train::loss::Loss};\n// crate::train::adam\nlet x = crate::train::step();";
    assert_eq!(upward(&floors, "data", code), ["train::loss::Loss", "train::step"]);
    assert_eq!(upward(&floors, "train", code), [""; 0]);
    assert_eq!(file_of("train::loss::Loss"), "src/train/loss.rs");
    assert_eq!(file_of("data"), "src/data/mod.rs");
}

#[test]
fn every_folder_is_a_floor_and_the_map_for_contributors_is_this_one() {
    let folders = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
    let folders: BTreeSet<String> = folders.filter(|name| name != "bin").collect();
    assert_eq!(floors().into_iter().collect::<BTreeSet<_>>(), folders);

    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let contributing = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let plain = |row: &&str| row.replace("[`mod@", "[`").replace("[`", "`").replace("`]", "`");
    let expected: Vec<String> = table(&map).iter().map(plain).collect();
    let rows: Vec<&str> = contributing.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows[..expected.len()], expected, "CONTRIBUTING.md's table of floors is that of src/lib.rs");
}
