//! Files of a crate that use each other in a circle, found from `use` declarations and from paths that
//! begin at the crate, at the parent or at a module below.
//!
//! A `pub use` in a crate's or a folder's front page is no use of its own: what it shows belongs to the
//! file that defines it, and whoever takes it from the front page uses that file.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::sources::Source;

/// A module's path within its crate.
type Module = Vec<String>;

/// For each file the files that it uses, and the names that it uses of each.
pub type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

struct File {
    path: String,
    module: Module,
    code: String,
    defines: BTreeSet<String>,
    /// Paths of its `use` declarations, and whether they are public.
    imports: Vec<(Vec<String>, bool)>,
}

/// The uses among the files of one crate, whose folder is `folder`.
pub fn uses(folder: &str, sources: &[Source]) -> Uses {
    let files: Vec<File> = sources
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| File::of(folder, source))
        .collect();
    let modules: BTreeMap<&Module, &File> = files.iter().map(|file| (&file.module, file)).collect();
    let paths = Regex::new(r"\b(?:crate|super|self|[a-z_][a-z0-9_]*)(?:::\w+)+").unwrap();
    let mut uses = Uses::new();
    for file in &files {
        let own = uses.entry(file.path.clone()).or_default();
        let is_front = file.path.ends_with("lib.rs") || file.path.ends_with("mod.rs");
        let imports = file
            .imports
            .iter()
            .filter(|(_, public)| !(*public && is_front));
        let inline = paths
            .find_iter(&file.code)
            .map(|found| found.as_str().split("::").map(str::to_owned).collect());
        for path in imports.map(|(path, _)| path.clone()).chain(inline) {
            let Some((target, name)) = resolve(file, &path, &modules, 0) else {
                continue;
            };
            if target.path != file.path {
                own.entry(target.path.clone()).or_default().insert(name);
            }
        }
    }
    uses
}

/// The groups of files of which each leads to every other, largest first.
pub fn circles(uses: &Uses) -> Vec<Vec<&str>> {
    let reached = |from: &str| -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&str> = uses[from].keys().map(String::as_str).collect();
        while let Some(file) = next.pop() {
            if seen.insert(file) {
                next.extend(uses[file].keys().map(String::as_str));
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = uses
        .keys()
        .map(|file| (file.as_str(), reached(file)))
        .collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, ahead) in &reach {
        if ahead.contains(file) {
            let others = ahead.iter().filter(|other| reach[*other].contains(file));
            circles.insert(others.copied().collect());
        }
    }
    let mut circles: Vec<_> = circles.into_iter().collect();
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}

/// A circle's files and what ties them, for people.
pub fn told(circle: &[&str], uses: &Uses) -> String {
    let mut text = format!("{} files in a circle:\n", circle.len());
    for file in circle {
        for (other, names) in &uses[*file] {
            if circle.contains(&other.as_str()) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                text += &format!("  {file} -> {other}: {}\n", names.join(", "));
            }
        }
    }
    text
}

impl File {
    fn of(folder: &str, source: &Source) -> Self {
        let inside = source.path[folder.len() + 1..].trim_end_matches(".rs");
        let mut module: Module = inside.split('/').map(str::to_owned).collect();
        if matches!(
            module.last().map(String::as_str),
            Some("lib" | "main" | "mod")
        ) {
            module.pop();
        }
        let code = source.code();
        let items = r"(?m)^\s*(?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+)?(?:const\s+)?(?:fn|struct|enum|trait|type|const|static|union)\s+([A-Za-z_]\w*)|macro_rules!\s+(\w+)";
        let defines = Regex::new(items).unwrap();
        let defines = defines.captures_iter(&code).filter_map(|found| {
            let name = found.get(1).or(found.get(2))?;
            Some(name.as_str().to_owned())
        });
        let defines = defines.collect();
        let declared = Regex::new(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").unwrap();
        let mut imports = Vec::new();
        for found in declared.captures_iter(&code) {
            for path in expanded(&found[2]) {
                let parts = path.split("::").map(|part| part.trim().to_owned());
                imports.push((parts.collect(), found.get(1).is_some()));
            }
        }
        Self {
            path: source.path.clone(),
            module,
            code: declared.replace_all(&code, "").into_owned(),
            defines,
            imports,
        }
    }
}

/// The paths of a `use` tree.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.strip_suffix('}').and_then(|tree| tree.split_once('{'))
    else {
        let path = tree.split(" as ").next().unwrap_or(tree);
        return vec![path.trim().to_owned()];
    };
    let (mut all, mut depth, mut from) = (Vec::new(), 0, 0);
    let ends = inside.char_indices().chain([(inside.len(), ',')]);
    for (at, c) in ends {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &inside[from..at];
                if !part.trim().is_empty() {
                    let paths = expanded(part).into_iter();
                    all.extend(paths.map(|path| format!("{before}{path}")));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    all
}

/// The file that a path seen in `file` leads to, and the name it takes there.
fn resolve<'a>(
    file: &File,
    path: &[String],
    modules: &BTreeMap<&Module, &'a File>,
    depth: usize,
) -> Option<(&'a File, String)> {
    let mut parts = path;
    let below =
        |module: &Module, name: &String| [module.as_slice(), std::slice::from_ref(name)].concat();
    let mut module = match parts.first()?.as_str() {
        "crate" => {
            parts = &parts[1..];
            Vec::new()
        }
        "self" => {
            parts = &parts[1..];
            file.module.clone()
        }
        "super" => {
            let mut module = file.module.clone();
            while parts.first().is_some_and(|part| part == "super") {
                module.pop()?;
                parts = &parts[1..];
            }
            module
        }
        _ if modules.contains_key(&below(&file.module, &parts[0])) => file.module.clone(),
        _ => return None,
    };
    while let Some(part) = parts.first() {
        if !modules.contains_key(&below(&module, part)) {
            break;
        }
        module = below(&module, part);
        parts = &parts[1..];
    }
    let target = *modules.get(&module)?;
    let Some(name) = parts.first().filter(|name| *name != "self") else {
        return Some((target, String::new()));
    };
    if target.defines.contains(name) || depth > 8 {
        return Some((target, name.clone()));
    }
    for (import, _) in &target.imports {
        let last = import.last()?;
        if last != name && last != "*" {
            continue;
        }
        let mut through = import.clone();
        through.pop();
        through.push(name.clone());
        if let Some((found, name)) = resolve(target, &through, modules, depth + 1)
            && found.path != target.path
        {
            return Some((found, name));
        }
    }
    Some((target, name.clone()))
}

#[test]
fn a_circle_is_found_through_a_front_page_and_named() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.into(),
    };
    let sources = [
        source("x/lib.rs", "mod a; mod b; mod c;\npub use b::B;"),
        source("x/a.rs", "use crate::{B, c::{self, C}};\npub struct A;"),
        source(
            "x/b.rs",
            "pub struct B;\nfn f() -> super::a::A { panic!() }",
        ),
        source("x/c.rs", "// use crate::a::A;\npub struct C;"),
        source("x/d/mod.rs", "mod e;\nfn g() { e::h() }\npub struct D;"),
        source("x/d/e.rs", "use super::D;\npub fn h() {}"),
    ];
    let uses = uses("x", &sources);
    let found = circles(&uses);
    assert_eq!(found, [["x/a.rs", "x/b.rs"], ["x/d/e.rs", "x/d/mod.rs"]]);
    let text = told(&found[0], &uses);
    assert!(text.contains("x/a.rs -> x/b.rs: B\n") && text.contains("x/b.rs -> x/a.rs: A\n"));
}
