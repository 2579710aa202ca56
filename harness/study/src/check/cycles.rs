//! Cycles among the modules of a crate: modules that need each other can only be understood, tested and moved together.
//! An edge is a path to another file of the crate, outside tests, that is not the module around it. A facade's `pub use` is followed to the file it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, Token, UseTree, Visibility};

/// Names of modules from the root of the crate: `["bus", "amqp"]`.
type Module = Vec<String>;
type Edges = BTreeMap<Module, BTreeSet<Module>>;

/// One line for each cycle in the crate whose sources lie in `src`.
pub(super) fn find(name: &str, src: &Path) -> Result<Vec<String>> {
    let files = modules(src, &Vec::new())?;
    let facades =
        files.iter().map(|(module, file)| (module.clone(), exports(module, file, &files))).collect();
    let edges: Edges =
        files.iter().map(|(module, file)| (module.clone(), needs(module, file, &files, &facades))).collect();
    let describe = |cycle: Vec<&Module>| {
        let names: Vec<String> = cycle.into_iter().map(|module| module.join("::")).collect();
        format!("{name}: {}", names.join(", "))
    };
    Ok(cycles(&edges).into_iter().map(describe).collect())
}

/// The files of a crate by their modules.
fn modules(dir: &Path, parent: &Module) -> Result<BTreeMap<Module, syn::File>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path: PathBuf = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let child = || [&parent[..], std::slice::from_ref(&stem)].concat();
        if path.is_dir() {
            found.extend(modules(&path, &child())?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if ["lib", "main", "mod"].contains(&&*stem) { parent.clone() } else { child() };
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let file = syn::parse_file(&text).with_context(|| format!("cannot parse {}", path.display()))?;
            // main.rs uses what lib.rs holds; nothing uses main.rs.
            if stem != "main" {
                found.insert(module, file);
            }
        }
    }
    let tests: Vec<Module> = found.iter().flat_map(|(module, file)| test_modules(module, file)).collect();
    found.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    Ok(found)
}

/// Modules of files that are compiled for tests only.
fn test_modules(module: &Module, file: &syn::File) -> Vec<Module> {
    let tests = file.items.iter().filter_map(|item| match item {
        Item::Mod(inner) if inner.content.is_none() && for_tests(&inner.attrs) => {
            Some(inner.ident.to_string())
        }
        _ => None,
    });
    tests.map(|name| [&module[..], &[name]].concat()).collect()
}

/// Whether the item has the attribute `cfg(test)` or `cfg(all(test, ...))`.
fn for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |condition: &Meta| match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(|condition| condition.path().is_ident("test"))),
        _ => false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args().is_ok_and(|condition| is_test(&condition))
    })
}

/// Names that a module exports from other files, with those files.
fn exports(
    module: &Module,
    file: &syn::File,
    files: &BTreeMap<Module, syn::File>,
) -> BTreeMap<String, Module> {
    let mut exported = BTreeMap::new();
    for item in &file.items {
        let Item::Use(ItemUse { vis, tree, .. }) = item else { continue };
        if matches!(vis, Visibility::Inherited) {
            continue;
        }
        for path in leaves(tree) {
            let Some((name, target)) = path.last().zip(resolve(module, &path, files, &BTreeMap::new()))
            else {
                continue;
            };
            exported.insert(name.clone(), target);
        }
    }
    exported
}

/// The files that a file needs. A module may use what the module around it declares: the two are one.
fn needs(
    module: &Module,
    file: &syn::File,
    files: &BTreeMap<Module, syn::File>,
    facades: &BTreeMap<Module, BTreeMap<String, Module>>,
) -> BTreeSet<Module> {
    let mut paths = Paths { found: Vec::new() };
    paths.visit_file(file);
    let targets = paths.found.iter().filter_map(|path| resolve(module, path, files, facades));
    targets.filter(|target| !module.starts_with(target)).collect()
}

