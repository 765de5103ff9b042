//! Which module of a crate uses which. A crate's root says the order once, in its documentation: in a paragraph
//! ([`IN_ONE_LINE`]), or in a list with a word on each module ([`DOWNWARD`], [`UPWARD`]). A module uses only those of
//! the layers below its own, so that there is no circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use testing_support::workspace::root;

use super::{files, has_extension};

/// "Order of modules: \`a\`, \`b\` → \`c\`", outermost first.
const IN_ONE_LINE: &str = "Order of modules:";
/// Stands before a list, outermost first.
const DOWNWARD: &str = "uses only those below it:";
/// Stands before a list, innermost first.
const UPWARD: &str = "uses only those before it:";

/// Stands for what a crate's root defines itself.
const ROOT: &str = "(root)";

/// Uses against the order that are known: crate, module, what it uses, and why it still does.
const KNOWN: &[(&str, &str, &str, &str)] = &[];

#[test]
fn modules_use_only_those_below_them() {
    let mut problems = Vec::new();
    let mut unseen = KNOWN.to_vec();
    let mut checked = 0;
    for krate in crates() {
        let modules = krate.modules();
        if modules.is_empty() {
            continue;
        }
        checked += 1;
        let name = krate.folder.display().to_string();
        let order = krate.order();
        let layer = |module: &str| order.iter().position(|layer| layer.iter().any(|other| other == module));
        for module in modules.iter().filter(|module| layer(module).is_none()) {
            problems.push(format!("{name}: the order in {} lacks `{module}`", krate.root.display()));
        }
        for module in order.iter().flatten().filter(|module| !modules.contains(*module)) {
            problems
                .push(format!("{name}: the order in {} names `{module}`, which is no module", krate.root.display()));
        }
        for ((from, to), places) in krate.uses(&modules) {
            if layer(&to).is_some() && layer(&from) < layer(&to) {
                continue;
            }
            let known = unseen.iter().position(|known| (known.0, known.1, known.2) == (&*name, &*from, &*to));
            if known.map(|known| unseen.remove(known)).is_none() {
                let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
                problems.push(format!("{name}: `{from}` uses `{to}`, against the order: {}", places.join(", ")));
            }
        }
    }
    problems.extend(unseen.iter().map(|known| format!("{known:?} is no more: take it from the list in {}", file!())));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(checked > 5, "only {checked} crates have modules");
}

#[test]
fn architecture_has_the_modules_in_their_order() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table =
        text.split_once("\n| module | one reason to change |\n|---|---|\n").unwrap().1.split("\n\n").next().unwrap();
    let cells = table.lines().map(|row| row.split('|').nth(1).unwrap());
    let shown: Vec<String> = cells.flat_map(names).filter(|module| module != "main").collect();
    let daemon = crates().find(|krate| krate.folder.ends_with("go-metro-userspace")).unwrap();
    assert_eq!(shown, daemon.order().concat());
}

/// A crate: the folder of its manifest, and its root.
struct Crate {
    folder: PathBuf,
    root: PathBuf,
}

/// Every crate with a library or, without one, a program.
fn crates() -> impl Iterator<Item = Crate> {
    let manifests = files().into_iter().filter(|path| path.ends_with("Cargo.toml"));
    manifests.filter_map(|manifest| {
        let folder = manifest.parent().unwrap().to_owned();
        let roots = ["src/lib.rs", "src/main.rs"].map(|path| folder.join(path));
        let root = roots.into_iter().find(|path| root().join(path).exists())?;
        Some(Crate { folder, root })
    })
}

impl Crate {
    /// The modules of its root, by name.
    fn modules(&self) -> BTreeSet<String> {
        let tokens: Vec<TokenTree> = tokens(&self.root).into_iter().collect();
        let is_mod = |pair: &&[TokenTree]| matches!(pair, [TokenTree::Ident(word), _] if word == "mod");
        let pairs = tokens.windows(2).enumerate().filter(|(_, pair)| is_mod(pair));
        let pairs = pairs.filter(|(at, _)| !is_for_tests(&tokens[..*at]));
        pairs.map(|(_, pair)| pair[1].to_string()).collect()
    }

    /// The layers of modules that its documentation states, outermost first.
    fn order(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(root().join(&self.root)).unwrap();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim).collect();
        let after = |sentence: &str| lines.iter().position(|line| line.contains(sentence));
        if let Some(at) = after(IN_ONE_LINE) {
            let stated = lines[at..].iter().take_while(|line| !line.is_empty()).copied().collect::<Vec<_>>().join(" ");
            return stated.split('→').map(names).filter(|layer| !layer.is_empty()).collect();
        }
        let list = |at: usize| {
            let items = lines[at..].iter().filter_map(|line| line.strip_prefix("- ")?.split_once(':'));
            items.map(|(modules, _)| names(modules))
        };
        match (after(DOWNWARD), after(UPWARD)) {
            (Some(at), _) => list(at).collect(),
            (_, Some(at)) => list(at).collect::<Vec<_>>().into_iter().rev().collect(),
            _ => Vec::new(),
        }
    }

    /// Each pair of different modules of which the first uses the second, and the files where.
    fn uses(&self, modules: &BTreeSet<String>) -> BTreeMap<(String, String), BTreeSet<PathBuf>> {
        let source = self.folder.join("src");
        let mut reexported = reexported(&tokens(&self.root), modules);
        let files = files().into_iter().filter(|path| path.starts_with(&source) && has_extension(path, "rs"));
        let in_modules = files.filter_map(|path| {
            let place = module_path(path.strip_prefix(&source).unwrap());
            let module = place.first().filter(|module| modules.contains(*module)).cloned()?;
            Some((tokens(&path), path, place, module))
        });
        let in_modules: Vec<_> = in_modules.collect();
        for (tokens, _, _, module) in &in_modules {
            reexported.extend(macros(tokens).map(|name| (name, module.clone())));
        }
        let mut uses = BTreeMap::<_, BTreeSet<PathBuf>>::new();
        for (tokens, path, place, module) in in_modules {
            let mut found = BTreeSet::new();
            find(tokens, &place, &mut found);
            for name in found {
                let used = if modules.contains(&name) { Some(name) } else { reexported.get(&name).cloned() };
                // What the root itself imports from elsewhere is no module of this crate.
                let used = used.unwrap_or_else(|| ROOT.to_owned());
                if used != module && !used.is_empty() {
                    uses.entry((module.clone(), used)).or_default().insert(path.clone());
                }
            }
        }
        uses
    }
}

