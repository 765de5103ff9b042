//! A commented configuration file from a few answers: conf.yaml.example with these in their places.

use std::path::Path;

use super::{Config, ConfigError, EXAMPLE};

/// What is known; everything else stays as the example has it, commented out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Interfaces to watch; at least one.
    pub interfaces: Vec<String>,
    /// Remote addresses, prefixes and host names; none for everything.
    pub targets: Vec<String>,
    /// Tags of all metrics.
    pub tags: Vec<String>,
    /// Settings of `init_config`: key and value as YAML has it.
    pub settings: Vec<(&'static str, String)>,
}

/// The file's text, which is read once to be sure that it is one.
///
/// # Errors
///
/// An answer that cannot be.
pub fn write(answers: &Answers) -> Result<String, ConfigError> {
    let (head, tail) = EXAMPLE.split_once("\ninstances:\n").unwrap_or((EXAMPLE, ""));
    let mut settings = answers.settings.clone();
    if !answers.tags.is_empty() {
        settings.push(("tags", flow(&answers.tags)));
    }
    let setting = |line: &str| {
        let key = line.strip_prefix("  # ")?.split_once(':')?.0;
        settings.iter().find(|(known, _)| *known == key).map(|(key, value)| format!("  {key}: {value}"))
    };
    let mut text: String = head.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n").collect();
    text.push_str("\ninstances:\n");
    let everything = ["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let is_net = |target: &String| super::values::network(target).is_some();
    let (nets, hosts): (Vec<String>, Vec<String>) = match answers.targets.as_slice() {
        [] => (everything.to_vec(), Vec::new()),
        targets => targets.iter().cloned().partition(is_net),
    };
    // The first instance is explained; the others are like it.
    let explained = tail.lines().take_while(|line| !line.contains("A capture file instead"));
    for (number, interface) in answers.interfaces.iter().enumerate() {
        let named = format!("  - interface: {}", scalar(interface));
        let lists = [("ips", &nets), ("hosts", &hosts)].map(|(key, values)| {
            let list = if values.is_empty() { String::new() } else { format!("    {key}: {}", flow(values)) };
            (key, list)
        });
        if number > 0 {
            text.push_str(&format!("{named}\n"));
            lists.iter().filter(|(_, list)| !list.is_empty()).for_each(|(_, list)| text.push_str(&format!("{list}\n")));
            continue;
        }
        for line in explained.clone() {
            let bare = line.trim_start().trim_start_matches("# ");
            let list = lists.iter().find(|(key, _)| bare == format!("{key}:")).map(|(_, list)| list);
            match (line, list) {
                (line, _) if line.trim_start().starts_with("- interface:") => text.push_str(&named),
                (_, Some(list)) if !list.is_empty() => text.push_str(list),
                // Without addresses the example's own are a comment too.
                (line, Some(_)) if !line.trim_start().starts_with('#') => text.push_str("    # ips: []"),
                // What the lists hold in the example.
                (line, _) if line.starts_with("      - ") => continue,
                (line, _) if line == "    #   - db.example.org" && !hosts.is_empty() => continue,
                (line, _) => text.push_str(line),
            }
            text.push('\n');
        }
    }
    let text = text.trim_end().to_owned() + "\n";
    Config::parse(&text, Path::new("the answers"), &|_| None)?;
    Ok(text)
}

/// A list on one line.
fn flow(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| scalar(value)).collect::<Vec<_>>().join(", "))
}

/// As it is where YAML reads it so, else in quotes (JSON's are YAML's too).
fn scalar(value: &str) -> String {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
        && value.chars().any(|c| c.is_ascii_alphabetic() || c == '/')
        && value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(interfaces: &[&str], targets: &[&str]) -> Answers {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Answers { interfaces: own(interfaces), targets: own(targets), ..Answers::default() }
    }

    fn read(text: &str) -> Config {
        Config::parse(text, Path::new("c"), &|_| None).unwrap()
    }

    #[test]
    fn what_is_written_is_what_was_answered_and_stays_explained() {
        let mut given = answers(&["eth0", "wg0"], &["10.0.0.0/8", "2001:db8::/32", "db.example.org"]);
        given.tags = vec!["env:prod".to_owned()];
        given.settings = vec![("prometheus_listen", "127.0.0.1:9464".to_owned()), ("report_interval", "10".to_owned())];
        let text = write(&given).unwrap();
        let config = read(&text);
        assert_eq!(config.instances.len(), 2);
        for instance in &config.instances {
            assert_eq!((instance.ips.len(), instance.hosts.as_slice()), (2, ["db.example.org".to_owned()].as_slice()));
        }
        assert_eq!(
            (config.tags.as_slice(), config.report_interval.as_secs()),
            (["env:prod".to_owned()].as_slice(), 10)
        );
        assert_eq!(config.prometheus_address().port(), 9464);
        assert!(text.contains("  # backend: auto\n") && text.contains("of the DogStatsD server."), "{text}");
        assert!(!text.contains("db.example.org\n    #   - db"), "{text}");
    }

    #[test]
    fn no_target_means_everything_and_names_alone_are_enough() {
        let everything = read(&write(&answers(&["eth0"], &[])).unwrap());
        assert_eq!(everything.instances[0].ips.len(), 2);
        let names = read(&write(&answers(&["eth0"], &["db.example.org"])).unwrap());
        assert!(names.instances[0].ips.is_empty() && names.instances[0].hosts == ["db.example.org"]);
    }

    #[test]
    fn an_answer_that_cannot_be_is_refused() {
        assert!(write(&answers(&["eth0"], &["not a host"])).is_err());
        assert!(write(&answers(&[], &[])).is_err());
        assert!(write(&answers(&["a: b#c"], &[])).is_err(), "no interface is called so");
    }
}