/// Every path of a file that could lead to another one.
struct Paths {
    found: Vec<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        // A facade does not need what it exports.
        if matches!(item.vis, Visibility::Inherited) && !for_tests(&item.attrs) {
            self.found.extend(leaves(&item.tree));
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The paths that a `use` names.
fn leaves(tree: &UseTree) -> Vec<Vec<String>> {
    let below = |name: String, tree: &UseTree| -> Vec<Vec<String>> {
        leaves(tree).into_iter().map(|rest| [vec![name.clone()], rest].concat()).collect()
    };
    match tree {
        UseTree::Path(path) => below(path.ident.to_string(), &path.tree),
        UseTree::Name(name) if name.ident == "self" => vec![Vec::new()],
        UseTree::Name(name) => vec![vec![name.ident.to_string()]],
        UseTree::Rename(rename) => vec![vec![rename.ident.to_string()]],
        UseTree::Glob(_) => vec![Vec::new()],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// The file of this crate to which a path in `module` leads.
fn resolve(
    module: &Module,
    path: &[String],
    files: &BTreeMap<Module, syn::File>,
    facades: &BTreeMap<Module, BTreeMap<String, Module>>,
) -> Option<Module> {
    let (first, rest) = path.split_first()?;
    let (mut at, mut rest): (Module, &[String]) = match first.as_str() {
        "crate" => (Vec::new(), rest),
        "self" => (module.clone(), rest),
        "super" => (module.split_last()?.1.to_vec(), rest),
        // A child, named without a prefix.
        child if files.contains_key(&[&module[..], &[child.to_owned()]].concat()) => (module.clone(), path),
        _ => return None,
    };
    while let Some((next, after)) = rest.split_first() {
        if next == "super" {
            at.pop();
        } else {
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if !files.contains_key(&child) {
                break;
            }
            at = child;
        }
        rest = after;
    }
    let exported = rest.first().and_then(|name| facades.get(&at)?.get(name)).cloned();
    let target = exported.unwrap_or(at);
    files.contains_key(&target).then_some(target)
}

/// Sets of modules each of which needs, directly or not, all others of its set.
fn cycles(edges: &Edges) -> Vec<Vec<&Module>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|module| (module, reachable(edges, module))).collect();
    let mut found: Vec<Vec<&Module>> = Vec::new();
    for module in edges.keys().filter(|module| reached[module].contains(module)) {
        if found.iter().any(|cycle| cycle.contains(&module)) {
            continue;
        }
        found.push(reached[module].iter().copied().filter(|other| reached[other].contains(module)).collect());
    }
    found
}

fn reachable<'a>(edges: &'a Edges, from: &Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&Module> = edges.get(from).into_iter().flatten().collect();
    while let Some(module) = waiting.pop() {
        if reached.insert(module) {
            waiting.extend(edges.get(module).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(name: &str, files: &[(&str, &str)]) -> Vec<String> {
        let src = std::env::temp_dir().join(format!("study-cycles-{name}-{}", std::process::id()));
        for (file, text) in files {
            let path = src.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = find(name, &src).unwrap();
        fs::remove_dir_all(&src).unwrap();
        found
    }

    #[test]
    fn modules_that_need_each_other_are_found_through_facades_and_groups() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::{self, Exported};"),
            ("b/mod.rs", "mod inner; pub use inner::Exported;"),
            ("b/inner.rs", "pub struct Exported; fn f() { crate::c::g() }"),
            ("c.rs", "pub fn g() { super::a::h() }"),
        ];
        assert_eq!(crate_of("found", &files), ["found: a, b::inner, c"]);
    }

    #[test]
    fn tests_and_facades_make_no_cycle() {
        let files = [
            ("lib.rs", "pub mod a; pub mod b; pub use a::A;"),
            ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use crate::A; pub struct B; #[cfg(all(test, unix))] mod b_tests;"),
            ("b/b_tests.rs", "use crate::a::A;"),
        ];
        assert_eq!(crate_of("none", &files), [""; 0]);
    }
}
