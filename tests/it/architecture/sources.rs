//! Which module of the sources uses which, read with `syn`.
//!
//! Sees paths in imports (also grouped ones), in code and types, and in the arguments of macros, whether they
//! begin with `crate`, `self`, `super`, a child module or a library. Items and files below `#[cfg(test)]` do
//! not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// One source file.
pub struct Source {
    /// Below `src`.
    pub path: PathBuf,
    /// The names of its module, from the top. Empty for `lib.rs`; `main` for the program.
    pub module: Vec<String>,
    /// Paths that its code names, the first name resolved as far as the file tells.
    pub uses: BTreeSet<Vec<String>>,
    /// Names that it passes on (`pub use`), with the paths that they stand for.
    pub passes_on: BTreeMap<String, Vec<String>>,
    /// Functions that are `async`.
    pub has_async: bool,
}

impl Source {
    pub fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }
}

/// Every source file that is not for tests alone.
pub fn sources(root: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut waiting = vec![
        (root.join("lib.rs"), Vec::new()),
        (root.join("main.rs"), vec!["main".to_owned()]),
    ];
    while let Some((path, module)) = waiting.pop() {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let file = syn::parse_file(&text).expect("Rust");
        let mut reader = Reader {
            module: module.clone(),
            children: BTreeSet::new(),
            files: Vec::new(),
            uses: BTreeSet::new(),
            passes_on: BTreeMap::new(),
            has_async: false,
        };
        reader.note_children(&file.items);
        reader.visit_file(&file);
        let stem = path.file_stem().expect("a name");
        let folder = path.parent().expect("a folder");
        let folder = if ["mod", "lib", "main"].iter().any(|name| *name == stem) {
            folder.to_path_buf()
        } else {
            folder.join(stem)
        };
        for child in &reader.files {
            let plain = folder.join(format!("{child}.rs"));
            let path = if plain.exists() {
                plain
            } else {
                folder.join(child).join("mod.rs")
            };
            waiting.push((path, [&module[..], std::slice::from_ref(child)].concat()));
        }
        let path = path
            .strip_prefix(root)
            .expect("below the root")
            .to_path_buf();
        found.push(Source {
            path,
            module,
            uses: reader.uses,
            passes_on: reader.passes_on,
            has_async: reader.has_async,
        });
    }
    found
}

/// Which files of `sources` each file uses, by index. A path counts for the innermost file that it leads to;
/// a name that a file only passes on counts for the file that it comes from.
pub fn edges(sources: &[Source]) -> BTreeMap<usize, BTreeSet<usize>> {
    let by_module: BTreeMap<&[String], usize> = sources
        .iter()
        .enumerate()
        .map(|(index, source)| (&source.module[..], index))
        .collect();
    let target = |path: &[String]| {
        let mut path = path.to_vec();
        // A name is passed on a few times at most.
        for _ in 0..8 {
            if path[0] != "crate" {
                return None;
            }
            let length = (0..path.len())
                .rev()
                .find(|length| by_module.contains_key(&path[1..=*length]))?;
            let index = by_module[&path[1..=length]];
            let next = path
                .get(length + 1)
                .and_then(|name| sources[index].passes_on.get(name));
            match next {
                Some(next) => path = [&next[..], &path[length + 2..]].concat(),
                None => return Some(index),
            }
        }
        None
    };
    let mut edges = BTreeMap::new();
    for (index, source) in sources.iter().enumerate() {
        let targets = source.uses.iter().filter_map(|path| target(path));
        edges.insert(index, targets.filter(|target| *target != index).collect());
    }
    edges
}

struct Reader {
    /// The module at hand: that of the file, and modules within it.
    module: Vec<String>,
    /// Modules that the file declares.
    children: BTreeSet<String>,
    /// Those among them that have a file.
    files: Vec<String>,
    uses: BTreeSet<Vec<String>>,
    passes_on: BTreeMap<String, Vec<String>>,
    has_async: bool,
}

impl Reader {
    fn note_children(&mut self, items: &[syn::Item]) {
        for item in items {
            if let syn::Item::Mod(item) = item
                && !is_for_tests(&item.attrs)
            {
                let name = item.ident.to_string();
                if item.content.is_none() {
                    self.files.push(name.clone());
                }
                self.children.insert(name);
            }
        }
    }

    /// Notes a path as it is written.
    fn note(&mut self, path: &[String]) {
        let path = self.resolved(path);
        self.uses.insert(path);
    }

    /// A path that begins with `crate`, or with a library.
    fn resolved(&self, path: &[String]) -> Vec<String> {
        let mut base = self.module.clone();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                rest = &rest[1..];
            }
            Some("self") => rest = &rest[1..],
            Some("super") => {}
            Some(first) if self.children.contains(first) => {}
            _ => return path.to_vec(),
        }
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        let mut full = vec!["crate".to_owned()];
        full.extend(base);
        full.extend_from_slice(rest);
        full
    }

    fn note_tree(&mut self, before: &[String], tree: &syn::UseTree, is_public: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            syn::UseTree::Path(path) => {
                return self.note_tree(&with(&path.ident), &path.tree, is_public);
            }
            syn::UseTree::Group(group) => {
                let trees = group.items.iter();
                return trees.for_each(|tree| self.note_tree(before, tree, is_public));
            }
            syn::UseTree::Name(name) => (with(&name.ident), name.ident.to_string()),
            syn::UseTree::Rename(name) => (with(&name.ident), name.rename.to_string()),
            syn::UseTree::Glob(_) => return self.note(before),
        };
        if is_public {
            let path = self.resolved(&path);
            self.passes_on.insert(name, path);
        } else {
            self.note(&path);
        }
    }

    /// Notes the paths in a macro's arguments.
    fn note_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note_whole(&mut path);
                    }
                    colons = 0;
                    path.push(ident.to_string());
                }
                other => {
                    self.note_whole(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.note_tokens(group.stream());
                    }
                }
            }
        }
        self.note_whole(&mut path);
    }

    fn note_whole(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.note(path);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            items.iter().for_each(|item| self.visit_item(item));
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_public = !matches!(item.vis, syn::Visibility::Inherited);
        self.note_tree(&[], &item.tree, is_public);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names: Vec<String> = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string())
                .collect();
            self.note(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.note_tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.has_async |= signature.asyncness.is_some();
        visit::visit_signature(self, signature);
    }
}

/// Whether `#[cfg(test)]`, alone or in an `all`, stands before an item.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return attribute.path().is_ident("test");
        };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Files that use each other in a circle, within one folder. Each is a set that cannot be put in an order.
pub fn circles(sources: &[Source]) -> Vec<Vec<&Path>> {
    let edges = edges(sources);
    let folder = |index: usize| sources[index].top().to_owned();
    let reach = |from: usize| {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![from];
        while let Some(at) = waiting.pop() {
            for &to in &edges[&at] {
                if folder(to) == folder(from) && seen.insert(to) {
                    waiting.push(to);
                }
            }
        }
        seen
    };
    let reached: Vec<BTreeSet<usize>> = (0..sources.len()).map(reach).collect();
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for index in 0..sources.len() {
        if reached[index].contains(&index) && known.insert(index) {
            let circle: Vec<usize> = (0..sources.len())
                .filter(|&other| reached[index].contains(&other) && reached[other].contains(&index))
                .collect();
            known.extend(&circle);
            found.push(
                circle
                    .into_iter()
                    .map(|index| sources[index].path.as_path())
                    .collect(),
            );
        }
    }
    found
}
