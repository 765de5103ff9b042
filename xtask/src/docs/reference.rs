//! docs/configuration.md.

use std::fmt::Write as _;

use super::keys::{Key, Reference, shown};

const HEAD: &str = "\
# Configuration

<!-- Made by `cargo xtask docs` from the keys' declarations in go-metro-userspace/src/config. -->

The configuration is one YAML file: `/etc/go-metro/conf.yaml`, else the original's path
(`/etc/dd-agent/conf.d/go-metro.yaml`, `/etc/dd-agent/checks.d/go-metro.yaml`), or the file that `run -c FILE` names.
`go-metro config init` writes one from a few answers, `go-metro check -c FILE` reports what is wrong with one, and
`go-metro config schema` prints a JSON schema for editors and validators. `conf.yaml.example` is this page as a file.

```console
$ go-metro config init my.yaml --interface eth0 --target 10.77.0.0/16 --tag env:test
wrote my.yaml; next: go-metro check -c my.yaml
$ go-metro check -c my.yaml
ok    configuration: my.yaml: 1 instance(s)
…
```

An unknown key, a wrong type or a bad value is an error that names the line. Numbers and yes/no may be quoted. These
environment variables apply to keys that the file does not set:
";

const RELOAD: &str = "
A reload (SIGHUP, `go-metro reload`) reads the file again. A change is applied without losing a flow, unless the last
column says otherwise. A change that reopens capture is refused if the daemon has dropped the privileges for it
([what a reload cannot do](privileges.md#what-a-reload-cannot-do)). A file that is refused changes nothing.
";

const INSTANCES: &str = "
## `instances`

At least one instance, each with an `interface` and a target in `ips` or `hosts`. `config` is an old name for this list.
";

/// The head of a table of keys.
const TABLE: &str = "\n| key | takes | default | | at a reload |\n|---|---|---|---|---|\n";

/// The page's text.
pub(super) fn page(reference: &Reference) -> String {
    let mut page = HEAD.to_owned();
    for key in &reference.init_config {
        let below = key.within.iter().map(|within| (format!("{}.{}", key.name, within.name), within));
        let both = [(key.name.clone(), key)].into_iter().chain(below);
        for (name, key) in both.filter(|(_, key)| !key.environment.is_empty()) {
            let variables: Vec<String> = key.environment.iter().map(|name| format!("`{name}`")).collect();
            let _ = write!(page, "\n- `{name}`: {}", variables.join(", "));
        }
    }
    page.push_str(&format!("\n{RELOAD}\n## `init_config`\n\nSettings for all instances.\n"));
    for key in &reference.init_config {
        let mut letters = key.heading.chars();
        if let Some(first) = letters.next() {
            let _ = write!(page, "\n### {}{}\n{TABLE}", first.to_uppercase(), letters.as_str());
        }
        rows(&mut page, "", key);
    }
    page.push_str(INSTANCES);
    page.push_str(TABLE);
    reference.instances.iter().for_each(|key| rows(&mut page, "", key));
    page
}

/// The row of a key, and those of the keys below it.
fn rows(page: &mut String, above: &str, key: &Key) {
    let default = key.default.as_ref().filter(|_| key.within.is_empty());
    let default = default.map_or_else(String::new, |value| format!("`{}`", shown(value)));
    let [takes, text] = [&key.takes, &key.text].map(|text| text.replace('|', "\\|"));
    let reload = if key.reload == "applied" { "" } else { &key.reload };
    let _ = writeln!(page, "| `{above}{}` | {takes} | {default} | {text} | {reload} |", key.name);
    key.within.iter().for_each(|within| rows(page, &format!("{above}{}.", key.name), within));
}
