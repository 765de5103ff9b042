//! What is never repeated of what somebody wrote: the user name and password in front of a URL's host (RFC 3986 section
//! 3.2.1), and its query. Errors show values and lines of the file as they stand, and end in logs and tickets.

/// What stands in place of it.
const HIDDEN: &str = "…";

/// A text without such parts. Where it is not plain how far one goes, more is hidden rather than less: up to the last
/// `@` of the line.
pub(super) fn hidden(text: &str) -> String {
    text.split_inclusive('\n').map(line).collect()
}

fn line(text: &str) -> String {
    // A comment of the file has URLs of its own, and none goes on into it.
    match text.find(" #") {
        Some(at) => part(&text[..at]) + &part(&text[at..]),
        None => part(text),
    }
}

fn part(text: &str) -> String {
    let Some(at) = text.find("://").map(|at| at + "://".len()) else { return words(text) };
    let (before, url) = text.split_at(at);
    match url.rfind('@') {
        Some(host) => format!("{}{HIDDEN}{}", words(before), query(&url[host..])),
        None => words(before) + &query(url),
    }
}

/// Without what looks like `user:password@host` in words.
fn words(text: &str) -> String {
    let word = |word: &str| match word.rfind('@').and_then(|host| Some((word[..host].find(':')? + 1, host))) {
        Some((password, host)) => format!("{}{HIDDEN}{}", &word[..password], &word[host..]),
        None => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// Without the query of what begins with a URL.
fn query(text: &str) -> String {
    let Some(at) = text.find('?').map(|at| at + 1) else { return text.to_owned() };
    let is_end = |c: char| c.is_whitespace() || matches!(c, '`' | '\'' | '"');
    let end = text[at..].find(is_end).map_or(text.len(), |end| at + end);
    if end == at { text.to_owned() } else { format!("{}{HIDDEN}{}", &text[..at], &text[end..]) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn credentials_are_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("`http://user:word@host:4318` is not a URL", "`http://…@host:4318` is not a URL"),
            ("http://user:a/b?c@d@host/x", "http://…@host/x"),
            ("http://user:two words@host", "http://…@host"),
            ("http://token@host", "http://…@host"),
            ("`user:word@host:4318` does not start with http://", "`user:…@host:4318` does not start with http://"),
            ("a: udp://u:w@h # not http://u:w@h", "a: udp://…@h # not http://…@h"),
            ("`http://host/v1?key=word` has a query", "`http://host/v1?…` has a query"),
            ("  url: 'http://u:w@h?key=word'\n  b: c:d@e\n", "  url: 'http://…@h?…'\n  b: c:…@e\n"),
            ("`http://host:4318` needs no `?`", "`http://host:4318` needs no `?`"),
            ("tags: [env:prod], hosts: [me@host]", "tags: [env:prod], hosts: [me@host]"),
        ] {
            assert_eq!(hidden(text), shown, "{text}");
        }
    }

    #[test]
    fn no_error_of_a_file_or_of_the_environment_repeats_a_password() {
        let read = |init: &str, instance: &str, variable: Option<(&str, &str)>| {
            let text = format!("init_config: {{{init}}}\ninstances: [{{interface: lo, {instance}}}]\n");
            let env = |name: &str| variable.filter(|(its, _)| *its == name).map(|(_, value)| value.to_owned());
            match Config::parse(&text, Path::new("c"), &env) {
                Ok(config) => format!("{config:?} {:?}", config.doubts()),
                Err(error) => format!("{error} {:?} {error:?}", error.lines()),
            }
        };
        let ips = "ips: ['::1']";
        let secret = ["http://u:s3cret@h:1", "https://u:s3cret@h", "u:s3cret@h:1", "udp://u:s3cret@h:x"];
        for url in secret.into_iter().chain(["http://h/?k=s3cret"]) {
            for key in ["otlp_endpoint", "statsd_ip", "statsd_socket", "prometheus_listen", "web_listen"] {
                let said = read(&format!("{key}: '{url}'"), ips, None);
                assert!(said.contains(key) && !said.contains("s3cret"), "{said}");
            }
            for key in ["ips", "hosts"] {
                let said = read("", &format!("{key}: ['{url}']"), None);
                assert!(said.contains(key) && !said.contains("s3cret"), "{said}");
            }
            for name in [
                "DD_DOGSTATSD_URL",
                "DD_AGENT_HOST",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                "OTEL_EXPORTER_OTLP_HEADERS",
            ] {
                for init in ["", "outputs: [otlp]"] {
                    let said = read(init, ips, Some((name, url)));
                    assert!(!said.contains("s3cret"), "{name}: {said}");
                }
            }
        }
        let said = read("otlp_endpoint: 'http://u:s3cret@h:1', snaplen: x", ips, None);
        let before = "init_config: {otlp_endpoint: 'http://…@h:1', snaplen: ";
        let marked = format!("  1 | {before}x}}\n    | {}^", " ".repeat(before.chars().count()));
        assert!(said.contains(&marked), "{said}");
    }
}
