//! The sender's attributes: OpenTelemetry's resource.

use std::fs;
use std::path::Path;

use uuid::Uuid;

/// The namespace for UUIDs of instances that stay the same after a restart (semantic conventions,
/// `service.instance.id`).
const INSTANCES: Uuid = Uuid::from_u128(0x4d63_009a_8d0f_11ee_aad7_4c79_6ed8_e320);

/// All attributes; those from the environment (`OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`) replace our own.
pub(super) fn attributes(environment: &[(String, String)], status_socket: Option<&Path>) -> Vec<(String, String)> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let own = [
        ("service.name", "go-metro".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance(&host, status_socket)),
        ("host.name", host),
    ];
    let is_set = |key: &str| environment.iter().any(|(known, _)| known == key);
    let own = own.into_iter().filter(|(key, value)| !is_set(key) && !value.is_empty());
    let mut all: Vec<_> = own.map(|(key, value)| (key.to_owned(), value)).collect();
    // The last value of a repeated key is used.
    for (key, value) in environment {
        all.retain(|(known, _)| known != key);
        all.push((key.clone(), value.clone()));
    }
    all
}

/// One daemon of one host, the same after a restart: the machine's id (machine-id(5)), which a container may share with
/// others of its image, the host's name, and the status socket, of which two daemons of a host have one each.
fn instance(host: &str, status_socket: Option<&Path>) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let socket = status_socket.map(Path::to_string_lossy).unwrap_or_default();
    let name = format!("go-metro\0{}\0{host}\0{socket}", machine.trim());
    Uuid::new_v5(&INSTANCES, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_the_same_after_a_restart_and_another_with_another_socket() {
        let of = |socket: &str| {
            let all = attributes(&[], Some(Path::new(socket)));
            all.into_iter().find(|(key, _)| key == "service.instance.id").unwrap().1
        };
        assert_eq!(of("/run/a"), of("/run/a"));
        assert_ne!(of("/run/a"), of("/run/b"));
        assert_eq!(Uuid::parse_str(&of("/run/a")).unwrap().get_version_num(), 5);
    }

    #[test]
    fn the_environment_has_the_last_word() {
        let environment = [("service.name", "edge"), ("k8s.node.name", "n1"), ("k8s.node.name", "n2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let all = attributes(&environment, None);
        let of = |name: &str| all.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect::<Vec<_>>();
        assert_eq!((of("service.name"), of("k8s.node.name")), (vec!["edge"], vec!["n2"]));
        assert_eq!((of("host.name").len(), of("service.version").len()), (1, 1));
    }
}