/// What is between backticks.
fn names(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The path of the module that a file below `src` holds.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

fn tokens(path: &Path) -> TokenStream {
    let text = fs::read_to_string(root().join(path)).unwrap();
    // A script's first line is none of Rust's.
    TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Collects what is named right below the crate's root, by `crate::` or by `super::`, in a module at `place`. Tests may
/// use what they like.
fn find(tokens: TokenStream, place: &[String], found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let word = |at: usize| match tokens.get(at) {
        Some(TokenTree::Ident(word)) => Some(word.to_string()),
        _ => None,
    };
    let colons = |at: usize| {
        [at, at + 1].iter().all(|at| matches!(tokens.get(*at), Some(TokenTree::Punct(p)) if p.as_char() == ':'))
    };
    let mut at = 0;
    while at < tokens.len() {
        let inner = match (word(at).as_deref(), tokens.get(at + 2)) {
            (Some("mod"), Some(TokenTree::Group(body))) => word(at + 1).map(|name| (name, body.stream())),
            _ => None,
        };
        if let Some((name, body)) = inner {
            if !is_for_tests(&tokens[..at]) {
                find(body, &[place, &[name]].concat(), found);
            }
            at += 3;
            continue;
        }
        if let TokenTree::Group(group) = &tokens[at] {
            find(group.stream(), place, found);
        }
        let mut above = match word(at).as_deref() {
            Some("crate") if colons(at + 1) => place.len(),
            Some("super") if colons(at + 1) => 1,
            _ => 0,
        };
        if above > 0 {
            at += 3;
            while word(at).as_deref() == Some("super") && colons(at + 1) {
                above += 1;
                at += 3;
            }
            if above == place.len() {
                match tokens.get(at) {
                    Some(TokenTree::Ident(name)) => drop(found.insert(name.to_string())),
                    Some(TokenTree::Group(group)) => found.extend(firsts(group.stream())),
                    _ => {}
                }
            }
            continue;
        }
        at += 1;
    }
}

/// The first name of each path among braces.
fn firsts(braces: TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = braces.into_iter().collect();
    let paths = tokens.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ','));
    paths.filter_map(|path| path.first()).map(ToString::to_string).filter(|name| name != "self").collect()
}

/// Whether `#[cfg(test)]` is among the attributes that these tokens end in.
fn is_for_tests(mut before: &[TokenTree]) -> bool {
    while let [rest @ .., TokenTree::Punct(hash), TokenTree::Group(attribute)] = before {
        if hash.as_char() == '#' && attribute.to_string().replace(' ', "") == "[cfg(test)]" {
            return true;
        }
        before = rest;
    }
    false
}

/// What a root imports: the name, and the module that it is from; the empty string where it is from another crate.
fn reexported(tokens: &TokenStream, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut names = BTreeMap::new();
    for item in tokens.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ';')) {
        let Some(at) = item.iter().position(|token| matches!(token, TokenTree::Ident(word) if word == "use")) else {
            continue;
        };
        let from = item[at + 1..].iter().find_map(|token| match token {
            TokenTree::Ident(word) if word != "crate" && word != "self" => Some(word.to_string()),
            _ => None,
        });
        let from = from.filter(|from| modules.contains(from)).unwrap_or_default();
        leaves(&item[at + 1..], &mut |leaf| drop(names.insert(leaf, from.clone())));
    }
    names
}

/// The macros that a file declares: one that is exported has its path at the root, and is the module's all the same.
fn macros(tokens: &TokenStream) -> impl Iterator<Item = String> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let names = tokens.windows(3).filter_map(|declared| match declared {
        [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Ident(name)] if word == "macro_rules" => {
            Some(name.to_string())
        }
        _ => None,
    });
    names.collect::<Vec<_>>().into_iter()
}

/// The names that a tree of imports brings.
fn leaves(tree: &[TokenTree], found: &mut impl FnMut(String)) {
    for path in tree.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
        match path.last() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                leaves(&group.stream().into_iter().collect::<Vec<_>>(), found);
            }
            Some(TokenTree::Ident(name)) => found(name.to_string()),
            _ => {}
        }
    }
}

#[test]
fn uses_are_found_in_every_form_and_those_of_tests_are_not() {
    let source = r#"
        use crate::{alpha::Thing, beta::{self, Other}};
        use super::{gamma, delta::Last};
        /// [`crate::nothing`]
        mod inner {
            fn call() { super::super::epsilon::call("crate::string::x"); println!("{}", crate::zeta::Z); super::own(); }
        }
        pub(in crate::here) fn f() {}
        #[cfg(test)]
        mod tests { use crate::eta::Eta; }
    "#;
    let mut found = BTreeSet::new();
    find(TokenStream::from_str(source).unwrap(), &["here".to_owned()], &mut found);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["alpha", "beta", "delta", "epsilon", "gamma", "here", "zeta"]);
}
